"""How fast this core is at the moment, by a fixed piece of work, and whether a benchmark was disturbed.

A neighbour on the same physical core slows everything down by half for a while, and no sample of a benchmark that
lies in such a while can tell.
"""

import statistics
from collections.abc import Callable
from time import perf_counter

from plumbline.measuring.cpu_affinity import throttled_periods
from plumbline.measuring.statistics import Summary, unsteadiness

UNSTEADY = 0.1
RECOVERY_LIMIT_S = 0.1
MOST_AGAIN = 5
WORK = range(5_000)
"""Some 0.1 ms."""
REPEATS = 5
LEAST_SEEN = 5


class MachineSpeed:
    """The machine_speed now, against what it has mostly been in this run."""

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


class Disturbances:
    """What disturbs the benchmarks of a run, and which of them are measured again for it.

    At most MOST_AGAIN: a machine that disturbs more is disturbed throughout, and second tries would only take longer.
    """

    def __init__(self) -> None:
        self.machine_speed = MachineSpeed()
        self.notes: list[str] = []
        """What the reader of the results should know."""
        self._again = 0

    def watch(self) -> Callable[[Summary], str]:
        """Begin to watch over a benchmark: what is returned is given what it measured, and says why to measure again.

        "" where nothing disturbed it, or too many were disturbed before.
        """
        throttled = throttled_periods()
        slow_before = self.machine_speed.slowness() > UNSTEADY

        def disturbed(summary: Summary) -> str:
            if throttled_periods() > throttled:
                why = "the CPU quota had stopped the process"
            elif unsteadiness(summary.samples_s) > UNSTEADY:
                why = "samples in a row were slower than others, as when the machine is disturbed"
            elif slow_before or self.machine_speed.slowness() > UNSTEADY:
                why = "the machine itself was slower than before"
            else:
                return ""
            if self._again == MOST_AGAIN:
                self.notes = [f"the machine is disturbed throughout: no more than {MOST_AGAIN} second tries were made"]
                return ""
            self._again += 1
            self.machine_speed.recover(UNSTEADY, RECOVERY_LIMIT_S)
            return why

        return disturbed
