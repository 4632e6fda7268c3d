"""Missing, damaged or empty last results: a message, the next step, and a documented exit code."""

import io
import json
import sys
from pathlib import Path

import pytest

from plumbline.cli import main
from plumbline.reporting.exports import FORMATS
from plumbline.results.files import dump_results, write_results
from tests.support.report_samples import benchmark, results

GOOD = dump_results(results(benchmark("test_a.py::test_b")))
NAN = GOOD.replace('"median": 5.74e-05', '"median": NaN')
INFINITE = GOOD.replace('"median": 5.74e-05', '"median": 1e999')
NEGATIVE = GOOD.replace('"median": 5.74e-05', '"median": -1')
NO_OPERATIONS = GOOD.replace('"samples": 100', '"samples": 100, "operations": 0')


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the last results in the current project."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests" / "performance").mkdir(parents=True)
    (tmp_path / "tests" / "performance" / "settings.toml").touch()
    (tmp_path / "perf-results").mkdir()
    return tmp_path / "perf-results" / "results.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there are no results in "),
        ("", "results.json is empty\n"),
        ("no JSON", "results.json is not a results file: "),
        ("[]", "results.json is not a results file: "),
        ('{"schema": 99}', "results.json has schema 99, but this version of Plumbline reads 2: update Plumbline\n"),
        (GOOD[:500], "results.json is not a results file: "),
        (NAN, "results.json is not a results file: "),
        (INFINITE, "results.json is damaged or was edited by hand: "),
        (NEGATIVE, "results.json is damaged or was edited by hand: "),
        (NO_OPERATIONS, "results.json is damaged or was edited by hand: "),
    ],
    ids=[
        "missing",
        "empty",
        "no JSON",
        "a list",
        "another schema",
        "cut off",
        "NaN",
        "infinity",
        "a time below 0",
        "0 operations",
    ],
)
def test_results_that_cannot_be_read(
    path: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    """In no format."""
    if text is not None:
        path.write_text(text)
    for format_ in (None, *FORMATS):
        code = main(["report", f"--format={format_}"] if format_ else ["report"])
        output = capsys.readouterr()
        assert (code, output.out) == (3, "")
        assert message in output.err
        assert "`nox -s ci`" in output.err


@pytest.mark.parametrize("format_", ["llm", *FORMATS])
def test_an_export_is_utf_8_in_any_locale(path: Path, monkeypatch: pytest.MonkeyPatch, format_: str) -> None:
    write_results(path, results(benchmark("test_a.py::test_µ[→]", "regression"), verdict="regression", exit_code=1))
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", output)

    assert main(["report", f"--format={format_}"]) == 0
    assert main(["report", f"--format={format_}", f"--output={path.with_name('export')}"]) == 0

    assert output.buffer.getvalue() == path.with_name("export").read_bytes()


def test_no_name_of_a_format_is_wrong_usage(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(path, results(benchmark("test_a.py::test_b")))

    assert main(["report", "--format="]) == 2
    assert "there is no format ''" in capsys.readouterr().err


def test_a_failed_run_without_benchmarks(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report gives the reason; only formats whose readers refuse an empty file fail."""
    write_results(path, results(verdict="invalid", exit_code=3, reasons=["redis is not ready"], baseline=""))
    assert main(["report"]) == 3
    assert "INVALID: redis is not ready\nExit code 3: " in capsys.readouterr().out
    assert "Redis is not ready" in (path.parent / "report.html").read_text(encoding="utf-8")
    codes = {name: main(["report", f"--format={name}", f"--output={path.with_name('export')}"]) for name in FORMATS}
    assert {name for name, code in codes.items() if code} == {"github-action-benchmark", "pyperf"}
    assert set(codes.values()) == {0, 3}
    assert json.loads(path.read_text())["exit_code"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["gone", "shards"],
            3,
            "nothing can be merged:\nthere is no gone/results.json\nthere is no shards/results.json\n",
        ),
        (["empty"], 3, "empty/results.json is empty\n"),
        (["whole"], 3, "whole/results.json is not of a shard: run `ci` with --shard\n"),
        (
            ["whole", "perf-results"],
            2,
            "perf-results is where the merged report is written: move that shard's results\n",
        ),
        (["whole", "--format=llm"], 2, "--merge goes without --format and --output: export afterwards\n"),
    ],
    ids=["missing", "empty", "no shard", "its own folder", "a format"],
)
def test_nothing_to_merge(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    """The last report stays as it is."""
    for name, text in {"empty": "", "whole": GOOD, "perf-results": GOOD}.items():
        (path.parents[1] / name).mkdir(exist_ok=True)
        (path.parents[1] / name / "results.json").write_text(text)

    assert main(["report", "--merge", *arguments]) == code
    assert message in capsys.readouterr().err
    assert path.read_text() == GOOD
