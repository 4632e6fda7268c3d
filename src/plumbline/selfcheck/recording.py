"""Recorded pairs and gates of one machine, as `selfcheck.json` holds them."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, field

from plumbline.comparing.statistics.plan import BenchmarkPlan, Where
from plumbline.comparing.statistics.schedule import PairedComparison
from plumbline.judging.distributions import binomial_interval
from plumbline.results.files import write_whole

# Deliberate slow-downs of single pairs and of whole gates, as shares.
SIZES = (0.0, 0.03, 0.05, 0.1)
LIVE_SIZES = (0.1, 0.05)
PLACES: dict[Where, str] = {
    "block": "in the timed block",
    "application": "in the application",
    "server": "in the server",
}


class Share(Struct, frozen=True):
    """`count` of `of`, with the exact 95 % interval of the share in the long run."""

    count: int
    of: int
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        low, high = binomial_interval(self.count, self.of)
        msgspec.structs.force_setattr(self, "low", low)
        msgspec.structs.force_setattr(self, "high", high)

    def __str__(self) -> str:
        share = self.count / self.of if self.of else 0.0
        return f"{self.count:,} of {self.of:,} ({share:.1%}; in the long run {self.low:.1%} to {self.high:.1%})"


class Recorded(Struct, frozen=True):
    """One pair."""

    block_differences: dict[str, list[float]]
    """By how much head was slower, by each two neighbouring blocks, as logarithms, by key; the controls' too."""
    slow_down: dict[str, float] = {}  # deliberate slow-downs, as shares by key
    where: Where = "block"


class SlowedGate(Struct, frozen=True):
    """A live gate in which one benchmark was slowed down."""

    key: str
    size: float
    where: Where
    verdicts: dict[str, str]  # by key; none if the gate was invalid
    change: float | None = None  # what the gate read for the benchmark, as a share


class Findings(Struct, frozen=True):
    """What a recording shows, by names for a report."""

    gates: dict[str, Share]  # live gates without a change
    slowed: dict[str, Share]  # live gates with a slow-down
    pairs: dict[str, Share]  # single pairs with a slow-down
    replayed: dict[str, Share]
    minimum_effect: float | None  # the least that this machine supports; None: none of the candidates


class Recording(Struct, frozen=True):
    """Pairs and gates of one machine."""

    sample_s: dict[str, float]  # estimated duration of a sample, by key of the benchmark
    pairs: list[Recorded] = []
    gates: list[dict[str, str]] = []  # verdicts of the live gates without a change, by key; an invalid gate has none
    slowed: list[SlowedGate] = []
    time_factor: float = field(default=1.0, name="pace")
    """How long the pairs of the gates without a change took, over the estimate."""
    findings: Findings | None = None


def verdicts_of(comparison: PairedComparison | None, plans: Sequence[BenchmarkPlan]) -> dict[str, str]:
    """Return the verdicts by key; none of an invalid gate (None)."""
    if comparison is None:
        return {}
    judged = {key: str(one.verdict) for key, one in comparison.judgements.items()}
    return {plan.key: judged.get(plan.key, "inconclusive") for plan in plans if plan.key not in comparison.failures}


def write_recording(path: Path, recording: Recording) -> None:
    """Store it whole or not at all; raises ResultsError."""
    write_whole(path, msgspec.json.encode(recording).decode() + "\n")
