"""Records of runs, and the files that they should collect."""

import signal
import sys
from pathlib import Path

import pytest

from plumbline import held
from plumbline.commands.base import Project
from plumbline.commands.measuring_run import HELD, RunEnded, _run, _temporary_folder, measure, with_gone_files
from plumbline.results.schema import Reason
from plumbline.settings import Settings
from tests.support.report_samples import benchmark, results


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose suite has one file."""
    found = Project(tmp_path, Settings())
    found.suite.mkdir(parents=True)
    (found.suite / "test_here.py").touch()
    return found


BASELINE = results(benchmark("test_here.py::test_a"), benchmark("test_gone.py::test_a"))


@pytest.mark.parametrize("arguments", [[], ["-k", "here"], ["tests/performance"]])
def test_files_of_the_baseline_that_are_gone_count_as_collected(project: Project, arguments: list[str]) -> None:
    """Benchmarks of deleted files are missing in a run of the whole suite."""
    found = with_gone_files(project, results(collected_files=["test_here.py"]), BASELINE, arguments)

    assert found.collected_files == ["test_here.py", "test_gone.py"]


def test_without_the_whole_suite_no_file_is_gone(project: Project) -> None:
    """A run of one file does not report benchmarks of other files."""
    run = results(collected_files=["test_here.py"])

    assert with_gone_files(project, run, BASELINE, ["tests/performance/test_here.py::test_a"]) == run
    assert with_gone_files(project, run, None, []) == run


def test_a_linked_suite_is_the_suite(project: Project) -> None:
    """The suite and its files can be named by their real paths and through links."""
    project.suite.rename(project.root / "elsewhere")
    project.suite.symlink_to(project.root / "elsewhere")
    run = results(collected_files=["test_here.py"])

    for named in ("tests/performance/test_here.py", str(project.root / "elsewhere" / "test_here.py")):
        assert with_gone_files(project, run, BASELINE, [named]) == run
    assert with_gone_files(project, run, BASELINE, ["elsewhere"]).collected_files == ["test_here.py", "test_gone.py"]


def test_several_processes_are_refused_without_xdist_as_well(project: Project) -> None:
    """pytest itself says only that it does not know the option."""
    with pytest.raises(RunEnded, match="leave out -n") as ended:
        measure(project, "ci", ["-p", "no:xdist", "-n", "4"], quiet=True)

    assert ended.value.exit_code == 2


def test_a_run_that_ended_early_says_why() -> None:
    """The message has all reasons."""
    error = RunEnded([Reason("ended", "redis died"), Reason("pytest_failed", "7")], 3)

    assert str(error) == "redis died\npytest stopped with exit code 7 before its end: see its output above"
    assert error.exit_code == 3


def test_the_folder_of_a_command_that_was_killed_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next command removes it, but not the folder of a running command."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with _temporary_folder() as killed, _temporary_folder() as at_work:
        held.release(killed / HELD)  # as its process has ended
        with _temporary_folder() as folder:
            assert sorted(folder.parent.iterdir()) == sorted([at_work, folder])
        assert list(at_work.parent.iterdir()) == [at_work]


def test_pytest_keeps_an_interruption_until_its_run_begins(tmp_path: Path) -> None:
    """Ctrl-C in a terminal reaches pytest, too, which would print a traceback of its imports."""
    blocked = "signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])"
    code = f"import os, signal, sys; os.kill(os.getpid(), signal.SIGINT); sys.exit({blocked})"

    assert _run([sys.executable, "-c", code], tmp_path, 20) == 1
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
