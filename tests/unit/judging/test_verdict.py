from typing import Any

import pytest

from plumbline.exit_codes import (
    EXIT_INCONCLUSIVE,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    EXIT_PASS,
    EXIT_REGRESSION,
    EXIT_USAGE,
)
from plumbline.judging.verdict import broken, check_budget, decide, missing_benchmarks, removed_benchmarks
from plumbline.measuring.statistics import Summary, summarize
from plumbline.results.schema import OFF, SCHEMA, Benchmark, BudgetResult, Environment, Results, TestOutcome, Verdict
from plumbline.settings import Budget

KEPT = BudgetResult("p95_ms", 2.0, 1.0, kept=True)
BROKEN = BudgetResult("p95_ms", 2.0, 3.0, kept=False)


def benchmark(key: str, verdict: Verdict | None = "pass", **fields: Any) -> Benchmark:
    return Benchmark(**({"key": key, "unit": "s", "verdict": verdict, "median": 0.001, "counts": {}} | fields))


def measured(verdict: Verdict | None, key: str = "a.py::a", **fields: Any) -> Benchmark:
    return benchmark(key, verdict, samples=100, **fields)


def run(*benchmarks: Benchmark, **fields: Any) -> Results:
    environment = Environment("m1", "linux", "x86_64", "Xeon", 2, "6.12", "3.11.9", {}, {}, None, "", False, {})
    return Results(SCHEMA, None, environment, list(benchmarks), **fields)


# ---- budgets


def summary() -> Summary:
    """1,000 samples of 1, 2, … 1,000 ms: median 500.5, mean 500.5, p95 950.05, p99 990.01, 1.998 a second."""
    return summarize([number / 1000 for number in range(1, 1001)])


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("median_ms", 500.5),
        ("mean_ms", 500.5),
        ("p95_ms", 950.05),
        ("p99_ms", 990.01),
        ("max_ms", 1000.0),
    ],
)
def test_a_budget_limits_each_figure_in_milliseconds(name: str, figure: float) -> None:
    """A limit just above the figure is kept, one just below is broken; both stand beside what was measured."""
    above = check_budget(Budget(**{name: figure + 0.01}), summary())
    below = check_budget(Budget(**{name: figure - 0.01}), summary())

    assert above == [BudgetResult(name, figure + 0.01, pytest.approx(figure), kept=True)]  # type: ignore[arg-type]
    assert below == [BudgetResult(name, figure - 0.01, pytest.approx(figure), kept=False)]  # type: ignore[arg-type]


def test_a_budget_of_a_rate_is_the_least() -> None:
    """A rate above its limit is kept, one below is broken."""
    (kept,) = check_budget(Budget(rate_per_s=1.9), summary())
    (missed,) = check_budget(Budget(rate_per_s=2.0), summary())

    assert (kept.kept, missed.kept) == (True, False)
    assert kept.measured == pytest.approx(1000 / 500.5)


def test_a_figure_equal_to_its_limit_keeps_it() -> None:
    """A limit is the most, or the least, that is allowed."""
    results = check_budget(Budget(max_ms=1000.0, rate_per_s=summary().rate_per_s), summary())

    assert [result.kept for result in results] == [True, True]


def test_p99_is_not_judged_from_few_samples() -> None:
    """Below 1,000 samples a limit on p99 is kept whatever it is, and the result says that it was not judged."""
    (result,) = check_budget(Budget(p99_ms=0.001), summarize([1.0] * 100))

    note = "judged from 1,000 samples on, there were 100"
    assert result == BudgetResult("p99_ms", 0.001, 1000.0, kept=True, note=note)


def test_a_budget_without_limits_has_no_results() -> None:
    """What isn't limited isn't mentioned."""
    assert check_budget(Budget(), summary()) == []


def test_the_broken_limits_of_a_benchmark_are_those_that_are_not_kept() -> None:
    """Of a kept and a broken limit, the broken one is told."""
    assert broken(benchmark("a.py::a", budgets=[KEPT, BROKEN])) == [BROKEN]


# ---- the verdict on a run


