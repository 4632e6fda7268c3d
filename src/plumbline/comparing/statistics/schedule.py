"""Schedule of a paired comparison: which benchmarks are in which pairs, and when they are judged.

The first stage measures every benchmark in a few short pairs. Most pass after two of them, some after three. The second
stage measures again, in new pairs, the benchmarks that are still open: the suspicious ones first and by themselves.

The second stage uses none of the first stage's differences. Its own are therefore independent of the choice of its
benchmarks and of their number of blocks, and only its benchmarks share the error allowed in it (Cox 1975, Biometrika
62:441). The first stage's variances serve as its prior: short pairs vary more, if anything.

If time is left, benchmarks that had no pairs get a first stage and nothing beyond it, and benchmarks that passed but
read clearly faster get new pairs, which decide if they improved.

The analyses of a stage spend its share of the errors as its time passes (Lan and DeMets 1983, Biometrika 70:659).
Nothing here measures: a function runs a pair, a real one or a recorded one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from plumbline.comparing.statistics import inference
from plumbline.comparing.statistics.inference import NO_PRIOR, OF_FEW, Prior, difference, errors_within
from plumbline.comparing.statistics.plan import CONTROLS, MOST_BLOCKS, BenchmarkPlan, Pair, RunPair, expected_s
from plumbline.judging.evidence import Judgement

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
# What all benchmarks of a pair may take together, if that is more than their least blocks; the longer time applies
# while the next pair's processes are starting anyway.
MEASURED_S = 1.5
MOST_MEASURED_S = 4.5


@dataclass
class PairedComparison:
    """Evidence of a paired comparison, or of one of its stages, by key."""

    block_differences: dict[str, list[list[float]]] = field(default_factory=dict)
    """One list for each pair of the stage that judged a benchmark; the controls' of all pairs so far."""
    judgements: dict[str, Judgement] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # why a benchmark could not be compared
    samples_s: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    """Samples of base and of head in the last pair of each benchmark, in seconds per operation."""
    # Of all pairs of the comparison so far:
    pairs: int = 0
    expected_s: float = 0.0  # their estimated duration, which does not know the machine
    spent_s: float = 0.0
    elapsed_s: float = 0.0
    measured_s: float = MEASURED_S  # what the benchmarks of the next pair may take together

    @property
    def time_factor(self) -> float:
        """How long pairs take on this machine, over the estimate."""
        return self.spent_s / self.expected_s if self.expected_s else 1.0

    @property
    def differences(self) -> dict[str, list[float]]:
        """One for each pair."""
        return {key: [difference(blocks) for blocks in pairs] for key, pairs in self.block_differences.items()}

    def prior(self, *, of_few: Prior) -> Prior:
        """Return what the benchmarks of a stage show of each other's variances; `of_few` if they are too few."""
        differences = {key: found for key, found in self.differences.items() if key not in CONTROLS}
        within = {key: errors_within(self.block_differences[key]) for key in differences}
        return inference.prior_of(differences, within, of_few=of_few)

    def is_open(self, key: str) -> bool:
        """Return whether more pairs can decide about a benchmark."""
        judgement = self.judgements.get(key)
        return key not in self.failures and (judgement is None or judgement.verdict == "inconclusive")


