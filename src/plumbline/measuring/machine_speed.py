"""The speed of this core, measured by a fixed piece of work, and whether a benchmark was disturbed.

A neighbour on the same physical core can halve the speed for a while. The samples of a benchmark that ran meanwhile
cannot show it.
"""

import statistics
from collections.abc import Callable
from time import perf_counter

from plumbline.measuring.cpu_affinity import throttled_periods
from plumbline.measuring.statistics import Summary, unsteadiness

UNSTEADY = 0.1
RECOVERY_LIMIT_S = 0.1
MOST_AGAIN = 5
# Takes some 0.1 ms.
WORK = range(5_000)
REPEATS = 5
LEAST_SEEN = 5


class MachineSpeed:
    """The speed now, compared with the usual speed in this run."""

    def __init__(self) -> None:
        self._seen_s: list[float] = []
        for _ in range(LEAST_SEEN):
            self.slowness()

    def slowness(self) -> float:
        """Return by which share the machine is slower now than usual: 0.1 is 10 %."""
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
        """The duration of the fixed piece of work when it was last measured, in seconds."""
        return self._seen_s[-1]

    def recover(self, limit: float, limit_s: float) -> None:
        """Wait until the machine is slower than usual by `limit` at most, but no longer than `limit_s`."""
        until_s = perf_counter() + limit_s
        while self.slowness() > limit and perf_counter() < until_s:
            pass


class Disturbances:
    """Decides which benchmarks of a run are measured again because something disturbed them.

    MOST_AGAIN at most: a machine that disturbs more benchmarks is disturbed throughout, and repeating does not help.
    """

    def __init__(self) -> None:
        self.machine_speed = MachineSpeed()
        self.notes: list[str] = []
        """For the reader of the results."""
        self._again = 0

    def watch(self) -> Callable[[Summary], str]:
        """Begin to watch a benchmark, and return a function of its figures.

        The function returns why the benchmark must be measured again; "" if it must not.
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
                self.notes = [f"re-measured only {MOST_AGAIN} of the disturbed benchmarks (the limit per run)"]
                return ""
            self._again += 1
            self.machine_speed.recover(UNSTEADY, RECOVERY_LIMIT_S)
            return why

        return disturbed
