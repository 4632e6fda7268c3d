"""A run that is interrupted ends with 130 and takes everything with it; one that is killed is cleaned up after."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.project import Project, finish
from tests.support.traces import (
    CONTAINERS_GONE_LIMIT_S,
    DOES_NOT_GIVE_UP,
    ENDS_SLOWLY,
    GONE_LIMIT_S,
    LOSES,
    SUITE,
    SWALLOWS,
    TEARS_DOWN,
    WAITS,
    WAITS_IN_THE_LOOP,
    Traces,
    settings,
    skip_without_docker,
    traces_of,
)

Run = subprocess.Popen[str]


@pytest.fixture
def traces(project: Project, cache_home: Path) -> Iterator[Traces]:
    """A project with both servers whose last test waits."""
    project.write("settings.toml", settings())
    project.write("test_suite.py", SUITE + WAITS)
    with traces_of(project, cache_home) as traces:
        yield traces


@pytest.mark.parametrize("waits", [WAITS, WAITS_IN_THE_LOOP], ids=["plain", "coroutine"])
def test_ctrl_c(traces: Traces, waits: str) -> None:
    """Ctrl-C in the middle of a test: the terminal tells the whole group."""
    traces.project.write("test_suite.py", SUITE + waits)
    run = traces.start_to_middle()

    os.killpg(run.pid, signal.SIGINT)
    done = finish(run)

    assert done.code == 130, done.output
    assert "interrupted: no verdict" in done.output
    traces.assert_gone()


def test_ctrl_c_and_again(traces: Traces) -> None:
    """An impatient second Ctrl-C leaves no more behind than the first."""
    run = traces.start_to_middle()

    os.killpg(run.pid, signal.SIGINT)
    os.killpg(run.pid, signal.SIGINT)
    done = finish(run)

    assert done.code == 130, done.output
    traces.assert_gone(GONE_LIMIT_S)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_swallowed_in_a_coroutine(traces: Traces, number: signal.Signals) -> None:
    """asyncio makes a cancellation of it, which code under test may swallow: no further test is begun."""
    traces.project.write("test_suite.py", SUITE + SWALLOWS)
    run = traces.start_to_middle()

    traces.process("pytest").send_signal(number)
    done = finish(run)

    assert done.code == 130, done.output
    assert not (traces.project.root / "next").exists()
    traces.assert_gone()


def test_lost_in_a_destructor(traces: Traces) -> None:
    """Python ignores what a destructor raises: the interruption comes again, and fails no test."""
    traces.project.write("test_suite.py", SUITE + LOSES)
    run = traces.start_to_middle()

    traces.process("pytest").send_signal(signal.SIGINT)
    done = finish(run)

    assert done.code == 130, done.output
    assert (traces.project.root / "told").read_text() == "KeyboardInterrupt()"
    assert "Unraisable" not in done.output
    traces.assert_gone()


@pytest.mark.parametrize(("seconds", "error"), [(0, "RuntimeError: this fixture is broken"), (100, "Error: ")])
def test_fixtures_of_an_interrupted_run(traces: Traces, seconds: int, error: str) -> None:
    """They are torn down on servers that still run; what hangs there doesn't keep the run, and a failure is a line."""
    traces.project.write("test_suite.py", SUITE + TEARS_DOWN.replace("SECONDS", str(seconds)))
    run = traces.start_to_middle()

    os.killpg(run.pid, signal.SIGINT)
    done = finish(run)

    assert done.code == 130, done.output
    assert (traces.project.root / "torn down").exists() == (seconds == 0)
    lines = [line for line in done.output.splitlines() if "not all fixtures could be torn down" in line]
    assert len(lines) == 1, done.output
    assert error in lines[0]
    assert "Traceback" not in done.output
    traces.assert_gone()


def test_ctrl_c_at_the_very_end(traces: Traces) -> None:
    """When all is measured and pytest is about to end, it has nothing to tell."""
    traces.project.write("test_suite.py", SUITE)
    traces.project.write("conftest.py", ENDS_SLOWLY)
    run = traces.start_to_middle()

    os.killpg(run.pid, signal.SIGINT)
    (traces.project.root / "go").touch()
    done = finish(run)

    assert done.code == 130, done.output
    assert "interrupted: no verdict" in done.output
    assert "Traceback" not in done.output
    traces.assert_gone()


