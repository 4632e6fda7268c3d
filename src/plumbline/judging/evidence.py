"""What the stages of a run have found: immutable evidence, which `plumbline.judging.decide` turns into verdicts."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from plumbline.judging.thresholds import Judgement
from plumbline.results.reasons import Reason
from plumbline.results.schema import Benchmark, CountChange, FunctionTime, Results, Verdict


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
    fails: bool
    """Whether a count that has grown makes the benchmark a regression: not if its source has changed as well."""


class Accepted(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A regression of one benchmark that somebody has accepted, as `accepted.json` holds it."""

    reason: str
    slower_by: float = 0.0  # as a share; the upper end of the interval
    counts: Mapping[str, float] = {}  # those that had grown, as they were then


class NoComparison(Struct, frozen=True):
    """Why a paired comparison found nothing."""

    cause: Literal["no_base", "invalid"]
    """`no_base`: there is none, or it cannot be rebuilt. `invalid`: a side died, or a control read wrong."""
    detail: str


class ComparisonEvidence(Struct, frozen=True):
    """What a paired comparison with the base found, by key of benchmark."""

    base: str = ""  # the commit, and why that one
    base_differences: Sequence[str] = []
    notes: Sequence[str] = []
    compared: Collection[str] = frozenset()  # keys that it was to compare; the fields below are about these
    unaffected: Collection[str] = frozenset()  # keys of those that execute nothing that differs from the base
    judgements: Mapping[str, Judgement] = {}
    differences: Mapping[str, Sequence[float]] = {}
    samples_s: Mapping[str, tuple[Sequence[float], Sequence[float]]] = {}
    functions: Mapping[str, Sequence[FunctionTime]] = {}
    failures: Mapping[str, str] = {}
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
    base_baseline: Results | None = None  # the baseline as it is in the base commit of a proposed change
    timings: Mapping[str, BaselineEvidence] = {}
    counts: Mapping[str, CountEvidence] = {}
    application_elsewhere: Collection[str] = frozenset()
    """Keys that were to be compared in pairs, and cannot be: one application serves both sides."""
    comparison: ComparisonEvidence = ComparisonEvidence()
    comparison_required: bool = False  # whether a run is invalid if there was no base to compare with
    confirmation: ConfirmationEvidence = ConfirmationEvidence()
    accepted: Mapping[str, Accepted] = {}
