"""Budgets of benchmarks."""

import pytest

from plumbline.judging.decide import broken, check_budget, check_loop_hold, judge_benchmarks, with_kept_budget
from plumbline.judging.evidence import BaselineEvidence, Evidence
from plumbline.measuring.statistics import Summary, summarize
from plumbline.results.schema import Benchmark, BudgetResult, LoopHold, Reason, Verdict
from plumbline.settings import Budget, GateSettings
from tests.support.report_samples import results

KEPT = BudgetResult("p95_ms", 2.0, 1.0, kept=True)
BROKEN = BudgetResult("p95_ms", 2.0, 3.0, kept=False)


def benchmark(*budgets: BudgetResult) -> Benchmark:
    return Benchmark("a.py::a", "s", None, 0.001, {}, budgets=list(budgets))


def summary() -> Summary:
    """Return 1,000 samples of 1, 2, … 1,000 ms: median and mean 500.5, p95 950.05, p99 990.01, 1.998 per second."""
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
    """A limit just above the measured value is kept, one just below is broken."""
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
    results = check_budget(Budget(max_ms=1000.0, rate_per_s=summary().rate_per_s), summary())

    assert [result.kept for result in results] == [True, True]


@pytest.mark.parametrize(("held_s", "kept"), [(0.003, True), (0.005, True), (0.0051, False), (0.0, True)])
def test_a_budget_of_the_longest_hold_of_a_loop(held_s: float, kept: bool) -> None:
    (result,) = check_loop_hold(Budget(max_loop_hold_ms=5), LoopHold(held_s))

    assert result == BudgetResult("max_loop_hold_ms", 5, pytest.approx(held_s * 1000), kept)  # type: ignore[arg-type]
    assert check_loop_hold(Budget(max_ms=5), LoopHold(held_s)) == []


@pytest.mark.parametrize("hold", [None, LoopHold(0.0, unknown="no answer")])
def test_a_benchmark_whose_longest_hold_is_not_known_is_inconclusive(hold: LoopHold | None) -> None:
    (result,) = check_loop_hold(Budget(max_loop_hold_ms=5), hold)

    assert result.note == ("could not be measured: no answer" if hold else "was not measured")
    timings = {"a.py::a": BaselineEvidence("pass")}
    (found,) = judge_benchmarks(results(benchmark(result)), Evidence(timings=timings), GateSettings())
    assert (found.verdict, broken(found)) == ("inconclusive", [])
    assert found.reasons == [Reason("budget_unjudged", subjects=["max_loop_hold_ms"])]


def test_p99_is_not_judged_from_few_samples_unless_p95_exceeds_its_limit() -> None:
    """A benchmark is then no pass, but inconclusive."""
    few = summarize([1e-3] * 90 + [5e-3] * 10)
    broken_, unjudged = (check_budget(Budget(p99_ms=limit), few) for limit in (4.0, 6.0))

    note = "not judged: needs 1,000 samples, there were 100"
    assert broken_ == [BudgetResult("p99_ms", 4.0, 5.0, kept=False)]
    assert unjudged == [BudgetResult("p99_ms", 6.0, 5.0, kept=True, note=note)]
    timings = {"a.py::a": BaselineEvidence("pass")}
    found = judge_benchmarks(results(benchmark(*unjudged)), Evidence(timings=timings), GateSettings())
    assert [(one.verdict, one.reasons) for one in found] == [
        ("inconclusive", [Reason("budget_unjudged", subjects=["p99_ms"])])
    ]


@pytest.mark.parametrize("verdict", ["invalid", "regression"])
def test_an_unjudged_budget_hides_no_failure(verdict: Verdict) -> None:
    unjudged = BudgetResult("p99_ms", 6.0, 5.0, kept=True, note="not judged: needs 1,000 samples")
    evidence = Evidence(timings={"a.py::a": BaselineEvidence(verdict)})

    (found,) = judge_benchmarks(results(benchmark(unjudged)), evidence, GateSettings())

    assert found.verdict == verdict


def test_a_budget_without_limits_has_no_results() -> None:
    assert check_budget(Budget(), summary()) == []


def test_the_broken_limits_of_a_benchmark_are_those_that_are_not_kept() -> None:
    assert broken(benchmark(KEPT, BROKEN)) == [BROKEN]


@pytest.mark.parametrize(
    ("fresh", "kept"),
    [([KEPT, KEPT], True), ([BROKEN, KEPT, KEPT], True), ([BROKEN, KEPT], False), ([BROKEN], False), ([], False)],
    ids=["all", "most", "half", "none", "not measured"],
)
def test_a_budget_is_kept_if_most_fresh_processes_keep_it(fresh: list[BudgetResult], kept: bool) -> None:
    """The results have the measurements of a process that kept it, and a warning. Half is not most."""
    judged = with_kept_budget(benchmark(BROKEN), [benchmark(one) for one in fresh])

    assert judged.budgets == [KEPT if kept else BROKEN]
    number = fresh.count(KEPT)
    warning = f"its budget was broken, but {number} of {len(fresh)} fresh processes stayed within it"
    assert judged.warnings == ([warning] if kept else [])


def test_a_budget_that_was_kept_stays_so() -> None:
    """Fresh processes for other benchmarks do not change it."""
    assert with_kept_budget(benchmark(KEPT), [benchmark(BROKEN)] * 5) == benchmark(KEPT)
