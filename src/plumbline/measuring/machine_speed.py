"""Whether a benchmark was disturbed. A neighbour on the same core can halve its speed, which no samples show."""

import contextlib
import statistics
from collections.abc import Callable
from pathlib import Path

from plumbline.measuring.clock import Clock
from plumbline.measuring.statistics import Summary, unsteadiness

UNSTEADY = 0.1
RECOVERY_LIMIT_S = 0.1
MAX_REMEASURED = 5  # a machine that disturbs more benchmarks is disturbed throughout, and repeating does not help
WORK = range(5_000)  # takes some 0.1 ms
REPEATS, MIN_SEEN = 5, 5
CPU_STAT_FILES = ("/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat")


class Disturbances:
    """Decides which benchmarks of a run are measured again because something disturbed them."""

    def __init__(self) -> None:
        self.machine_speed_s = 0.0  # the duration of the fixed piece of work when it was last measured
        self.notes: list[str] = []  # for the reader of the results
        self._again = 0
        self._seen_s: list[float] = []
        for _ in range(MIN_SEEN):
            self.slowness()

    def slowness(self) -> float:
        """Return by which share the machine is slower now than usual in this run: 0.1 is 10 %."""
        times_s = []
        for _ in range(REPEATS):
            start_s = Clock.read()
            sum(WORK)
            times_s.append(Clock.read() - start_s)
        self.machine_speed_s = statistics.median(times_s)
        self._seen_s.append(self.machine_speed_s)
        return self.machine_speed_s / statistics.median(self._seen_s) - 1

    def watch(self) -> Callable[[Summary], str]:
        """Watch a benchmark. The function waits for the machine, and returns why to measure again, or ""."""
        throttled = throttled_periods()
        slow_before = self.slowness() > UNSTEADY

        def disturbed(summary: Summary) -> str:
            if throttled_periods() > throttled:
                why = "the CPU quota had stopped the process"
            elif unsteadiness(summary.samples_s) > UNSTEADY:
                why = "samples in a row were slower than others, as when the machine is disturbed"
            elif slow_before or self.slowness() > UNSTEADY:
                why = "the machine itself was slower than before"
            else:
                return ""
            if self._again == MAX_REMEASURED:
                self.notes = [f"re-measured only {MAX_REMEASURED} of the disturbed benchmarks (the limit per run)"]
                return ""
            self._again += 1
            until_s = Clock.read() + RECOVERY_LIMIT_S
            while self.slowness() > UNSTEADY and Clock.read() < until_s:
                pass
            return why

        return disturbed


def throttled_periods() -> int:
    """Return how often the CPU quota of the cgroup has stopped this process so far; 0 if no quota can be read."""
    for name in CPU_STAT_FILES:
        with contextlib.suppress(OSError, ValueError, KeyError):
            fields = dict(line.split() for line in Path(name).read_text(encoding="ascii").splitlines())
            return int(fields["nr_throttled"])
    return 0
