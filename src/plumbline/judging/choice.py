"""The benchmarks that go on: into the paired comparison, and into fresh processes that measure them again."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from plumbline.judging.budgets import broken
from plumbline.judging.decide import with_timings
from plumbline.judging.evidence import BaselineEvidence, CountEvidence, Evidence
from plumbline.results.schema import Benchmark, Results
from plumbline.settings import GateSettings


@dataclass(frozen=True)
class Pairs:
    """The benchmarks for a paired comparison, in its order, and those that one application on both sides rules out."""

    benchmarks: list[Benchmark]
    application_elsewhere: frozenset[str]

    @classmethod
    def of(cls, record: Results, chosen: Collection[Benchmark]) -> "Pairs":
        """Divide the chosen benchmarks of a record."""
        elsewhere = set(record.app_elsewhere)
        return cls(
            [benchmark for benchmark in chosen if benchmark.key not in elsewhere],
            frozenset(benchmark.key for benchmark in chosen if benchmark.key in elsewhere),
        )


@dataclass(frozen=True)
class Again:
    """The benchmarks that fresh processes measure again."""

    keys: list[str]
    timings: frozenset[str]  # keys of those whose timings are judged anew, rather than their budgets alone
    all_processes: bool  # whether every process is needed; for budgets, the first ones may settle it


def choose_pairs(
    record: Results,
    timings: Mapping[str, BaselineEvidence],
    counts: Mapping[str, CountEvidence],
    *,
    baseline_edited: Collection[str],
    proposed: bool,
    has_baseline: bool,
) -> Pairs:
    """Return the benchmarks to compare in pairs: those that the baseline check left open, the worst first.

    Then those whose baseline entry a proposed change has edited, and those with a count that has grown, which may
    execute nothing that differs from the base. Without a baseline, the base alone judges a proposed change.
    """
    if not has_baseline:
        return Pairs.of(record, record.benchmarks if proposed else [])
    undecided = [benchmark for benchmark in record.benchmarks if timings[benchmark.key].verdict == "inconclusive"]
    undecided.sort(key=lambda benchmark: -(timings[benchmark.key].change or 0.0))
    also = {key for key, found in counts.items() if found.fails} | set(baseline_edited)
    also -= {*record.app_elsewhere, *(benchmark.key for benchmark in undecided)}
    return Pairs.of(record, undecided + [benchmark for benchmark in record.benchmarks if benchmark.key in also])


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
