"""The true slow-down of a series of samples."""

import random

import pytest

from scripts.some_calls import true_changes


@pytest.mark.parametrize(("spread", "p90"), [(0.0, 0.5), (0.5, 0.14)])
def test_calls_that_vary_by_themselves_hide_slower_ones(spread: float, p90: float) -> None:
    """10 % of the calls take twice as long: half of those around the 90th percentile, or other ones."""
    rng = random.Random(1)
    samples_s = [rng.lognormvariate(0, spread) for _ in range(2000)]

    found = true_changes(samples_s, 0.1, 1.0, rng)

    assert found["mean"] == pytest.approx(0.1, abs=0.02)
    assert found["p90"] == pytest.approx(p90, abs=0.03)
