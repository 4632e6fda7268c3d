"""The history of the default branch in a repository: what adds to it, and what reports show of it."""

import argparse
import math
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from plumbline.commands import report as report_command
from plumbline.commands.base import HTML, REPORT, RESULTS, CommandError, Project
from plumbline.commands.output import report
from plumbline.commands.recording import read_history
from plumbline.project import EXIT_INVALID, EXIT_USAGE
from plumbline.results.files import write_results
from plumbline.results.history import SUFFIXES
from plumbline.results.schema import Results, Shard
from plumbline.settings import HistorySettings, Settings
from tests.support.report_samples import benchmark, results
from tests.support.repository import Repository

KEY = "a.py::test_a"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A clone of a bare repository whose settings name a folder and a branch."""
    made = Repository.create(tmp_path / "first", {"a.py": ""})
    made.git("init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "hub"))
    made.git("push", "--quiet", f"file://{tmp_path / 'hub'}", "main")
    clone = Repository(tmp_path / "hub").clone(tmp_path / "clone")
    settings = Settings(history=HistorySettings(folder="perf-results/main"))
    return Project(clone.root, settings)


def run(number: int, base: int, change: float = 0.01, branch: str = "main", **fields: Any) -> Results:
    """A run of a numbered commit that was compared with another one."""
    one = benchmark(KEY, change=change, change_error=0.001, counted=["postgres.statement"], counts={
        "postgres.statement SELECT 1": 1.0 if number < 3 else 5.0
    })  # fmt: skip
    made = results(
        one, verdict="pass", base=f"{base:010}, the newest", created=f"2026-11-{number:02}T10:00:00+00:00", **fields
    )
    return replace(made, environment=replace(made.environment, branch=branch, commit=f"{number:010}{'a' * 30}"))


def asked(**options: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"merge": None, "format": None, "output": None, "push_history": False} | options)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.name.endswith(SUFFIXES))


def test_only_whole_runs_of_committed_code_on_the_default_branch_are_added(project: Project) -> None:
    """And each of them once: `nox -s report` shows the same run again."""
    folder = project.root / "perf-results/main"
    committed = run(1, 0)
    shard = Shard(1, 2, "hash")
    dirty = replace(committed, environment=replace(committed.environment, dirty=True))
    for one in (run(1, 0, branch="topic"), replace(committed, shard=shard), dirty, replace(committed, benchmarks=[])):
        report(project, one, html=False, keep=True)
    assert not files_of(folder)

    report(project, committed, html=False, keep=True)
    report(project, committed, html=False, keep=False)

    assert len(files_of(folder)) == 1


def test_what_moved_is_reported_and_drawn(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Four comparisons of neighbours with +1 % each, which no single run would have failed."""
    for number in (1, 2, 3, 4):
        report(project, run(number, number - 1), html=number == 4, keep=True)
        printed = " ".join(capsys.readouterr().out.split())
        assert ("History of the default branch" in printed) == (number > 2)

    change = f"{math.expm1(4 * math.log(1.01)) * 100:+.1f} %"
    text = f"{change} (+3.5…+4.8) since 0000000, in 4 runs"
    assert text in printed
    for file in (REPORT, HTML):
        assert text in (project.results / file).read_text(encoding="utf-8")
    markdown = (project.results / REPORT).read_text(encoding="utf-8")
    assert f"- `{KEY}` {text}; statements 1 → 5 at 0000000: `" in markdown
    command = "-s bisect -- 0000000000 0000000004 -k test_a"
    assert f"{command}`\n" in markdown
    assert command in printed
    page = (project.results / HTML).read_text(encoding="utf-8")
    assert 'class="chain"' in page
    assert 'class="spark"' in page


