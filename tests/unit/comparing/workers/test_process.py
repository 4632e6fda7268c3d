"""A worker process: its command line, messages and end."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plumbline import __version__
from plumbline.comparing.statistics.controls import CONTROLS, IN_SERVER
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.trees.ignored import Extras
from plumbline.comparing.trees.sides import Side, Sides
from plumbline.comparing.workers import process as worker_process
from plumbline.comparing.workers.process import (
    WorkerProcess,
    pytest_configuration,
    worker_command,
    worker_environment,
)
from plumbline.comparing.workers.protocol import Order
from tests.unit.comparing.workers.small_trees import ASYNC, WORK, plans_of

START_LIMIT_S = 30.0
SPEAKER = """\
import json, os, socket, sys, time
line = socket.socket(fileno=int(sys.argv[-1].partition("=")[2]))
def say(kind, **message):
    line.sendall(json.dumps({"is": kind, **message}).encode() + b"\\n")
os.write(2, b"last words")
"""
# A replacement for a worker, without pytest. It reports its tests and waits for a message.
COLLECTED = f"""\
say("imported", version={__version__!r})
say("collected", keys=["a key"])
line.recv(1)
"""


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    """Two empty trees."""
    for name in ("base", "head"):
        (tmp_path / name / "tests/performance").mkdir(parents=True)
    base, head = (Side(name, tmp_path / name, Path(sys.executable), tmp_path / name) for name in ("base", "head"))
    return Sides(
        base,
        head,
        files=[],
        packages=[],
        modules=[],
        import_from=[".", "src"],
        extras=Extras([], []),
        top=tmp_path / "repository",
    )


def test_each_file_is_named_once_and_controls_are_not(sides: Sides) -> None:
    """The plugin collects the controls."""
    command = worker_command(sides.base, sides.head.root, plans_of(WORK, ASYNC, *CONTROLS), "ci")
    assert command[:4] == ["-m", "pytest", "tests/performance/test_work.py", "-q"]
    assert not any("controls" in part for part in command)


def test_without_a_test_of_the_suite_the_command_line_names_the_suite(sides: Sides) -> None:
    """Without a path pytest would collect other tests of the project."""
    command = worker_command(sides.base, sides.head.root, plans_of(*CONTROLS, IN_SERVER), "ci")
    assert command[:4] == ["-m", "pytest", "tests/performance", "-q"]


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("tests/performance/pytest.toml", "", True),
        ("pytest.ini", "", True),
        ("pyproject.toml", "[tool.pytest]\n", True),
        ("pyproject.toml", "[tool.pytest.ini_options]\n", True),
        ("pyproject.toml", "[tool.ruff]\n", False),
    ],
)
def test_heads_configuration_of_pytest_is_for_both_sides(sides: Sides, file: str, text: str, found: bool) -> None:
    """If the suite has its own, no conftest.py above the suite is loaded, as in pytest."""
    path = sides.head.root / file
    path.write_text(text)
    command = worker_command(sides.base, sides.head.root, plans_of(WORK), "ci")
    assert pytest_configuration(sides.head.root) == (path if found else None)
    assert (f"-c={path}" in command) == found
    top = sides.base.root / "tests/performance" if file.startswith("tests") else sides.base.root
    assert command[-1] == f"--confcutdir={top}"


def test_a_worker_imports_from_its_own_tree_and_with_the_hash_seed_of_its_pair(sides: Sides) -> None:
    """Commands come from the environment of its side."""
    environ = worker_environment(sides.base, sides, 7, None)
    assert environ["PYTHONPATH"] == os.pathsep.join([str(sides.base.root), str(sides.base.root / "src")])
    assert environ["PYTHONHASHSEED"] == "7"
    assert environ["PATH"].partition(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_variables_that_lead_into_the_repository_lead_into_the_copy(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise base would read files of head. Paths of the environment stay."""
    monkeypatch.setattr(sys, "prefix", str(sides.top / ".venv"))
    given = {"CONFIG": f"{sides.top}/a/b.toml", "VIRTUAL_ENV": f"{sides.top}/.venv", "ELSEWHERE": "/etc/a", "NAME": "a"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    environ = worker_environment(sides.base, sides, 7, None)
    moved = {**given, "CONFIG": str(sides.base.tree / "a/b.toml")}
    assert {name: environ[name] for name in given} == moved
    assert environ["PWD"] == str(sides.base.root)


def test_in_a_rehearsal_a_worker_traces_what_it_reads(sides: Sides, tmp_path: Path) -> None:
    """The trace begins with the first import, in a folder for each side."""
    plain, traced = (worker_environment(sides.head, sides, 7, folder) for folder in (None, tmp_path))
    changed = {name for name in plain.keys() | traced.keys() if plain.get(name) != traced.get(name)}
    assert changed == {"PERF_READS", "PYTHONPATH"}
    assert traced["PERF_READS"].startswith(str(tmp_path / "head"))
    assert traced["PYTHONPATH"].endswith(os.pathsep + plain["PYTHONPATH"])


@pytest.fixture
def speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], WorkerProcess]]:
    """A process that replaces a worker and runs a given program."""
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
        ("time.sleep(60)", "it did not answer within 0.5 s"),
        ("os.kill(os.getpid(), 19)", "it did not answer within 0.5 s"),
        (r'line.sendall(b"\x00garbage]]>\n")', "it sent something that is not a message"),
        ('say("begins", key=1)', "it sent something that is not a message"),
        ('say("block", samples_s=["a"])', "it sent something that is not a message"),
        ('say("turn", samples=1)', "it sent a message out of turn: Turn(samples=1)"),
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
    """The message has the side, the problem and the last output."""
    side = speaker(f'say("begins", key="a key")\nline.recv(1000)\n{breakage}\ntime.sleep(60)\n')
    side.send(Order(["a key"]))
    assert side.begins("a key")
    with pytest.raises(ComparisonInvalid, match=re.escape(f"the worker of head failed: {problem}")) as raised:
        side.block(3)
    assert "last words" in str(raised.value)


