"""Figures and remarks of one benchmark."""

from plumbline.reporting import figures, verdicts
from plumbline.results.schema import BudgetResult
from tests.support.report_samples import benchmark, unmeasured


def test_a_missing_benchmark_shows_its_baseline_and_nothing_as_measured() -> None:
    entry = unmeasured("a.py::test_a", median=5e-6, baseline_median=None)

    assert figures.before(entry) == 5e-6
    assert figures.now(entry) is None
    assert figures.line(entry) == "5.00 µs"


def test_a_pass_with_a_broken_budget_is_notable() -> None:
    broken = benchmark("a.py::test_a", budgets=[BudgetResult("p95_ms", 2.0, 2.4, kept=False)])
    unjudged = benchmark("a.py::test_a", budgets=[BudgetResult("p99_ms", 2.0, 0.0, kept=True, note="below n = 1,000")])

    assert (verdicts.is_notable(broken), verdicts.verdict(broken)) == (True, "over budget")
    assert (verdicts.is_notable(unjudged), verdicts.verdict(unjudged)) == (False, "pass")
    assert figures.remarks(unjudged) == ["budget p99_ms: below n = 1,000"]
