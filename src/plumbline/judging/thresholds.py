"""Thresholds that one benchmark is judged by, and the judgement itself."""

from dataclasses import dataclass, replace
from typing import Self

from plumbline.results.schema import Verdict
from plumbline.settings import BenchmarkSettings, GateSettings


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of one benchmark; changes as shares (0.05 is 5 % slower)."""

    tolerance: float
    minimum_effect: float
    false_alarms: float  # share of comparisons without a change in which any benchmark may fail
    power: float  # share of slow-downs of `minimum_effect` that must not pass

    @classmethod
    def of(cls, gate: GateSettings, own: BenchmarkSettings | None) -> Self:
        """Return the thresholds of `[gate]`, with a benchmark's own where it has any."""
        gate = gate.with_own(own)
        return cls(gate.tolerance, gate.minimum_effect, gate.false_alarms, gate.power)

    def with_shares(self, false_alarms: float, misses: float) -> Self:
        """Return the same with these shares of the allowed errors."""
        return replace(self, false_alarms=self.false_alarms * false_alarms, power=1 - (1 - self.power) * misses)


@dataclass(frozen=True)
class Judgement:
    """Judgement of one benchmark; changes and bounds as shares."""

    verdict: Verdict
    change: float
    low: float
    high: float
    minimum_detectable_effect: float  # the smallest slow-down that as much evidence fails with the wanted power
    pairs: int  # pairs, or fresh processes of the baseline check, that it rests on
    error: float  # standard error of the change, as a logarithm
