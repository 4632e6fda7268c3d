"""An environment without the extra `html`: everything but the HTML report works."""

import sys
from pathlib import Path

import pytest

from plumbline.cli import main
from plumbline.results.files import write_results
from tests.support.project import Project
from tests.support.report_samples import small

MISSING = "no HTML report: vl-convert-python is missing; install the extra `html` of pytest-plumbline\n"
BLOCK = 'import sys\n\nsys.modules["vl_convert"] = None\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("without")
    (root / "sitecustomize.py").write_text(BLOCK, encoding="utf-8")
    return Project.create(root, root)


def test_a_run_is_measured_judged_and_reported(project: Project) -> None:
    """Even with the profile that writes the HTML report."""
    done = project.own_python("-m", "plumbline", "ci", "--profile=full", PYTHONPATH=str(project.root))
    assert (done.code, set(project.verdicts().values())) == (0, {"new"}), done.output
    assert "Exit code 0: nothing failed." in done.output
    assert done.output.count(MISSING) == 1
    assert {path.name for path in (project.root / "perf-results").iterdir()} == {
        ".gitignore",
        "results.json",
        "report.md",
        "junit.xml",
        "history",
    }


def test_the_last_results_are_reported_again_and_exported(project: Project) -> None:
    """With the exit code of their run."""
    write_results(project.root / "perf-results" / "results.json", small())
    again = project.own_python("-m", "plumbline", "report", PYTHONPATH=str(project.root))
    assert again.code == 3
    assert "Exit code 3: " in again.output
    assert again.output.count(MISSING) == 1
    assert not (project.root / "perf-results" / "report.html").exists()
    export = project.own_python("-m", "plumbline", "report", "--format=csv", PYTHONPATH=str(project.root))
    assert export.code == 0
    assert "test_publish_latency" in export.output
    assert "Traceback" not in again.output + export.output


def test_one_line_is_printed_instead_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the package and the extra."""
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests" / "performance").mkdir(parents=True)
    (tmp_path / "tests" / "performance" / "settings.toml").touch()
    results = tmp_path / "perf-results" / "results.json"
    write_results(results, small())
    assert main(["report"]) == 3
    assert capsys.readouterr().out.splitlines(keepends=True)[-1] == MISSING
    assert {path.name for path in results.parent.iterdir()} == {"results.json", "report.md", "junit.xml"}