def test_the_exit_codes_are_the_documented_ones() -> None:
    """Scripts of users rely on these numbers."""
    codes = (EXIT_PASS, EXIT_REGRESSION, EXIT_USAGE, EXIT_INVALID, EXIT_INCONCLUSIVE, EXIT_INTERRUPTED)

    assert codes == (0, 1, 2, 3, 4, 130)


def test_a_run_within_its_limits_passes() -> None:
    """Passes, improvements and edited benchmarks, budgets kept and tests passed, make a pass."""
    results = run(
        measured("pass", "a.py::a", budgets=[KEPT]),
        measured("improvement", "b.py::b"),
        measured("changed", "c.py::c"),
        measured("new", "d.py::d"),
        tests=[TestOutcome("a.py::a", "passed", 0.1), TestOutcome("e.py::e", "skipped", 0.0, "off: redis")],
    )

    assert decide(results, ["inconclusive"]) == ("pass", 0, ["2 benchmarks within their limits"])


def test_a_run_of_edited_benchmarks_alone_has_judged_nothing() -> None:
    """Where the source of every benchmark changed, the run passes, but not as one that was judged."""
    verdict, code, reasons = decide(run(measured("changed", "a.py::a"), measured("new", "b.py::b")), [])

    assert (verdict, code) == ("changed", 0)
    assert reasons == ["nothing was judged, as the source changed: a.py::a"]


def test_a_run_of_new_benchmarks_alone_has_nothing_to_compare_with() -> None:
    """Without a baseline the run passes, and says that nothing was compared."""
    verdict = decide(run(measured("new", "a.py::a"), measured("new", "b.py::b")), [])

    assert verdict == ("new", 0, ["there is no baseline to compare with"])


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        (run(measured("regression")), "slower than the baseline: a.py::a"),
        (run(measured("pass", budgets=[KEPT, BROKEN])), "budget broken: a.py::a"),
        (run(measured("new", budgets=[BROKEN])), "budget broken: a.py::a"),
        (run(measured("pass"), tests=[TestOutcome("b.py::b", "failed", 0.1, "boom")]), "test failed: b.py::b"),
    ],
    ids=["slower", "budget", "budget of a new one", "test"],
)
def test_a_regression_a_broken_budget_and_a_failed_test_fail_the_run(results: Results, reason: str) -> None:
    """Each ends the run with exit code 1 and its own reason."""
    assert decide(results, []) == ("regression", 1, [reason])


def test_all_that_is_bad_is_told_in_its_order() -> None:
    """Slower benchmarks come first, then budgets, then tests."""
    results = run(
        measured("inconclusive", "a.py::a", budgets=[BROKEN]),
        measured("regression", "b.py::b"),
        tests=[TestOutcome("c.py::c", "failed", 0.1)],
    )

    assert decide(results, ["inconclusive"]) == (
        "regression",
        1,
        ["slower than the baseline: b.py::b", "budget broken: a.py::a", "test failed: c.py::c"],
    )


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        (run(), "nothing was measured"),
        (run(tests=[TestOutcome("a.py::a", "passed", 0.1)]), "nothing was measured"),
        (run(measured("pass"), measured("invalid", "b.py::b")), "invalid: b.py::b"),
        (run(measured("pass"), measured(None, "b.py::b")), "invalid: b.py::b"),
        (
            run(measured("pass"), benchmark("b.py::b", "missing")),
            "in the baseline, but not measured: b.py::b",
        ),
        (run(measured("pass"), reasons=["redis is not ready"]), "redis is not ready"),
        (run(reasons=["redis is not ready"]), "redis is not ready"),
    ],
    ids=["empty", "tests alone", "invalid", "not judged", "missing", "told before", "told before, nothing measured"],
)
def test_a_run_that_did_not_measure_what_it_should_is_invalid(results: Results, reason: str) -> None:
    """It fails closed, with exit code 3 and the one reason."""
    assert decide(results, []) == ("invalid", 3, [reason])


def test_an_invalid_run_tells_what_is_wrong_and_then_what_is_bad() -> None:
    """What the run already knew comes first, then invalid, then missing, then what would have failed it anyway."""
    results = run(
        measured("regression", "a.py::a", budgets=[BROKEN]),
        measured("invalid", "b.py::b"),
        benchmark("c.py::c", "missing"),
        reasons=["the worker died"],
        tests=[TestOutcome("d.py::d", "failed", 0.1)],
    )

    assert decide(results, []) == (
        "invalid",
        3,
        [
            "the worker died",
            "invalid: b.py::b",
            "in the baseline, but not measured: c.py::c",
            "slower than the baseline: a.py::a",
            "budget broken: a.py::a",
            "test failed: d.py::d",
        ],
    )


