"""Thresholds of one benchmark."""

import pytest

from plumbline.judging.evidence import Thresholds
from plumbline.settings import BenchmarkSettings, GateSettings

GATE = GateSettings(tolerance=0.02, minimum_effect=0.05, false_alarms=0.01, power=0.97)


def test_the_suite_s_error_is_shared_by_its_benchmarks() -> None:
    """Each of 20 benchmarks gets a twentieth of the allowed false positives."""
    thresholds = Thresholds.of(GATE, None).with_shares(1 / 20, 1)

    assert (thresholds.tolerance, thresholds.minimum_effect) == (0.02, 0.05)
    assert (thresholds.false_alarms, thresholds.power) == pytest.approx((0.0005, 0.97))


def test_the_tails_have_shares_of_the_false_positives() -> None:
    """A fifth for each of the two tails, and the rest for the fastest samples."""
    thresholds = Thresholds.of(GATE, BenchmarkSettings(tail_tolerance=0.2))

    assert thresholds.of_fastest().false_alarms == pytest.approx(0.006)
    tail = thresholds.of_tail()
    assert (tail.false_alarms, tail.tolerance, tail.minimum_effect) == pytest.approx((0.002, 0.2, 0.3))
    assert Thresholds.of(GATE, BenchmarkSettings(tails=())).of_fastest().false_alarms == pytest.approx(0.01)


def test_a_benchmark_s_own_thresholds_win() -> None:
    """They replace the gate's one by one."""
    tolerance = Thresholds.of(GATE, BenchmarkSettings(tolerance=0.1))
    effect = Thresholds.of(GATE, BenchmarkSettings(minimum_effect=0.2))

    assert (tolerance.tolerance, tolerance.minimum_effect) == (0.1, 0.05)
    assert (effect.tolerance, effect.minimum_effect) == (0.02, 0.2)
