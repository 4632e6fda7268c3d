"""Simulated comparisons of benchmarks that differ in noise, with fixed seeds."""

import pytest

from scripts.simulations import HOSTILE, USUAL, Case, caught, false_positives


@pytest.mark.parametrize("case", HOSTILE, ids=[case.title for case in HOSTILE])
def test_benchmarks_that_differ_in_noise_have_few_false_positives(case: Case) -> None:
    """At most 1.5 % of 70 comparisons without a regression fail."""
    runs = 70
    assert false_positives(case, runs).count <= 0.015 * runs


def test_slow_downs_of_5_percent_are_caught() -> None:
    """19 of 20, and fewer if there is little time: benchmarks of 50 ms."""
    least = dict.fromkeys([case.title for case in USUAL], 19) | {"samples of 50 ms": 14}
    assert [case.title for case in USUAL if caught(case, 20)[0].count < least[case.title]] == []
