"""How a paired comparison proceeds: which benchmarks are in the next pair, for how long, and when they are looked at.

It has two stages. In the first look every benchmark is in a few short pairs: most are acquitted by two, some by three.
What is left, and what is convicted but not told well by so few pairs, is looked at closely, the suspicious first and by
themselves, after numbers of pairs that are fixed beforehand, and with as many blocks as, by what the first look has
read, it takes to decide it; what would take most of the time for itself comes last. Of the differences that the first
stage has found the second uses none. Its own are therefore independent of what chose its benchmarks and how long they
are measured, so that the error allowed in it is shared by those few alone (Cox 1975, Biometrika 62:441). What the first
stage says of variances in general serves as the second one's prior: short pairs vary more, if anything. Those of which
the planned pairs do not fit into the time get fewer, once the others are done.

Where time is left after both, those for which there was none get a first look, and nothing beyond it. And of what the
first look has acquitted though it reads as clearly faster, new pairs tell whether it is an improvement.

Nothing here measures: a function runs a pair, a real one or a recorded one.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from plumbline.comparing.statistics.inference import (
    BETWEEN,
    NO_PRIOR,
    OF_FEW,
    ComparisonInvalid,
    Prior,
    blocks_wanted,
    difference,
    error_of_pair,
    error_to_decide,
    errors_within,
    judge_pairs,
    prior_of,
)
from plumbline.judging.distributions import student_quantile
from plumbline.judging.thresholds import Judgement, Thresholds
from plumbline.results.schema import FunctionTime

FIRST_LOOKS = (2, 3)
"""The first one alone where there is no time for the second of all."""
CLOSE_LOOKS = (4, 8, 16, 32, 64)
CLOSE_LOOKS_OF_COSTLY = (2, 4, 8)
SHARE_FOR_PAIRS = 0.95
"""Of the time, for pairs: before them the trees were copied, and after them sides and servers are ended."""
FIRST_SHARE = 0.6
"""Of the time, for the first look as it is planned: on a slower machine it takes more, or its first pair were lost."""
WELL_TOLD = 0.007
"""Standard error of a slow-down that is told: nine of ten are within one and a half points of the truth."""
WELL_TOLD_SHARE = 0.07
"""Of a great one, its standard error may be this share."""
SHARE_FOR_SIZE = 0.2
"""Of the time, in each stage, after which none is tried on for the size of its slow-down alone."""
DOUBT = 3.0
"""The close look is planned for less than the first one has read, as most that stand out there are alike in both sides:
for half of it where the square of the reading is so many times that of its standard error, for most of what is clearer.
"""
FALSE_ALARMS_AT_FIRST, FALSE_ALARMS_CLOSE, FALSE_ALARMS_OF_COSTLY = 0.1, 0.8, 0.1
MISSES_AT_FIRST, MISSES_CLOSE = 0.35, 0.5
"""Shares of the errors allowed that the first look may make, the close one, and that at what is costly. The rest of the
misses is left for what ends inconclusive.
"""
MEASURED_S, MOST_MEASURED_S = 1.5, 4.5
"""What all benchmarks of a pair may take together, if more than their least blocks; the latter where nothing else could
be done meanwhile."""
LEAST_BLOCKS, LEAST_BLOCKS_OF_SLOW, MOST_BLOCKS_AT_FIRST, MOST_BLOCKS = 20, 3, 128, 512
"""Of each side, in a pair."""
LEAST_MEASURED_S = 0.4
"""What a benchmark may take in a pair, if more than the least blocks of a slow one."""
ENOUGH = 0.01
"""Standard error of a pair by its blocks: processes differ by some 1 % from each other, whatever those say."""
BLOCK_S, MOST_SAMPLES = 0.0004, 40
"""What takes longer is measured in single samples. The speed of a disturbed machine changes within tens of milliseconds:
measured for the same time there, the variance of 48 blocks of one request of 2 ms is a tenth of that of 4 blocks of
twelve, and that of 60 blocks of two queries a third of that of 12 blocks of twenty.
"""
WARM_UP_S = 0.008
TURN_S = 0.0005
BEGIN_S = 0.02
PAIR_OVERHEAD_S = 0.7
MOST_OF_TIME = 0.67
"""A benchmark that takes more of what is left, to be decided by the first close look, comes after the others."""

CONTROLS_FILE = "plumbline/controls.py"
"""Stands in keys for the file of the controls, which lies in this package."""
CONTROLS = {f"{CONTROLS_FILE}::test_alike": 0.0, f"{CONTROLS_FILE}::test_slowed": 0.1}
"""Keys of the controls, and by how much each is slowed down in head."""
IN_SERVER = f"{CONTROLS_FILE}::test_in_server"
"""Key of the self-check's own benchmark, which sleeps in PostgreSQL."""
CONTROL_ERROR = 0.001
CONTROL_TOLERANCE = 0.01
CONTROL_SAMPLE_S = 5e-5

