"""Messages between coordinator and worker."""

import json
import threading

import pytest

from plumbline.comparing.workers.protocol import Begins, Block, Collected, Message, Order, Over, Start, Turn
from plumbline.services.address import Address
from tests.unit.comparing.workers.ends import LIMIT_S, Ends

KEY = "test_suite.py::test_it"


def test_a_silent_worker_is_waited_for_no_longer_than_the_limit(ends: Ends) -> None:
    """Half a message does not count."""
    ends.worker._socket.sendall(b'{"is": ')
    with pytest.raises(TimeoutError):
        ends.coordinator.receive(0.01)


@pytest.mark.parametrize(
    "garbage", [b"hello\n", b"[1]\n", b"\xff\n", b"\n", b'{"is": "elsewhere"}\n', b'{"is": "block"}\n']
)
def test_garbage_is_no_message(ends: Ends, garbage: bytes) -> None:
    """Unknown kinds and missing fields raise ValueError, too."""
    ends.worker._socket.sendall(garbage)
    with pytest.raises(ValueError, match=r"JSON|Invalid value|Expected|missing|truncated|UTF-8"):
        ends.coordinator.receive(LIMIT_S)


def test_messages_may_be_long_and_come_in_one_piece(ends: Ends) -> None:
    """Two messages arrive together, and one is longer than a read."""
    block = Block([0.001] * 50_000)

    def send() -> None:
        ends.worker.send(block)
        ends.worker.send(Over("passed"))

    threading.Thread(target=send, daemon=True).start()
    assert ends.coordinator.receive(LIMIT_S) == block
    assert ends.coordinator.receive(LIMIT_S) == Over("passed")


@pytest.mark.parametrize(
    "message",
    [
        Start(
            [KEY],
            {"redis": Address("redis", "localhost", 6379, password="secret")},
            slow_down={KEY: (0.1, "block", 1.0)},
        ),
        Order([KEY]),
        Turn(3),
        Turn(0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_worker_receives_what_its_coordinator_has_sent(ends: Ends, message: Message) -> None:
    ends.coordinator.send(message)
    assert ends.worker.receive(LIMIT_S) == message


def test_a_worker_refuses_a_message_out_of_turn(ends: Ends) -> None:
    """The error names both kinds."""
    ends.coordinator.send(Turn(3))
    with pytest.raises(ValueError, match=r"Turn\(samples=3\) in place of Order"):
        ends.worker.expect(Order)


def test_fields_that_another_version_has_more_are_ignored(ends: Ends) -> None:
    """So the first messages of another version can be read."""
    ends.worker._socket.sendall(json.dumps({"is": "begins", "key": KEY, "new": 1}).encode() + b"\n")
    assert ends.coordinator.receive(LIMIT_S) == Begins(KEY)


def test_a_benchmark_that_was_not_collected_has_a_reason() -> None:
    """It is the error of its file, in one line, if there is one."""
    collected = Collected(["a.py::test_one"], errors={"tests/b.py": "\n  a typo"})
    assert collected.why_missing("a.py::test_one") == ""
    assert collected.why_missing("a.py::test_two") == "it is not there"
    assert collected.why_missing("b.py::test_one") == "tests/b.py can't be collected: a typo"


@pytest.mark.parametrize(
    ("over", "why"),
    [
        (Over("passed", "never mind"), ""),
        (Over("skipped", "not today"), "skipped: not today"),
        (Over("failed", ">   assert 1 == 2\nE   assert 1 == 2\nE    more\n\ntest.py:3"), "failed: assert 1 == 2"),
        (Over("failed"), "failed: "),
        (
            Over(
                "failed",
                "E   assert 500 == 200",
                "output of app:\nan early line\n    raise KeyError\n    ^^^^^\nKeyError\n",
            ),
            "failed: assert 500 == 200; last output: raise KeyError / KeyError",
        ),
    ],
)
def test_a_test_that_did_not_pass_has_a_reason_in_one_line(over: Over, why: str) -> None:
    """It is the first line that pytest marks as an error, or the last line, with the end of the output."""
    assert over.why_not_passed() == why
