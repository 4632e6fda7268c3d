"""The benchmarks to compare in pairs, and those to measure again."""

from typing import Any

import pytest

from plumbline.judging.decide import choose_again, choose_pairs, most_agree
from plumbline.judging.evidence import (
    Accepted,
    BaselineEvidence,
    ComparisonEvidence,
    CountEvidence,
    Evidence,
    Judgement,
    NoComparison,
)
from plumbline.results.schema import BudgetResult, CountChange, Results
from plumbline.settings import GateSettings
from tests.support.report_samples import benchmark, results

GATE = GateSettings()
BROKEN = BudgetResult("p95_ms", 2.0, 3.0, kept=False)
GROWN = CountEvidence([CountChange("redis.messages", 1, 2, gated=True)], fails=True)
OPEN = BaselineEvidence("inconclusive")
SUSPICIOUS = BaselineEvidence("inconclusive", change=0.5, change_high=0.6, minimum_detectable_effect=0.1)
SLOWER = Judgement("regression", 0.1, 0.08, 0.12, 0.03, pairs=4, error=0.005)


def record(*keys: str, **fields: Any) -> Results:
    return results(*(benchmark(key, None) for key in keys), verdict=None, exit_code=None, **fields)


def baseline(*keys: str, median: float = 1e-3) -> Results:
    return results(*(benchmark(key, None, process_medians=[median] * 5) for key in keys), verdict=None)


def chosen(run: Results, proposed: bool = False, **evidence: Any) -> list[str]:
    found = Evidence(**{"baseline": baseline(*(one.key for one in run.benchmarks))} | evidence)
    return [one.key for one in choose_pairs(run, found, proposed=proposed)]


def test_inconclusive_benchmarks_are_compared_the_slowest_first() -> None:
    """Benchmarks that have passed are not compared."""
    worse = BaselineEvidence("inconclusive", change=0.2)
    timings = {"a": OPEN, "b": BaselineEvidence("pass", change=0.3), "c": worse, "d": BaselineEvidence("improvement")}

    assert chosen(record("a", "b", "c", "d"), timings=timings) == ["c", "a"]


def test_grown_counts_and_edited_entries_are_compared_after_those() -> None:
    """They come in the order of the run. A count that fails nothing is no reason to compare."""
    timings = {key: BaselineEvidence("pass") for key in "abcd"} | {"e": OPEN}
    counts = {"a": CountEvidence(GROWN.changes, fails=False), "b": GROWN, "e": GROWN}

    assert chosen(record(*"abcde"), timings=timings, counts=counts, edited={"d", "gone"}) == ["e", "b", "d"]


@pytest.mark.parametrize(("proposed", "keys"), [(True, ["a", "b"]), (False, [])])
def test_without_a_baseline_only_a_proposed_change_is_compared(proposed: bool, keys: list[str]) -> None:
    """All its benchmarks are compared, because only the base can judge them."""
    timings = dict.fromkeys("ab", BaselineEvidence("new"))

    assert chosen(record(*"ab"), proposed, timings=timings, baseline=None) == keys


def test_a_grown_count_of_an_application_served_elsewhere_is_not_compared() -> None:
    """Both sides would use the same application. One with an edited entry is chosen, so that it does not pass."""
    timings = {"a": OPEN, "b": OPEN, "c": BaselineEvidence("pass")}

    run = record(*"abc", app_elsewhere=["a", "c"])
    assert chosen(run, timings=timings, counts={"c": GROWN}) == ["a", "b"]
    assert chosen(run, timings=timings, edited={"c"}) == ["a", "b", "c"]


def test_every_benchmark_is_compared_if_the_run_lacks_what_the_change_brings() -> None:
    """Passed benchmarks come after the inconclusive ones."""
    timings = {"a": BaselineEvidence("pass"), "b": OPEN, "c": BaselineEvidence("pass")}
    evidence = Evidence(baseline=results(), timings=timings)
    found = choose_pairs(record(*"abc", app_elsewhere=["c"]), evidence, proposed=True, every=True)
    assert [one.key for one in found] == ["b", "a"]


def with_broken_budgets(*keys: str, others: str = "", **fields: Any) -> Results:
    entries = [benchmark(key, None, budgets=[BROKEN]) for key in keys] + [benchmark(key, None) for key in others]
    return results(*entries, verdict=None, exit_code=None, **fields)


def test_a_broken_budget_is_measured_again_for_the_budget() -> None:
    """Its timings are judged, too, if no pairs have judged them."""
    evidence = Evidence(timings={"a": OPEN, "b": OPEN}, comparison=ComparisonEvidence(compared={"a"}, unaffected={"a"}))

    again = choose_again(with_broken_budgets("b", "a"), evidence, GATE)

    assert (again.keys, again.timings, again.all_processes) == (["a", "b"], frozenset({"b"}), False)


@pytest.mark.parametrize(
    ("comparison", "elsewhere", "keys"),
    [
        (ComparisonEvidence(), [], []),
        (ComparisonEvidence(none=NoComparison("no_base", "no git")), [], ["a"]),
        (ComparisonEvidence(none=NoComparison("invalid", "a side died")), [], []),
        (ComparisonEvidence(), ["a"], ["a"]),
    ],
    ids=["compared", "no base", "invalid", "application elsewhere"],
)
def test_a_suspicious_timing_is_measured_again_if_no_base_can_judge_it(
    comparison: ComparisonEvidence, elsewhere: list[str], keys: list[str]
) -> None:
    """All configured processes measure it. A timing that cannot fail is not measured again."""
    evidence = Evidence(timings={"a": SUSPICIOUS, "b": OPEN}, comparison=comparison)

    again = choose_again(record("a", "b", app_elsewhere=elsewhere), evidence, GATE)

    assert (again.keys, again.all_processes) == (keys, bool(keys))


@pytest.mark.parametrize(("accepted", "keys"), [({}, []), ({"a": Accepted("why")}, ["a"])])
def test_what_fails_anyway_is_not_measured_again(accepted: dict[str, Accepted], keys: list[str]) -> None:
    """An accepted regression is measured again, because its budget may still fail."""
    comparison = ComparisonEvidence(compared={"a"}, judgements={"a": SLOWER}, differences={"a": [0.1] * 4})

    again = choose_again(with_broken_budgets("a"), Evidence(comparison=comparison, accepted=accepted), GATE)

    assert again.keys == keys


@pytest.mark.parametrize(("kept", "broken", "settled"), [(0, 0, False), (2, 0, False), (3, 0, True), (0, 3, True)])
def test_three_of_five_processes_settle_a_budget(kept: int, broken: int, settled: bool) -> None:
    fresh = [*record(*"abc"[:kept]).benchmarks, *with_broken_budgets(*"abc"[:broken]).benchmarks]

    assert most_agree(fresh, 5) is settled
