"""The process of one arm: what its coordinator makes of what it says, and of how it ends."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.performance.harness import arm_process
from tests.performance.harness.arm_process import ArmProcess
from tests.performance.harness.arms import Arm
from tests.performance.harness.pairs import TrialInvalid

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
"""What stands for an arm, without pytest: it waits for a message when it has said what it has collected."""


@pytest.fixture
def speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ArmProcess]]:
    """A process that stands for an arm and goes on with a program of its own."""
    monkeypatch.setattr(arm_process, "ANSWER_LIMIT_S", 0.5)
    monkeypatch.setattr(arm_process, "END_LIMIT_S", 0.5)
    with contextlib.ExitStack() as stack:

        def start(program: str) -> ArmProcess:
            arm = Arm("head", tmp_path, Path(sys.executable), tmp_path)
            process = ArmProcess(arm, ["-c", SPEAKER + program], os.environ, str, START_LIMIT_S)
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
    speaker: Callable[[str], ArmProcess], breakage: str, told: str
) -> None:
    """Which arm and how, with its last output."""
    arm = speaker(f'say(at="a key")\nline.recv(1000)\n{breakage}\ntime.sleep(60)\n')
    arm.tell(order=["a key"])
    assert arm.begins("a key")
    with pytest.raises(TrialInvalid, match=re.escape(f"the arm head failed: {told}")) as raised:
        arm.block(3)
    assert "last words" in str(raised.value)


@pytest.mark.parametrize(
    ("breakage", "told"),
    [("os._exit(7)", "it ended with exit code 7"), ("os.kill(os.getpid(), 19)", "it has not ended for 0.5 s")],
    ids=["dies", "hangs"],
)
def test_an_arm_that_does_not_come_to_its_end_is_told(
    speaker: Callable[[str], ArmProcess], breakage: str, told: str
) -> None:
    """It has measured all, and is told to leave."""
    arm = speaker(breakage)
    arm.tell(order=[])
    with pytest.raises(TrialInvalid, match=f"the arm head failed: {told}"):
        arm.leave(0.5 if "not ended" in told else START_LIMIT_S)


def test_a_hung_arm_keeps_the_run_no_longer_than_30_s() -> None:
    """It is waited for, asked to end and killed; so may be the other arm, which does not hang, but has to stop."""
    assert arm_process.ANSWER_LIMIT_S + 2 * arm_process.END_LIMIT_S <= 30
    assert arm_process.LEAVE_LIMIT_S <= arm_process.ANSWER_LIMIT_S


def test_an_arm_that_hangs_at_import_is_not_waited_for_as_an_application_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its tests are imported, what its settings allow for starting is none of its time."""
    monkeypatch.setattr(arm_process, "ANSWER_LIMIT_S", 0.5)
    arm = Arm("base", tmp_path, Path(sys.executable), tmp_path)
    process = ArmProcess(arm, ["-c", "import time; time.sleep(60)"], os.environ, str, START_LIMIT_S)
    with contextlib.closing(process), pytest.raises(TrialInvalid, match=r"it has not answered for 0\.5 s"):
        process.listen()
