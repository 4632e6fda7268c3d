"""The schedule of a paired comparison, with simulated pairs."""

import math
import random
from collections.abc import Callable, Mapping, Sequence

import pytest

from plumbline.comparing.statistics.inference import LEAST_TO_FAIL
from plumbline.comparing.statistics.plan import MOST_BLOCKS, BenchmarkPlan, Pair, RunPair, expected_s
from plumbline.comparing.statistics.schedule import (
    LEAST_PAIRS,
    MEASURED_S,
    MOST_MEASURED_S,
    MOST_PAIRS_AFTER_PASS,
    PairedComparison,
    conduct,
)
from plumbline.judging.evidence import Thresholds

LIMITS = Thresholds(tolerance=0.02, minimum_effect=0.05, false_alarms=0.01, power=0.97)
KEY = "test_it.py::test_0"
LIMIT_S = 60.0
BLOCK_NOISE = 0.012


class Clock:
    """A clock that advances only with the pairs."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Pairs:
    """Simulated pairs. A function returns their values, and they take the estimated time times a factor."""

    def __init__(
        self,
        read: Callable[[BenchmarkPlan, int], float],
        factor: float = 1.0,
        *,
        idle_s: float = 0.0,
        block_noise: float = BLOCK_NOISE,
        noisier: Mapping[str, float] = {},
    ) -> None:
        """`noisier`: by key, another spread of blocks."""
        self.clock = Clock()
        self.idle_s = idle_s
        self._block_noise = block_noise
        self._noisier = noisier
        self.chosen: list[list[BenchmarkPlan]] = []
        self.then: list[list[BenchmarkPlan]] = []
        self._read = read
        self._factor = factor

    def __call__(self, chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        self.clock.now_s += expected_s(chosen) * self._factor
        self.chosen.append(list(chosen))
        self.then.append(list(then))
        read = {plan.key: self._read(plan, len(self.chosen)) for plan in chosen}
        blocks = {}
        for plan in chosen:
            noise = self._noisier.get(plan.key, self._block_noise)
            around = [-noise] * (plan.blocks - 1) + [0.0] + [noise] * (plan.blocks - 1)
            blocks[plan.key] = [read[plan.key] + one for one in around]
        return Pair(blocks, idle_s=self.idle_s)


def compared(plans: Sequence[BenchmarkPlan], pairs: Pairs, limit_s: float = LIMIT_S) -> PairedComparison:
    run_pair: RunPair = pairs
    return conduct(plans, run_pair, limit_s=limit_s, clock=pairs.clock)


def plans_of(count: int, sample_s: float = 1e-4) -> list[BenchmarkPlan]:
    return [BenchmarkPlan(f"test_it.py::test_{number}", sample_s, LIMITS) for number in range(count)]


def zigzag(value: float, noise: float) -> Callable[[BenchmarkPlan, int], float]:
    """Return equal values for all benchmarks, alternately slightly above and below."""
    return lambda _plan, pair: math.log1p(value) + (noise if pair % 2 else -noise)


def around(logarithm: float, noise: float) -> Callable[[BenchmarkPlan, int], float]:
    """Return values with exactly this mean over three pairs."""
    return lambda _plan, pair: logarithm + noise * (pair % 3 - 1)


def test_clear_benchmarks_are_decided_soon() -> None:
    """Two pairs pass equal benchmarks. One that is 20 % slower has two more pairs alone, and fails."""
    pairs = Pairs(lambda plan, pair: (math.log(1.2) if plan.key == KEY else 0.0) + 0.001 * (pair % 2))
    found = compared(plans_of(5), pairs)
    assert {one.verdict for key, one in found.judgements.items() if key != KEY} == {"pass"}
    assert {one.pairs for key, one in found.judgements.items() if key != KEY} == {LEAST_PAIRS}
    assert found.judgements[KEY].verdict == "regression"
    assert found.judgements[KEY].pairs == found.pairs == LEAST_TO_FAIL
    assert [len(chosen) for chosen in pairs.chosen] == [5, 5, 1, 1]


def test_a_shard_judges_by_the_number_of_benchmarks_of_the_whole_run() -> None:
    """5 of 40 benchmarks, 20 % slower, have the lower bound that each of the 40 has in one run.

    So each of the 40 fails by chance in at most 1 / 40 of 1 % of the runs, and any of them in at most 1 %.
    """
    lows = []
    for benchmarks, sharing in ((40, 0), (5, 40), (5, 0)):
        pairs = Pairs(zigzag(0.2, 0.01), block_noise=0.0)
        found = conduct(plans_of(benchmarks), pairs, limit_s=LIMIT_S, clock=pairs.clock, sharing=sharing)
        assert found.judgements[KEY].pairs == LEAST_TO_FAIL
        lows.append(found.judgements[KEY].low)
    assert lows[0] == lows[1] < lows[2]


def test_more_pairs_decide_if_a_faster_benchmark_improved() -> None:
    """One of twelve is 7 % ± 0.9 % faster. It passes after two pairs, and more pairs decide."""
    pairs = Pairs(lambda plan, pair: zigzag(-0.07 if plan.key == KEY else 0.0, 0.009)(plan, pair))
    found = compared(plans_of(12), pairs)
    assert found.judgements[KEY].verdict == "improvement"
    assert LEAST_TO_FAIL <= found.judgements[KEY].pairs <= MOST_PAIRS_AFTER_PASS
    assert [[plan.key for plan in chosen] for chosen in pairs.chosen[LEAST_PAIRS:]] == [[KEY]] * (
        found.pairs - LEAST_PAIRS
    )
    assert {one.verdict for key, one in found.judgements.items() if key != KEY} == {"pass"}


def test_an_improvement_gets_no_more_pairs() -> None:
    """About 20 % faster: four pairs suffice."""
    found = compared(plans_of(5), Pairs(zigzag(-0.2, 0.001)))
    assert {one.verdict for one in found.judgements.values()} == {"improvement"}
    assert found.pairs == LEAST_TO_FAIL


def test_a_benchmark_that_passed_as_faster_does_not_fail() -> None:
    """It is 7 % faster in two pairs, and 20 % slower after that."""
    pairs = Pairs(lambda plan, pair: zigzag(-0.07 if pair <= LEAST_PAIRS else 0.2, 0.009)(plan, pair))
    found = compared(plans_of(12), pairs)
    assert found.pairs > LEAST_PAIRS
    assert {one.verdict for one in found.judgements.values()} == {"pass"}


def test_more_is_measured_while_the_next_processes_start() -> None:
    """Pairs get longer by the time for which the run waited, up to a limit."""
    spans_s = {}
    for idle_s in (0.0, 0.5, 5.0):
        pairs = Pairs(around(0.0, 0.1), idle_s=idle_s, block_noise=0.15)
        compared(plans_of(10, sample_s=2e-4), pairs)
        close = [chosen for chosen in pairs.chosen[LEAST_PAIRS:] if len(chosen) == 10]
        spans_s[idle_s] = [sum(2 * plan.blocks * plan.block_s for plan in chosen) for chosen in close[:3]]
    assert spans_s[0.0] == pytest.approx([MEASURED_S] * 3, rel=0.2)
    assert spans_s[0.5] == pytest.approx([MEASURED_S + 0.5 * pairs for pairs in (2, 3, 4)], rel=0.2)
    assert spans_s[5.0] == pytest.approx([MOST_MEASURED_S] * 3, rel=0.2)


def test_the_size_of_a_great_slow_down_may_be_less_certain() -> None:
    """Three times as slow ± 5 % is significant without more pairs."""
    found = compared(plans_of(1), Pairs(zigzag(2.0, 0.05)))
    assert found.judgements[KEY].verdict == "regression"
    assert found.judgements[KEY].pairs == LEAST_TO_FAIL


def test_without_time_for_four_pairs_nothing_fails() -> None:
    """Two pairs read 20 %. They are so slow that there is no third one."""
    pairs = Pairs(lambda _plan, pair: math.log(1.2) + 0.001 * (pair % 2), factor=16.0)
    found = compared(plans_of(5), pairs)
    assert LEAST_PAIRS <= found.pairs < LEAST_TO_FAIL
    assert {one.verdict for one in found.judgements.values()} == {"inconclusive"}


def test_only_open_benchmarks_get_more_pairs() -> None:
    """One benchmark reads 5 and 2 %. The others pass with two pairs."""
    pairs = Pairs(lambda plan, pair: 0.001 * (pair % 2) + (0.02 + 0.03 * (pair % 2) if plan.key == KEY else 0.0))
    compared(plans_of(5), pairs)
    assert [len(chosen) for chosen in pairs.chosen[:3]] == [5, 5, 1]


def test_all_pairs_of_a_benchmark_count() -> None:
    """One benchmark reads 3 % more in its first three pairs."""
    pairs = Pairs(lambda plan, pair: 0.02 * (pair % 2) + (0.03 if plan.key == KEY and pair <= 3 else 0.0))
    found = compared(plans_of(5), pairs)
    assert found.judgements[KEY].verdict == "pass"
    assert found.judgements[KEY].pairs == len(found.differences[KEY]) == found.pairs


def test_the_fewer_are_in_a_pair_the_longer_each_is_measured() -> None:
    """Each of 40 benchmarks gets 100 samples, and the last one more."""
    pairs = Pairs(lambda plan, pair: 0.01 * (pair % 3) + (0.04 if plan.key == KEY else 0.0), block_noise=0.05)
    compared(plans_of(40), pairs)
    assert {plan.blocks * plan.samples for plan in pairs.chosen[0]} == {100}
    [last] = pairs.chosen[-1]
    assert 25 < last.blocks <= MOST_BLOCKS


def test_slow_benchmarks_get_fewer_samples_at_first() -> None:
    """With 100 samples of 10 ms for each side, five benchmarks would take 10 s. A pair measures for 4.5 s."""
    pairs = Pairs(zigzag(0.0, 0.001))
    compared(plans_of(5, 0.01), pairs)
    assert {plan.blocks * plan.samples for plan in pairs.chosen[0]} == {42, 43}


def test_a_steady_benchmark_gets_no_more_blocks_than_its_noise_needs() -> None:
    """With a spread of 0.3 % the minimum of blocks suffices."""
    seen: list[int] = []
    clock = Clock()

    def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        del then
        clock.now_s += expected_s(chosen)
        seen.append(chosen[0].blocks)
        return Pair({KEY: [math.log(1.06) + 0.001 * (len(seen) % 2) + noise for noise in (0.003, -0.003, 0.0, 0.0)]})

    conduct(plans_of(1), run_pair, limit_s=LIMIT_S, clock=clock)
    assert seen[:LEAST_PAIRS] == [128] * LEAST_PAIRS
    assert set(seen[LEAST_PAIRS:]) == {20}


def test_noisier_benchmarks_are_measured_for_longer() -> None:
    """At first, all benchmarks get the same."""
    noise = {plan.key: (0.03, 0.3)[number % 2] for number, plan in enumerate(plans_of(12))}
    pairs = Pairs(zigzag(0.04, 0.02), noisier=noise)
    compared(plans_of(12), pairs)
    close = pairs.chosen[LEAST_PAIRS]
    blocks = [{plan.key: plan.blocks for plan in chosen} for chosen in (pairs.chosen[0], close)]
    assert blocks[0]["test_it.py::test_1"] == pytest.approx(blocks[0][KEY], abs=1)
    assert blocks[1]["test_it.py::test_1"] > 3 * blocks[1][KEY]


def test_a_costly_benchmark_comes_after_the_others() -> None:
    """One benchmark is too slow for four more pairs. It gets the pairs that the others leave."""
    plans = [BenchmarkPlan("costly", 1.0, LIMITS), *plans_of(2)]
    pairs = Pairs(lambda plan, pair: zigzag(0.04 if pair <= 3 else 0.0, 0.01)(plan, pair), factor=1.5)
    found = compared(plans, pairs)
    later = [[plan.key for plan in chosen] for chosen in pairs.chosen[LEAST_PAIRS:]]
    assert later[0] == [KEY, "test_it.py::test_1"]
    assert later[-1] == ["costly"]
    assert found.judgements["costly"].pairs > LEAST_PAIRS


def test_suspicious_benchmarks_come_first_and_then_the_quickest() -> None:
    """All are noisy. There is time for six pairs of the one that reads 4.5 % and of the quick one, and not of all."""
    sample_s = {"slow": 0.4, "slow and suspicious": 0.4, "fast": 0.001}
    plans = [BenchmarkPlan(key, sample_s[key], LIMITS) for key in sample_s]
    pairs = Pairs(lambda plan, pair: (pair % 2 - 0.5) * 0.12 + (0.045 if plan.key == "slow and suspicious" else 0.0))
    compared(plans, pairs, limit_s=40.0)
    third = sorted(plan.key for plan in pairs.chosen[LEAST_PAIRS])
    assert third == ["fast", "slow and suspicious"]


def test_a_slower_machine_is_allowed_for() -> None:
    """If pairs take twice as long as expected, there are fewer of them."""
    pairs = Pairs(zigzag(0.035, 0.08), factor=2.0)
    found = compared(plans_of(1), pairs)
    assert found.judgements[KEY].verdict == "inconclusive"
    assert pairs.clock() <= LIMIT_S


def test_the_worst_are_compared_first_and_the_rest_if_there_is_time() -> None:
    """There is time for the slower changes, and for the fast one of the others."""
    plans = [
        BenchmarkPlan("worst", 0.01, LIMITS),
        BenchmarkPlan("slow", 0.3, LIMITS),
        BenchmarkPlan("fast", 1e-4, LIMITS),
    ]
    pairs = Pairs(zigzag(0.0, 0.001))
    found = compared(plans, pairs, limit_s=10.0)
    assert set(found.judgements) == {"worst", "fast"}
    assert compared(plans, Pairs(zigzag(0.0, 0.001)), limit_s=1.0).pairs == 0


def many() -> list[BenchmarkPlan]:
    """Return 150 benchmarks, the slowest change first. Ten of them take 300 ms."""
    slow = [BenchmarkPlan(f"{which}_{number}", 0.3, LIMITS) for which in ("worst", "late") for number in range(5)]
    return slow[:5] + plans_of(140) + slow[5:]


def test_150_benchmarks_of_which_ten_are_slow_stay_within_the_time() -> None:
    """The slowest changes come first. The benchmarks without time are reported."""
    pairs = Pairs(zigzag(0.0, 0.005))
    found = compared(many(), pairs)
    assert LIMIT_S * 0.9 < pairs.clock() <= LIMIT_S
    first, last = pairs.chosen[0], pairs.chosen[-1]
    assert [plan.key for plan in first[:5]] == [f"worst_{number}" for number in range(5)]
    assert not {plan.key for plan in first} & {plan.key for plan in last}
    assert {f"worst_{number}" for number in range(5)} < found.judgements.keys()
    assert 100 < len(found.judgements) < 150
    assert "late_4" not in found.judgements.keys() | found.failures.keys()


@pytest.mark.parametrize(("factor", "least"), [(1.5, 14), (2.5, 3)])
def test_on_a_slower_machine_the_first_pair_is_not_lost(factor: float, least: int) -> None:
    """The first pair takes longer than planned for its stage, and the second pair runs nevertheless."""
    pairs = Pairs(zigzag(0.0, 0.005), factor)
    found = compared(many(), pairs)
    assert len(found.judgements) >= least
    assert "worst_0" in found.judgements
    assert pairs.clock() <= LIMIT_S


def test_suspicious_benchmarks_go_before_those_without_pairs() -> None:
    """More pairs of a benchmark that is 9 % slower come before the first pairs of others."""
    pairs = Pairs(
        lambda plan, pair: (0.09 if plan.key == "worst_1" else 0.0) + 0.006 * (-1) ** pair,
    )
    found = compared(many(), pairs)
    assert found.judgements["worst_1"].verdict == "regression"
    more = found.judgements["worst_1"].pairs - LEAST_PAIRS
    assert [len(chosen) for chosen in pairs.chosen[LEAST_PAIRS:]][:more] == [1] * more
    assert pairs.clock() <= LIMIT_S


def test_a_benchmark_that_cannot_run_is_not_measured_again() -> None:
    """It fails in the first pair, and the others go on."""

    def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        del then
        read = {plan.key: [0.001 * len(plan.key)] for plan in chosen if plan.key != KEY}
        return Pair(read, {KEY: "in base: failed"} if any(plan.key == KEY for plan in chosen) else {})

    found = conduct(plans_of(2), run_pair, limit_s=LIMIT_S, clock=Clock())
    assert found.failures == {KEY: "in base: failed"}
    assert set(found.judgements) == {"test_it.py::test_1"}


def simulated(effect: float, rng: random.Random, *, benchmarks: int = 10) -> dict[str, str]:
    """Simulate verdicts with a slower first benchmark, a process spread of 0.6 to 1.2 % and 10 % disturbed blocks."""
    spreads = {plan.key: rng.choice((0.006, 0.009, 0.012)) for plan in plans_of(benchmarks)}

    def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        del then
        clock.now_s += expected_s(chosen)
        read = {}
        for plan in chosen:
            process = rng.gauss(math.log1p(effect) if plan.key == KEY else 0.0, spreads[plan.key])
            read[plan.key] = [
                process + rng.gauss(0.0, 0.04) * (3 if rng.random() < 0.1 else 1) for _ in range(plan.blocks)
            ]
        return Pair(read)

    clock = Clock()
    found = conduct(plans_of(benchmarks), run_pair, limit_s=LIMIT_S, clock=clock)
    return {key: one.verdict for key, one in found.judgements.items()}


def test_at_the_tolerance_few_comparisons_fail() -> None:
    """With slow-downs of 2 %, fewer than 7 of 200 comparisons of ten benchmarks fail (p < 0.01)."""
    rng = random.Random(1)
    assert sum("regression" in simulated(0.02, rng).values() for _ in range(200)) <= 6


def test_without_a_change_no_comparison_fails_and_few_are_inconclusive() -> None:
    """200 comparisons of ten benchmarks."""
    rng = random.Random(2)
    comparisons = [simulated(0.0, rng) for _ in range(200)]
    assert not any("regression" in verdicts.values() for verdicts in comparisons)
    assert sum(list(verdicts.values()).count("inconclusive") for verdicts in comparisons) < 0.02 * 2000


@pytest.mark.parametrize(("effect", "least"), [(0.05, 194), (0.1, 198)])
def test_slow_downs_of_the_minimum_effect_are_caught(effect: float, least: int) -> None:
    """200 comparisons with a slow-down in one of ten benchmarks."""
    rng = random.Random(3)
    assert sum(simulated(effect, rng)[KEY] == "regression" for _ in range(200)) >= least


def test_the_next_pair_is_announced_if_there_will_be_one() -> None:
    """Its benchmarks are among those of the current one."""
    pairs = Pairs(zigzag(0.035, 0.2))

    found = compared(plans_of(2), pairs)

    assert {one.verdict for one in found.judgements.values()} == {"inconclusive"}
    for then, now in zip(pairs.then[:-1], pairs.chosen[1:], strict=True):
        assert {plan.key for plan in now} <= {plan.key for plan in then}
    assert pairs.then[-1] == []
