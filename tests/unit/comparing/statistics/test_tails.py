"""Slow-downs of some calls: what a pair reads of them, and which of them fail."""

import math
import random

import pytest

from plumbline.comparing.statistics.schedule import LEAST_PAIRS, conduct
from plumbline.comparing.statistics.tails import Reading, errors_of, tails_of
from plumbline.judging.evidence import Thresholds
from plumbline.measuring.statistics import tail_figure
from plumbline.selfcheck.record import SOME_CALLS
from plumbline.settings import BenchmarkSettings, GateSettings
from scripts.simulations import some_calls_caught
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
    caught, alarms, pairs = some_calls_caught(calls, size, 10)
    assert (caught.count, alarms.count) == (10, 0)
    assert pairs <= 8


def test_equal_tails_pass_at_once() -> None:
    caught, alarms, pairs = some_calls_caught(0.0, 0.0, 10)
    assert (caught.count, alarms.count) == (0, 0)
    assert pairs < 2 * LEAST_PAIRS


def test_only_the_chosen_tails_are_judged() -> None:
    """The mean reads 50 % slower. The benchmark judges it unless its settings name the 90th percentile alone."""

    class Slower(Pairs):
        def __call__(self, chosen: object, then: object = ()) -> object:  # type: ignore[override]
            pair = super().__call__(chosen, then)  # type: ignore[arg-type]
            for key in pair.block_differences:
                read = Reading(math.log(1.5) if key == KEY else 0.0, 0.05, 100)
                pair.tails[key] = {"p90": read._replace(difference=0.0), "mean": read}
            return pair

    verdicts = []
    for own in (BenchmarkSettings(), BenchmarkSettings(tails=("p90",)), BenchmarkSettings(tail_tolerance=0.6)):
        plans = plans_of(5)
        limits = Thresholds.of(GateSettings(), own)
        pairs = Slower(lambda _plan, pair: 0.001 * (pair % 2))
        found = conduct([*plans[1:], type(plans[0])(KEY, 1e-4, limits)], pairs, budget_s=60.0, clock=pairs.clock)  # type: ignore[arg-type]
        verdicts.append(found.judgements[KEY].verdict)
        assert {one.verdict for key, one in found.judgements.items() if key != KEY} == {"pass"}
    assert verdicts == ["regression", "pass", "pass"]
