"""One stage of a paired comparison: new pairs of some benchmarks, with interim analyses after fixed numbers of pairs.

The analyses of a stage spend its share of the errors as its time passes (Lan and DeMets 1983, Biometrika 70:659). A
stage changes nothing outside of itself: it returns evidence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from plumbline.comparing.statistics.inference import OF_FEW, Prior, difference, errors_within, judge_pairs, prior_of
from plumbline.comparing.statistics.plan import CONTROLS, BenchmarkPlan, Pair, RunPair, expected_s
from plumbline.judging.evidence import Judgement

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
        return prior_of(differences, within, of_few=of_few)

    def is_open(self, key: str) -> bool:
        """Return whether more pairs can decide about a benchmark."""
        judgement = self.judgements.get(key)
        return key not in self.failures and (judgement is None or judgement.verdict == "inconclusive")


@dataclass
class Stage:
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
        """Return the estimated duration of so many pairs on this machine."""
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
                self.found.judgements[key] = judge_pairs(
                    values, errors_within(pairs), limits, prior, sharing=self.sharing
                )
