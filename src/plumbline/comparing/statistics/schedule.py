"""Schedule of a paired comparison: which benchmarks are in which pairs, and when they are judged.

The first stage measures every benchmark in a few short pairs. Most pass after two of them, some after three. The second
stage measures again, in new pairs, the benchmarks that are still open: the suspicious ones first and by themselves.

The second stage uses none of the first stage's differences. Its own are therefore independent of the choice of its
benchmarks and of their number of blocks, and only its benchmarks share the error allowed in it (Cox 1975, Biometrika
62:441). The first stage's variances serve as its prior: short pairs vary more, if anything.

If time is left, benchmarks that had no pairs get a first stage and nothing beyond it, and benchmarks that passed but
read clearly faster get new pairs, which decide if they improved.

Nothing here measures: a function runs a pair, a real one or a recorded one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from plumbline.comparing.statistics.inference import NO_PRIOR, OF_FEW, Prior, blocks_wanted, check_controls
from plumbline.comparing.statistics.plan import CONTROLS, MOST_BLOCKS, BenchmarkPlan, RunPair, expected_s
from plumbline.comparing.statistics.stage import PairedComparison, Stage

# Numbers of pairs after which each stage is analysed. The first stage ends with its first analysis if there is no time
# for the second of all benchmarks.
FIRST_ANALYSES = (2, 3)
SECOND_ANALYSES = (4, 8, 16, 32, 64)
# Of a benchmark for which there was no time for so many.
COSTLY_ANALYSES = (2, 4, 8)
# Shares of the allowed errors that each stage may make. The rest of the misses is left for inconclusive benchmarks.
FIRST_FALSE_ALARMS, SECOND_FALSE_ALARMS = 0.1, 0.9
FIRST_MISSES, SECOND_MISSES = 0.35, 0.5
# Of the time, for pairs: before them the trees were copied, and after them sides and servers are ended.
SHARE_FOR_PAIRS = 0.95
# Of that, planned for the first stage. On a slower machine it takes more: otherwise its first pair would be lost.
FIRST_SHARE = 0.6
MOST_BLOCKS_AT_FIRST = 128
# Standard error of a pair by its blocks that is small enough: processes differ by some 1 %, whatever those say.
ERROR_WITHIN = 0.01


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
        return self._run_first(self.plans, FIRST_ANALYSES if all_fit else FIRST_ANALYSES[:1], planned_s)

    def run_second(self, first: PairedComparison, prior: Prior) -> None:
        """Run new pairs of what the first stage left: the suspicious benchmarks by themselves, the worst first.

        A disturbed machine has no time for all, and a slow-down is worth more than a pass. The others follow, the
        quickest first, and then those for which there was no time: they get fewer pairs.
        """
        left = [plan for plan in self.plans if plan.key in first.judgements and first.is_open(plan.key)]
        change = {plan: first.judgements[plan.key].change for plan in left}
        suspicious = [plan for plan in left if _is_suspicious(change[plan], plan)]
        others = [plan for plan in left if plan not in suspicious]
        measured: set[str] = set()
        for plans, analyses in (
            (sorted(suspicious, key=lambda plan: -change[plan]), SECOND_ANALYSES),
            (sorted(others, key=lambda plan: plan.block_s), SECOND_ANALYSES),
            (left, COSTLY_ANALYSES),
        ):
            chosen = [plan for plan in plans if plan.key not in measured]
            second = self._run_second(chosen, analyses, first, prior, len(left))
            measured |= {plan.key for plan in chosen if second.block_differences[plan.key]}

    def run_rest(self) -> None:
        """Run a first stage of the benchmarks that had none, as many at a time as there is time for."""
        known = -1
        while len(done := self.found.judgements.keys() | self.found.failures.keys()) > known:
            known = len(done)
            self._run_first([plan for plan in self.plans if plan.key not in done], FIRST_ANALYSES[:1])

    def run_faster(self, first: PairedComparison, prior: Prior) -> None:
        """Run new pairs of benchmarks that passed the first stage but read faster, to decide if they improved.

        No benchmark fails by these pairs, so their false alarms are none of those that the others share.
        """
        passed = [plan for plan in self.plans if plan.key in first.judgements and not first.is_open(plan.key)]
        faster = [plan for plan in passed if _is_suspicious(-first.judgements[plan.key].change, plan)]
        self._run_second(faster, SECOND_ANALYSES[:1], first, prior, len(faster))

    def _run_first(
        self, plans: Sequence[BenchmarkPlan], analyses: Sequence[int], planned_s: float | None = None
    ) -> PairedComparison:
        most_blocks = dict.fromkeys(plans, MOST_BLOCKS_AT_FIRST)
        conditions = (FIRST_FALSE_ALARMS, FIRST_MISSES, None, len(self.plans))
        return self._run(Stage(self.found, most_blocks, analyses, *conditions), planned_s)

    def _run_second(
        self,
        plans: Sequence[BenchmarkPlan],
        analyses: Sequence[int],
        first: PairedComparison,
        prior: Prior,
        sharing: int,
    ) -> PairedComparison:
        most_blocks = {
            plan: min(blocks_wanted(first.block_differences[plan.key], ERROR_WITHIN), MOST_BLOCKS) for plan in plans
        }
        conditions = (SECOND_FALSE_ALARMS, SECOND_MISSES, prior, sharing)
        return self._run(Stage(self.found, most_blocks, analyses, *conditions))

    def _run(self, stage: Stage, planned_s: float | None = None) -> PairedComparison:
        """Run a stage and add its evidence: a decision stays, unless what has passed improved."""
        evidence = stage.run(self.run_pair, self.clock, self.until_s, planned_s)
        before, found = self.found, evidence.judgements
        taken = {key for key, one in found.items() if before.is_open(key) or one.verdict == "improvement"}
        blocks = {key: pairs for key, pairs in evidence.block_differences.items() if key in taken or key in CONTROLS}
        self.found = replace(
            evidence,
            block_differences=before.block_differences | blocks,
            judgements=before.judgements | {key: found[key] for key in taken},
            elapsed_s=self.clock(),
        )
        return evidence


def _is_suspicious(change: float, plan: BenchmarkPlan) -> bool:
    """Return whether it is more than halfway from what may pass to what must not."""
    return change > (plan.thresholds.tolerance + plan.thresholds.minimum_effect) / 2
