"""The process of one side: what its coordinator makes of what it says, and of how it ends."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.trees.sides import Side
from plumbline.comparing.workers import process as arm_process
from plumbline.comparing.workers.process import WorkerProcess

START_LIMIT_S = 30.0
SPEAKER = """\
import json, os, socket, sys, time
line = socket.socket(fileno=int(sys.argv[-1].partition("=")[2]))
def say(**message):
    line.sendall(json.dumps(message).encode() + b"\\n")
os.write(2, b"last words")
say(imported=True)
say(collected=["a key"])
line.recv(1)
"""
"""What stands for a side, without pytest: it waits for a message when it has said what it has collected."""


@pytest.fixture
def speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], WorkerProcess]]:
    """A process that stands for a side and goes on with a program of its own."""
    monkeypatch.setattr(arm_process, "ANSWER_LIMIT_S", 0.5)
    monkeypatch.setattr(arm_process, "END_LIMIT_S", 0.5)
    with contextlib.ExitStack() as stack:

        def start(program: str) -> WorkerProcess:
            side = Side("head", tmp_path, Path(sys.executable), tmp_path)
            process = WorkerProcess(side, ["-c", SPEAKER + program], os.environ, str, START_LIMIT_S)
            stack.callback(process.close)
            process.listen()
            return process

        yield start


@pytest.mark.parametrize(
    ("breakage", "told"),
    [
        ("os._exit(7)", "it ended with exit code 7"),
        ("os.kill(os.getpid(), 9)", "it ended with exit code -9"),
        ("time.sleep(60)", "it has not answered for 0.5 s"),
        ("os.kill(os.getpid(), 19)", "it has not answered for 0.5 s"),
        (r'line.sendall(b"\x00garbage]]>\n")', "it sent what is no message"),
        ("say(at=1)", "it sent what is no message"),
        ('say(block_s=["a"])', "it sent what is no message"),
        ('say(at="elsewhere")', "it was not its turn to say {'at': 'elsewhere'}"),
    ],
    ids=["dies", "is killed", "hangs", "is stopped", "no JSON", "a number", "a text", "out of turn"],
)
def test_an_arm_that_goes_wrong_in_its_turn_is_told(
    speaker: Callable[[str], WorkerProcess], breakage: str, told: str
) -> None:
    """Which side and how, with its last output."""
    side = speaker(f'say(at="a key")\nline.recv(1000)\n{breakage}\ntime.sleep(60)\n')
    side.tell(order=["a key"])
    assert side.begins("a key")
    with pytest.raises(ComparisonInvalid, match=re.escape(f"the side head failed: {told}")) as raised:
        side.block(3)
    assert "last words" in str(raised.value)


@pytest.mark.parametrize(
    ("breakage", "told"),
    [("os._exit(7)", "it ended with exit code 7"), ("os.kill(os.getpid(), 19)", "it has not ended for 0.5 s")],
    ids=["dies", "hangs"],
)
def test_an_arm_that_does_not_come_to_its_end_is_told(
    speaker: Callable[[str], WorkerProcess], breakage: str, told: str
) -> None:
    """It has measured all, and is told to leave."""
    side = speaker(breakage)
    side.tell(order=[])
    with pytest.raises(ComparisonInvalid, match=f"the side head failed: {told}"):
        side.leave(0.5 if "not ended" in told else START_LIMIT_S)


def test_a_hung_arm_keeps_the_run_no_longer_than_30_s() -> None:
    """It is waited for, asked to end and killed; so may be the other side, which does not hang, but has to stop."""
    assert arm_process.ANSWER_LIMIT_S + 2 * arm_process.END_LIMIT_S <= 30
    assert arm_process.LEAVE_LIMIT_S <= arm_process.ANSWER_LIMIT_S


def test_an_arm_that_hangs_at_import_is_not_waited_for_as_an_application_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its tests are imported, what its settings allow for starting is none of its time."""
    monkeypatch.setattr(arm_process, "ANSWER_LIMIT_S", 0.5)
    side = Side("base", tmp_path, Path(sys.executable), tmp_path)
    process = WorkerProcess(side, ["-c", "import time; time.sleep(60)"], os.environ, str, START_LIMIT_S)
    with contextlib.closing(process), pytest.raises(ComparisonInvalid, match=r"it has not answered for 0\.5 s"):
        process.listen()