Where = Literal["block", "application", "server"]
"""Where time is added on purpose: around the timed block, or in the process of the application or of PostgreSQL."""


@dataclass(frozen=True)
class BenchmarkPlan:
    """A benchmark to be compared."""

    key: str
    sample_s: float
    """What one sample takes, about."""
    thresholds: Thresholds
    blocks: int = LEAST_BLOCKS
    """Of each side, in a pair."""
    slow_down: float = 0.0
    """By how much head is slowed down on purpose, as a share: the controls, and the self-check."""
    slowed_in: Where = "block"

    @property
    def samples(self) -> int:
        """In a block."""
        if not self.sample_s:
            return MOST_SAMPLES
        return min(math.ceil(BLOCK_S / self.sample_s), MOST_SAMPLES)

    @property
    def warm_up(self) -> int:
        """Samples that a fresh process begins with."""
        return min(max(math.ceil(WARM_UP_S / self.sample_s), 1), MOST_SAMPLES) if self.sample_s else MOST_SAMPLES

    @property
    def block_s(self) -> float:
        """What a turn takes, about."""
        return self.samples * self.sample_s + TURN_S

    @property
    def pair_s(self) -> float:
        """What a pair spends on it, about, the warm-up of both sides included."""
        return 2 * self.blocks * self.block_s + 2 * self.warm_up * self.sample_s + BEGIN_S

    def within(self, share_s: float, most_blocks: int, wanted_blocks: int = 0) -> "BenchmarkPlan":
        """With as many blocks as go into its share of a pair, or as are wanted if that is more, within bounds."""
        of_both_s = 2 * self.block_s
        least = max(min(int(LEAST_MEASURED_S / of_both_s), LEAST_BLOCKS), LEAST_BLOCKS_OF_SLOW)
        blocks = max(int(share_s / of_both_s), wanted_blocks)
        return dataclasses.replace(self, blocks=max(min(blocks, most_blocks), least))


@dataclass
class Pair:
    """What one pair of fresh processes has found, by key."""

    block_differences: dict[str, list[float]] = field(default_factory=dict)
    """By how much head was slower, by each two neighbouring blocks, as logarithms, the controls' too."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why a benchmark could not be compared."""
    samples_s: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    """What each sample took in base and in head, in seconds per operation."""
    idle_s: float = 0.0
    """How long its processes, which had been started ahead, were still waited for."""


