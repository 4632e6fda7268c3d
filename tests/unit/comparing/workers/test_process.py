"""A worker process: what its coordinator makes of its messages, and of how it ends."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plumbline import __version__
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.trees.sides import Side
from plumbline.comparing.workers import process as worker_process
from plumbline.comparing.workers.process import WorkerProcess
from plumbline.comparing.workers.protocol import Order

START_LIMIT_S = 30.0
SPEAKER = """\
import json, os, socket, sys, time
line = socket.socket(fileno=int(sys.argv[-1].partition("=")[2]))
def say(kind, **message):
    line.sendall(json.dumps({"is": kind, **message}).encode() + b"\\n")
os.write(2, b"last words")
"""
COLLECTED = f"""\
say("imported", version={__version__!r})
say("collected", keys=["a key"])
line.recv(1)
"""
"""What stands for a worker, without pytest: it waits for a message when it has reported what it has collected."""


@pytest.fixture
def speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], WorkerProcess]]:
    """A process that stands for a worker and goes on with a program of its own."""
    with contextlib.ExitStack() as stack:

        def start(program: str) -> WorkerProcess:
            side = Side("head", tmp_path, Path(sys.executable), tmp_path)
            process = WorkerProcess(side, ["-c", SPEAKER + COLLECTED + program], os.environ, str, START_LIMIT_S)
            stack.callback(process.close)
            process.listen()
            monkeypatch.setattr(worker_process, "ANSWER_LIMIT_S", 0.5)
            monkeypatch.setattr(worker_process, "END_LIMIT_S", 0.5)
            return process

        yield start


@pytest.mark.parametrize(
    ("breakage", "problem"),
    [
        ("os._exit(7)", "it ended with exit code 7"),
        ("os.kill(os.getpid(), 9)", "it ended with exit code -9"),
        ("time.sleep(60)", "it has not answered for 0.5 s"),
        ("os.kill(os.getpid(), 19)", "it has not answered for 0.5 s"),
        (r'line.sendall(b"\x00garbage]]>\n")', "it sent something that is not a message"),
        ('say("begins", key=1)', "it sent something that is not a message"),
        ('say("block", samples_s=["a"])', "it sent something that is not a message"),
        ('say("end")', "it sent something that is not a message"),
        ('say("imported", version="")', "it sent a message out of turn: Imported(version='')"),
        ('say("begins", key="elsewhere")', "it sent a message out of turn: Begins(key='elsewhere')"),
    ],
    ids=[
        "dies",
        "is killed",
        "hangs",
        "is stopped",
        "no JSON",
        "a number",
        "a text",
        "not its own",
        "out of turn",
        "two",
    ],
)
def test_a_worker_that_goes_wrong_in_its_turn_is_named(
    speaker: Callable[[str], WorkerProcess], breakage: str, problem: str
) -> None:
    """Which side and how, with its last output."""
    side = speaker(f'say("begins", key="a key")\nline.recv(1000)\n{breakage}\ntime.sleep(60)\n')
    side.send(Order(["a key"]))
    assert side.begins("a key")
    with pytest.raises(ComparisonInvalid, match=re.escape(f"the worker of head failed: {problem}")) as raised:
        side.block(3)
    assert "last words" in str(raised.value)


@pytest.mark.parametrize(
    ("breakage", "problem"),
    [("os._exit(7)", "it ended with exit code 7"), ("os.kill(os.getpid(), 19)", "it has not ended for 0.5 s")],
    ids=["dies", "hangs"],
)
def test_a_worker_that_does_not_come_to_its_end_is_named(
    speaker: Callable[[str], WorkerProcess], breakage: str, problem: str
) -> None:
    """It has measured all, and only has to leave."""
    side = speaker(breakage)
    side.send(Order([]))
    with pytest.raises(ComparisonInvalid, match=f"the worker of head failed: {problem}"):
        side.leave(0.5 if "not ended" in problem else START_LIMIT_S)


def test_a_hung_worker_keeps_the_run_no_longer_than_30_s() -> None:
    """It is waited for, asked to end and killed; so may be the other worker, which does not hang, but has to stop."""
    assert worker_process.ANSWER_LIMIT_S + 2 * worker_process.END_LIMIT_S <= 30
    assert worker_process.LEAVE_LIMIT_S <= worker_process.ANSWER_LIMIT_S


def test_a_worker_that_hangs_at_import_is_not_waited_for_as_an_application_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its tests are imported, what its settings allow for starting is none of its time."""
    monkeypatch.setattr(worker_process, "ANSWER_LIMIT_S", 0.5)
    side = Side("base", tmp_path, Path(sys.executable), tmp_path)
    process = WorkerProcess(side, ["-c", "import time; time.sleep(60)"], os.environ, str, START_LIMIT_S)
    with contextlib.closing(process), pytest.raises(ComparisonInvalid, match=r"it has not answered for 0\.5 s"):
        process.listen()


@pytest.mark.parametrize("name", ["base", "head"])
def test_a_worker_of_another_version_makes_the_comparison_invalid(tmp_path: Path, name: str) -> None:
    """Both versions are named, and it is not taken for a base that can't be run."""
    side = Side(name, tmp_path, Path(sys.executable), tmp_path)
    program = f'{SPEAKER}say("imported", version="0.1.9", of="later")\ntime.sleep(60)\n'
    process = WorkerProcess(side, ["-c", program], os.environ, str, START_LIMIT_S)
    with contextlib.closing(process), pytest.raises(ComparisonInvalid) as raised:
        process.listen()
    assert f"{name} runs Plumbline 0.1.9, and its coordinator {__version__}" in str(raised.value)
    assert raised.value.side == ""
