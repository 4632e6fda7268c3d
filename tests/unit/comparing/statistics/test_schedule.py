"""The schedule of a paired comparison, with simulated pairs."""

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from plumbline.comparing.statistics import inference
from plumbline.comparing.statistics.inference import Prior, judge_pairs
from plumbline.comparing.statistics.plan import MOST_BLOCKS, BenchmarkPlan, Pair, RunPair, expected_s
from plumbline.comparing.statistics.schedule import (
    FIRST_ANALYSES,
    MEASURED_S,
    MOST_MEASURED_S,
    SECOND_ANALYSES,
    PairedComparison,
    conduct,
)
from plumbline.judging.evidence import Judgement, Thresholds

LIMITS = Thresholds(tolerance=0.02, minimum_effect=0.05, false_alarms=0.01, power=0.97)
KEY = "test_it.py::test_0"
NOTHING = Prior(0.0, 0)
BUDGET_S = 60.0
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


def compared(plans: Sequence[BenchmarkPlan], pairs: Pairs, budget_s: float = BUDGET_S) -> PairedComparison:
    run_pair: RunPair = pairs
    return conduct(plans, run_pair, budget_s=budget_s, clock=pairs.clock)


def plans_of(count: int, sample_s: float = 1e-4) -> list[BenchmarkPlan]:
    return [BenchmarkPlan(f"test_it.py::test_{number}", sample_s, LIMITS) for number in range(count)]


def zigzag(value: float, noise: float) -> Callable[[BenchmarkPlan, int], float]:
    """Return equal values for all benchmarks, alternately slightly above and below."""
    return lambda _plan, pair: math.log1p(value) + (noise if pair % 2 else -noise)


def around(logarithm: float, noise: float) -> Callable[[BenchmarkPlan, int], float]:
    """Return values with exactly this mean over three pairs."""
    return lambda _plan, pair: logarithm + noise * (pair % 3 - 1)


def test_clear_benchmarks_are_decided_by_the_first_analysis() -> None:
    """Two pairs pass equal benchmarks, and fail one that is 20 % slower."""
    pairs = Pairs(lambda plan, pair: (math.log(1.2) if plan.key == KEY else 0.0) + 0.001 * (pair % 2))
    found = compared(plans_of(5), pairs)
    assert {one.verdict for key, one in found.judgements.items() if key != KEY} == {"pass"}
    assert {one.pairs for key, one in found.judgements.items() if key != KEY} == {FIRST_ANALYSES[0]}
    assert found.judgements[KEY].verdict == "regression"
    assert found.pairs == FIRST_ANALYSES[0]


def test_new_pairs_decide_if_a_faster_benchmark_improved() -> None:
    """One of twelve is 7 % ± 0.9 % faster. The first stage passes it, and four more pairs decide."""
    pairs = Pairs(lambda plan, pair: zigzag(-0.07 if plan.key == KEY else 0.0, 0.009)(plan, pair))
    found = compared(plans_of(12), pairs)
    assert found.judgements[KEY].verdict == "improvement"
    assert found.judgements[KEY].pairs == SECOND_ANALYSES[0]
    assert [[plan.key for plan in chosen] for chosen in pairs.chosen[-SECOND_ANALYSES[0] :]] == [
        [KEY]
    ] * SECOND_ANALYSES[0]
    assert {one.verdict for key, one in found.judgements.items() if key != KEY} == {"pass"}


def test_an_improvement_of_the_first_stage_gets_no_more_pairs() -> None:
    """About 20 % faster: two pairs suffice."""
    found = compared(plans_of(5), Pairs(zigzag(-0.2, 0.001)))
    assert {one.verdict for one in found.judgements.values()} == {"improvement"}
    assert found.pairs == FIRST_ANALYSES[0]


def test_a_benchmark_that_passed_as_faster_does_not_fail() -> None:
    """It is 7 % faster in the first stage, and 20 % slower after that."""
    pairs = Pairs(lambda plan, pair: zigzag(-0.07 if pair <= FIRST_ANALYSES[0] else 0.2, 0.009)(plan, pair))
    found = compared(plans_of(12), pairs)
    assert found.pairs == FIRST_ANALYSES[0] + SECOND_ANALYSES[0]
    assert {one.verdict for one in found.judgements.values()} == {"pass"}


