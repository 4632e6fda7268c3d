"""Schedule of a paired comparison: which benchmarks are in which pairs, and when they are judged.

The first stage measures every benchmark in a few short pairs. Most pass after two of them, some after three. The second
stage measures again, in new pairs, the benchmarks that are inconclusive, and those that failed by a slow-down of
uncertain size: the suspicious ones first and by themselves, with as many blocks as the first stage's figures say a
decision takes. Benchmarks that would take most of the time come last, and get fewer pairs if the planned ones do not
fit.

The second stage uses none of the first stage's differences. Its own are therefore independent of the choice of its
benchmarks and of their number of blocks, and only its benchmarks share the error allowed in it (Cox 1975, Biometrika
62:441). The first stage's variances serve as its prior: short pairs vary more, if anything.

If time is left, benchmarks that had no pairs get a first stage and nothing beyond it, and benchmarks that passed but
read clearly faster get new pairs, which decide if they improved.

Nothing here measures: a function runs a pair, a real one or a recorded one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from plumbline.comparing.statistics.inference import (
    NO_PRIOR,
    OF_FEW,
    Prior,
    blocks_wanted,
    check_controls,
    error_of_pair,
    error_to_decide,
)
from plumbline.comparing.statistics.plan import CONTROLS, MOST_BLOCKS, BenchmarkPlan, RunPair, expected_s
from plumbline.comparing.statistics.stage import PairedComparison, Stage, well_known_error
from plumbline.judging.evidence import Judgement

# Numbers of pairs after which each stage is analysed. The first stage ends with its first analysis if there is no time
# for the second of all benchmarks.
FIRST_ANALYSES = (2, 3)
SECOND_ANALYSES = (4, 8, 16, 32, 64)
COSTLY_ANALYSES = (2, 4, 8)
# Shares of the allowed errors that each stage may make. The rest of the misses is left for inconclusive benchmarks.
FIRST_FALSE_ALARMS, SECOND_FALSE_ALARMS, COSTLY_FALSE_ALARMS = 0.1, 0.8, 0.1
FIRST_MISSES, SECOND_MISSES = 0.35, 0.5
# Of the time, for pairs: before them the trees were copied, and after them sides and servers are ended.
SHARE_FOR_PAIRS = 0.95
# Of that, planned for the first stage. On a slower machine it takes more: otherwise its first pair would be lost.
FIRST_SHARE = 0.6
MOST_BLOCKS_AT_FIRST = 128
# A benchmark whose first analysis would take more of the time left than this is costly.
MOST_OF_TIME = 0.67
# Standard error of a slow-down that is reported: nine of ten are then within 1.5 points of the truth.
ERROR_WANTED = 0.007
# Standard error of a pair by its blocks that is small enough: processes differ by some 1 %, whatever those say.
ERROR_WITHIN = 0.01
# The second stage is planned for less than the first has read, as most benchmarks that stand out there are alike in
# both sides: for half of it if its square is this many times that of its standard error, for most of a clearer one.
DOUBT = 3.0


def conduct(
    plans: Sequence[BenchmarkPlan], run_pair: RunPair, *, budget_s: float, clock: Callable[[], float]
) -> PairedComparison:
    """Compare until each benchmark fails or passes, or the time is up.

    `clock`: seconds since the begin, by which the budget counts. Raises ComparisonInvalid if a control is wrong.
    """
    schedule = _Schedule(plans, run_pair, clock, budget_s * SHARE_FOR_PAIRS)
    first = schedule.run_first()
    prior = first.prior(of_few=OF_FEW)
    schedule.run_second(first, prior)
    schedule.run_rest()
    schedule.run_faster(first, prior)
    # The variance that pairs have in general says nothing of a machine that can't be trusted.
    check_controls(schedule.found.differences, first.prior(of_few=NO_PRIOR))
    return schedule.found


@dataclass
class _Schedule:
    """Runs stages and combines their evidence in `found`."""

    plans: Sequence[BenchmarkPlan]
    run_pair: RunPair
    clock: Callable[[], float]
    until_s: float
    found: PairedComparison = field(default_factory=PairedComparison)

    def run_first(self) -> PairedComparison:
        planned_s = self.until_s * FIRST_SHARE
        short = [plan.within(0.0, MOST_BLOCKS_AT_FIRST) for plan in self.plans]
        all_fit = FIRST_ANALYSES[-1] * expected_s(short) <= planned_s - self.clock()
        stage = Stage(
            self.found,
            dict.fromkeys(self.plans, MOST_BLOCKS_AT_FIRST),
            FIRST_ANALYSES if all_fit else FIRST_ANALYSES[:1],
            FIRST_FALSE_ALARMS,
            FIRST_MISSES,
            error_wanted=ERROR_WANTED,
            sharing=len(self.plans),
        )
        return self._run(stage, planned_s=planned_s)

    def run_second(self, first: PairedComparison, prior: Prior) -> None:
        """Run new pairs of what the first stage left: suspicious benchmarks by themselves, the others, costly ones.

        Suspicious ones come first: a disturbed machine has no time for all, and a slow-down is worth more than a pass.
        """
        left = [plan for plan in self.plans if plan.key in first.judgements and first.is_open(plan.key, ERROR_WANTED)]
        decisive = {plan.key: _blocks_to_decide(plan, first, prior, len(left)) for plan in left}
        suspicious, others = self._in_order(left, first, decisive)
        measured: set[str] = set()
        for plans, analyses, false_alarms in (
            (suspicious, SECOND_ANALYSES, SECOND_FALSE_ALARMS),
            (others, SECOND_ANALYSES, SECOND_FALSE_ALARMS),
            # For some, so many pairs are too many: with what time is left they get fewer.
            ([*suspicious, *others], COSTLY_ANALYSES, COSTLY_FALSE_ALARMS),
        ):
            most_blocks = {
                plan: min(blocks_wanted(first.block_differences[plan.key], ERROR_WITHIN), MOST_BLOCKS)
                for plan in plans
                if plan.key not in measured
            }
            stage = Stage(
                self.found,
                most_blocks,
                analyses,
                false_alarms,
                SECOND_MISSES,
                prior,
                error_wanted=ERROR_WANTED,
                sharing=len(left),
                decisive=decisive,
            )
            second = self._run(stage)
            measured |= {plan.key for plan in plans if second.block_differences.get(plan.key)}

    def _in_order(
        self, left: Sequence[BenchmarkPlan], first: PairedComparison, decisive: dict[str, int]
    ) -> tuple[list[BenchmarkPlan], list[BenchmarkPlan]]:
        """Return the suspicious benchmarks, the worst first, and the others, the quickest first, costly ones last."""
        left_s = self.until_s - self.clock()
        factor = SECOND_ANALYSES[0] * self.found.time_factor
        change = {plan: first.judgements[plan.key].change for plan in left}
        pair_s = {plan: replace(plan, blocks=decisive[plan.key]).pair_s for plan in left}
        costly = {plan: factor * pair_s[plan] > MOST_OF_TIME * left_s for plan in left}
        suspicious = [plan for plan in left if not costly[plan] and _is_suspicious(change[plan], plan)]
        others = [plan for plan in left if plan not in suspicious]
        return (
            sorted(suspicious, key=lambda plan: change[plan], reverse=True),
            sorted(others, key=lambda plan: (costly[plan], pair_s[plan])),
        )

    def run_rest(self) -> None:
        """Run a first stage of the benchmarks that had none, as many at a time as there is time for."""
        known = -1
        while len(done := self.found.judgements.keys() | self.found.failures.keys()) > known:
            known = len(done)
            most_blocks = {plan: MOST_BLOCKS_AT_FIRST for plan in self.plans if plan.key not in done}
            conditions = (FIRST_ANALYSES[:1], FIRST_FALSE_ALARMS, FIRST_MISSES)
            self._run(Stage(self.found, most_blocks, *conditions, sharing=len(self.plans)))

    def run_faster(self, first: PairedComparison, prior: Prior) -> None:
        """Run new pairs of benchmarks that passed the first stage but read faster, to decide if they improved.

        No benchmark fails by these pairs, so their false alarms are none of those that the others share.
        """
        faster = [plan for plan in self.plans if _reads_faster(first.judgements.get(plan.key), plan)]
        decisive = {plan.key: _blocks_to_decide(plan, first, prior, len(faster)) for plan in faster}
        most_blocks = {plan: min(decisive[plan.key], MOST_BLOCKS) for plan in faster}
        conditions = (SECOND_ANALYSES[:1], SECOND_FALSE_ALARMS, SECOND_MISSES, prior)
        self._run(Stage(self.found, most_blocks, *conditions, decisive=decisive))

    def _run(self, stage: Stage, *, planned_s: float | None = None) -> PairedComparison:
        """Run a stage and add its evidence: a decision stays, and what has passed does not fail."""
        evidence = stage.run(self.run_pair, self.clock, self.until_s, planned_s=planned_s)
        before, found = self.found, evidence.judgements
        taken = {key: one for key, one in found.items() if _replaces(one, before.judgements.get(key))}
        blocks = {key: pairs for key, pairs in evidence.block_differences.items() if key in taken or key in CONTROLS}
        self.found = replace(
            evidence,
            block_differences=before.block_differences | blocks,
            judgements=before.judgements | taken,
            elapsed_s=self.clock(),
        )
        return evidence


def _blocks_to_decide(plan: BenchmarkPlan, first: PairedComparison, prior: Prior, sharing: int) -> int:
    """Return the blocks of each second-stage pair with which the first analysis decides what the plan expects."""
    found = first.judgements[plan.key]
    error = well_known_error(found, ERROR_WANTED)
    if found.verdict != "regression":
        square = found.change**2
        expected = found.change * square / (square + DOUBT * found.error**2)
        expected = -expected if _reads_faster(found, plan) else expected
        thresholds = plan.thresholds.with_shares(SECOND_FALSE_ALARMS, SECOND_MISSES)
        error = error_to_decide(expected, thresholds, SECOND_ANALYSES[0] - 1 + prior.degrees, sharing)
    return blocks_wanted(first.block_differences[plan.key], error_of_pair(error, SECOND_ANALYSES[0]))


def _is_suspicious(change: float, plan: BenchmarkPlan) -> bool:
    """Return whether it is more than halfway from what may pass to what must not."""
    return change > (plan.thresholds.tolerance + plan.thresholds.minimum_effect) / 2


def _reads_faster(found: Judgement | None, plan: BenchmarkPlan) -> bool:
    """Return whether a benchmark passed and would be suspicious, were it as much slower as it reads faster."""
    return found is not None and found.verdict == "pass" and _is_suspicious(-found.change, plan)


def _replaces(found: Judgement, before: Judgement | None) -> bool:
    if before is None or before.verdict == "inconclusive":
        return True
    return found.verdict != "inconclusive" and (before.verdict, found.verdict) != ("pass", "regression")