@dataclass
class _Stage:
    """Benchmarks of a stage, the conditions that they are judged under, and the evidence that `run` collects."""

    found: PairedComparison  # when the stage begins, the evidence of those before it
    most_blocks: Mapping[BenchmarkPlan, int]  # the most blocks of each benchmark in a pair
    analyses: Sequence[int]  # numbers of pairs after which to judge, unless the time is up first
    false_alarms: float  # share of the comparison's false alarms that this stage may make
    misses: float
    prior: Prior | None  # see judge_pairs; None: what the benchmarks of this stage show of each other
    sharing: int  # how many benchmarks share the false alarms

    def __post_init__(self) -> None:
        before = self.found
        of_controls = {key: [*pairs] for key, pairs in before.block_differences.items() if key in CONTROLS}
        self.found = replace(
            before,
            block_differences={plan.key: [] for plan in self.most_blocks} | of_controls,
            judgements={},
            failures={**before.failures},
            samples_s={**before.samples_s},
        )
        self._errors_spent: dict[str, float] = {}

    def run(
        self, run_pair: RunPair, clock: Callable[[], float], until_s: float, planned_s: float | None = None
    ) -> PairedComparison:
        """Run pairs until each benchmark is decided, the last analysis is over, or the time is up.

        `planned_s`: when the analyses should be over, if before `until_s`; both by the clock.
        """
        begin_s, pairs = clock(), 0
        end_s = planned_s or until_s
        compared = self._affordable(list(self.most_blocks), self.analyses[0], end_s - begin_s)

        def undecided() -> list[BenchmarkPlan]:
            is_open, measured = self.found.is_open, self.found.block_differences
            return [plan for plan in compared if is_open(plan.key) and len(measured[plan.key]) == pairs]

        for analysis in self.analyses:
            while pairs < analysis:
                left, left_s = undecided(), until_s - clock()
                # If possible, there is time for the first analysis.
                missing = max(self.analyses[0] - pairs, 1)
                if not (chosen := self._affordable(left, missing, left_s) or self._affordable(left, 1, left_s)):
                    break
                began_s = clock()
                # Only within a stage is it known who may be in the next pair.
                another = pairs + 1 < self.analyses[-1] and self._expected_s(chosen, 2) < until_s - began_s
                pair = run_pair(chosen, chosen if another else ())
                self._add(chosen, pair, clock() - began_s)
                pairs += 1
            if pairs == analysis:
                is_last = analysis == self.analyses[-1]
                share = 1.0 if is_last else (clock() - begin_s) / (end_s - begin_s)
                self._analyse([plan.key for plan in undecided()], share)
        # The time is up for these: they may make all errors that their analyses have left.
        measured = [plan.key for plan in self.most_blocks if len(self.found.block_differences[plan.key]) > 1]
        self._analyse([key for key in measured if self.found.is_open(key)], 1.0)
        return self.found

    def _affordable(self, plans: Sequence[BenchmarkPlan], pairs: int, left_s: float) -> list[BenchmarkPlan]:
        """Choose those for which there is time in so many pairs."""
        chosen: list[BenchmarkPlan] = []
        for plan in self._sized(plans):
            if self._expected_s([*chosen, plan], pairs) <= left_s:
                chosen.append(plan)
        return chosen

    def _sized(self, plans: Sequence[BenchmarkPlan]) -> list[BenchmarkPlan]:
        """Return these with the blocks that each gets in a pair of them all."""
        left_s = self.found.measured_s
        sized: dict[str, BenchmarkPlan] = {}
        most_blocks = {plan.key: blocks for plan, blocks in self.most_blocks.items()}
        # Time that one benchmark does not need is left for the others.
        for plan in sorted(plans, key=lambda one: most_blocks[one.key] * one.block_s):
            sized[plan.key] = plan.within(left_s / (len(plans) - len(sized)), most_blocks[plan.key])
            left_s = max(left_s - 2 * sized[plan.key].blocks * plan.block_s, 0.0)
        return [sized[plan.key] for plan in plans]

    def _expected_s(self, plans: Sequence[BenchmarkPlan], pairs: int) -> float:
        return pairs * self.found.time_factor * expected_s(plans)

    def _add(self, chosen: Sequence[BenchmarkPlan], pair: Pair, took_s: float) -> None:
        found = self.found
        found.failures.update(pair.failures)
        found.samples_s.update(pair.samples_s)
        for key, blocks in pair.block_differences.items():
            found.block_differences.setdefault(key, []).append(blocks)
        found.pairs += 1
        found.expected_s += expected_s(chosen)
        found.spent_s += took_s
        # Measuring for as long as the next processes take to start costs nothing.
        found.measured_s = min(found.measured_s + pair.idle_s, MOST_MEASURED_S)

    def _analyse(self, due: Sequence[str], used: float) -> None:
        """Judge those that are due by their pairs so far.

        `used`: share of the stage's time that has passed. Its square is the share of the errors that may have been
        made by now: an analysis may add what its predecessors left of that, so that most is left for the last one,
        whenever it comes. The errors are added up as if analyses were independent, which is on the safe side.
        """
        spent = min(used, 1.0) ** 2
        prior = self.prior or self.found.prior(of_few=OF_FEW)
        thresholds = {
            plan.key: plan.thresholds.with_shares(self.false_alarms, self.misses) for plan in self.most_blocks
        }
        for key in due:
            if (share := spent - self._errors_spent.get(key, 0.0)) > 0:
                self._errors_spent[key] = spent
                pairs, limits = self.found.block_differences[key], thresholds[key].with_shares(share, share)
                values = [difference(blocks) for blocks in pairs]
                self.found.judgements[key] = inference.judge_pairs(
                    values, errors_within(pairs), limits, prior, sharing=self.sharing
                )


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
    inference.check_controls(schedule.found.differences, first.prior(of_few=NO_PRIOR))
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
        return self._first_stage(self.plans, FIRST_ANALYSES if all_fit else FIRST_ANALYSES[:1], planned_s)

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
            second = self._second_stage(chosen, analyses, first, prior, len(left))
            measured |= {plan.key for plan in chosen if second.block_differences[plan.key]}

    def run_rest(self) -> None:
        """Run a first stage of the benchmarks that had none, as many at a time as there is time for."""
        known = -1
        while len(done := self.found.judgements.keys() | self.found.failures.keys()) > known:
            known = len(done)
            self._first_stage([plan for plan in self.plans if plan.key not in done], FIRST_ANALYSES[:1])

    def run_faster(self, first: PairedComparison, prior: Prior) -> None:
        """Run new pairs of benchmarks that passed the first stage but read faster, to decide if they improved.

        No benchmark fails by these pairs, so their false alarms are none of those that the others share.
        """
        judged = [(plan, first.judgements[plan.key]) for plan in self.plans if plan.key in first.judgements]
        faster = [plan for plan, one in judged if one.verdict == "pass" and _is_suspicious(-one.change, plan)]
        self._second_stage(faster, SECOND_ANALYSES[:1], first, prior, len(faster))

    def _first_stage(
        self, plans: Sequence[BenchmarkPlan], analyses: Sequence[int], planned_s: float | None = None
    ) -> PairedComparison:
        most_blocks = dict.fromkeys(plans, MOST_BLOCKS_AT_FIRST)
        stage = _Stage(
            self.found, most_blocks, analyses, FIRST_FALSE_ALARMS, FIRST_MISSES, prior=None, sharing=len(self.plans)
        )
        return self._run(stage, planned_s)

    def _second_stage(
        self,
        plans: Sequence[BenchmarkPlan],
        analyses: Sequence[int],
        first: PairedComparison,
        prior: Prior,
        sharing: int,
    ) -> PairedComparison:
        wanted = {plan: inference.blocks_wanted(first.block_differences[plan.key], ERROR_WITHIN) for plan in plans}
        most_blocks = {plan: min(blocks, MOST_BLOCKS) for plan, blocks in wanted.items()}
        stage = _Stage(
            self.found, most_blocks, analyses, SECOND_FALSE_ALARMS, SECOND_MISSES, prior=prior, sharing=sharing
        )
        return self._run(stage)

    def _run(self, stage: _Stage, planned_s: float | None = None) -> PairedComparison:
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
