"""Controls: benchmarks with a known difference."""

import math
from collections.abc import Mapping

import pytest

from plumbline.comparing.statistics.controls import CONTROLS, check_controls, is_control
from plumbline.comparing.statistics.inference import ComparisonInvalid

ALIKE, SLOWED = CONTROLS


def four_pairs(alike: float, slowed: float) -> Mapping[str, list[float]]:
    """Return four pairs with these differences (shares), ± 1 %."""
    noise = (-0.01, 0.0, 0.01, 0.0)
    return {ALIKE: [math.log1p(alike) + one for one in noise], SLOWED: [math.log1p(slowed) + one for one in noise]}


def test_controls_that_read_the_truth_are_valid() -> None:
    """0 and 10 %, both ± 1 %."""
    check_controls(four_pairs(0.0, 0.1), None)


@pytest.mark.parametrize(
    ("alike", "slowed", "reason"),
    [(0.05, 0.1, r"test_alike reads \+5\.0% and should read \+0%"), (0.0, -0.05, "test_slowed reads -5")],
)
def test_a_control_that_reads_the_impossible_makes_a_comparison_invalid(
    alike: float, slowed: float, reason: str
) -> None:
    """5 % instead of 0, and faster instead of 10 % slower."""
    found = four_pairs(alike, slowed) if slowed < 0 else {ALIKE: [0.049, 0.0488, 0.0487, 0.0486], SLOWED: [0.0953]}
    with pytest.raises(ComparisonInvalid, match=reason):
        check_controls(found, None)


def test_two_pairs_prove_more_beside_benchmarks() -> None:
    """With the usual variance of the benchmarks, two values reveal a missing slow-down of 10 %."""
    found = {ALIKE: [0.0, 0.002], SLOWED: [0.001, -0.001]}

    check_controls(found, None)
    check_controls({ALIKE: [0.0, 0.002], SLOWED: [0.09, 0.1]}, 1.44)
    with pytest.raises(ComparisonInvalid, match=r"test_slowed reads \+0\.0% and should read \+10%"):
        check_controls(found, 1.44)


def test_one_pair_proves_nothing() -> None:
    """One value has no interval."""
    check_controls({ALIKE: [5.0]}, None)


def test_keys_identify_controls() -> None:
    """Their keys have the name of their file."""
    assert all(map(is_control, CONTROLS))
    assert not is_control("test_controls.py::test_alike")
