"""The files of a run."""

import errno
import os
import sys
from pathlib import Path

import msgspec
import pytest

from plumbline import cli
from plumbline.commands import output
from plumbline.commands.base import HTML, JUNIT, REPORT, RESULTS, CommandError, Project
from plumbline.commands.output import ASIDE, make_room
from plumbline.loading.figures import Figures
from plumbline.loading.results import LoadResults, SideResults
from plumbline.loading.verdict import Finding
from plumbline.project import EXIT_INVALID, EXIT_USAGE
from plumbline.reporting.html import page
from plumbline.results.files import ResultsError, read_results, write_results
from plumbline.results.schema import Reason, Results
from plumbline.settings import Settings
from tests.support.report_samples import benchmark, results, small


def first_run() -> Results:
    return results(benchmark("a.py::test_a", "new"), verdict="new", reasons=[Reason("no_baseline")])


def test_results_are_none_of_the_files_that_git_lists(tmp_path: Path) -> None:
    """Only a new folder gets a .gitignore. An old one may have its own, or contain other files."""
    with make_room(tmp_path / "new"):
        pass
    assert (tmp_path / "new" / ".gitignore").read_text() == "*\n"
    (tmp_path / "old").mkdir()
    with make_room(tmp_path / "old"):
        pass
    assert not [*(tmp_path / "old").iterdir()]


def test_room_is_made_for_the_files_of_a_run(tmp_path: Path) -> None:
    for name in (RESULTS, JUNIT, "app.log", "mine.txt"):
        (tmp_path / name).touch()
    with make_room(tmp_path):
        assert not (tmp_path / RESULTS).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("code", "kept"), [(EXIT_USAGE, True), (EXIT_INVALID, False)])
def test_a_run_that_wrong_arguments_prevent_leaves_the_last_one_s_files(tmp_path: Path, code: int, kept: bool) -> None:
    """Any other failed run removes the old files, and so does a run after a killed one."""
    (tmp_path / f"{ASIDE}{JUNIT}").touch()
    for name in (RESULTS, "app.log"):
        (tmp_path / name).write_text("the last run's")
    with pytest.raises(CommandError), make_room(tmp_path):
        raise CommandError("", code)
    assert sorted(path.name for path in tmp_path.iterdir()) == (["app.log", RESULTS] if kept else [])


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"can't be written"), make_room(tmp_path / "file"):
        pass


def test_no_verdict_is_printed_before_all_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk makes a run invalid, and no PASS is printed before that."""

    def full(path: Path, text: str) -> None:
        if path.name == HTML:
            raise ResultsError(f"{path} can't be written: No space left on device")
        path.write_text(text, encoding="utf-8")

    monkeypatch.setattr(output, "write_whole", full)
    monkeypatch.setattr(page, "render", lambda *_: "")
    (tmp_path / "perf-results").mkdir()

    with pytest.raises(ResultsError, match="No space left on device"):
        output.report(Project(tmp_path, Settings()), small(), html=True, keep=False)

    assert capsys.readouterr().out == ""


def test_the_results_of_a_run_have_its_problems(tmp_path: Path) -> None:
    """Those of an earlier version, which have none, get them when they are reported again."""
    project = Project(tmp_path, Settings())

    assert output.report(project, small(), html=False, keep=False) == EXIT_INVALID
    written = read_results(project.results / RESULTS)

    assert [one.verdict for one in written.problems] == ["regression", "over budget", "missing", "failed"]


CODES = "slower_than_baseline slower_in_processes budgets_broken test_skipped tests_failed"


@pytest.mark.parametrize(("run", "codes"), [(small(), [CODES]), (first_run(), [])])
def test_a_run_that_needs_attention_ends_with_the_command_that_explains_it(
    run: Results, codes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command of the environment that Nox has made. A healthy first run needs none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".nox" / "ci" / "bin" / "python"))

    output.report(Project(tmp_path, Settings()), run, html=False, keep=False)

    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Help: ")]
    assert printed == [f"Help: .nox/ci/bin/python -m plumbline explain {some}" for some in codes]


@pytest.mark.parametrize("same", [True, False], ids=["same commit", "another commit"])
def test_a_load_test_of_the_same_commit_is_in_all_reports_and_decides(
    same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests" / "performance").mkdir(parents=True)
    (tmp_path / "tests" / "performance" / "settings.toml").touch()
    folder, run = tmp_path / "perf-results", results(benchmark("a.py::test_a", "pass"))
    write_results(folder / RESULTS, run)
    figures = Figures(rate_per_s=50, measured_s=10, arrivals=500, sent=500, requests=500, p99_ms=900)
    load = LoadResults(
        plumbline="1",
        created="",
        commit=run.environment.commit if same else "0123456789abcdef",
        command="nox -s load -- --alone",
        verdict="regression",
        exit_code=1,
        sides=[SideResults("head", [figures], 0.0)],
        findings=[Finding("regression", "p99 900 ms, the budget is 50 ms <b>", 0)],
    )
    (folder / "load.json").write_bytes(msgspec.json.encode(load))

    assert cli.main(["report"]) == (1 if same else 0)

    markdown, html, printed = (folder / REPORT).read_text(), (folder / HTML).read_text(), capsys.readouterr().out
    assert ("### ❌ Load test: regression\n" in markdown) == same
    assert ("Repeat it with `nox -s load -- --alone`" in markdown) == same
    assert ("| 50/s | head | 50/s | 500 | 0 ms | 0 ms | 900 ms | 0 ms | 0.00% |" in markdown) == same
    assert ("- regression: p99 900 ms, the budget is 50 ms &lt;b&gt;\n" in markdown) == same
    assert ('<section id="load"><h2>Load test: regression</h2>' in html) == same
    assert "<b>" not in html
    assert ("regression: p99 900 ms" in printed) == same
    assert ("load.json is of another commit, 0123456789: the report leaves it out" in printed) != same
    assert cli.main(["report", "--format", "llm"]) == 0
    printed = capsys.readouterr().out
    assert ("\nload test\n" in printed and "\nregression: p99 900 ms" in printed) == same
    assert ("load.json is of another commit" in printed) != same


@pytest.mark.parametrize(("codes", "worst"), [((1, 3), 3), ((3, 1), 3), ((4, 1), 1), ((0, 4), 4), ((0, 0), 0)], ids=str)
def test_the_worse_of_run_and_load_test_decides_the_exit_code(
    codes: tuple[int, int], worst: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 wins over 1, and 1 over 4."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests" / "performance").mkdir(parents=True)
    (tmp_path / "tests" / "performance" / "settings.toml").touch()
    folder, run = tmp_path / "perf-results", results(benchmark("a.py::test_a", "pass"), exit_code=codes[0])
    write_results(folder / RESULTS, run)
    load = LoadResults(
        plumbline="1", created="", commit=run.environment.commit, command="", verdict="pass", exit_code=codes[1]
    )
    (folder / "load.json").write_bytes(msgspec.json.encode(load))

    assert cli.main(["report"]) == worst


def test_a_summary_that_no_process_reads_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a pipe would wait for a reader. A file is appended to."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "pipe"))
    assert output.add_to_summary(lambda: "text") == [
        f"GITHUB_STEP_SUMMARY can't be written: {os.strerror(errno.ENXIO)}"
    ]
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "file"))
    assert output.add_to_summary(lambda: "text") == output.add_to_summary(lambda: " more") == []
    assert (tmp_path / "file").read_text() == "text more"
