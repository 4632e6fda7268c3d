"""A share of many comparisons, and what it says of the long run."""

from msgspec import Struct

from plumbline.judging.distributions import binomial_interval


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
