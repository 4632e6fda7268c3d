"""One stage of a paired comparison: new pairs of some benchmarks, with interim analyses after fixed numbers of pairs.

The analyses of a stage spend its share of the errors as its time passes (Lan and DeMets 1983, Biometrika 70:659). A
stage changes nothing outside of itself: it returns evidence.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from plumbline.comparing.statistics.inference import Prior, difference, errors_within, judge_pairs, prior_of
from plumbline.comparing.statistics.plan import CONTROLS, BenchmarkPlan, RunPair, expected_s
from plumbline.judging.thresholds import Judgement

# What all benchmarks of a pair may take together, if that is more than their least blocks; the longer time applies
# while the next pair's processes are starting anyway.
MEASURED_S = 1.5
MOST_MEASURED_S = 4.5
# A slow-down is known well enough if its standard error is at most this share of it.
WELL_KNOWN_SHARE = 0.07
# Of the time: after it, no pair runs only to know the size of a slow-down better.
SHARE_FOR_SIZE = 0.2


@dataclass(frozen=True)
class Totals:
    """Totals over all pairs of a comparison so far, in seconds."""

    pairs: int = 0
    expected_s: float = 0.0  # estimated duration of the pairs, which does not know the machine
    spent_s: float = 0.0
    measured_s: float = MEASURED_S
    """What all benchmarks of the next pair may take together, if that is more than their least blocks."""

    @property
    def time_factor(self) -> float:
        """How long pairs take on this machine, over the estimate."""
        return self.spent_s / self.expected_s if self.expected_s else 1.0


@dataclass(frozen=True)
class StagePlan:
    """Benchmarks of a stage and the conditions that they are judged under."""

    most_blocks: Mapping[BenchmarkPlan, int]  # the most blocks of each benchmark in a pair
    analyses: Sequence[int]  # numbers of pairs after which to judge, unless the time is up first
    false_alarms: float  # share of the comparison's false alarms that this stage may make
    misses: float
    prior: Prior | None = None  # see judge_pairs; by default, what the benchmarks of this stage show of each other
    error_wanted: float = math.inf  # a benchmark that failed gets more pairs until its standard error is at most this
    sharing: int = 0  # how many benchmarks share the false alarms, if not only those that are compared in this stage
    decisive: Mapping[str, int] = field(default_factory=dict)
    """Blocks of a pair that each should have, by key, as far as there is time."""


@dataclass(frozen=True)
class StageEvidence:
    """Evidence of one stage, by key."""

    differences: dict[str, list[float]]  # one for each pair
    block_differences: dict[str, list[list[float]]]
    failures: dict[str, str]  # why a benchmark could not be compared, in this stage or an earlier one
    judgements: dict[str, Judgement] = field(default_factory=dict)
    of_controls: dict[str, list[float]] = field(default_factory=dict)  # differences of the controls
    samples_s: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)

    def prior(self, *, of_few: Prior) -> Prior:
        """Return what these benchmarks show of each other's variances; `of_few` if they are too few."""
        return prior_of(self.differences, self.within, of_few=of_few)

    @property
    def within(self) -> dict[str, list[float]]:
        """Standard error of each pair's difference by its own blocks."""
        return {key: errors_within(pairs) for key, pairs in self.block_differences.items() if pairs}


def well_known_error(judgement: Judgement, error_wanted: float) -> float:
    """Return the standard error at which the size of a slow-down is known well enough."""
    return max(error_wanted, WELL_KNOWN_SHARE * judgement.change)


def is_open(judgement: Judgement | None, error_wanted: float) -> bool:
    """Return whether more pairs can add to a judgement: to its verdict, or to the size of the slow-down."""
    if judgement is None or judgement.verdict == "inconclusive":
        return True
    return judgement.verdict == "regression" and judgement.error > well_known_error(judgement, error_wanted)


