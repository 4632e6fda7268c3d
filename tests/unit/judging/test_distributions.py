"""Distributions compared with printed tables."""

import math

import pytest

from plumbline.judging.distributions import binomial_interval, student_quantile


@pytest.mark.parametrize(
    ("probability", "degrees", "expected"),
    [
        (0.95, 1, 6.314),
        (0.975, 1, 12.706),
        (0.9995, 1, 636.619),
        (0.975, 2, 4.303),
        (0.999, 2, 22.327),
        (0.9, 3, 1.638),
        (0.999, 3, 10.215),
        (0.99, 4, 3.747),
        (0.975, 5, 2.571),
        (0.995, 10, 3.169),
        (0.9995, 11, 4.437),
        (0.9995, 12, 4.318),
        (0.975, 30, 2.042),
        (0.975, 120, 1.980),
    ],
)
def test_quantiles_of_student_s_t_are_those_of_the_tables(probability: float, degrees: int, expected: float) -> None:
    """Three decimals agree."""
    result = student_quantile(probability, degrees)

    assert result == pytest.approx(expected, abs=0.0006)


def test_the_median_of_student_s_t_is_zero() -> None:
    assert student_quantile(0.5, 7) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(1, 1 / math.tan(math.pi * 1e-6)), (2, (1 - 2e-6) / math.sqrt(2e-6 * (1 - 1e-6)))],
)
def test_a_quantile_far_out_is_found(degrees: int, expected: float) -> None:
    """The quantile for one error in a million agrees with the closed form."""
    result = student_quantile(1 - 1e-6, degrees)

    assert result == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(0, 30, 0.0, 0.115703), (5, 10, 0.187086, 0.812914), (30, 30, 0.884297, 1.0), (1, 1000, 0.0000253, 0.005559)],
)
def test_intervals_of_shares_are_the_tabulated_ones(count: int, of: int, low: float, high: float) -> None:
    """Clopper and Pearson, 95 %."""
    assert binomial_interval(count, of) == pytest.approx((low, high), abs=1e-5)
