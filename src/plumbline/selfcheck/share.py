"""Share of many comparisons, and what it says of the long run."""

import msgspec
from msgspec import Struct

from plumbline.judging.distributions import binomial_interval


class Share(Struct, frozen=True):
    """`count` of `of`, with the exact 95 % interval of the share in the long run."""

    count: int
    of: int
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        low, high = binomial_interval(self.count, self.of)
        msgspec.structs.force_setattr(self, "low", low)
        msgspec.structs.force_setattr(self, "high", high)

    def __str__(self) -> str:
        share = self.count / self.of if self.of else 0.0
        return f"{self.count:,} of {self.of:,} ({share:.1%}; in the long run {self.low:.1%} to {self.high:.1%})"