class RunPair(Protocol):
    """Runs one pair."""

    def __call__(self, chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        """`then`: of which those of the next pair will be, as far as is known."""


@dataclass
class PairedComparison:
    """What a paired comparison has found so far."""

    differences: dict[str, list[float]] = field(default_factory=dict)
    """By key, one for each pair of the stage that has judged it; the controls' of all pairs."""
    judgements: dict[str, Judgement] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Why a benchmark could not be compared, by key."""
    samples_s: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    """Of the last pair that each was in, by key: what each sample took in base and in head."""
    unaffected: set[str] = field(default_factory=set)
    """Keys of those that weren't compared, as nothing that differs can reach them."""
    functions: dict[str, list[FunctionTime]] = field(default_factory=dict)
    """What got slower under a profiler, by key, of those convicted."""
    pairs: int = 0
    elapsed_s: float = 0.0
    expected_s: float = 0.0
    """What its pairs would take by the estimate, which knows nothing of the machine."""
    spent_s: float = 0.0
    """What they took."""
    measured_s: float = MEASURED_S
    """What all benchmarks of the next pair may take together, if more than their least blocks."""


def conduct(
    plans: Sequence[BenchmarkPlan], run_pair: RunPair, *, budget_s: float, clock: Callable[[], float]
) -> PairedComparison:
    """Compare until each benchmark is convicted or acquitted, or the time is up.

    `clock`: seconds since the begin, by which the budget counts. Raises ComparisonInvalid where the controls are off.
    """
    comparison = PairedComparison()
    budget_s *= SHARE_FOR_PAIRS
    shares = (FALSE_ALARMS_AT_FIRST, MISSES_AT_FIRST)
    most_blocks = dict.fromkeys(plans, MOST_BLOCKS_AT_FIRST)
    planned_s = budget_s * FIRST_SHARE
    short = [plan.within(0.0, MOST_BLOCKS_AT_FIRST) for plan in plans]
    first_looks = FIRST_LOOKS if FIRST_LOOKS[-1] * expected_s(short) <= planned_s - clock() else FIRST_LOOKS[:1]
    first = _Stage(comparison, most_blocks, first_looks, shares, error_wanted=WELL_TOLD, sharing=len(plans))
    first.run(run_pair, budget_s, clock, planned_s=planned_s)
    prior = first.prior(of_few=OF_FEW)

    def run(stage: _Stage) -> None:
        stage.run(run_pair, budget_s, clock)

    _look_closely(comparison, first, plans, prior, run, left_s=budget_s - clock())
    _look_at_the_rest(comparison, plans, run)
    _look_at_what_seems_faster(comparison, first, plans, prior, run)
    comparison.elapsed_s = clock()
    # What pairs do in general says nothing of a machine that can't be trusted.
    if problem := controls_off(comparison.differences, first.prior(of_few=NO_PRIOR)):
        raise ComparisonInvalid(problem)
    return comparison


Run = Callable[["_Stage"], None]
"""Runs a stage in the time that is left."""


def _look_closely(
    comparison: PairedComparison,
    first: "_Stage",
    plans: Sequence[BenchmarkPlan],
    prior: Prior,
    run: Run,
    *,
    left_s: float,
) -> None:
    """New pairs for what the first look has left: the suspicious by themselves, then the others, then what is costly.

    The suspicious first: a disturbed machine has no time for all, and a slow-down is worth more than an acquittal.
    """
    left = [plan for plan in plans if plan.key in first.judgements and first.is_undecided(plan.key)]
    decisive = {plan.key: first.blocks_to_decide(plan, prior, len(left)) for plan in left}
    most_blocks = {plan: min(blocks_wanted(first.block_differences[plan.key], ENOUGH), MOST_BLOCKS) for plan in left}

    def pair_s(plan: BenchmarkPlan) -> float:
        return dataclasses.replace(plan, blocks=decisive[plan.key]).pair_s

    def change(plan: BenchmarkPlan) -> float:
        return first.judgements[plan.key].change

    costly = {plan for plan in left if CLOSE_LOOKS[0] * _time_factor(comparison) * pair_s(plan) > MOST_OF_TIME * left_s}
    suspicious = [plan for plan in left if plan not in costly and _is_suspicious(change(plan), plan)]
    suspicious.sort(key=change, reverse=True)
    others = [plan for plan in left if plan not in suspicious]
    others.sort(key=lambda plan: (plan in costly, pair_s(plan)))
    for those, looks, share in (
        (suspicious, CLOSE_LOOKS, FALSE_ALARMS_CLOSE),
        (others, CLOSE_LOOKS, FALSE_ALARMS_CLOSE),
        # For some so many pairs are too many: with what time is left they get fewer.
        ([*suspicious, *others], CLOSE_LOOKS_OF_COSTLY, FALSE_ALARMS_OF_COSTLY),
    ):
        untried = {plan: most_blocks.pop(plan) for plan in those if plan in most_blocks}
        shares, sharing = (share, MISSES_CLOSE), len(left)
        close = _Stage(
            comparison, untried, looks, shares, prior, error_wanted=WELL_TOLD, decisive=decisive, sharing=sharing
        )
        run(close)
        most_blocks |= {plan: blocks for plan, blocks in untried.items() if not close.differences[plan.key]}


def _look_at_the_rest(comparison: PairedComparison, plans: Sequence[BenchmarkPlan], run: Run) -> None:
    """A first look at those that had none, as many at a time as there is time for."""
    shares = (FALSE_ALARMS_AT_FIRST, MISSES_AT_FIRST)
    known = -1
    while len(comparison.judgements | comparison.failures) > known:
        known = len(comparison.judgements | comparison.failures)
        rest = [plan for plan in plans if plan.key not in comparison.judgements | comparison.failures]
        most_blocks = dict.fromkeys(rest, MOST_BLOCKS_AT_FIRST)
        run(_Stage(comparison, most_blocks, FIRST_LOOKS[:1], shares, sharing=len(plans)))


def _look_at_what_seems_faster(
    comparison: PairedComparison, first: "_Stage", plans: Sequence[BenchmarkPlan], prior: Prior, run: Run
) -> None:
    """Four new pairs for what the first look has passed: whether it is an improvement."""
    faster = [plan for plan in plans if first.seems_faster(plan)]
    decisive = {plan.key: first.blocks_to_decide(plan, prior, len(faster)) for plan in faster}
    # These convict nobody, so their false alarms are none of those that the others share.
    shares = FALSE_ALARMS_CLOSE, MISSES_CLOSE
    most_blocks = {plan: min(decisive[plan.key], MOST_BLOCKS) for plan in faster}
    run(_Stage(comparison, most_blocks, CLOSE_LOOKS[:1], shares, prior, decisive=decisive))


class _Stage:
    """Judges benchmarks by new pairs, after these numbers of pairs or, if it comes first, when the time is up."""

    def __init__(
        self,
        comparison: PairedComparison,
        most_blocks: Mapping[BenchmarkPlan, int],
        looks: Sequence[int],
        shares: tuple[float, float],
        prior: Prior | None = None,
        *,
        error_wanted: float = math.inf,
        sharing: int = 0,
        decisive: Mapping[str, int] = {},
    ) -> None:
        """`shares`: of the false alarms and of the misses that may be made. `prior`: see judge_pairs; by default what
        the benchmarks of this stage say of each other. `error_wanted`: what is convicted is tried on until its
        standard error is no greater. `sharing`: how many share the false alarms, if it is not those alone that are
        tried in this stage. `decisive`: the blocks of a pair that each should have, by key, as far as there is time.
        """
        self.judgements: dict[str, Judgement] = {}
        self.differences: dict[str, list[float]] = {plan.key: [] for plan in most_blocks}
        self.block_differences: dict[str, list[list[float]]] = {plan.key: [] for plan in most_blocks}
        self._comparison = comparison
        self._wishes = list(most_blocks)
        self._most_blocks = {plan.key: blocks for plan, blocks in most_blocks.items()}
        self._looks = looks
        self._prior = prior
        self._error_wanted = error_wanted
        self._sharing = sharing
        self._decisive = decisive
        self._limits = {plan.key: plan.thresholds.with_shares(*shares) for plan in most_blocks}
        self._spent: dict[str, float] = {}

    def run(
        self, run_pair: RunPair, until_s: float, clock: Callable[[], float], *, planned_s: float | None = None
    ) -> None:
        """`planned_s`: until when its looks should be over, if not until the end of its time."""
        comparison, pairs, begin_s = self._comparison, 0, clock()
        end_s = planned_s or until_s
        tried = self._affordable(self._wishes, self._looks[0], end_s - clock())
        self._sharing = self._sharing or len(tried)

        def undecided() -> list[BenchmarkPlan]:
            left = [plan for plan in tried if self.is_undecided(plan.key) and len(self.differences[plan.key]) == pairs]
            late = clock() - begin_s > SHARE_FOR_SIZE * until_s
            return [] if late and all(self._is_convicted(plan.key) for plan in left) else left

        for look in self._looks:
            while pairs < look and (chosen := self._next(undecided(), pairs, until_s - clock())):
                began_s = clock()
                # Whether this stage's last pair is followed by any, nobody knows yet.
                another = pairs + 1 < self._looks[-1] and until_s - began_s > 2 * _time_factor(comparison) * expected_s(
                    chosen
                )
                self._take(run_pair(chosen, chosen if another else ()))
                pairs += 1
                comparison.pairs += 1
                comparison.expected_s += expected_s(chosen)
                comparison.spent_s += clock() - began_s
            if pairs == look:
                share = 1.0 if look == self._looks[-1] else (clock() - begin_s) / (end_s - begin_s)
                self._look_at([plan.key for plan in undecided()], share)
        # The time is up for these: they have what errors their looks so far have left.
        self._look_at(
            [key for key, found in self.differences.items() if len(found) > 1 and self.is_undecided(key)], 1.0
        )

    def _next(self, plans: Sequence[BenchmarkPlan], pairs: int, left_s: float) -> list[BenchmarkPlan]:
        """Those in the next pair after so many: no longer than leaves time for the first look, if that can be."""
        missing = max(self._looks[0] - pairs, 1)
        return self._affordable(plans, missing, left_s) or self._affordable(plans, 1, left_s)

    def _affordable(self, plans: Sequence[BenchmarkPlan], pairs: int, left_s: float) -> list[BenchmarkPlan]:
        """Those that can be in so many pairs in the time left, with blocks that decide them or, if none can, fewer."""
        decided = _that_fit(self._sized(plans, self._decisive), pairs, self._comparison, left_s)
        return decided or _that_fit(self._sized(plans, {}), pairs, self._comparison, left_s)

    def _sized(self, plans: Sequence[BenchmarkPlan], wanted_blocks: Mapping[str, int]) -> list[BenchmarkPlan]:
        """With the blocks that each is to have in a pair of these."""
        left_s = self._comparison.measured_s
        sized: dict[str, BenchmarkPlan] = {}
        # What one doesn't need is left for the others.
        for plan in sorted(plans, key=lambda one: self._most_blocks[one.key] * one.block_s):
            share_s = left_s / (len(plans) - len(sized))
            sized[plan.key] = plan.within(share_s, self._most_blocks[plan.key], wanted_blocks.get(plan.key, 0))
            left_s = max(left_s - 2 * sized[plan.key].blocks * plan.block_s, 0.0)
        return [sized[plan.key] for plan in plans]

    def is_undecided(self, key: str) -> bool:
        """Whether more pairs can tell more: it has not failed, and its verdict or the size of its slow-down is open."""
        found = self.judgements.get(key)
        if key in self._comparison.failures:
            return False
        if found is None or found.verdict == "inconclusive":
            return True
        return self._is_convicted(key) and found.error > self._well_told(found)

    def _is_convicted(self, key: str) -> bool:
        found = self.judgements.get(key)
        return found is not None and found.verdict == "regression"

    def seems_faster(self, plan: BenchmarkPlan) -> bool:
        """Whether it was acquitted and would be suspicious, were it as much slower as it reads faster."""
        found = self.judgements.get(plan.key)
        return found is not None and found.verdict == "pass" and _is_suspicious(-found.change, plan)

    def _well_told(self, found: Judgement) -> float:
        return max(self._error_wanted, WELL_TOLD_SHARE * found.change)

    def blocks_to_decide(self, plan: BenchmarkPlan, prior: Prior, tried: int) -> int:
        """In each pair of the close look, so that its first judgement decides what is as slow as it is planned for, or
        as fast.
        """
        found = self.judgements[plan.key]
        limits = plan.thresholds.with_shares(FALSE_ALARMS_CLOSE, MISSES_CLOSE)
        error = self._well_told(found)
        if found.verdict != "regression":
            square = found.change**2
            expected = found.change * square / (square + DOUBT * found.error**2)
            expected = -expected if self.seems_faster(plan) else expected
            error = error_to_decide(expected, limits, CLOSE_LOOKS[0] - 1 + prior.degrees, tried)
        return blocks_wanted(self.block_differences[plan.key], error_of_pair(error, CLOSE_LOOKS[0]))

    def _take(self, pair: Pair) -> None:
        self._comparison.failures |= pair.failures
        self._comparison.samples_s |= pair.samples_s
        # Measuring for as long as the next processes take to start costs nothing.
        self._comparison.measured_s = min(self._comparison.measured_s + pair.idle_s, MOST_MEASURED_S)
        for key, blocks in pair.block_differences.items():
            if key in CONTROLS:
                self._comparison.differences.setdefault(key, []).append(difference(blocks))
            else:
                self.differences[key].append(difference(blocks))
                self.block_differences[key].append(blocks)

    def prior(self, *, of_few: Prior) -> Prior:
        """What its benchmarks say of each other's variances; `of_few` where they are too few for that."""
        return prior_of(self.differences, self._within(), of_few=of_few)

    def _within(self) -> dict[str, list[float]]:
        return {key: errors_within(pairs) for key, pairs in self.block_differences.items() if pairs}

    def _look_at(self, due: Sequence[str], used: float) -> None:
        """`used`: share of its time that has passed. Of the errors each look may make what has been added since the
        benchmark's last one to the share's square, so that most are left for the last look, which comes when it comes
        (Lan and DeMets 1983, Biometrika 70:659; added up over looks as if they were independent: on the safe side).
        """
        spent = min(used, 1.0) ** 2
        limits = {}
        for key in due:
            if (share := spent - self._spent.get(key, 0.0)) > 0:
                limits[key] = self._limits[key].with_shares(share, share)
                self._spent[key] = spent
        within = self._within()
        prior = self._prior or prior_of(self.differences, within)
        found = judge_pairs(self.differences, list(limits), limits, prior, within=within, tried=self._sharing)
        for key, one in found.items():
            if self._is_convicted(key):
                one = dataclasses.replace(one, verdict="regression")  # tried on for its size alone
            self.judgements[key] = one
            if _tells_more(one, self._comparison.judgements.get(key)):
                self._comparison.judgements[key] = one
                self._comparison.differences[key] = self.differences[key]


def _is_suspicious(change: float, plan: BenchmarkPlan) -> bool:
    """Whether it is more than halfway from what may pass to what must not."""
    return change > (plan.thresholds.tolerance + plan.thresholds.minimum_effect) / 2


def _tells_more(found: Judgement, before: Judgement | None) -> bool:
    """Whether it takes the place of an earlier one: what is decided stays so, and what has passed is not convicted."""
    if before is None or before.verdict == "inconclusive":
        return True
    return found.verdict != "inconclusive" and (before.verdict, found.verdict) != ("pass", "regression")


def _that_fit(
    plans: Sequence[BenchmarkPlan], pairs: int, comparison: PairedComparison, left_s: float
) -> list[BenchmarkPlan]:
    """Those that can be in so many pairs in the time left, from the first on."""
    chosen: list[BenchmarkPlan] = []
    for plan in plans:
        if pairs * _time_factor(comparison) * expected_s([*chosen, plan]) <= left_s:
            chosen.append(plan)
    return chosen


def _time_factor(comparison: PairedComparison) -> float:
    """What pairs take here, over what is expected."""
    return comparison.spent_s / comparison.expected_s if comparison.expected_s else 1.0


def expected_s(plans: Sequence[BenchmarkPlan]) -> float:
    """What a pair of these takes, about."""
    return PAIR_OVERHEAD_S + sum(plan.pair_s for plan in plans)


def controls(thresholds: Thresholds) -> list[BenchmarkPlan]:
    """The controls, to be run first in each pair; they are not judged by thresholds."""
    return [BenchmarkPlan(key, CONTROL_SAMPLE_S, thresholds, slow_down=share) for key, share in CONTROLS.items()]


def is_control(key: str) -> bool:
    """Return whether a key names one of this package's own benchmarks."""
    return key.partition("::")[0] == CONTROLS_FILE


def controls_off(differences: Mapping[str, Sequence[float]], prior: Prior) -> str:
    """What is wrong with the controls, if a 99.9 % interval of one excludes the truth by more than a point.

    `prior`: what the benchmarks say of variances; the blocks of controls hardly vary.
    """
    for key, truth in CONTROLS.items():
        values = differences.get(key, [])
        if len(values) < 2:
            continue
        change = statistics.fmean(values)
        ratio, degrees = prior.moderated(values, [0.0] * len(values))
        margin = student_quantile(1 - CONTROL_ERROR / 2, degrees) * BETWEEN * math.sqrt(ratio / len(values))
        if abs(change - math.log1p(truth)) - margin > CONTROL_TOLERANCE:
            return (
                f"the control {key.rpartition('::')[2]} reads {math.expm1(change):+.1%} and should read"
                f" {truth:+.0%}: this machine can't be trusted now"
            )
    return ""