@pytest.mark.parametrize(
    ("who", "number"),
    [("nox", signal.SIGTERM), ("nox", signal.SIGINT), ("plumbline ci", signal.SIGTERM)],
)
def test_signal_to_one_process(traces: Traces, who: str, number: signal.Signals) -> None:
    """A pipeline that cancels a job signals one process alone."""
    run = traces.start_to_middle()

    traces.process(who).send_signal(number)
    done = finish(run)

    assert done.code == 130, done.output
    assert "interrupted: no verdict" in done.output
    traces.assert_gone()


def test_ctrl_c_while_services_start(traces: Traces) -> None:
    """Ctrl-C before the first test."""
    code = "import os, pathlib, time\n"
    code += "for name in (os.environ['PLUMBLINE_RUN'], 'middle'): pathlib.Path(os.environ['MARKS'], name).touch()\n"
    code += "time.sleep(100)\n"
    (traces.project.root / "slow.py").write_text(code)
    table = '[processes.worker]\ncommand = ["python", "slow.py"]\nready_output = "ready"\nready_limit_s = 100\n'
    traces.project.write("settings.toml", settings(more=table))
    traces.project.write("test_suite.py", "def test_uses_all(services):\n    pass\n")
    run = traces.start_to_middle()

    os.killpg(run.pid, signal.SIGINT)
    done = finish(run)

    assert done.code == 130, done.output
    traces.assert_gone()


def test_sigkill_of_pytest(traces: Traces) -> None:
    """The kernel ends pytest, as it does when memory runs out: the run is invalid."""
    run = traces.start_to_middle()

    traces.process("pytest").kill()
    traces.assert_gone(GONE_LIMIT_S)
    done = finish(run)

    assert done.code == 3, done.output
    assert "pytest was ended by SIGKILL" in done.output


def test_sigkill_of_nox(traces: Traces) -> None:
    """Whoever started the run has gone: it ends, and all that it started."""
    run = traces.start_to_middle()

    traces.process("nox").kill()
    traces.assert_gone(GONE_LIMIT_S)

    assert "interrupted: no verdict" in finish(run).output


def test_sigkill_of_nox_in_a_test_that_does_not_give_up(traces: Traces) -> None:
    """A test that lets no interruption through is ended all the same."""
    traces.project.write("test_suite.py", SUITE + DOES_NOT_GIVE_UP)
    traces.start_to_middle()

    traces.process("nox").kill()
    traces.assert_gone(GONE_LIMIT_S)


def test_terminal_is_closed(traces: Traces) -> None:
    """The terminal hangs up on all that runs in it, whose clean-up goes on without it."""
    ours = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored if `nohup` has started the tests
    try:
        run = traces.start_to_middle()
    finally:
        signal.signal(signal.SIGHUP, ours)

    os.killpg(run.pid, signal.SIGHUP)
    traces.assert_gone(GONE_LIMIT_S, but=f"directory {traces.temp}/perf-")


def test_sigkill_of_the_gate(traces: Traces) -> None:
    """The same, but for the folder of the gate itself, which holds no more than figures."""
    run = traces.start_to_middle()

    traces.process("plumbline ci").kill()
    traces.assert_gone(GONE_LIMIT_S, but=f"directory {traces.temp}/perf-")

    assert finish(run).code == 3


def on_ctrl_c(run: Run, _traces: Traces) -> int:
    os.killpg(run.pid, signal.SIGINT)
    return 130


def on_sigkill(_run: Run, traces: Traces) -> int:
    traces.process("pytest").kill()
    return 3


@pytest.mark.parametrize("end", [on_ctrl_c, on_sigkill])
def test_containers(traces: Traces, end: Callable[[Run, Traces], int]) -> None:
    """Containers go as well, at Ctrl-C and after a SIGKILL of pytest."""
    skip_without_docker()
    traces.project.write("settings.toml", settings("docker"))
    run = traces.start_to_middle()

    code = end(run, traces)
    traces.assert_gone(CONTAINERS_GONE_LIMIT_S)
    done = finish(run)

    assert done.code == code, done.output