def test_only_missing_benchmarks_means_that_nothing_was_measured() -> None:
    """Entries that were added for what is missing don't count as measured."""
    verdict, code, reasons = decide(run(benchmark("a.py::a", "missing")), [])

    assert (verdict, code) == ("invalid", 3)
    assert reasons == ["nothing was measured", "in the baseline, but not measured: a.py::a"]


@pytest.mark.parametrize(("fail_on", "code"), [([], 0), (["inconclusive"], 4)])
def test_an_inconclusive_run_fails_where_the_settings_say_so(fail_on: list[str], code: int) -> None:
    """By default it is a warning with exit code 0, with `fail_on` it is exit code 4."""
    results = run(measured("inconclusive", "a.py::a"), measured("pass", "b.py::b"), measured("new", "c.py::c"))

    assert decide(results, fail_on) == ("inconclusive", code, ["1 of 3 benchmarks could not be judged"])


def test_a_long_list_of_benchmarks_is_cut() -> None:
    """Of seven slower benchmarks five are named and two are counted."""
    _, _, reasons = decide(run(*[measured("regression", f"{name}.py::a") for name in "abcdefg"]), [])

    assert reasons == ["slower than the baseline: a.py::a, b.py::a, c.py::a, d.py::a, e.py::a and 2 more"]


def test_a_list_of_five_is_not_cut() -> None:
    """Five are named without a count of none."""
    _, _, reasons = decide(run(*[measured("regression", f"{name}.py::a") for name in "abcde"]), [])

    assert reasons == ["slower than the baseline: a.py::a, b.py::a, c.py::a, d.py::a, e.py::a"]


# ---- what is missing


def missing(*, baseline: list[str], now: list[Benchmark] | None = None, **fields: Any) -> list[Benchmark]:
    """What a run of these benchmarks misses against a baseline of those; it collected a.py."""
    fields = {"collected_files": ["a.py"]} | fields
    return missing_benchmarks(run(*[benchmark(key) for key in baseline]), run(*(now or []), **fields))


def test_a_benchmark_whose_test_is_gone_is_missing() -> None:
    """An entry of the baseline that nothing explains is missing, with its median and with what to do."""
    (found,) = missing(baseline=["a.py::a", "a.py::gone"], now=[measured("pass", "a.py::a")])

    assert (found.key, found.verdict, found.unit, found.baseline_median) == ("a.py::gone", "missing", "s", 0.001)
    assert (found.median, found.samples) == (0.0, 0)
    assert found.reasons == ["its test is gone: record a new baseline if that is meant"]


def test_a_skipped_benchmark_is_missing_with_the_reason_of_the_skip() -> None:
    """A skip, whatever for, would let a benchmark vanish: it is missing."""
    (found,) = missing(baseline=["a.py::a"], tests=[TestOutcome("a.py::a", "skipped", 0.0, "no time today")])

    assert found.reasons == ["skipped: no time today"]


def test_a_test_that_measures_no_more_is_missing() -> None:
    """A test that passed without measuring is told from one that is gone."""
    (found,) = missing(baseline=["a.py::a"], tests=[TestOutcome("a.py::a", "passed", 0.1)])

    assert found.reasons == ["its test measures nothing now: record a new baseline if that is meant"]


@pytest.mark.parametrize(
    "fields",
    [
        {"now": [measured("pass", "a.py::a")]},
        {"now": [measured("pass", "a.py::b", renamed_from="a.py::a")]},
        {"deselected": ["a.py::a"]},
        {"collected_files": ["b.py"]},
        {"tests": [TestOutcome("a.py::a", "failed", 0.1, "boom")]},
        {"tests": [TestOutcome("a.py::a", "skipped", 0.0, f"{OFF}services.redis is off")]},
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
    results.benchmarks.append(gone)
    assert decide(results, [])[:2] == ("pass", EXIT_PASS)
