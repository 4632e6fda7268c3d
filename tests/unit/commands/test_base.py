"""The exit code of a command for each kind of error."""

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline.commands.base import CommandError, Project, documented_exit, this_project
from plumbline.results.files import ResultsError, write_results
from plumbline.settings import Settings
from tests.support.report_samples import small


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, a project with default settings."""
    (tmp_path / "tests" / "performance").mkdir(parents=True)
    (tmp_path / "tests" / "performance" / "settings.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_project() -> int:
    """A command that needs a project and does nothing."""
    return 0 if this_project() else 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ResultsError("a file is damaged"), 3),
        (CommandError("no such format", 2), 2),
        (KeyboardInterrupt(), 130),
    ],
    ids=["results", "usage", "interrupted"],
)
def test_an_error_ends_in_a_message_and_its_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line has the exit code."""

    def command() -> int:
        raise error

    assert documented_exit(command) == code
    assert capsys.readouterr().err.endswith(f"{str(error) or 'interrupted: no verdict'}\nexit code {code}\n")


def test_a_full_disk_is_not_taken_for_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    """The file is named, and the output can still be written."""

    def command() -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/plan.json")

    assert documented_exit(command) == 3
    assert "/somewhere/plan.json can't be written: No space left on device; make room" in capsys.readouterr().err


def test_a_limit_of_the_user_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """For example the limit on processes, `ulimit -u`."""

    def command() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    assert documented_exit(command) == 3
    assert "Resource temporarily unavailable; raise this user's limits" in capsys.readouterr().err


def test_wrong_settings_are_wrong_usage(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command does not start."""
    (project / "tests" / "performance" / "settings.toml").write_text("no = TOML", encoding="utf-8")

    assert documented_exit(in_project) == 2
    assert "settings.toml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", ".", "..", "/", "tests", "tests/performance", "tests/performance/new", "a\\u0000b"),
        *("pyproject.toml/x", "x" * 300, "a file", "theirs", "logs", "link to the root", "loop"),
    ],
)
def test_a_folder_of_results_never_holds_files_of_others(
    project: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with files that a run would replace is refused, and so is an impossible name."""
    for file in ("a file", "pyproject.toml", "report.md", "theirs/report.md", "logs/app.log"):
        (project / file).parent.mkdir(exist_ok=True)
        (project / file).write_text("mine", encoding="utf-8")
    (project / "link to the root").symlink_to(".")
    (project / "loop").symlink_to("loop")
    (project / "tests" / "performance" / "settings.toml").write_text(f'results = "{name}"', encoding="utf-8")

    assert documented_exit(in_project) == 2
    assert "settings.toml: results " in capsys.readouterr().err.replace("'", "")


@pytest.mark.parametrize("name", ["perf-results", "new", "ours", "of an old version", "empty", "link", "../elsewhere"])
def test_a_folder_of_results(project: Path, name: str) -> None:
    """Accepted are a new folder, an empty one, one that a run made, and the default one after a killed run."""
    for folder in ("perf-results", "ours", "of an old version", "empty"):
        (project / folder).mkdir()
    (project / "perf-results" / "report.md").write_text("cut off")
    (project / "ours" / "report.md").write_text("whole")
    (project / "ours" / ".gitignore").write_text("*\n")
    (project / "of an old version" / "report.md").write_text("whole")
    write_results(project / "of an old version" / "results.json", small())
    (project / "link").symlink_to("ours")
    (project / "tests" / "performance" / "settings.toml").write_text(f'results = "{name}"', encoding="utf-8")

    assert documented_exit(in_project) == 0


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), ZeroDivisionError()])
def test_an_unexpected_error_is_shown_and_no_regression(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback is printed. By itself Python would exit with 1, the code of a regression."""

    def command() -> int:
        raise error

    assert documented_exit(command) == 3
    shown = capsys.readouterr().err
    assert f"raise error\n{type(error).__name__}" in shown
    assert "This is a bug in Plumbline: please report it." in shown


def test_a_current_folder_that_is_gone_is_no_regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    assert documented_exit(in_project) == 3


def test_a_closed_stream_is_none_that_counts(project: Path) -> None:
    """Some schedulers start commands without standard streams. Other files must not get their descriptors."""
    write_results(project / "perf-results" / "results.json", small())
    shell = f"exec {shlex.quote(sys.executable)} -m plumbline report <&- >&- 2>&-"

    assert subprocess.run(["bash", "-c", shell], cwd=project).returncode == 3
    assert (project / "perf-results" / "report.md").read_text().startswith("## ")


@pytest.mark.parametrize("command", [("report",), ("report", "--format=csv")], ids=["report", "export"])
def test_a_closed_pipe_is_never_the_exit_code_of_a_regression(project: Path, command: tuple[str, ...]) -> None:
    """The files are written, and the exit code is that of the run."""
    write_results(project / "perf-results" / "results.json", small())
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [sys.executable, "-m", "plumbline", *command], cwd=project, stdout=writer, stderr=subprocess.PIPE, text=True
    )

    os.close(writer)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    if command == ("report",):
        assert (project / "perf-results" / "report.md").exists()
        assert (project / "perf-results" / "junit.xml").exists()


def test_a_path_outside_of_the_project_is_shown_whole(tmp_path: Path) -> None:
    shown = Project(tmp_path / "project", Settings()).shown
    assert shown(tmp_path / "project" / "results" / "a.json") == "results/a.json"
    assert shown(tmp_path / "a.json") == str(tmp_path / "a.json")
