"""Benchmarks of a baseline that a run has not measured."""

from typing import Any

import pytest

from plumbline.exit_codes import EXIT_PASS
from plumbline.judging.absent import missing_benchmarks, removed_benchmarks
from plumbline.judging.run_verdict import run_verdict
from plumbline.results.reasons import Reason
from plumbline.results.schema import SCHEMA, Benchmark, Environment, Results, TestOutcome, Verdict


def benchmark(key: str, verdict: Verdict | None = "pass", **fields: Any) -> Benchmark:
    return Benchmark(**({"key": key, "unit": "s", "verdict": verdict, "median": 0.001, "counts": {}} | fields))


def measured(verdict: Verdict | None, key: str = "a.py::a", **fields: Any) -> Benchmark:
    return benchmark(key, verdict, samples=100, **fields)


def run(*benchmarks: Benchmark, **fields: Any) -> Results:
    environment = Environment("m1", "linux", "x86_64", "Xeon", 2, "6.12", "3.11.9", {}, {}, None, "", False, {})
    return Results(SCHEMA, None, environment, list(benchmarks), **fields)


def missing(*, baseline: list[str], now: list[Benchmark] | None = None, **fields: Any) -> list[Benchmark]:
    """What a run of these benchmarks misses against a baseline of those; it collected a.py."""
    fields = {"collected_files": ["a.py"]} | fields
    return missing_benchmarks(run(*[benchmark(key) for key in baseline]), run(*(now or []), **fields))


def test_a_benchmark_whose_test_is_gone_is_missing() -> None:
    """An entry of the baseline that nothing explains is missing, with its median and with what to do."""
    (found,) = missing(baseline=["a.py::a", "a.py::gone"], now=[measured("pass", "a.py::a")])

    assert (found.key, found.verdict, found.unit, found.baseline_median) == ("a.py::gone", "missing", "s", 0.001)
    assert (found.median, found.samples) == (0.0, 0)
    assert found.reasons == [Reason("test_gone")]


def test_a_skipped_benchmark_is_missing_with_the_reason_of_the_skip() -> None:
    """A skip, whatever for, would let a benchmark vanish: it is missing."""
    (found,) = missing(baseline=["a.py::a"], tests=[TestOutcome("a.py::a", "skipped", 0.0, "no time today")])

    assert found.reasons == [Reason("test_skipped", "no time today")]


def test_a_test_that_measures_no_more_is_missing() -> None:
    """A test that passed without measuring differs from one that is gone."""
    (found,) = missing(baseline=["a.py::a"], tests=[TestOutcome("a.py::a", "passed", 0.1)])

    assert found.reasons == [Reason("test_measures_nothing")]


@pytest.mark.parametrize(
    "fields",
    [
        {"now": [measured("pass", "a.py::a")]},
        {"now": [measured("pass", "a.py::b", renamed_from="a.py::a")]},
        {"deselected": ["a.py::a"]},
        {"collected_files": ["b.py"]},
        {"tests": [TestOutcome("a.py::a", "failed", 0.1, "boom")]},
        {"tests": [TestOutcome("a.py::a", "skipped", 0.0, "off: services.redis is off", service_off=True)]},
    ],
    ids=["measured", "renamed", "deselected", "file not collected", "failed", "service off"],
)
def test_a_benchmark_whose_absence_is_explained_is_not_missing(fields: dict[str, Any]) -> None:
    """What was measured, renamed, deselected or failed, or whose service is off, is not missing."""
    assert missing(baseline=["a.py::a"], **fields) == []


def test_what_explains_one_benchmark_explains_no_other() -> None:
    """A deselected, a failed and a renamed benchmark leave the one beside them missing."""
    found = missing(
        baseline=["a.py::a", "a.py::b", "a.py::c", "a.py::d"],
        now=[measured("pass", "a.py::new", renamed_from="a.py::c")],
        deselected=["a.py::a"],
        tests=[TestOutcome("a.py::b", "failed", 0.1)],
    )

    assert [entry.key for entry in found] == ["a.py::d"]


def test_what_a_change_takes_out_of_the_baseline_is_removed_and_fails_nothing() -> None:
    """Not what it measures, under whichever name, has deselected, or still has in its baseline."""
    of_base = run(*(benchmark(f"a.py::{name}") for name in ("gone", "kept", "measured", "old_name", "deselected")))
    baseline = run(benchmark("a.py::kept"), benchmark("a.py::name", renamed_from="a.py::old_name"))
    results = run(measured("pass", "a.py::measured"), deselected=["a.py::deselected"])
    [gone] = removed_benchmarks(of_base, baseline, results)
    assert (gone.key, gone.verdict, gone.baseline_median) == ("a.py::gone", "removed", 0.001)
    assert run_verdict(run(*results.benchmarks, gone), [])[:2] == ("pass", EXIT_PASS)
