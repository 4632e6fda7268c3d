"""An interrupted run ends with exit code 130 and removes everything. A killed run is cleaned up."""

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
    """A project with both servers, whose last test waits."""
    project.write("settings.toml", settings())
    project.write("test_suite.py", SUITE + WAITS)
    with traces_of(project, cache_home) as traces:
        yield traces


@pytest.mark.parametrize("waits", [WAITS, WAITS_IN_THE_LOOP], ids=["plain", "coroutine"])
def test_ctrl_c(traces: Traces, waits: str) -> None:
    """During a test. The terminal sends SIGINT to the whole process group."""
    traces.project.write("test_suite.py", SUITE + waits)
    run = traces.start_to_middle()

    os.killpg(run.pid, signal.SIGINT)
    done = finish(run)

    assert done.code == 130, done.output
    assert "interrupted: no verdict" in done.output
    traces.assert_gone()


def test_ctrl_c_and_again(traces: Traces) -> None:
    """A second Ctrl-C leaves no more behind than the first."""
    run = traces.start_to_middle()

    os.killpg(run.pid, signal.SIGINT)
    os.killpg(run.pid, signal.SIGINT)
    done = finish(run)

    assert done.code == 130, done.output
    traces.assert_gone(GONE_LIMIT_S)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_swallowed_in_a_coroutine(traces: Traces, number: signal.Signals) -> None:
    """asyncio turns SIGINT into a cancellation that code under test may swallow. No further test starts."""
    traces.project.write("test_suite.py", SUITE + SWALLOWS)
    run = traces.start_to_middle()

    traces.process("pytest").send_signal(number)
    done = finish(run)

    assert done.code == 130, done.output
    assert not (traces.project.root / "next").exists()
    traces.assert_gone()


def test_lost_in_a_destructor(traces: Traces) -> None:
    """Python ignores exceptions of destructors. The interruption is repeated, and fails no test."""
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
    """They are torn down while the servers run. A hanging fixture does not delay the end; a failure is one line."""
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
    """It is ignored when pytest is about to end."""
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
    """A pipeline that cancels a job signals only one process."""
    run = traces.start_to_middle()

    traces.process(who).send_signal(number)
    done = finish(run)

    assert done.code == 130, done.output
    assert "interrupted: no verdict" in done.output
    traces.assert_gone()


def test_ctrl_c_while_services_start(traces: Traces) -> None:
    """Before the first test."""
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
    """As by the kernel when memory runs out: the run is invalid."""
    run = traces.start_to_middle()

    traces.process("pytest").kill()
    traces.assert_gone(GONE_LIMIT_S)
    done = finish(run)

    assert done.code == 3, done.output
    assert "pytest was ended by SIGKILL" in done.output


def test_sigkill_of_nox(traces: Traces) -> None:
    """The run and all its processes end."""
    run = traces.start_to_middle()

    traces.process("nox").kill()
    traces.assert_gone(GONE_LIMIT_S)

    assert "interrupted: no verdict" in finish(run).output


def test_sigkill_of_nox_during_a_test_that_ignores_interruptions(traces: Traces) -> None:
    """The test is ended anyway."""
    traces.project.write("test_suite.py", SUITE + DOES_NOT_GIVE_UP)
    traces.start_to_middle()

    traces.process("nox").kill()
    traces.assert_gone(GONE_LIMIT_S)


def test_terminal_is_closed(traces: Traces) -> None:
    """The reaper cleans up after all processes of the terminal have got SIGHUP."""
    ours = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored if the tests run under `nohup`
    try:
        run = traces.start_to_middle()
    finally:
        signal.signal(signal.SIGHUP, ours)

    os.killpg(run.pid, signal.SIGHUP)
    traces.assert_gone(GONE_LIMIT_S, but=f"directory {traces.temp}/perf-")


def test_sigkill_of_the_gate(traces: Traces) -> None:
    """Only the gate's folder with results stays."""
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
    """Containers are removed after Ctrl-C and after a SIGKILL of pytest."""
    skip_without_docker()
    traces.project.write("settings.toml", settings("docker"))
    run = traces.start_to_middle()

    code = end(run, traces)
    traces.assert_gone(CONTAINERS_GONE_LIMIT_S)
    done = finish(run)

    assert done.code == code, done.output
