"""The line to a side, and `measure` at its end of it."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from plumbline.comparing.workers.protocol import Line, LineClosed, TurnedMeasurement, hold_clock
from plumbline.measuring.loop import MeasureError

KEY = "test_suite.py::test_it"
LIMIT_S = 10.0


@pytest.fixture
def ends() -> Iterator[tuple[Line, Line]]:
    """The coordinator's end of a line and the side's."""
    one, other = socket.socketpair()
    with one, other:
        yield Line(one), Line(other)


class Coordinator(threading.Thread):
    """Sends its messages one after another, each after one from the side, and keeps those."""

    def __init__(self, line: Line, messages: list[dict[str, Any]], hold_s: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.heard: list[dict[str, Any]] = []
        self._line = line
        self._messages = messages
        self._hold_s = hold_s
        self.start()

    def run(self) -> None:
        with contextlib.suppress(LineClosed, OSError):  # the test is over
            for message in self._messages:
                self.heard.append(self._line.receive(LIMIT_S))
                time.sleep(self._hold_s)
                self._line.send(**message)


TWO_TURNS: list[dict[str, Any]] = [{"samples": 3}, {"samples": 1}, {"end": True}]


def test_an_arm_measures_as_many_samples_as_it_is_told(ends: tuple[Line, Line]) -> None:
    """Three, then one; each block is told, per operation, and the test goes on."""
    coordinator = Coordinator(ends[0], TWO_TURNS)
    measurement = TurnedMeasurement(ends[1], KEY, operations=2)
    rounds = 0
    for timer in measurement:
        rounds += 1
        with timer:
            pass
    coordinator.join(LIMIT_S)
    at, first, second = coordinator.heard
    assert rounds == 3 + 1
    assert at == {"at": KEY}
    assert [len(block["block_s"]) for block in (first, second)] == [3, 1]
    assert list(measurement) == []  # a second loop has no turns
    assert measurement.summary is not None
    assert sorted(measurement.summary.samples_s) == sorted(first["block_s"] + second["block_s"])


async def test_a_coroutine_test_measures_in_turns_as_well(ends: tuple[Line, Line]) -> None:
    """`async for` with an await in the timed block."""
    coordinator = Coordinator(ends[0], TWO_TURNS)
    measurement = TurnedMeasurement(ends[1], KEY, operations=1)
    async for timer in measurement:
        with timer:
            await asyncio.sleep(0)
    coordinator.join(LIMIT_S)
    assert [len(block["block_s"]) for block in coordinator.heard[1:]] == [3, 1]


async def test_deadlines_of_the_loop_move_by_the_wait(ends: tuple[Line, Line]) -> None:
    """A timer of 0.5 s that was set before two waits of 0.4 s has not fired after them."""
    Coordinator(ends[0], [{"samples": 1}, {"end": True}], hold_s=0.4)
    fired: list[str] = []
    asyncio.get_running_loop().call_later(0.5, fired.append, "too early")
    async for timer in TurnedMeasurement(ends[1], KEY, operations=1):
        with timer:
            pass
        await asyncio.sleep(0)
    assert not fired


async def test_a_held_clock_goes_on_from_where_it_stood() -> None:
    """Held for 5 s and for 3 s, it shows 8 s less than before, and runs."""
    loop = asyncio.get_running_loop()
    before_s = loop.time()
    hold_clock(loop, 5.0)
    hold_clock(loop, 3.0)
    assert -8.0 <= loop.time() - before_s < -7.0
    await asyncio.sleep(0.001)


def test_a_loop_that_is_left_gives_the_collector_back(ends: tuple[Line, Line]) -> None:
    """A round without a timed block is refused in a side, too."""
    Coordinator(ends[0], TWO_TURNS)
    with pytest.raises(MeasureError, match="never"):
        for _timer in TurnedMeasurement(ends[1], KEY, operations=1):
            pass


def test_an_arm_whose_coordinator_has_gone_does_not_wait(ends: tuple[Line, Line]) -> None:
    """It raises LineClosed rather than blocking for ever."""
    ends[0].close()
    with pytest.raises(LineClosed):
        next(TurnedMeasurement(ends[1], KEY, operations=1))


def test_a_silent_arm_is_waited_for_no_longer_than_the_limit(ends: tuple[Line, Line]) -> None:
    """Half a message is none."""
    ends[1]._socket.sendall(b'{"at": ')
    with pytest.raises(TimeoutError):
        ends[0].receive(0.01)


@pytest.mark.parametrize("garbage", [b"hello\n", b"[1]\n", b"\xff\n", b"\n"])
def test_garbage_is_no_message(ends: tuple[Line, Line], garbage: bytes) -> None:
    """What is not a JSON object raises ValueError."""
    ends[1]._socket.sendall(garbage)
    with pytest.raises(ValueError, match="no message"):
        ends[0].receive(LIMIT_S)


def test_messages_may_be_long_and_come_in_one_piece(ends: tuple[Line, Line]) -> None:
    """Two at once, one of them longer than a read."""
    block = [0.001] * 50_000

    def send() -> None:
        ends[1].send(block_s=block)
        ends[1].send(over=KEY)

    threading.Thread(target=send, daemon=True).start()
    assert ends[0].receive(LIMIT_S) == {"block_s": block}
    assert ends[0].receive(LIMIT_S) == {"over": KEY}
