"""A share of many comparisons, and what it says of the long run."""

import math
from collections.abc import Callable

from msgspec import Struct

CONFIDENCE = 0.95


class Share(Struct):
    """So many of so many."""

    count: int
    of: int
    low: float = 0.0
    """Of the exact interval of what it is in the long run."""
    high: float = 1.0

    def __post_init__(self) -> None:
        self.low, self.high = binomial_interval(self.count, self.of)

    def __str__(self) -> str:
        share = self.count / self.of if self.of else 0.0
        return f"{self.count:,} of {self.of:,} ({share:.1%}; in the long run {self.low:.1%} to {self.high:.1%})"


def binomial_interval(count: int, of: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact interval of a share, for `count` of `of` (Clopper and Pearson 1934, Biometrika 26:404)."""
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else _solve(lambda share: 1 - _at_most(count - 1, of, share), tail)
    high = 1.0 if count == of else _solve(lambda share: 1 - _at_most(count, of, share), 1 - tail)
    return low, high


def _solve(rising: Callable[[float], float], wanted: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return high


def _at_most(count: int, of: int, share: float) -> float:
    """Probability of at most `count` of `of` where each has the probability `share`."""
    if not 0 < share < 1:
        return float(share <= 0 or count >= of)
    logs = [
        math.lgamma(of + 1)
        - math.lgamma(one + 1)
        - math.lgamma(of - one + 1)
        + one * math.log(share)
        + (of - one) * math.log1p(-share)
        for one in range(count + 1)
    ]
    return min(sum(map(math.exp, logs)), 1.0)
