"""Thresholds and the evidence of each stage of a run, as immutable data. `judging.decide` turns it into verdicts."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Self

from msgspec import Struct
from msgspec.structs import replace

from plumbline.results.schema import (
    Benchmark,
    CountChange,
    Counts,
    FunctionTime,
    PlanChange,
    Reason,
    Results,
    UnjudgedPackage,
    Verdict,
)
from plumbline.settings import BenchmarkSettings, GateSettings, Tail

# Shares of the allowed misses: of the baseline check of one process, and of what judges the benchmarks that it leaves
# open, which are pairs or fresh processes. A slow-down that both could miss is missed no more often than is allowed.
BASELINE_MISSES, LATER_MISSES = 0.25, 0.75
# The slow-down of a tail that its tolerance is compared with, in tolerances.
TAIL_EFFECT = 1.5
# The share of the allowed false positives of each tail.
OF_TAIL = 0.2


class Thresholds(Struct, frozen=True):
    """Thresholds of one benchmark, as shares: 0.05 is 5 % slower."""

    tolerance: float
    minimum_effect: float
    false_alarms: float  # share of runs without a slow-down in which any benchmark may fail
    power: float  # share of slow-downs of `minimum_effect` that must not pass
    bias: float = 0.0  # what changes without effect read, as a standard deviation
    tails: tuple[Tail, ...] = ()  # figures that are judged besides the fastest samples
    tail_tolerance: float = 0.1

    @classmethod
    def of(cls, gate: GateSettings, own: BenchmarkSettings | None) -> Self:
        """Return the thresholds of `[gate]`, replaced by those that a benchmark has of its own."""
        own = own or BenchmarkSettings()
        tails = tuple(dict.fromkeys(gate.tails if own.tails is None else own.tails))
        return cls(
            tolerance=own.tolerance or gate.tolerance,
            minimum_effect=own.minimum_effect or gate.minimum_effect,
            false_alarms=gate.false_alarms,
            power=gate.power,
            bias=own.bias,
            tails=tails,
            tail_tolerance=own.tail_tolerance or gate.tail_tolerance,
        )

    def with_shares(self, false_alarms: float, misses: float) -> Self:
        power = 1 - (1 - self.power) * misses
        return replace(self, false_alarms=self.false_alarms * false_alarms, power=power)

    def of_fastest(self) -> Self:
        """Return the thresholds of the fastest samples of a pair: without the false positives of the tails."""
        return self.with_shares(1 - OF_TAIL * len(self.tails), 1)

    def of_tail(self) -> Self:
        """Return the thresholds of one tail."""
        shared = self.with_shares(OF_TAIL, 1)
        return replace(shared, tolerance=self.tail_tolerance, minimum_effect=TAIL_EFFECT * self.tail_tolerance)


def sharing_of(record: Results) -> int:
    """Return how many benchmarks share the allowed false positives.

    A shard does not know which benchmarks the others measure, so all tests of the whole run share them.
    """
    return max(len(record.shard.keys) if record.shard else 0, len(record.benchmarks))


class Judgement(Struct, frozen=True):
    """The verdict on one benchmark. The change and its bounds are shares."""

    verdict: Verdict
    change: float
    low: float
    high: float
    minimum_detectable_effect: float  # the smallest slow-down that this evidence detects with the wanted power
    pairs: int  # number of pairs, or of fresh processes in the baseline check
    error: float  # standard error of the change, as a logarithm
    tails: Mapping[Tail, "Judgement"] = {}  # of the other figures of its pairs


class BaselineEvidence(Struct, frozen=True):
    """The baseline check of one benchmark. Its fields replace those of `Benchmark`, unless they are None."""

    verdict: Verdict
    reasons: Sequence[Reason] = []
    median: float | None = None
    baseline_median: float | None = None
    change: float | None = None
    change_low: float | None = None
    change_high: float | None = None
    minimum_detectable_effect: float | None = None
    process_medians: Sequence[float] | None = None

    @property
    def suspicious(self) -> bool:
        """Return whether the slow-down may be large enough for fresh processes to confirm it."""
        least = self.minimum_detectable_effect
        return self.verdict == "inconclusive" and least is not None and (self.change_high or 0.0) >= least


class CountEvidence(Struct, frozen=True):
    """The changed counts of one benchmark."""

    changes: Sequence[CountChange]
    fails: bool  # whether a grown count makes the benchmark a regression
    plans: Sequence[PlanChange] = []
    unclear: Sequence[CountChange] = []  # counts that look grown, but also differ between two runs of head


class Accepted(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An accepted regression of one benchmark: an entry of `accepted.json`."""

    reason: str
    slower_by: float = 0.0  # upper end of the confidence interval, as a share
    counts: Mapping[str, float] = {}  # the counts that had grown, with their accepted values
    tails: Mapping[Tail, float] = {}  # the tails that were slower, as `slower_by`