def test_more_is_measured_while_the_next_processes_start() -> None:
    """Pairs get longer by the time for which the run waited, up to a limit."""
    spans_s = {}
    for idle_s in (0.0, 0.5, 5.0):
        pairs = Pairs(around(0.0, 0.1), idle_s=idle_s, block_noise=0.15)
        compared(plans_of(10, sample_s=2e-4), pairs)
        close = [chosen for chosen in pairs.chosen[FIRST_ANALYSES[-1] :] if len(chosen) == 10]
        spans_s[idle_s] = [sum(2 * plan.blocks * plan.block_s for plan in chosen) for chosen in close[:3]]
    assert spans_s[0.0] == pytest.approx([MEASURED_S] * 3, rel=0.2)
    assert spans_s[0.5] == pytest.approx([MEASURED_S + 0.5 * pairs for pairs in (2, 3, 4)], rel=0.2)
    assert spans_s[5.0] == pytest.approx([MOST_MEASURED_S] * 3, rel=0.2)


def test_the_size_of_a_great_slow_down_may_be_less_certain() -> None:
    """Three times as slow ± 5 % is significant without more pairs."""
    found = compared(plans_of(1), Pairs(zigzag(2.0, 0.05)))
    assert found.judgements[KEY].verdict == "regression"
    assert found.judgements[KEY].pairs == FIRST_ANALYSES[0]


def test_a_failure_of_the_first_stage_stands_if_no_time_is_left() -> None:
    """Pairs are so slow that there is no second stage."""
    pairs = Pairs(lambda _plan, pair: math.log(1.2) + 0.001 * (pair % 2), factor=8.0)
    found = compared(plans_of(5), pairs)
    assert found.pairs == FIRST_ANALYSES[0]
    assert {one.verdict for one in found.judgements.values()} == {"regression"}


def test_an_open_benchmark_gets_a_third_pair_in_the_first_stage() -> None:
    """One benchmark reads 5 and 2 %. The others pass with two pairs."""
    pairs = Pairs(lambda plan, pair: 0.001 * (pair % 2) + (0.02 + 0.03 * (pair % 2) if plan.key == KEY else 0.0))
    compared(plans_of(5), pairs)
    assert [len(chosen) for chosen in pairs.chosen[: FIRST_ANALYSES[-1]]] == [5] * FIRST_ANALYSES[0] + [1]


def test_the_second_stage_uses_new_pairs_only() -> None:
    """One benchmark reads 3 % more in the first stage only. These pairs do not count."""
    pairs = Pairs(
        lambda plan, pair: 0.03 * (pair % 2) + (0.03 if plan.key == KEY and pair <= FIRST_ANALYSES[-1] else 0.0),
    )
    found = compared(plans_of(5), pairs)
    assert found.judgements[KEY].verdict == "pass"
    later = [chosen for chosen in pairs.chosen[FIRST_ANALYSES[-1] :] if KEY in {plan.key for plan in chosen}]
    assert found.judgements[KEY].pairs == len(found.differences[KEY]) == len(later)
    assert max(found.differences[KEY]) < 0.06
    assert found.judgements[KEY].pairs in SECOND_ANALYSES
    assert max(found.differences[KEY]) < 0.04


def test_the_fewer_are_in_a_pair_the_longer_each_is_measured() -> None:
    """Each of 40 benchmarks gets the minimum of blocks, and the last one more."""
    pairs = Pairs(lambda plan, pair: 0.01 * (pair % 3) + (0.04 if plan.key == KEY else 0.0), block_noise=0.05)
    compared(plans_of(40), pairs)
    assert {plan.blocks for plan in pairs.chosen[0]} == {20, 21}
    [last] = pairs.chosen[-1]
    assert 21 < last.blocks <= MOST_BLOCKS


def test_a_steady_benchmark_gets_no_more_blocks_than_its_noise_needs() -> None:
    """With a spread of 0.3 % the minimum of blocks suffices."""
    seen: list[int] = []
    clock = Clock()

    def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        del then
        clock.now_s += expected_s(chosen)
        seen.append(chosen[0].blocks)
        return Pair({KEY: [math.log(1.06) + 0.001 * (len(seen) % 2) + noise for noise in (0.003, -0.003, 0.0, 0.0)]})

    conduct(plans_of(1), run_pair, budget_s=BUDGET_S, clock=clock)
    assert seen[: FIRST_ANALYSES[-1]] == [128] * FIRST_ANALYSES[-1]
    assert set(seen[FIRST_ANALYSES[-1] :]) == {20}


def test_the_second_stage_measures_noisier_benchmarks_for_longer() -> None:
    """In the first stage all benchmarks get the same."""
    noise = {plan.key: (0.03, 0.3)[number % 2] for number, plan in enumerate(plans_of(12))}
    pairs = Pairs(zigzag(0.04, 0.02), noisier=noise)
    compared(plans_of(12), pairs)
    close = pairs.chosen[FIRST_ANALYSES[-1]]
    blocks = [{plan.key: plan.blocks for plan in chosen} for chosen in (pairs.chosen[0], close)]
    assert blocks[0]["test_it.py::test_1"] == pytest.approx(blocks[0][KEY], abs=1)
    assert blocks[1]["test_it.py::test_1"] > 3 * blocks[1][KEY]


