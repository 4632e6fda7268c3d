"""Copies of the suite without the HTML report, exports and profile, or without what they need."""

import sys
from pathlib import Path

import pytest

from plumbline.commands import gate
from plumbline.results.schema import write_results
from tests.support.project import Project
from tests.support.report_samples import small

EXTRAS = "tests.performance.harness.extras"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("without")
    found = Project.create(root, root)
    assert not (found.suite / "harness" / "extras").exists()
    return found


def test_without_extras_a_run_is_measured_judged_and_told(project: Project) -> None:
    """Even by the profile that makes an HTML report, where there is one."""
    done = project.own_python("-m", "plumbline", "ci", "--profile=full")
    assert (done.code, set(project.verdicts().values())) == (0, {"new"}), done.output
    assert "Exit code 0: nothing failed." in done.output
    assert {path.name for path in (project.root / "perf-results").iterdir()} == {
        "results.json",
        "report.md",
        "junit.xml",
    }


def test_without_extras_the_last_results_are_told_again(project: Project) -> None:
    """And other formats are wrong usage."""
    write_results(project.root / "perf-results" / "results.json", small())
    again = project.own_python("-m", "plumbline", "report")
    assert again.code == 3
    assert "Exit code 3: invalid" in again.output
    assert not (project.root / "perf-results" / "report.html").exists()
    export = project.own_python("-m", "plumbline", "report", "--format=csv")
    assert export.code == 2
    assert "exports were left out of this copy of the suite" in export.output
    assert "Traceback" not in again.output + export.output


def test_without_its_dependency_group_there_is_no_html_and_a_word_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All else works without it."""
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    for name in ("html", "vega"):
        monkeypatch.delitem(sys.modules, f"{EXTRAS}.{name}", raising=False)
        monkeypatch.delattr(f"{EXTRAS}.{name}", raising=False)
    gate._write_html(tmp_path, small())
    assert capsys.readouterr().out == "no HTML report: vl_convert is missing; install the dependency group `report`\n"
    assert not list(tmp_path.iterdir())