class NoComparison(Struct, frozen=True):
    """The reason why there is no paired comparison.

    - no_base: there is no base commit that can be used.
    - copy: the working tree runs, but its copy does not.
    - invalid: a worker process died, or a control read wrong.
    """

    cause: Literal["no_base", "copy", "invalid"]
    detail: str


class ComparisonEvidence(Struct, frozen=True):
    """The evidence of a paired comparison with the base, by key of the benchmark."""

    base: str = ""  # the commit, and why it was chosen
    base_differences: Sequence[str] = []
    notes: Sequence[str] = []
    compared: Collection[str] = frozenset()  # keys of all benchmarks that it should compare
    unaffected: Collection[str] = frozenset()  # keys of benchmarks that execute nothing that differs from the base
    unjudged: Mapping[str, Sequence[str]] = {}  # the names of the `unjudged_packages` that each benchmark runs
    unjudged_packages: Sequence[UnjudgedPackage] = []
    judgements: Mapping[str, Judgement] = {}
    differences: Mapping[str, Sequence[float]] = {}
    samples_s: Mapping[str, tuple[Sequence[float], Sequence[float]]] = {}
    functions: Mapping[str, Sequence[FunctionTime]] = {}
    counts: Mapping[str, Sequence[Counts]] = {}  # of base and of head
    uncounted: Mapping[str, str] = {}  # why a benchmark could not be counted
    failures: Mapping[str, str] = {}  # why a benchmark could not be compared
    failed_in_head: Collection[str] = frozenset()  # keys of benchmarks that the copy of the working tree could not run
    new: Collection[str] = frozenset()  # keys of benchmarks that the base commit does not have
    accepted: Mapping[str, Accepted] = {}  # what the base has accepted already, by key
    none: NoComparison | None = None


class ConfirmationEvidence(Struct, frozen=True):
    """The evidence of fresh processes that measured benchmarks again, by key of the benchmark."""

    fresh: Mapping[str, Sequence[Benchmark]] = {}  # the results of each process
    timings: Mapping[str, BaselineEvidence] = {}
    failed: Sequence[Reason] = []  # why a process ended early


class Evidence(Struct, frozen=True):
    """All evidence about a run besides its record."""

    notes: Sequence[str] = []
    baseline_file: str = ""
    baseline: Results | None = None
    baseline_elsewhere: Results | None = None  # of a similar machine, if there is no baseline for this one
    base_baseline: Results | None = None  # the baseline in the base commit of a proposed change
    edited: Collection[str] = frozenset()  # keys of benchmarks whose baseline entry a proposed change edits
    timings: Mapping[str, BaselineEvidence] = {}
    counts: Mapping[str, CountEvidence] = {}
    application_elsewhere: Collection[str] = frozenset()  # keys not compared, because one application serves both sides
    comparison: ComparisonEvidence = ComparisonEvidence()
    comparison_required: bool = False  # whether a benchmark that could not be compared is invalid
    confirmation: ConfirmationEvidence = ConfirmationEvidence()
    accepted: Mapping[str, Accepted] = {}
