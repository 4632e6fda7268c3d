"""Simulated searches for a slower commit."""

import random

from scripts.bisections import searched


def test_a_commit_that_is_5_percent_slower_is_found_in_19_of_20_searches() -> None:
    """One of 64 commits, with pairs that differ by 1.5 %. What a search looks for is itself an estimate."""
    rng = random.Random(1)

    assert sum(searched(0.05, 0.015, rng)[0] for _ in range(20)) >= 19