def test_the_commits_between_which_a_count_grew_are_named(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Commits 2 and 3 are not neighbours: many commits may be pushed at once. The time has not moved."""
    for number in (1, 2, 3, 4):
        report(project, run(number, number - 1, change=0.0), html=False, keep=True)

    printed = " ".join(capsys.readouterr().out.split())
    assert "statements 1 → 5 at 0000000" in printed
    assert "-s bisect -- 0000000002 0000000003 -k test_a" in printed


def test_a_history_that_cannot_be_read_changes_no_verdict(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """A conflict, another schema: one line each, with file and line. A failed run still fails."""
    folder = project.root / "perf-results/main"
    folder.mkdir(parents=True)
    (folder / "merged.jsonl").write_text('<<<<<<< HEAD\n{"schema":9}\n')
    failed = replace(run(2, 1), verdict="regression", exit_code=1)

    assert report(project, failed, html=False, keep=True) == 1

    printed = " ".join(capsys.readouterr().out.split())
    assert "not used: merged.jsonl:1: the mark of a merge conflict" in printed
    assert "not used: merged.jsonl:2: has schema 9, but this version of Plumbline reads 1" in printed
    assert "merged.jsonl:2" in (project.results / REPORT).read_text(encoding="utf-8")
    assert [one.date[8:10] for one in read_history(project).runs] == ["02"]


def test_a_run_is_pushed_only_if_asked(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """The branch then has it, and the report of another clone shows it."""
    hub = Repository(project.root.parent / "hub")
    report(project, run(1, 0), html=False, keep=True)
    assert hub.git("branch", "--format=%(refname:short)") == "main"

    for said in ("added to the history on plumbline-data: 0000000001", "already in the history"):
        assert report_command.run(project, asked(push_history=True)) == 0
        assert said in capsys.readouterr().out
    clone = hub.clone(project.root.parent / "another")
    assert len(read_history(Project(clone.root, project.settings)).runs) == 1

    write_results(project.results / RESULTS, run(2, 1, branch="topic"))
    assert report_command.run(project, asked(push_history=True)) == 0
    assert "not added to the history: this run was not on the default branch, but on topic" in capsys.readouterr().out
    write_results(project.results / RESULTS, run(2, 1))
    on_main = Project(project.root, Settings(history=HistorySettings(branch="main")))
    with pytest.raises(CommandError, match="is the default branch"):
        report_command.run(on_main, asked(push_history=True))
    hub.root.rename(hub.root.with_name("moved"))
    with pytest.raises(CommandError, match="contents: write") as refused:
        report_command.run(project, asked(push_history=True))
    assert refused.value.exit_code == EXIT_INVALID


@pytest.mark.parametrize("branch", ["", "HEAD", "a b", "-x"])
def test_a_wrong_name_of_a_branch_is_wrong_usage(project: Project, branch: str) -> None:
    """A push to `HEAD` would move the fetched default branch of this clone."""
    project = Project(project.root, Settings(history=HistorySettings(branch=branch)))
    report(project, run(1, 0), html=False, keep=True)
    with pytest.raises(CommandError, match="is no name of a branch") as usage:
        report_command.run(project, asked(push_history=True))
    assert usage.value.exit_code == EXIT_USAGE


def test_the_history_is_exported_for_otava(project: Project, tmp_path: Path) -> None:
    """Runs of the newest run's kind of machine. Each cell has a number, as Otava needs."""
    other = run(2, 1)
    other = replace(other, environment=replace(other.environment, cpu="another"))
    lacking = replace(run(3, 1), benchmarks=[benchmark("a.py::test_b")])
    for one in (run(1, 0), other, lacking, run(4, 1)):
        report(project, one, html=False, keep=True)

    assert report_command.run(project, asked(format="otava", output=tmp_path / "history.csv")) == 0

    header, *rows = (tmp_path / "history.csv").read_text().splitlines()
    assert header == f"time,commit,{KEY} median_us,{KEY} statements"
    assert rows == [
        f"2026-11-01T10:00:00+00:00,0000000001{'a' * 30},57.4,1.0",
        f"2026-11-03T10:00:00+00:00,0000000003{'a' * 30},57.4,1.0",
        f"2026-11-04T10:00:00+00:00,0000000004{'a' * 30},57.4,5.0",
    ]
