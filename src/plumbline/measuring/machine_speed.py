"""Detects disturbed measurements. A neighbour on the same core can halve the speed without a trace in the samples."""

import contextlib
import statistics
from collections.abc import Callable
from pathlib import Path

from plumbline.measuring.clock import Clock
from plumbline.measuring.statistics import Summary, unsteadiness

UNSTEADY = 0.1
RECOVERY_LIMIT_S = 0.1
MAX_REMEASURED = 5  # repeating does not help on a machine that is always disturbed
WORK = range(5_000)  # the sum takes about 0.1 ms
REPEATS, MIN_SEEN = 5, 5
CPU_STAT_FILES = ("/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat")


class Disturbances:
    """Decides which benchmarks are measured again because the machine was disturbed."""

    def __init__(self) -> None:
        self.machine_speed_s = 0.0  # the last duration of the fixed piece of work
        self.notes: list[str] = []  # for the report
        self._again = 0
        self._seen_s: list[float] = []
        for _ in range(MIN_SEEN):
            self.slowness()

    def slowness(self) -> float:
        """Return how much slower the machine is than usual in this run, as a fraction: 0.1 is 10 %."""
        times_s = []
        for _ in range(REPEATS):
            start_s = Clock.read()
            sum(WORK)
            times_s.append(Clock.read() - start_s)
        self.machine_speed_s = statistics.median(times_s)
        self._seen_s.append(self.machine_speed_s)
        return self.machine_speed_s / statistics.median(self._seen_s) - 1

    def watch(self) -> Callable[[Summary], str]:
        """Watch a benchmark. The returned function waits for the machine and returns why to measure again, or ""."""
        throttled = throttled_periods()
        slow_before = self.slowness() > UNSTEADY

        def disturbed(summary: Summary) -> str:
            if throttled_periods() > throttled:
                why = "the CPU quota stopped the process"
            elif unsteadiness(summary.samples_s) > UNSTEADY:
                why = "consecutive samples were slower than the others"
            elif slow_before or self.slowness() > UNSTEADY:
                why = "the machine was slower than before"
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
    """Return how often the cgroup's CPU quota has stopped this process; 0 if that cannot be read."""
    for name in CPU_STAT_FILES:
        with contextlib.suppress(OSError, ValueError, KeyError):
            fields = dict(line.split() for line in Path(name).read_text(encoding="ascii").splitlines())
            return int(fields["nr_throttled"])
    return 0