def test_a_costly_benchmark_comes_after_the_others() -> None:
    """One benchmark is too slow for four pairs. It gets the pairs that the others leave."""
    plans = [BenchmarkPlan("costly", 1.0, LIMITS), *plans_of(2)]
    pairs = Pairs(lambda plan, pair: zigzag(0.04 if pair <= FIRST_ANALYSES[-1] else 0.0, 0.01)(plan, pair))
    found = compared(plans, pairs)
    assert [len(chosen) for chosen in pairs.chosen[: FIRST_ANALYSES[-1]]] == [3] * FIRST_ANALYSES[-1]
    close = [[plan.key for plan in chosen] for chosen in pairs.chosen[FIRST_ANALYSES[-1] :]]
    assert close[: SECOND_ANALYSES[0]] == [[KEY, "test_it.py::test_1"]] * SECOND_ANALYSES[0]
    assert close[-1] == ["costly"]
    assert found.judgements["costly"].pairs == close.count(["costly"]) >= 2


def test_suspicious_benchmarks_come_first_and_then_the_quickest() -> None:
    """All are noisy. The one that reads 4.5 % has the first pairs of the second stage to itself, slow as it is.

    It reads nothing then, and of the others the fast one comes first.
    """
    sample_s = {"slow": 0.02, "slow and suspicious": 0.02, "fast": 0.001}

    def read(plan: BenchmarkPlan, pair: int) -> float:
        suspicious = plan.key == "slow and suspicious"
        noise = (pair % 3 - 1) * (0.01 if suspicious and pair > FIRST_ANALYSES[-1] else 0.06)
        return noise + (0.045 if suspicious and pair <= FIRST_ANALYSES[-1] else 0.0)

    pairs = Pairs(read)
    compared([BenchmarkPlan(key, sample_s[key], LIMITS) for key in sample_s], pairs)
    close = [[plan.key for plan in chosen] for chosen in pairs.chosen[FIRST_ANALYSES[-1] :]]
    assert [names for names, _ in itertools.groupby(close)][:2] == [["slow and suspicious"], ["fast", "slow"]]


def test_analyses_follow_numbers_of_pairs_that_are_fixed_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    """3.5 % stays between the thresholds. The last analysis comes when the time is up."""
    analysed: list[int] = []

    def judge(differences: Sequence[float], *rest: Any, **named: Any) -> Judgement:
        analysed.append(len(differences))
        return judge_pairs(differences, *rest, **named)

    monkeypatch.setattr(inference, "judge_pairs", judge)
    pairs = Pairs(zigzag(0.035, 0.1), factor=1.5)
    found = compared(plans_of(1), pairs)
    assert found.judgements[KEY].verdict == "inconclusive"
    assert found.judgements[KEY].pairs == found.pairs - FIRST_ANALYSES[-1]
    *planned, last = analysed[len(FIRST_ANALYSES) :]
    assert analysed[: len(FIRST_ANALYSES)] == list(FIRST_ANALYSES)
    assert planned == list(SECOND_ANALYSES[: len(planned)])
    assert last == found.judgements[KEY].pairs < SECOND_ANALYSES[-1]
    assert BUDGET_S * 0.9 < pairs.clock() <= BUDGET_S