class Stage:
    """Runs one stage."""

    def __init__(
        self,
        plan: StagePlan,
        run_pair: RunPair,
        clock: Callable[[], float],
        *,
        failures: Mapping[str, str],
        totals: Totals,
    ) -> None:
        """`failures` and `totals`: those of the comparison so far."""
        self._plan = plan
        self._run_pair = run_pair
        self._clock = clock
        self._plans = list(plan.most_blocks)
        self._most_blocks = {one.key: blocks for one, blocks in plan.most_blocks.items()}
        self._thresholds = {one.key: one.thresholds.with_shares(plan.false_alarms, plan.misses) for one in self._plans}
        self._sharing = plan.sharing
        self._totals = totals
        keys = [one.key for one in self._plans]
        self._found = StageEvidence({key: [] for key in keys}, {key: [] for key in keys}, dict(failures))
        self._errors_spent: dict[str, float] = {}

    def run(self, until_s: float, *, planned_s: float | None = None) -> StageEvidence:
        """Run pairs until each benchmark is decided, the last analysis is over, or the time is up.

        `planned_s`: when the analyses should be over, if before `until_s`; both by the clock.
        """
        begin_s, pairs = self._clock(), 0
        end_s = planned_s or until_s
        compared = self._affordable(self._plans, self._plan.analyses[0], end_s - self._clock())
        self._sharing = self._sharing or len(compared)

        def undecided() -> list[BenchmarkPlan]:
            left = [
                one for one in compared if self._is_open(one.key) and len(self._found.differences[one.key]) == pairs
            ]
            late = self._clock() - begin_s > SHARE_FOR_SIZE * until_s
            return [] if late and all(self._has_failed(one.key) for one in left) else left

        for analysis in self._plan.analyses:
            while pairs < analysis and (chosen := self._next(undecided(), pairs, until_s - self._clock())):
                self._measure(chosen, until_s, is_last=pairs + 1 == self._plan.analyses[-1])
                pairs += 1
            if pairs == analysis:
                is_last = analysis == self._plan.analyses[-1]
                share = 1.0 if is_last else (self._clock() - begin_s) / (end_s - begin_s)
                self._analyse([one.key for one in undecided()], share)
        # The time is up for these: they may make all errors that their analyses have left.
        self._analyse(
            [key for key, found in self._found.differences.items() if len(found) > 1 and self._is_open(key)], 1.0
        )
        return dataclasses.replace(self._found, totals=self._totals)

    def _is_open(self, key: str) -> bool:
        return key not in self._found.failures and is_open(self._found.judgements.get(key), self._plan.error_wanted)

    def _has_failed(self, key: str) -> bool:
        found = self._found.judgements.get(key)
        return found is not None and found.verdict == "regression"

    def _next(self, plans: Sequence[BenchmarkPlan], pairs: int, left_s: float) -> list[BenchmarkPlan]:
        """Choose the benchmarks of the next pair: if possible, so that there is time for the first analysis."""
        missing = max(self._plan.analyses[0] - pairs, 1)
        return self._affordable(plans, missing, left_s) or self._affordable(plans, 1, left_s)

    def _affordable(self, plans: Sequence[BenchmarkPlan], pairs: int, left_s: float) -> list[BenchmarkPlan]:
        """Choose those for which there is time in so many pairs, with the blocks that decide them if possible."""
        for wanted_blocks in (self._plan.decisive, {}):
            chosen: list[BenchmarkPlan] = []
            for plan in self._sized(plans, wanted_blocks):
                if pairs * self._totals.time_factor * expected_s([*chosen, plan]) <= left_s:
                    chosen.append(plan)
            if chosen:
                break
        return chosen

    def _sized(self, plans: Sequence[BenchmarkPlan], wanted_blocks: Mapping[str, int]) -> list[BenchmarkPlan]:
        """Return these with the blocks that each gets in a pair of them all."""
        left_s = self._totals.measured_s
        sized: dict[str, BenchmarkPlan] = {}
        # Time that one benchmark does not need is left for the others.
        for plan in sorted(plans, key=lambda one: self._most_blocks[one.key] * one.block_s):
            share_s = left_s / (len(plans) - len(sized))
            sized[plan.key] = plan.within(share_s, self._most_blocks[plan.key], wanted_blocks.get(plan.key, 0))
            left_s = max(left_s - 2 * sized[plan.key].blocks * plan.block_s, 0.0)
        return [sized[plan.key] for plan in plans]

    def _measure(self, chosen: Sequence[BenchmarkPlan], until_s: float, *, is_last: bool) -> None:
        began_s = self._clock()
        # Only within a stage is it known who may be in the next pair.
        another = not is_last and until_s - began_s > 2 * self._totals.time_factor * expected_s(chosen)
        pair = self._run_pair(chosen, chosen if another else ())
        self._found.failures.update(pair.failures)
        self._found.samples_s.update(pair.samples_s)
        for key, blocks in pair.block_differences.items():
            if key in CONTROLS:
                self._found.of_controls.setdefault(key, []).append(difference(blocks))
            else:
                self._found.differences[key].append(difference(blocks))
                self._found.block_differences[key].append(blocks)
        self._totals = dataclasses.replace(
            self._totals,
            pairs=self._totals.pairs + 1,
            expected_s=self._totals.expected_s + expected_s(chosen),
            spent_s=self._totals.spent_s + (self._clock() - began_s),
            # Measuring for as long as the next processes take to start costs nothing.
            measured_s=min(self._totals.measured_s + pair.idle_s, MOST_MEASURED_S),
        )

    def _analyse(self, due: Sequence[str], used: float) -> None:
        """Judge those that are due by their pairs so far.

        `used`: share of the stage's time that has passed. Its square is the share of the errors that may have been
        made by now: an analysis may add what its predecessors left of that, so that most is left for the last one,
        whenever it comes. The errors are added up as if analyses were independent, which is on the safe side.
        """
        spent = min(used, 1.0) ** 2
        thresholds = {}
        for key in due:
            if (share := spent - self._errors_spent.get(key, 0.0)) > 0:
                thresholds[key] = self._thresholds[key].with_shares(share, share)
                self._errors_spent[key] = spent
        differences, within = self._found.differences, self._found.within
        prior = self._plan.prior or prior_of(differences, within)
        found = judge_pairs(differences, list(thresholds), thresholds, prior, within=within, sharing=self._sharing)
        for key, one in found.items():
            # One that failed before has had more pairs only for the size of its slow-down.
            verdict = "regression" if self._has_failed(key) else one.verdict
            self._found.judgements[key] = dataclasses.replace(one, verdict=verdict)
