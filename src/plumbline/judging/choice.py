"""The benchmarks that go on: into the paired comparison, and into fresh processes that measure them again."""

from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.judging.baseline import edited_entries
from plumbline.judging.decide import broken, with_timings
from plumbline.judging.evidence import Evidence
from plumbline.results.schema import Benchmark, Results
from plumbline.settings import GateSettings


def choose_pairs(record: Results, evidence: Evidence, *, proposed: bool) -> list[Benchmark]:
    """Return the benchmarks to compare in pairs: those that the baseline check left open, the worst first.

    Then those whose baseline entry a proposed change has edited, and those with a count that has grown, which may
    execute nothing that differs from the base. Without a baseline, the base alone judges a proposed change.
    """
    if evidence.baseline is None:
        return [*record.benchmarks] if proposed else []
    timings = evidence.timings
    undecided = [benchmark for benchmark in record.benchmarks if timings[benchmark.key].verdict == "inconclusive"]
    undecided.sort(key=lambda benchmark: -(timings[benchmark.key].change or 0.0))
    also = {key for key, found in evidence.counts.items() if found.fails}
    also |= edited_entries(evidence.base_baseline, evidence.baseline)
    also -= {*record.app_elsewhere, *(benchmark.key for benchmark in undecided)}
    return undecided + [benchmark for benchmark in record.benchmarks if benchmark.key in also]


@dataclass(frozen=True)
class Again:
    """The benchmarks that fresh processes measure again."""

    keys: list[str]
    timings: frozenset[str]  # keys of those whose timings are judged anew, rather than their budgets alone
    all_processes: bool  # whether every process is needed; for budgets, the first ones may settle it


def choose_again(record: Results, evidence: Evidence, gate: GateSettings) -> Again:
    """Return the benchmarks to measure again before they fail.

    Those with a broken budget; and those with a suspicious timing that no base can judge, as there is none or the
    application is served elsewhere. A benchmark that the comparison fails is not measured again.
    """
    comparison = evidence.comparison
    suspicious = {key for key, found in evidence.timings.items() if found.suspicious}
    no_base = comparison.none is not None and comparison.none.cause == "no_base"
    keys = {benchmark.key for benchmark in record.benchmarks if broken(benchmark)}
    keys |= suspicious if no_base else suspicious & set(record.app_elsewhere)
    keys -= {
        benchmark.key
        for benchmark in record.benchmarks
        if with_timings(benchmark, evidence, gate).verdict == "regression" and benchmark.key not in evidence.accepted
    }
    timings = frozenset(keys - set(comparison.compared))
    return Again(sorted(keys), timings, all_processes=bool(timings & suspicious))


def most_agree(fresh: Sequence[Benchmark], processes: int) -> bool:
    """Return whether most of so many processes have kept the budget, or broken it, whatever the others will do."""
    kept = sum(not broken(one) for one in fresh)
    return max(kept, len(fresh) - kept) > processes / 2
