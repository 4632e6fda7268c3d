"""How fast this core is at the moment, by a fixed piece of work.

A neighbour on the same physical core slows everything down by half for a while, and no sample of a benchmark that
lies in such a while can tell.
"""

import statistics
from time import perf_counter

WORK = range(5_000)
"""Some 0.1 ms."""
REPEATS = 5
LEAST_SEEN = 5


class Pace:
    """The pace now, against what it has mostly been in this run."""

    def __init__(self) -> None:
        self._seen_s: list[float] = []
        for _ in range(LEAST_SEEN):
            self.slowness()

    def slowness(self) -> float:
        """By how much slower than usual it is now, as a share: 0.1 is 10 %."""
        times_s = []
        for _ in range(REPEATS):
            start_s = perf_counter()
            sum(WORK)
            times_s.append(perf_counter() - start_s)
        now_s = statistics.median(times_s)
        self._seen_s.append(now_s)
        return now_s / statistics.median(self._seen_s) - 1

    @property
    def latest_s(self) -> float:
        """What the fixed piece of work took when it was last looked at, in seconds."""
        return self._seen_s[-1]

    def recover(self, limit: float, limit_s: float) -> None:
        """Wait until it is not slower than usual by more than `limit`, for `limit_s` at most."""
        until_s = perf_counter() + limit_s
        while self.slowness() > limit and perf_counter() < until_s:
            pass
