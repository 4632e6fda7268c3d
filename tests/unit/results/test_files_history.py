"""The history of runs."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from plumbline.results import files
from plumbline.results.files import earlier_runs, keep_run
from plumbline.results.schema import Results
from tests.support.report_samples import benchmark, results


def run(created: str, commit: str = "0123456789abcdef") -> Results:
    found = results(benchmark("test_a.py::test_b", samples_s=[1e-5] * 100, source="def test_b(): ..."), created=created)
    return replace(found, environment=replace(found.environment, commit=commit))


def test_runs_are_kept_in_order_without_their_samples(tmp_path: Path) -> None:
    """The order of writing does not matter."""
    keep_run(tmp_path, run("2026-11-24T10:00:00+00:00", "b" * 40))
    keep_run(tmp_path, run("2026-11-23T09:00:00+00:00", "a" * 40))
    assert [path.name for path in sorted((tmp_path / "history").iterdir())] == [
        "2026-11-23T090000Z-aaaaaaaaaa.json",
        "2026-11-24T100000Z-bbbbbbbbbb.json",
    ]
    first, second = earlier_runs(tmp_path)
    assert (first.environment.commit, second.environment.commit) == ("a" * 40, "b" * 40)
    assert first.benchmarks[0].median == 57.4e-6
    assert not first.benchmarks[0].samples_s
    assert not first.benchmarks[0].source


def test_the_oldest_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history has a maximum number of runs."""
    monkeypatch.setattr(files, "MOST_RUNS", 3)
    for day in range(1, 6):
        keep_run(tmp_path, run(f"2026-11-0{day}T10:00:00+00:00"))
    assert [one.created[:10] for one in earlier_runs(tmp_path)] == ["2026-11-03", "2026-11-04", "2026-11-05"]


def test_a_run_that_measured_nothing_leaves_nothing(tmp_path: Path) -> None:
    keep_run(tmp_path, results(created="2026-11-24T10:00:00+00:00"))
    assert earlier_runs(tmp_path) == []


def test_files_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    """Damaged and empty files, and files with another schema."""
    keep_run(tmp_path, run("2026-11-24T10:00:00+00:00"))
    for name, text in (("1.json", "{"), ("2.json", ""), ("3.json", '{"schema": 99}')):
        (tmp_path / "history" / name).write_text(text)
    assert [one.created[:10] for one in earlier_runs(tmp_path)] == ["2026-11-24"]
