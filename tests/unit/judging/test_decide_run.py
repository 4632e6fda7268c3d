"""The verdict and the exit code of a run."""

from typing import Any

import pytest

from plumbline.judging.decide import run_verdict
from plumbline.judging.missing import missing_benchmarks, removed_benchmarks
from plumbline.project import EXIT_INCONCLUSIVE, EXIT_INTERRUPTED, EXIT_INVALID, EXIT_PASS, EXIT_REGRESSION, EXIT_USAGE
from plumbline.results.schema import (
    SCHEMA,
    Benchmark,
    BudgetResult,
    Environment,
    Kind,
    Reason,
    Results,
    TestOutcome,
    Verdict,
)

KEPT = BudgetResult("p95_ms", 2.0, 1.0, kept=True)
BROKEN = BudgetResult("p95_ms", 2.0, 3.0, kept=False)
NOTHING, NOT_READY, DIED = Reason("nothing_measured"), Reason("ended", "redis is not ready"), Reason("ended", "it died")


def about(kind: Kind, *keys: str) -> Reason:
    return Reason(kind, subjects=list(keys))


def benchmark(key: str, verdict: Verdict | None = "pass", **fields: Any) -> Benchmark:
    return Benchmark(**({"key": key, "unit": "s", "verdict": verdict, "median": 0.001, "counts": {}} | fields))


def measured(verdict: Verdict | None, key: str = "a.py::a", **fields: Any) -> Benchmark:
    return benchmark(key, verdict, samples=100, **fields)


def run(*benchmarks: Benchmark, **fields: Any) -> Results:
    environment = Environment("m1", "linux", "x86_64", "Xeon", 2, "6.12", "3.11.9", {}, {}, None, "", False, {})
    return Results(SCHEMA, None, environment, list(benchmarks), **fields)


def test_the_exit_codes_are_the_documented_ones() -> None:
    """Scripts of users rely on these numbers."""
    codes = (EXIT_PASS, EXIT_REGRESSION, EXIT_USAGE, EXIT_INVALID, EXIT_INCONCLUSIVE, EXIT_INTERRUPTED)

    assert codes == (0, 1, 2, 3, 4, 130)


def test_a_run_within_its_limits_passes() -> None:
    """A run passes with passes, improvements and edited benchmarks, kept budgets and passed tests."""
    results = run(
        measured("pass", "a.py::a", budgets=[KEPT]),
        measured("improvement", "b.py::b"),
        measured("changed", "c.py::c"),
        measured("new", "d.py::d"),
        tests=[TestOutcome("a.py::a", "passed", 0.1), TestOutcome("e.py::e", "skipped", 0.0, "off: redis")],
    )

    assert run_verdict(results, ["inconclusive"]) == ("pass", 0, [Reason("within_limits", number=2)])


def test_a_run_of_edited_benchmarks_alone_has_judged_nothing() -> None:
    """The run passes with the verdict "changed"."""
    verdict, code, reasons = run_verdict(run(measured("changed", "a.py::a"), measured("new", "b.py::b")), [])

    assert (verdict, code) == ("changed", 0)
    assert reasons == [Reason("sources_changed", subjects=["a.py::a"])]


def test_a_run_of_new_benchmarks_alone_has_nothing_to_compare_with() -> None:
    """The run passes with the verdict "new"."""
    verdict = run_verdict(run(measured("new", "a.py::a"), measured("new", "b.py::b")), [])

    assert verdict == ("new", 0, [Reason("no_baseline")])


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        (run(measured("regression")), about("slower_than_baseline", "a.py::a")),
        (run(measured("pass", budgets=[KEPT, BROKEN])), about("budgets_broken", "a.py::a")),
        (run(measured("new", budgets=[BROKEN])), about("budgets_broken", "a.py::a")),
        (
            run(measured("pass"), tests=[TestOutcome("b.py::b", "failed", 0.1, "boom")]),
            about("tests_failed", "b.py::b"),
        ),
    ],
    ids=["slower", "budget", "budget of a new one", "test"],
)
def test_a_regression_a_broken_budget_and_a_failed_test_fail_the_run(results: Results, reason: Reason) -> None:
    """Each gives exit code 1 and its own reason."""
    assert run_verdict(results, []) == ("regression", 1, [reason])


def test_all_that_is_bad_is_reported_in_its_order() -> None:
    """Slower benchmarks come first, then budgets, then tests."""
    results = run(
        measured("inconclusive", "a.py::a", budgets=[BROKEN]),
        measured("regression", "b.py::b"),
        tests=[TestOutcome("c.py::c", "failed", 0.1)],
    )

    assert run_verdict(results, ["inconclusive"]) == (
        "regression",
        1,
        [
            about("slower_than_baseline", "b.py::b"),
            about("budgets_broken", "a.py::a"),
            about("tests_failed", "c.py::c"),
        ],
    )


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        (run(), NOTHING),
        (run(tests=[TestOutcome("a.py::a", "passed", 0.1)]), NOTHING),
        (run(measured("pass"), measured("invalid", "b.py::b")), about("benchmarks_invalid", "b.py::b")),
        (run(measured("pass"), measured(None, "b.py::b")), about("benchmarks_invalid", "b.py::b")),
        (
            run(measured("pass"), benchmark("b.py::b", "missing")),
            about("benchmarks_missing", "b.py::b"),
        ),
        (run(measured("pass"), reasons=[NOT_READY]), NOT_READY),
        (run(reasons=[NOT_READY]), NOT_READY),
    ],
    ids=["empty", "tests alone", "invalid", "not judged", "missing", "told before", "told before, nothing measured"],
)
def test_a_run_that_did_not_measure_what_it_should_is_invalid(results: Results, reason: Reason) -> None:
    """The exit code is 3, with one reason."""
    assert run_verdict(results, []) == ("invalid", 3, [reason])


