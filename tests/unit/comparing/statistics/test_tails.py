"""Slow-downs of some calls: what a pair reads of them, and which of them fail."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from plumbline.comparing.statistics.plan import BenchmarkPlan, Pair
from plumbline.comparing.statistics.schedule import LEAST_PAIRS, LEAST_SAMPLES, conduct
from plumbline.comparing.statistics.tails import TAILS, Reading, errors_of, tails_of
from plumbline.judging.evidence import Judgement, Thresholds
from plumbline.measuring.statistics import tail_figure
from plumbline.selfcheck.record import SOME_CALLS
from plumbline.settings import BenchmarkSettings, GateSettings, Tail
from scripts.simulations import MIXED_S, SLOWED_S, some_calls_caught
from tests.unit.comparing.statistics.test_schedule import KEY, Pairs, plans_of


def test_the_90th_percentile_is_smooth() -> None:
    """One call in ten is slow: one call more or less changes little."""
    found = [tail_figure("p90", [1.0] * (100 - slow) + [2.0] * slow) for slow in (9, 10, 11)]
    assert found == pytest.approx([1.4, 1.5, 1.6])
    assert tail_figure("p90", [3.0]) == 3.0
    assert tail_figure("mean", [1.0, 2.0, 6.0]) == 3.0


def test_a_pair_reads_both_tails() -> None:
    """20 % of head's calls are slower by half."""
    base = [1.0] * 100
    found = tails_of(base, [1.0, 1.0, 1.0, 1.0, 1.5] * 20)
    assert [*found["p90"]] == pytest.approx([math.log(1.5), 0.0, 100])
    assert found["mean"].difference == pytest.approx(math.log(1.1))
    assert [*tails_of([1.0] * 3, [2.0] * 3)["p90"]] == pytest.approx([math.log(2), 0.0, 3])


def test_the_error_is_that_of_repeated_pairs() -> None:
    """The standard error from the batches of a pair is that of many pairs, within a third."""
    rng = random.Random(1)
    pairs = [tails_of(*([rng.lognormvariate(0, 0.1) for _ in range(400)] for _ in range(2))) for _ in range(60)]
    for tail in ("p90", "mean"):
        readings = [pair[tail] for pair in pairs]
        actual = math.sqrt(sum(read.difference**2 for read in readings) / len(readings))
        assert errors_of(readings)[0] == pytest.approx(actual, rel=1 / 3)


def test_more_samples_weigh_more() -> None:
    assert errors_of([Reading(0.0, 1.0, 100), Reading(0.1, 1.0, 400)]) == pytest.approx([0.1, 0.05])


@pytest.mark.parametrize(("calls", "size"), SOME_CALLS)
def test_some_slow_calls_fail(calls: float, size: float) -> None:
    """Those of the self-check: 10 % twice, 30 % 1.3 times and 2 % 21 times as slow."""
    found = some_calls_caught(calls, size, 10)
    assert (found.caught.count, found.others_failed.count) == (10, 0)
    assert found.pairs <= 8


def test_equal_tails_pass_at_once() -> None:
    found = some_calls_caught(0.0, 0.0, 10)
    assert (found.caught.count, found.inconclusive.count, found.others_failed.count) == (0, 0, 0)
    assert found.pairs < 2 * LEAST_PAIRS


def test_rare_slow_calls_of_long_samples_do_not_pass() -> None:
    """2 % of the calls of one of 38 benchmarks, with samples of 4 ms, are 21 times as slow."""
    found = some_calls_caught(0.02, 20.0, 10, samples_s=MIXED_S, slowed_s=SLOWED_S)
    assert found.caught.count + found.inconclusive.count >= 9
    assert (found.others_failed.count, found.others_inconclusive.count) == (0, 0)


def test_a_benchmark_with_few_samples_is_measured_again() -> None:
    """45 samples of 4 ms in two pairs are not enough, unless no tail is judged or the rest takes too long."""
    found = {}
    cases: list[tuple[float, tuple[Tail, ...]]] = [(4e-3, TAILS), (4e-3, ()), (0.05, TAILS)]
    for sample_s, tails in cases:
        pairs = Slower(0.0)
        limits = Thresholds.of(GateSettings(tails=tails), None)
        plans = [BenchmarkPlan(f"test_it.py::test_{at}", sample_s, limits) for at in range(20)]
        compared = conduct(plans, pairs, limit_s=60.0, clock=pairs.clock)
        found[sample_s, bool(tails)] = min(map(compared.samples_of, plans)) >= LEAST_SAMPLES
    assert found == {(4e-3, True): True, (4e-3, False): False, (0.05, True): False}


class Slower(Pairs):
    """Pairs in which the mean of one benchmark is slower."""

    def __init__(self, size: float, spread: float = 0.05) -> None:
        super().__init__(lambda _plan, pair: 0.001 * (pair % 2))
        self._mean = Reading(math.log1p(size), spread, 100)

    def __call__(self, chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        pair, alike = super().__call__(chosen, then), self._mean._replace(difference=0.0)
        for key in pair.block_differences:
            pair.tails[key] = {"p90": alike, "mean": self._mean if key == KEY else alike}
        return pair


def judged(pairs: Pairs, own: BenchmarkSettings | None = None) -> Judgement:
    [first, *others] = plans_of(5)
    plans = [replace(first, thresholds=Thresholds.of(GateSettings(), own)), *others]
    found = conduct(plans, pairs, limit_s=60.0, clock=pairs.clock).judgements
    assert {one.verdict for key, one in found.items() if key != KEY} == {"pass"}
    return found[KEY]


def test_only_the_chosen_tails_are_judged() -> None:
    """The mean reads 50 % slower. The benchmark judges it unless its settings name the 90th percentile alone."""
    settings = (None, BenchmarkSettings(tails=("p90",)), BenchmarkSettings(tail_tolerance=0.6))
    assert [judged(Slower(0.5), own).verdict for own in settings] == ["regression", "pass", "pass"]


@pytest.mark.parametrize(("size", "verdict"), [(0.12, "pass"), (0.5, "inconclusive")])
def test_an_uncertain_tail_is_unclear_if_it_looks_slow_enough_to_fail(size: float, verdict: str) -> None:
    """Its samples vary too much for a verdict. The benchmark is inconclusive with its tail."""
    one = judged(Slower(size, spread=6.0))
    assert (one.verdict, one.tails["mean"].verdict, one.tails["p90"].verdict) == (verdict, verdict, "pass")
