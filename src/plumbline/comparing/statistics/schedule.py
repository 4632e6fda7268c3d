"""The schedule of a paired comparison: the benchmarks of each pair, and the analyses that judge them.

The first stage measures every benchmark in two or three short pairs. Most benchmarks pass in it. The second stage
measures the undecided benchmarks again in new pairs: first the suspicious ones, then the others.

The second stage does not use the differences of the first. So its differences are independent of the choice of its
benchmarks and of their number of blocks, and only its benchmarks share the error allowed in it (Cox 1975, Biometrika
62:441). The variances of the first stage are its prior. This is conservative, because short pairs do not vary less.

If time is left, benchmarks without any pairs get a first stage. Benchmarks that passed but seem clearly faster get new
pairs, which decide whether they improved.

The analyses of a stage spend its share of the allowed errors as its time passes (Lan and DeMets 1983, Biometrika
70:659). This module does not measure. The function `run_pair` runs a real pair, or replays a recorded one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from plumbline.comparing.statistics import inference
from plumbline.comparing.statistics.inference import NO_PRIOR, OF_FEW, Prior, difference, errors_within
from plumbline.comparing.statistics.plan import CONTROLS, MOST_BLOCKS, BenchmarkPlan, Pair, RunPair, expected_s
from plumbline.judging.evidence import Judgement

# Numbers of pairs after which each stage is analysed. The first stage has only its first analysis if there is no time
# for three pairs of all benchmarks.
FIRST_ANALYSES = (2, 3)
SECOND_ANALYSES = (4, 8, 16, 32, 64)
# For benchmarks that are too slow for SECOND_ANALYSES.
COSTLY_ANALYSES = (2, 4, 8)
# Shares of the allowed errors. The remaining misses are reserved for inconclusive benchmarks.
FIRST_FALSE_ALARMS, SECOND_FALSE_ALARMS = 0.1, 0.9
FIRST_MISSES, SECOND_MISSES = 0.35, 0.5
# Share of the time for pairs. The rest is for copying the trees and for ending workers and servers.
SHARE_FOR_PAIRS = 0.95
# Share of this time that is planned for the first stage. It may take longer on a slow machine.
FIRST_SHARE = 0.6
MOST_BLOCKS_AT_FIRST = 128
# Target for the standard error of a pair by its blocks. Less is useless, because equal processes differ by about 1 %.
ERROR_WITHIN = 0.01
# Seconds for all benchmarks of a pair together, unless their least blocks take longer. The second limit applies while
# the run would otherwise wait for the processes of the next pair.
MEASURED_S = 1.5
MOST_MEASURED_S = 4.5


@dataclass
class PairedComparison:
    """Evidence of a paired comparison, or of one of its stages, by key of the benchmark or control."""

    # one list for each pair: of a benchmark in the stage that judged it, of a control in all stages
    block_differences: dict[str, list[list[float]]] = field(default_factory=dict)
    judgements: dict[str, Judgement] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # why a benchmark could not be compared
    # samples of base and of head in the last pair of each benchmark, in seconds per operation
    samples_s: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    # Totals of all pairs:
    pairs: int = 0
    expected_s: float = 0.0  # estimated duration
    spent_s: float = 0.0  # actual duration
    elapsed_s: float = 0.0
    measured_s: float = MEASURED_S  # time for all benchmarks of the next pair together

    @property
    def time_factor(self) -> float:
        """Actual over estimated duration of pairs on this machine."""
        return self.spent_s / self.expected_s if self.expected_s else 1.0

    @property
    def differences(self) -> dict[str, list[float]]:
        """The difference of each pair, as a logarithm, by key."""
        return {key: [difference(blocks) for blocks in pairs] for key, pairs in self.block_differences.items()}

    def prior(self, *, of_few: Prior) -> Prior:
        """Estimate the common variance of the benchmarks. `of_few`: the prior if they are too few."""
        differences = {key: found for key, found in self.differences.items() if key not in CONTROLS}
        within = {key: errors_within(self.block_differences[key]) for key in differences}
        return inference.prior_of(differences, within, of_few=of_few)

    def is_open(self, key: str) -> bool:
        """Return whether a benchmark is undecided and can be measured again."""
        judgement = self.judgements.get(key)
        return key not in self.failures and (judgement is None or judgement.verdict == "inconclusive")


@dataclass
class _Stage:
    """A stage: its benchmarks, the errors allowed in it, and the evidence that `run` collects."""

    found: PairedComparison  # at first, the evidence of the stages before
    most_blocks: Mapping[BenchmarkPlan, int]  # the most blocks of each benchmark in a pair
    analyses: Sequence[int]  # numbers of pairs after which to judge, unless the time is up first
    false_alarms: float  # share of the allowed false positives that this stage may spend
    misses: float
    prior: Prior | None  # None: estimated from the benchmarks of this stage
    sharing: int  # number of benchmarks that share the allowed false positives

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

        The stage ends at `until_s`. Its analyses should be over at `planned_s`, if given. Both are times of `clock`.
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
                # If possible, leave time for the first analysis.
                missing = max(self.analyses[0] - pairs, 1)
                if not (chosen := self._affordable(left, missing, left_s) or self._affordable(left, 1, left_s)):
                    break
                began_s = clock()
                # The benchmarks of the next pair are only known within a stage.
                another = pairs + 1 < self.analyses[-1] and self._expected_s(chosen, 2) < until_s - began_s
                pair = run_pair(chosen, chosen if another else ())
                self._add(chosen, pair, clock() - began_s)
                pairs += 1
            if pairs == analysis:
                is_last = analysis == self.analyses[-1]
                share = 1.0 if is_last else (clock() - begin_s) / (end_s - begin_s)
                self._analyse([plan.key for plan in undecided()], share)
        # Last analysis of undecided benchmarks: it may spend all the errors that are left.
        measured = [plan.key for plan in self.most_blocks if len(self.found.block_differences[plan.key]) > 1]
        self._analyse([key for key in measured if self.found.is_open(key)], 1.0)
        return self.found

    def _affordable(self, plans: Sequence[BenchmarkPlan], pairs: int, left_s: float) -> list[BenchmarkPlan]:
        """Choose as many benchmarks as there is time for in `pairs` pairs."""
        chosen: list[BenchmarkPlan] = []
        for plan in self._sized(plans):
            if self._expected_s([*chosen, plan], pairs) <= left_s:
                chosen.append(plan)
        return chosen

    def _sized(self, plans: Sequence[BenchmarkPlan]) -> list[BenchmarkPlan]:
        """Set the number of blocks of each benchmark for a pair of all these benchmarks."""
        left_s = self.found.measured_s
        sized: dict[str, BenchmarkPlan] = {}
        most_blocks = {plan.key: blocks for plan, blocks in self.most_blocks.items()}
        # The others get the time that a benchmark does not need.
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
        # Use the time in which the run would wait for the next processes.
        found.measured_s = min(found.measured_s + pair.idle_s, MOST_MEASURED_S)

    def _analyse(self, due: Sequence[str], used: float) -> None:
        """Judge the benchmarks that are due.

        `used` is the share of the stage's time that has passed. Its square is the share of the allowed errors that may
        be spent by now, so that most is left for the last analysis. Each analysis spends what earlier ones left of
        that. The sum of their errors is a conservative bound.
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
    """Compare until each benchmark fails or passes, or `budget_s` is over.

    `clock` returns the seconds since the start. Raises ComparisonInvalid if a control is wrong.
    """
    schedule = _Schedule(plans, run_pair, clock, budget_s * SHARE_FOR_PAIRS)
    first = schedule.run_first()
    prior = first.prior(of_few=OF_FEW)
    schedule.run_second(first, prior)
    schedule.run_rest()
    schedule.run_faster(first, prior)
    # Without OF_FEW: a usual variance would hide that this machine is not usual.
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
        """Run new pairs of the benchmarks that the first stage left undecided.

        The suspicious benchmarks come first, the slowest change first, because there may not be time for all. Then the
        others, the quickest first. Then, with fewer pairs, those for which there was no time before.
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
        """Run first stages of the benchmarks that had none, while there is time."""
        known = -1
        while len(done := self.found.judgements.keys() | self.found.failures.keys()) > known:
            known = len(done)
            self._first_stage([plan for plan in self.plans if plan.key not in done], FIRST_ANALYSES[:1])

    def run_faster(self, first: PairedComparison, prior: Prior) -> None:
        """Run new pairs of benchmarks that passed but seem faster, to decide whether they improved.

        These pairs fail no benchmark, so they do not share the allowed false positives.
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
        """Run a stage and add its evidence. A decided benchmark stays decided, but a pass can become an improvement."""
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
    """Return whether a change is more than halfway from `tolerance` to `minimum_effect`."""
    return change > (plan.thresholds.tolerance + plan.thresholds.minimum_effect) / 2
