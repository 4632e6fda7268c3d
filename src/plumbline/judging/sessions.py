"""The difference between two sessions on one machine, such as two days, as a variance of logarithms of medians.

The processes of a baseline run one after another, so their spread does not contain what changes from session to
session: the speed of a shared machine, its temperature, the layout of memory.

Two kinds of evidence show it: the changes of this run's other benchmarks from the baseline, and the medians of the same
benchmark in earlier runs. Their typical size is a median, which a few real changes hardly move. If most of the others
are faster than the baseline, for whatever reason, this size is large, and the baseline check leaves the benchmark open.
A change of the machine's speed, which is measured beside each benchmark, is taken off if that explains the others.
Before there is much evidence, an assumed difference counts as much as a few values of it.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from plumbline.judging.distributions import NORMAL_QUARTILE
from plumbline.results.schema import Benchmark, Results

# Assumed standard deviation of the difference between two sessions, and its weight, in benchmarks or runs.
ASSUMED, ASSUMED_WEIGHT = 0.02, 5
# The same if a benchmark may pass: one that does not costs only the time of its pairs.
ASSUMED_TO_PASS = 0.03
# Degrees of freedom of a variance from the median size of n values, as a share of n: the efficiency of that median
# (Rousseeuw and Croux 1993, Journal of the American Statistical Association 88:1273).
OF_MEDIAN = 0.37
# Sessions never differ by more than this standard deviation: larger changes of most benchmarks are changes of the code.
MOST = 0.1
# The newest runs that count.
MOST_RUNS = 20
# Fewer other benchmarks count for nothing, as one real change would be typical of them. So many earlier runs are
# believed without regard to what else is known.
LEAST = 5
# Verdicts of an earlier run that say that a benchmark can't be compared with its baseline.
_NOT_COMPARED = {"new", "changed", "invalid", "missing", "removed"}


class Difference(NamedTuple):
    """An estimated variance, and its degrees of freedom."""

    variance: float
    degrees: float


class Sessions(Struct, frozen=True):
    """Differences between sessions, in this run and earlier ones."""

    changes: Mapping[str, float] = {}  # of each benchmark of this run from the baseline, as logarithms
    machine: Mapping[str, float] = {}  # the part of these changes that the speed of the machine explains, if known
    earlier: Mapping[str, Sequence[float]] = {}  # the same in earlier runs
    variance: float = 0.0  # between the processes of one session
    processes: float = 5.0  # of the baseline

    def to_pass(self, key: str, *, of_run: bool = True) -> Difference:
        """Return what `between` returns if a benchmark must not pass by mistake."""
        values = len(self._others(key, of_run)) + len(self.earlier.get(key, []))
        variance = self.between(key, of_run=of_run, assumed=ASSUMED_TO_PASS)
        return Difference(variance, ASSUMED_WEIGHT + OF_MEDIAN * values)

    def _others(self, key: str, of_run: bool) -> dict[str, float]:
        others = {other: change for other, change in self.changes.items() if other != key}
        return others if of_run and len(others) >= LEAST else {}

    def between(self, key: str, *, of_run: bool = True, assumed: float = ASSUMED) -> float:
        """Return the variance of the difference between two sessions for one benchmark.

        `of_run`: whether the other benchmarks of this run count. They must not excuse a benchmark that could fail:
        all of them may be slower.
        """
        others = self._others(key, of_run)
        earlier = self.earlier.get(key, [])
        unexplained = (change - self.machine.get(other, 0.0) for other, change in others.items())
        typical = min(_typical(others.values()), _typical(unexplained))
        shown = max(typical - self.variance * (1 + 1 / self.processes), 0.0)
        center = statistics.median(earlier) if earlier else 0.0
        # Two sessions differ by twice the variance of one.
        known = 2 * max(_typical(change - center for change in earlier) - self.variance, 0.0)
        weights = ASSUMED_WEIGHT + len(others) + len(earlier)
        shrunk = (ASSUMED_WEIGHT * assumed**2 + len(others) * shown + len(earlier) * known) / weights
        return min(max(shrunk, known) if len(earlier) >= LEAST else shrunk, MOST**2)


def _typical(values: Iterable[float]) -> float:
    """Return the variance around 0 of values, by their median size; 0 if there are none."""
    sizes = [abs(value) for value in values]
    return (statistics.median(sizes) / NORMAL_QUARTILE) ** 2 if sizes else 0.0


def sessions_of(record: Results, baseline: Results, history: Sequence[Results], variance: float) -> Sessions:
    """Return what a run and earlier runs of the same machine show.

    `variance`: between the processes of one session. Earlier runs with another baseline do not count.
    """
    entries = {entry.key: entry for entry in baseline.benchmarks if all(entry.process_medians)}

    def change(one: Benchmark) -> float:
        return math.log(one.median) - statistics.fmean(map(math.log, entries[one.key].process_medians))

    measured = [one for one in record.benchmarks if one.key in entries and one.median]
    speeds_s = {one.key: (one.machine_speed_s, entries[one.key].machine_speed_s) for one in measured}
    earlier: dict[str, list[float]] = {}
    for run in history:
        for one in run.benchmarks if run.baseline_created == baseline.created else []:
            if one.key in entries and one.median and one.verdict not in _NOT_COMPARED:
                earlier.setdefault(one.key, []).append(change(one))
    return Sessions(
        {one.key: change(one) for one in measured if one.source_hash == entries[one.key].source_hash},
        {key: math.log(now_s / then_s) for key, (now_s, then_s) in speeds_s.items() if now_s and then_s},
        earlier,
        variance,
        statistics.fmean(len(entry.process_medians) for entry in entries.values()) if entries else 1,
    )