def test_the_errors_of_all_analyses_together_are_those_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the false positives, most in the last analysis, and 85 % of the misses."""
    false_alarms: list[float] = []
    misses: list[float] = []

    def judge(
        differences: Sequence[float], within: Sequence[float], limits: Thresholds, *rest: Any, **named: Any
    ) -> Judgement:
        false_alarms.append(limits.false_alarms)
        misses.append(1 - limits.power)
        return judge_pairs(differences, within, limits, *rest, **named)

    monkeypatch.setattr(inference, "judge_pairs", judge)
    compared(plans_of(1), Pairs(zigzag(0.035, 0.1), factor=1.5))
    assert sum(false_alarms) == pytest.approx(LIMITS.false_alarms)
    assert sum(misses) == pytest.approx(0.03 * 0.85)
    at_first, closely = false_alarms[: len(FIRST_ANALYSES)], false_alarms[len(FIRST_ANALYSES) :]
    assert sum(at_first) == pytest.approx(0.1 * LIMITS.false_alarms)
    assert [at_first, closely] == [sorted(at_first), sorted(closely)]
    assert false_alarms[-1] > LIMITS.false_alarms / 3


def test_a_slower_machine_is_allowed_for() -> None:
    """If pairs take twice as long as expected, there are fewer of them."""
    pairs = Pairs(zigzag(0.035, 0.08), factor=2.0)
    found = compared(plans_of(1), pairs)
    assert found.judgements[KEY].verdict == "inconclusive"
    assert pairs.clock() <= BUDGET_S


def test_pairs_between_two_analyses_count_when_the_time_is_up() -> None:
    """The fifth pair of the second stage takes most of the time."""
    pairs = Pairs(zigzag(0.035, 0.04))

    def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        del then
        if len(pairs.chosen) == FIRST_ANALYSES[-1] + 4:
            pairs.clock.now_s += 48.0
        return pairs(chosen)

    found = conduct(plans_of(1), run_pair, budget_s=BUDGET_S, clock=pairs.clock)
    assert found.judgements[KEY].pairs == 5


def test_a_costly_benchmark_gets_the_pairs_that_fit() -> None:
    """At 9 s per pair it gets two more pairs, not four."""
    worst = {True: 0.03, False: math.log(2.4)}
    pairs = Pairs(
        lambda plan, pair: 0.01 * (pair % 3) + (worst[pair <= FIRST_ANALYSES[-1]] if plan.key == KEY else 0.0),
    )
    found = compared([BenchmarkPlan(KEY, 1.0, LIMITS), *plans_of(10)[1:]], pairs)
    assert found.judgements[KEY].verdict == "regression"
    assert found.judgements[KEY].pairs == 2
    assert found.pairs == FIRST_ANALYSES[-1] + 2


def test_the_worst_are_compared_first_and_the_rest_if_there_is_time() -> None:
    """There is time for the slower changes, and for the fast one of the others."""
    plans = [
        BenchmarkPlan("worst", 0.01, LIMITS),
        BenchmarkPlan("slow", 0.3, LIMITS),
        BenchmarkPlan("fast", 1e-4, LIMITS),
    ]
    pairs = Pairs(zigzag(0.0, 0.001))
    found = compared(plans, pairs, budget_s=10.0)
    assert set(found.judgements) == {"worst", "fast"}
    assert compared(plans, Pairs(zigzag(0.0, 0.001)), budget_s=1.0).pairs == 0


def many() -> list[BenchmarkPlan]:
    """Return 150 benchmarks, the slowest change first. Ten of them take 300 ms."""
    slow = [BenchmarkPlan(f"{which}_{number}", 0.3, LIMITS) for which in ("worst", "late") for number in range(5)]
    return slow[:5] + plans_of(140) + slow[5:]


def test_150_benchmarks_of_which_ten_are_slow_stay_within_the_time() -> None:
    """The slowest changes come first. The benchmarks without time are reported."""
    pairs = Pairs(zigzag(0.0, 0.005))
    found = compared(many(), pairs)
    assert BUDGET_S * 0.9 < pairs.clock() <= BUDGET_S
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
    assert pairs.clock() <= BUDGET_S


def test_suspicious_benchmarks_go_before_those_without_pairs() -> None:
    """The second stage of a benchmark that is 9 % slower comes before first stages of others."""
    pairs = Pairs(
        lambda plan, pair: (0.09 if plan.key == "worst_1" else 0.0) + 0.006 * (-1) ** pair,
    )
    found = compared(many(), pairs)
    assert found.judgements["worst_1"].verdict == "regression"
    assert found.judgements["worst_1"].pairs == SECOND_ANALYSES[0]
    assert [len(chosen) for chosen in pairs.chosen[FIRST_ANALYSES[0] :]][: SECOND_ANALYSES[0]] == [1] * SECOND_ANALYSES[
        0
    ]
    assert pairs.clock() <= BUDGET_S


def test_a_benchmark_that_cannot_run_is_not_measured_again() -> None:
    """It fails in the first pair, and the others go on."""

    def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        del then
        read = {plan.key: [0.001 * len(plan.key)] for plan in chosen if plan.key != KEY}
        return Pair(read, {KEY: "in base: failed"} if any(plan.key == KEY for plan in chosen) else {})

    found = conduct(plans_of(2), run_pair, budget_s=BUDGET_S, clock=Clock())
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
    found = conduct(plans_of(benchmarks), run_pair, budget_s=BUDGET_S, clock=clock)
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
    """The next pair can only have benchmarks of the current one, until the first analysis or the end."""
    pairs = Pairs(zigzag(0.035, 0.2))

    found = compared(plans_of(2), pairs)

    assert {one.verdict for one in found.judgements.values()} == {"inconclusive"}
    for then, now in zip(pairs.then[:-1], pairs.chosen[1:], strict=True):
        assert not then or {plan.key for plan in now} <= {plan.key for plan in then}
    assert all(pairs.then[: FIRST_ANALYSES[-1] - 1])
    assert pairs.then[FIRST_ANALYSES[-1] - 1] == []
    assert all(pairs.then[FIRST_ANALYSES[-1] : -3])
    assert pairs.then[-1] == []