@pytest.mark.parametrize(
    ("breakage", "problem"),
    [("os._exit(7)", "it ended with exit code 7"), ("os.kill(os.getpid(), 19)", "it did not end within 0.5 s")],
    ids=["dies", "hangs"],
)
def test_a_worker_that_does_not_come_to_its_end_is_named(
    speaker: Callable[[str], WorkerProcess], breakage: str, problem: str
) -> None:
    """It has measured everything."""
    side = speaker(breakage)
    side.send(Order([]))
    with pytest.raises(ComparisonInvalid, match=f"the worker of head failed: {problem}"):
        side.leave(0.5 if "did not end" in problem else START_LIMIT_S)


def test_a_hung_worker_keeps_the_run_no_longer_than_30_s() -> None:
    """The limits for both workers together are below 30 s."""
    assert worker_process.ANSWER_LIMIT_S + 2 * worker_process.END_LIMIT_S <= 30
    assert worker_process.LEAVE_LIMIT_S <= worker_process.ANSWER_LIMIT_S


def test_a_worker_that_hangs_at_import_is_not_waited_for_as_an_application_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time limit for starting an application begins after the import of the tests."""
    monkeypatch.setattr(worker_process, "ANSWER_LIMIT_S", 0.5)
    side = Side("base", tmp_path, Path(sys.executable), tmp_path)
    process = WorkerProcess(side, ["-c", "import time; time.sleep(60)"], os.environ, str, START_LIMIT_S)
    with contextlib.closing(process), pytest.raises(ComparisonInvalid, match=r"it did not answer within 0\.5 s"):
        process.listen()


@pytest.mark.parametrize("name", ["base", "head"])
def test_a_worker_of_another_version_makes_the_comparison_invalid(tmp_path: Path, name: str) -> None:
    """The message names both versions. It is not reported as a base that can't be run."""
    side = Side(name, tmp_path, Path(sys.executable), tmp_path)
    program = f'{SPEAKER}say("imported", version="0.1.9", of="later")\ntime.sleep(60)\n'
    process = WorkerProcess(side, ["-c", program], os.environ, str, START_LIMIT_S)
    with contextlib.closing(process), pytest.raises(ComparisonInvalid) as raised:
        process.listen()
    assert f"{name} runs Plumbline 0.1.9, but this process runs {__version__}" in str(raised.value)
    assert raised.value.side == ""
