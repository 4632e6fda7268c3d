"""Budgets of benchmarks, on known numbers."""

import pytest

from plumbline.judging.decide import broken, check_budget, with_kept_budget
from plumbline.measuring.statistics import Summary, summarize
from plumbline.results.schema import Benchmark, BudgetResult
from plumbline.settings import Budget

KEPT = BudgetResult("p95_ms", 2.0, 1.0, kept=True)
BROKEN = BudgetResult("p95_ms", 2.0, 3.0, kept=False)


def benchmark(*budgets: BudgetResult) -> Benchmark:
    return Benchmark("a.py::a", "s", None, 0.001, {}, budgets=list(budgets))


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

    note = "not judged: needs 1,000 samples, there were 100"
    assert result == BudgetResult("p99_ms", 0.001, 1000.0, kept=True, note=note)


def test_a_budget_without_limits_has_no_results() -> None:
    """What isn't limited isn't mentioned."""
    assert check_budget(Budget(), summary()) == []


def test_the_broken_limits_of_a_benchmark_are_those_that_are_not_kept() -> None:
    """Of a kept and a broken limit, the broken one is returned."""
    assert broken(benchmark(KEPT, BROKEN)) == [BROKEN]


@pytest.mark.parametrize(
    ("fresh", "kept"),
    [([KEPT, KEPT], True), ([BROKEN, KEPT, KEPT], True), ([BROKEN, KEPT], False), ([BROKEN], False), ([], False)],
    ids=["all", "most", "half", "none", "not measured"],
)
def test_a_budget_is_kept_if_most_fresh_processes_keep_it(fresh: list[BudgetResult], kept: bool) -> None:
    """The figures of one that kept it are shown, with a warning; half is not most."""
    judged = with_kept_budget(benchmark(BROKEN), [benchmark(one) for one in fresh])

    assert judged.budgets == [KEPT if kept else BROKEN]
    number = fresh.count(KEPT)
    warning = f"its budget was broken, and kept in {number} of {len(fresh)} fresh processes"
    assert judged.warnings == ([warning] if kept else [])


def test_a_budget_that_was_kept_stays_so() -> None:
    """Fresh processes that measured it beside others change nothing."""
    assert with_kept_budget(benchmark(KEPT), [benchmark(BROKEN)] * 5) == benchmark(KEPT)
