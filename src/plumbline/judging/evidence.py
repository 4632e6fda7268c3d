"""What stages of a run judge by, and what they find: immutable evidence, made into verdicts by `judging.decide`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Self

from msgspec import Struct
from msgspec.structs import replace

from plumbline.results.schema import Benchmark, CountChange, FunctionTime, Reason, Results, UnjudgedPackage, Verdict
from plumbline.settings import BenchmarkSettings, GateSettings


class Thresholds(Struct, frozen=True):
    """Thresholds that one benchmark is judged by; changes as shares (0.05 is 5 % slower)."""

    tolerance: float
    minimum_effect: float
    false_alarms: float  # share of comparisons without a change in which any benchmark may fail
    power: float  # share of slow-downs of `minimum_effect` that must not pass

    @classmethod
    def of(cls, gate: GateSettings, own: BenchmarkSettings | None) -> Self:
        """Return the thresholds of `[gate]`, with a benchmark's own where it has any."""
        own = own or BenchmarkSettings()
        effect = own.minimum_effect or gate.minimum_effect
        return cls(own.tolerance or gate.tolerance, effect, gate.false_alarms, gate.power)

    def with_shares(self, false_alarms: float, misses: float) -> Self:
        power = 1 - (1 - self.power) * misses
        return replace(self, false_alarms=self.false_alarms * false_alarms, power=power)


class Judgement(Struct, frozen=True):
    """Judgement of one benchmark; changes and bounds as shares."""

    verdict: Verdict
    change: float
    low: float
    high: float
    minimum_detectable_effect: float  # the smallest slow-down that as much evidence fails with the wanted power
    pairs: int  # pairs, or fresh processes of the baseline check, that it rests on
    error: float  # standard error of the change, as a logarithm


class BaselineEvidence(Struct, frozen=True):
    """What the baseline check found about one benchmark, in fields named as those of `Benchmark`; None: no finding."""

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
        """Whether it may be so much slower that confirming processes could fail it."""
        least = self.minimum_detectable_effect
        return self.verdict == "inconclusive" and least is not None and (self.change_high or 0.0) >= least


class CountEvidence(Struct, frozen=True):
    """Counts of one benchmark that differ from the baseline's."""

    changes: Sequence[CountChange]
    fails: bool  # whether one that has grown makes a regression: not if the benchmark's source has changed as well


class Accepted(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A regression of one benchmark that somebody has accepted, as `accepted.json` holds it."""

    reason: str
    slower_by: float = 0.0  # as a share; the upper end of the interval
    counts: Mapping[str, float] = {}  # those that had grown, as they were then


class NoComparison(Struct, frozen=True):
    """Why a paired comparison found nothing.

    There is no usable base, the copy of the working tree does not run although the working tree does, or a side died
    or a control read wrong.
    """

    cause: Literal["no_base", "copy", "invalid"]
    detail: str


class ComparisonEvidence(Struct, frozen=True):
    """What a paired comparison with the base found, by key of benchmark."""

    base: str = ""  # the commit, and why that one
    base_differences: Sequence[str] = []
    notes: Sequence[str] = []
    compared: Collection[str] = frozenset()  # keys that it was to compare; the fields below are about these
    unaffected: Collection[str] = frozenset()  # keys of those that execute nothing that differs from the base
    unjudged: Mapping[str, Sequence[str]] = {}  # the packages among those below that a benchmark runs
    unjudged_packages: Sequence[UnjudgedPackage] = []
    judgements: Mapping[str, Judgement] = {}
    differences: Mapping[str, Sequence[float]] = {}
    samples_s: Mapping[str, tuple[Sequence[float], Sequence[float]]] = {}
    functions: Mapping[str, Sequence[FunctionTime]] = {}
    failures: Mapping[str, str] = {}  # why benchmarks could not be compared
    failed_in_head: Collection[str] = frozenset()  # keys of those that head, which is a copy, could not run
    new: Collection[str] = frozenset()  # keys of benchmarks that the base commit does not have
    baseline_edited: Collection[str] = frozenset()  # keys whose entry in the baseline this change edits
    none: NoComparison | None = None


class ConfirmationEvidence(Struct, frozen=True):
    """What fresh processes found that measured benchmarks again."""

    fresh: Mapping[str, Sequence[Benchmark]] = {}  # each benchmark in each process, by key
    timings: Mapping[str, BaselineEvidence] = {}  # of those whose timings these processes judge
    failed: Sequence[Reason] = []  # why such a process ended early


class Evidence(Struct, frozen=True):
    """All that is known about a run beside its record."""

    baseline_file: str = ""
    baseline: Results | None = None
    baseline_elsewhere: Results | None = None  # without a baseline of this machine, that of another one like it
    base_baseline: Results | None = None  # the baseline as it is in the base commit of a proposed change
    timings: Mapping[str, BaselineEvidence] = {}
    counts: Mapping[str, CountEvidence] = {}
    application_elsewhere: Collection[str] = frozenset()  # not compared in pairs: one application serves both sides
    comparison: ComparisonEvidence = ComparisonEvidence()
    comparison_required: bool = False  # whether what could not be compared with the base is invalid
    confirmation: ConfirmationEvidence = ConfirmationEvidence()
    accepted: Mapping[str, Accepted] = {}
