import math

import pytest

from plumbline.measuring.statistics import log_spread, percentile, slope, slower_by, summarize, unsteadiness


def test_a_summary_holds_the_figures_of_its_samples() -> None:
    """Five samples, calculated by hand. The percentile is 0.8 of the way from the fourth to the fifth."""
    summary = summarize([4.0, 1.0, 10.0, 2.0, 3.0])

    assert summary.samples_s == (4.0, 1.0, 10.0, 2.0, 3.0)
    assert summary.median_s == 3.0
    assert summary.mean_s == 4.0
    assert summary.p95_s == pytest.approx(8.8)
    assert summary.minimum_s == 1.0
    assert summary.maximum_s == 10.0
    assert summary.rate_per_s == 0.25


def test_p99_is_known_from_1000_samples_on() -> None:
    almost, enough = summarize([1.0] * 999), summarize(range(1000))

    assert almost.p99_s is None
    assert enough.p99_s == pytest.approx(989.01)


def test_samples_that_took_no_time_have_no_rate() -> None:
    """If the clock measured 0, the rate is 0."""
    summary = summarize([0.0, 0.0])

    assert summary.rate_per_s == 0.0


def test_no_samples_can_t_be_summarized() -> None:
    with pytest.raises(ValueError, match="at least one data point"):
        summarize([])


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([4.0, 1.0, 3.0, 2.0], 25, 1.75),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.5),
        ([4.0, 1.0, 3.0, 2.0], 95, 3.85),
        ([1.0, 2.0, 3.0], 50, 2.0),
        ([1.0, 2.0, 3.0], 0, 1.0),
        ([1.0, 2.0, 3.0], 100, 3.0),
        ([7.0], 95, 7.0),
    ],
)
def test_a_percentile_is_linear_between_ranks(values: list[float], percent: float, expected: float) -> None:
    """Percentiles are of Hyndman and Fan's type 7, as in R and NumPy."""
    result = percentile(values, percent)

    assert result == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0, 5.0, 5.0], 0.0),
        ([1.0, 3.0], 2.0),
        ([9.0, 6.0, 3.0, 0.0], -3.0),
        ([0.0, 1.0, 5.0, 6.0], 2.25),  # of 1, 1, 2, 2.5, 2.5, 4; least squares would give 2.2
        ([0.0, 1.0, 2.0, 100.0, 4.0], 1.0),
    ],
    ids=["level", "two", "falling", "uneven", "one outlier"],
)
def test_the_slope_is_the_median_of_all_pairs(values: list[float], expected: float) -> None:
    """The Theil-Sen slope, calculated by hand. One outlier does not change it."""
    result = slope(values)

    assert result == pytest.approx(expected)


def test_one_value_has_no_slope() -> None:
    with pytest.raises(ValueError, match="a slope needs two values"):
        slope([1.0])


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_the_spread_is_one_of_logarithms(scale: float) -> None:
    """If each value is e times the previous one, the spread is 1 in any unit."""
    result = log_spread([scale, scale * math.e, scale * math.e**2])

    assert result == pytest.approx(1.0)


def test_two_values_have_a_spread() -> None:
    """If one value is e times the other, the spread is √½."""
    assert log_spread([1.0, math.e]) == pytest.approx(math.sqrt(0.5))


def test_a_single_value_has_no_spread() -> None:
    """The spread of fewer than two values is 0."""
    assert log_spread([0.001]) == 0.0
    assert log_spread([]) == 0.0


def test_unsteadiness_is_that_of_the_slowest_fifth() -> None:
    """35 samples of 1, of which the third fifth takes 1.5: 0.5. A long tail counts 0."""
    steady = [1.0] * 7
    assert unsteadiness(steady + steady + [1.5] * 7 + steady + steady) == 0.5
    assert unsteadiness(([1.0] * 6 + [90.0]) * 5) == 0.0


def test_unsteadiness_of_a_few_samples_is_0() -> None:
    """34 samples are fewer than five parts of seven. Samples of 0 have no ratio."""
    assert unsteadiness([1.0] * 17 + [9.0] * 17) == 0.0
    assert unsteadiness([0.0] * 35) == 0.0


@pytest.mark.parametrize(
    ("head", "share"),
    [
        ([1.0, 1.1] * 10, 0.0),
        ([1.04, 1.14] * 10, 0.0),
        ([1.0] * 8 + [1.5] * 12, 1.5 / 1.05 - 1),  # the median
        ([1.0, 1.1] * 9 + [1.0, 9.0], 0.0),  # one call alone
        ([1.0, 1.1] * 60 + [1.0, 2.0] * 40, 1.23 / 1.05 - 1),  # the mean
        ([2.0] * 6, 0.0),  # too few
        ([0.0] * 20, 0.0),
    ],
)
def test_samples_are_slower_by_their_median_or_their_mean(head: list[float], share: float) -> None:
    """By more than 5 %, and a mean beyond its error."""
    assert slower_by([1.0, 1.1] * 10, head, 0.05) == pytest.approx(share)
