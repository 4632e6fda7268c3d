"""The schedule of a paired comparison: the benchmarks of each pair.

Every pair measures the benchmarks that are still inconclusive. Each is judged after each of its pairs, and a decided
benchmark is not measured again. If there is no time for all, those that look slower come first.

This module does not measure. The function `run_pair` runs a real pair, or replays a recorded one.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from plumbline.comparing.statistics import inference
from plumbline.comparing.statistics.controls import CONTROLS, check_controls
from plumbline.comparing.statistics.inference import OF_FEW, difference, errors_within
from plumbline.comparing.statistics.plan import (
    MOST_BLOCKS,
    MOST_BLOCKS_OF_TAIL,
    BenchmarkPlan,
    Pair,
    RunPair,
    blocks_within,
    expected_s,
)
from plumbline.comparing.statistics.tails import Reading, errors_of
from plumbline.judging.evidence import Judgement, Thresholds
from plumbline.settings import Tail

LEAST_PAIRS = 2  # a benchmark is judged from its second pair on
# An open benchmark waits if there is no time for this many pairs of it, so that the slowest do not use up the time
# of the others.
PAIRS_PLANNED = 6
# A benchmark that passed but looks faster, or whose tail looks slower, is measured up to this many times to decide it.
MOST_PAIRS_AFTER_PASS, MOST_PAIRS_OF_TAIL = 12, 24
# Share of the time that the first pairs of all benchmarks may take. If it is too short, some wait.
FIRST_SHARE = 0.6
# Blocks of each side in the first pairs, before their noise is known.
MOST_BLOCKS_AT_FIRST = 128
# Samples of each side in the first pairs, if MOST_MEASURED_S suffices: fewer do not show that some calls are slower.
# If they look slower, this time is used up.
LEAST_SAMPLES_AT_FIRST = 100
# A benchmark that passed with fewer samples of each side is measured again, if the rest takes no longer than
# MOST_FOR_REST_S. If 2 % of the calls are slow, 200 samples contain a slow one in 98 % of the cases.
LEAST_SAMPLES = LEAST_PAIRS * LEAST_SAMPLES_AT_FIRST
MOST_FOR_REST_S = 2.0
# Target for the standard error of a pair by its blocks. Less is useless, because equal processes differ by about 1 %.
ERROR_WITHIN = 0.01
# Seconds for all benchmarks of a pair together, unless their least blocks take longer. The second limit applies while
# the run would otherwise wait for the processes of the next pair.
MEASURED_S = 1.5
MOST_MEASURED_S = 4.5
# The same if tails look slower. Half the time in twice as many pairs decides more of them than MOST_MEASURED_S.
MEASURED_OF_TAILS_S = 2.25


@dataclass
class Series:
    """One figure of all pairs, by key of the benchmark or control."""

    differences: dict[str, list[float]] = field(default_factory=dict)  # of each pair, as a logarithm
    within: dict[str, list[float]] = field(default_factory=dict)  # their standard errors by blocks or samples

    def usual_ratio(self) -> float | None:
        of_users = {key: found for key, found in self.differences.items() if key not in CONTROLS}
        return inference.usual_ratio(of_users, self.within)

    def judge(self, thresholds: Mapping[str, Thresholds], sharing: int) -> dict[str, Judgement]:
        usual = self.usual_ratio() or OF_FEW
        return {
            key: inference.judge_pairs(self.differences[key], self.within[key], limits, usual, sharing=sharing)
            for key, limits in thresholds.items()
        }


@dataclass
class PairedComparison:
    """Evidence of a paired comparison, by key of the benchmark or control."""

    block_differences: dict[str, list[list[float]]] = field(default_factory=dict)  # one list for each pair
    judgements: dict[str, Judgement] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # why a benchmark could not be compared
    # samples of base and of head in the last pair of each benchmark, in seconds per operation
    samples_s: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    pairs: int = 0
    expected_s: float = 0.0  # estimated duration of all pairs
    spent_s: float = 0.0  # actual duration of all pairs
    elapsed_s: float = 0.0
    measured_s: float = MEASURED_S  # time for all benchmarks of the next pair together
    fastest: Series = field(default_factory=Series)
    tails: dict[Tail, Series] = field(default_factory=dict)
    readings: dict[tuple[str, Tail], list[Reading]] = field(default_factory=dict)

    @property
    def differences(self) -> dict[str, list[float]]:
        return self.fastest.differences

    @property
    def time_factor(self) -> float:
        """Actual over estimated duration of pairs on this machine."""
        return self.spent_s / self.expected_s if self.expected_s else 1.0

    def add(self, chosen: Sequence[BenchmarkPlan], pair: Pair, took_s: float) -> None:
        self.failures.update(pair.failures)
        self.samples_s.update(pair.samples_s)
        for key, blocks in pair.block_differences.items():
            pairs = self.block_differences.setdefault(key, [])
            pairs.append(blocks)
            self.fastest.differences.setdefault(key, []).append(difference(blocks))
            self.fastest.within[key] = errors_within(pairs)
            for tail, read in pair.tails.get(key, {}).items():
                series, readings = self.tails.setdefault(tail, Series()), self.readings.setdefault((key, tail), [])
                readings.append(read)
                series.differences[key] = [one.difference for one in readings]
                series.within[key] = errors_of(readings)
        self.pairs += 1
        self.expected_s += expected_s(chosen)
        self.spent_s += took_s
        # Use the time in which the run would wait for the next processes.
        self.measured_s = min(self.measured_s + pair.idle_s, MOST_MEASURED_S)

    def judge(self, plans: Sequence[BenchmarkPlan], *, sharing: int) -> None:
        """Judge benchmarks by their pairs so far. One that has passed does not become inconclusive."""
        due = [plan for plan in plans if self.pairs_of(plan) >= LEAST_PAIRS]
        fastest = self.fastest.judge({plan.key: plan.thresholds.of_fastest() for plan in due}, sharing)
        of_tail = {plan.key: plan.thresholds.of_tail() for plan in due}
        tails = {tail: series.judge(of_tail, sharing) for tail, series in self.tails.items()}
        for plan in due:
            own = {
                tail: _cleared(judged[plan.key], of_tail[plan.key])
                for tail, judged in tails.items()
                if tail in plan.thresholds.tails
            }
            slower = any(one.verdict == "regression" for one in own.values())
            found = replace(fastest[plan.key], tails=own, **({"verdict": "regression"} if slower else {}))
            if found.verdict != "inconclusive" or self.is_inconclusive(plan):
                self.judgements[plan.key] = found

    def pairs_of(self, plan: BenchmarkPlan) -> int:
        return len(self.differences.get(plan.key, ()))

    def samples_of(self, plan: BenchmarkPlan) -> int:
        """Return the number of samples of each side in all pairs."""
        return plan.samples * sum(map(inference.blocks_of, self.block_differences.get(plan.key, ())))

    def needs_samples(self, plan: BenchmarkPlan) -> bool:
        """Return whether a benchmark passed with so few samples that they may contain no slow call."""
        missing = LEAST_SAMPLES - self.samples_of(plan) if plan.thresholds.tails else 0
        short = 0 < 2 * missing * plan.sample_s <= MOST_FOR_REST_S
        return short and plan.key not in self.failures and self.has_passed(plan)

    def has_passed(self, plan: BenchmarkPlan) -> bool:
        return plan.key in self.judgements and self.judgements[plan.key].verdict in ("pass", "improvement")

    def is_open(self, plan: BenchmarkPlan) -> bool:
        """Return whether a benchmark or one of its tails is inconclusive, and can be measured again."""
        again = self.pairs_of(plan) < MOST_PAIRS_OF_TAIL and self.tail_looks_slower(plan)
        return plan.key not in self.failures and (again or self.is_inconclusive(plan))

    def is_inconclusive(self, plan: BenchmarkPlan) -> bool:
        return plan.key not in self.judgements or self.judgements[plan.key].verdict == "inconclusive"

    def tail_looks_slower(self, plan: BenchmarkPlan) -> bool:
        """Return whether a tail is slower than its tolerance, so far."""
        one = self.judgements.get(plan.key)
        tails = one.tails.values() if one and one.verdict != "regression" else ()
        return any(one.change > plan.thresholds.tail_tolerance for one in tails)


def _with_unclear_tails(judgement: Judgement) -> Judgement:
    """Make a benchmark inconclusive that passed by its fastest samples, if a tail looks slow enough to fail."""
    unclear = any(one.verdict == "inconclusive" for one in judgement.tails.values())
    return replace(judgement, verdict="inconclusive") if unclear and judgement.verdict != "regression" else judgement


def _cleared(tail: Judgement, limits: Thresholds) -> Judgement:
    """Pass an inconclusive tail that looks faster than one that has to fail. Few samples can rule out no more."""
    cleared = tail.verdict == "inconclusive" and tail.change < limits.minimum_effect
    return replace(tail, verdict="pass") if cleared else tail


def conduct(
    plans: Sequence[BenchmarkPlan],
    run_pair: RunPair,
    *,
    limit_s: float,
    clock: Callable[[], float] = time.monotonic,
    sharing: int = 0,
) -> PairedComparison:
    """Compare until each benchmark fails or passes, and has LEAST_SAMPLES, or until `limit_s` is over.

    `sharing`: the number of benchmarks that share the allowed false positives, if there are more than these. Raises
    ComparisonInvalid if a control is wrong.
    """
    found, started_s = PairedComparison(), clock()
    until_s = started_s + limit_s
    while chosen := _choose(plans, found, until_s - clock()):
        began_s = clock()
        another = 2 * found.time_factor * expected_s(chosen) < until_s - began_s
        pair = run_pair(chosen, chosen if another else ())
        found.add(chosen, pair, clock() - began_s)
        found.judge(chosen, sharing=max(len(plans), sharing))
    found.elapsed_s = clock() - started_s
    found.judgements = {key: _with_unclear_tails(one) for key, one in found.judgements.items()}
    # Without OF_FEW: a usual variance would hide that this machine is not usual.
    check_controls(found.differences, found.fastest.usual_ratio())
    return found


def _choose(plans: Sequence[BenchmarkPlan], found: PairedComparison, left_s: float) -> list[BenchmarkPlan]:
    """Return the benchmarks of the next pair with their numbers of blocks, none if all are decided or time is up."""
    still_open = [plan for plan in plans if found.is_open(plan)]
    begun = [plan for plan in still_open if 0 < found.pairs_of(plan) < LEAST_PAIRS]
    judged = sorted((plan for plan in still_open if plan.key in found.judgements), key=lambda plan: _rank(plan, found))
    new = [plan for plan in still_open if not found.pairs_of(plan)]
    few = sorted((plan for plan in plans if found.needs_samples(plan)), key=lambda plan: plan.sample_s)
    faster = [plan for plan in plans if _may_have_improved(plan, found)]
    return (
        _affordable(begun, found, left_s)
        or _affordable(judged, found, left_s, PAIRS_PLANNED)
        or _affordable(judged, found, left_s)
        or _affordable(new, found, left_s if found.pairs else left_s * FIRST_SHARE, LEAST_PAIRS)
        or _affordable(few, found, left_s)
        or _affordable(faster, found, left_s)
    )


def _rank(plan: BenchmarkPlan, found: PairedComparison) -> tuple[bool, float]:
    """Order benchmarks: first those that look slower, the slowest change first, then the quickest benchmarks."""
    change = found.judgements[plan.key].change
    looks_slower = _is_suspicious(change, plan.thresholds)
    return not looks_slower, -change if looks_slower else plan.block_s


def _may_have_improved(plan: BenchmarkPlan, found: PairedComparison) -> bool:
    one = found.judgements.get(plan.key)
    passed = one is not None and one.verdict == "pass" and found.pairs_of(plan) < MOST_PAIRS_AFTER_PASS
    return (
        passed
        and plan.key not in found.failures
        and _is_suspicious(-found.judgements[plan.key].change, plan.thresholds)
    )


def _is_suspicious(change: float, thresholds: Thresholds) -> bool:
    """Return whether a change is more than halfway from `tolerance` to `minimum_effect`."""
    return change > (thresholds.tolerance + thresholds.minimum_effect) / 2


def _affordable(
    plans: Sequence[BenchmarkPlan], found: PairedComparison, left_s: float, planned: int = 0
) -> list[BenchmarkPlan]:
    """Choose as many benchmarks as there is time for, until each has its `planned` pairs, and for one more at least."""
    chosen: list[BenchmarkPlan] = []
    for plan in _sized(plans, found):
        pairs = max(planned - found.pairs_of(plan), 1)
        if pairs * found.time_factor * expected_s([*chosen, plan]) <= left_s:
            chosen.append(plan)
    return chosen


def _sized(plans: Sequence[BenchmarkPlan], found: PairedComparison) -> list[BenchmarkPlan]:
    """Set the number of blocks of each benchmark for a pair of all these benchmarks, by the noise of its blocks."""
    most, least = {plan.key: MOST_BLOCKS_AT_FIRST for plan in plans}, dict[str, int]()
    least_s = MEASURED_OF_TAILS_S if any(map(found.tail_looks_slower, plans)) else MOST_MEASURED_S
    for plan in plans:
        if found.tail_looks_slower(plan):
            least[plan.key] = MOST_BLOCKS_OF_TAIL
        elif found.needs_samples(plan):
            least[plan.key] = math.ceil((LEAST_SAMPLES - found.samples_of(plan)) / plan.samples)
        elif found.pairs_of(plan) >= LEAST_PAIRS:
            most[plan.key] = min(inference.blocks_wanted(found.block_differences[plan.key], ERROR_WITHIN), MOST_BLOCKS)
        else:
            least[plan.key] = math.ceil(LEAST_SAMPLES_AT_FIRST / plan.samples)
    wanted, needed = blocks_within(found.measured_s, plans, most), blocks_within(least_s, plans, least)
    return [plan.with_blocks(max(wanted[plan.key], needed.get(plan.key, 0))) for plan in plans]