def test_an_invalid_run_reports_what_is_wrong_and_then_what_is_bad() -> None:
    """Reasons of the record come first, then invalid and missing benchmarks, then failures."""
    results = run(
        measured("regression", "a.py::a", budgets=[BROKEN]),
        measured("invalid", "b.py::b"),
        benchmark("c.py::c", "missing"),
        reasons=[DIED],
        tests=[TestOutcome("d.py::d", "failed", 0.1)],
    )

    assert run_verdict(results, []) == (
        "invalid",
        3,
        [
            DIED,
            about("benchmarks_invalid", "b.py::b"),
            about("benchmarks_missing", "c.py::c"),
            about("slower_than_baseline", "a.py::a"),
            about("budgets_broken", "a.py::a"),
            about("tests_failed", "d.py::d"),
        ],
    )


def test_only_missing_benchmarks_means_that_nothing_was_measured() -> None:
    """Entries for missing benchmarks do not count as measured."""
    verdict, code, reasons = run_verdict(run(benchmark("a.py::a", "missing")), [])

    assert (verdict, code) == ("invalid", 3)
    assert reasons == [NOTHING, about("benchmarks_missing", "a.py::a")]


@pytest.mark.parametrize(("fail_on", "code"), [([], 0), (["inconclusive"], 4)])
def test_an_inconclusive_run_fails_where_the_settings_say_so(fail_on: list[str], code: int) -> None:
    """The default is a warning and exit code 0. With `fail_on` it is exit code 4."""
    results = run(measured("inconclusive", "a.py::a"), measured("pass", "b.py::b"), measured("new", "c.py::c"))

    assert run_verdict(results, fail_on) == ("inconclusive", code, [Reason("benchmarks_inconclusive", number=1, of=3)])


def test_a_run_with_a_base_was_compared_with_it() -> None:
    """The reason of a regression names the base."""
    assert run_verdict(run(measured("regression"), base="abc, the merge base"), [])[2] == [
        about("slower_than_base", "a.py::a")
    ]


def missing(*, baseline: list[str], now: list[Benchmark] | None = None, **fields: Any) -> list[Benchmark]:
    """Return the missing benchmarks of a run that collected a.py, against a baseline."""
    fields = {"collected_files": ["a.py"]} | fields
    return missing_benchmarks(run(*[benchmark(key) for key in baseline]), run(*(now or []), **fields))


def test_a_benchmark_whose_test_is_gone_is_missing() -> None:
    """Its entry has the baseline's median and the reason."""
    (found,) = missing(baseline=["a.py::a", "a.py::gone"], now=[measured("pass", "a.py::a")])

    assert (found.key, found.verdict, found.unit, found.baseline_median) == ("a.py::gone", "missing", "s", 0.001)
    assert (found.median, found.samples) == (0.0, 0)
    assert found.reasons == [Reason("test_gone")]


def test_a_skipped_benchmark_is_missing_with_the_reason_of_the_skip() -> None:
    """Otherwise a skip would hide a benchmark."""
    (found,) = missing(baseline=["a.py::a"], tests=[TestOutcome("a.py::a", "skipped", 0.0, "no time today")])

    assert found.reasons == [Reason("test_skipped", "no time today")]


def test_a_test_that_measures_no_more_is_missing() -> None:
    """Its reason differs from that of a deleted test."""
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
    """It was measured, renamed, deselected, failed, or its service is off."""
    assert missing(baseline=["a.py::a"], **fields) == []


def test_what_explains_one_benchmark_explains_no_other() -> None:
    """Another benchmark beside a deselected, failed or renamed one is missing."""
    found = missing(
        baseline=["a.py::a", "a.py::b", "a.py::c", "a.py::d"],
        now=[measured("pass", "a.py::new", renamed_from="a.py::c")],
        deselected=["a.py::a"],
        tests=[TestOutcome("a.py::b", "failed", 0.1)],
    )

    assert [entry.key for entry in found] == ["a.py::d"]


def test_what_a_change_takes_out_of_the_baseline_is_removed_and_fails_nothing() -> None:
    """Benchmarks that are measured, renamed, deselected or still in the baseline are not removed."""
    of_base = run(*(benchmark(f"a.py::{name}") for name in ("gone", "kept", "measured", "old_name", "deselected")))
    baseline = run(benchmark("a.py::kept"), benchmark("a.py::name", renamed_from="a.py::old_name"))
    results = run(measured("pass", "a.py::measured"), deselected=["a.py::deselected"])
    [gone] = removed_benchmarks(of_base, baseline, results)
    assert (gone.key, gone.verdict, gone.baseline_median) == ("a.py::gone", "removed", 0.001)
    assert run_verdict(run(*results.benchmarks, gone), [])[:2] == ("pass", EXIT_PASS)
