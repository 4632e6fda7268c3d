"""A run's entry in the history of the default branch, and the chain of changes along that branch.

A *link* is the result of one paired comparison: the logarithm y of a benchmark's change from a base commit to the
commit of the run, with its standard error s. Both commits were measured on one machine, so machines may differ between
links. A benchmark that executes nothing that differs from the base has a link with y = 0 and s = 0.

The *level* of a commit is the logarithm of its time relative to that of an origin, the first commit of the chain:

- Along a path of links from the origin, the level is the sum of the links' y, with the sign reversed against the
  direction of a link. Its variance is the sum of their s². If each run is compared with the run before it, this is the
  cumulative product of the changes.
- Runs that are compared with the same base are not added up. Each of them is one link from the level of that base.
- Several links between the same two commits are averaged, weighted by 1 / s².
- If several paths lead to a commit, the path with the smallest variance counts. The choice depends on standard errors
  alone, so it does not prefer large or small changes.
- Commits that no path connects with an origin begin a new chain with an origin of their own: the first commit of the
  oldest of their links. Nothing is known about the difference between two chains.

Links of different runs are independent, so random errors add up as variances. One error does not average out: a
comparison ends as soon as a benchmark passes, so the change of a noisy benchmark reads too low. For changes of up to
1 %, this is at most half of the standard error of a link (`python -m scripts.simulations chains`). So half of each s is
added to that end of the interval.
"""

import heapq
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from plumbline.counting.families import ALLOCATIONS, COMMANDS, SOCKETS, STATEMENTS, kind_of
from plumbline.judging.distributions import NORMAL
from plumbline.results.environment import baseline_name
from plumbline.results.history import COUNTS, HISTORY_SCHEMA, Entry, Run
from plumbline.results.schema import Benchmark, Results

MOST_RUNS = 200  # the newest runs that a report shows
FALSE_POSITIVES = 0.01  # the share of histories in which a benchmark that did not move is said to have moved
INTERVAL = 0.99  # of a level
_COMMIT_DIGITS = 10  # of a base
TOO_LOW = 0.5  # standard errors that a link may read too low, because a comparison ends once a benchmark passes
_MOST_SHOWN = math.log(1000)  # of a change, or of its inverse
_SMALLEST = 1e-6  # standard error: a smaller one counts as this one, or its weight would overflow


class Level(NamedTuple):
    """The time of a benchmark at one commit, relative to the origin of its chain. Both are logarithms."""

    commit: str
    date: str
    origin: str  # the first commit of its chain
    level: float
    error: float  # standard error
    too_low: float = 0.0  # how much lower than the truth the level may be, because comparisons end early
    too_high: float = 0.0  # the same of links that are followed backwards

    def interval(self, quantile: float = NORMAL.inv_cdf((1 + INTERVAL) / 2)) -> tuple[float, float]:
        """Return the lower and the upper end of the change since the origin: 0.05 is 5 % slower."""
        margin = quantile * self.error
        return _share(self.level - margin - self.too_high), _share(self.level + margin + self.too_low)

    @property
    def change(self) -> float:
        return _share(self.level)


def _share(logarithm: float) -> float:
    return math.expm1(max(-_MOST_SHOWN, min(logarithm, _MOST_SHOWN)))


def run_of(results: Results) -> Run:
    """Return what the history keeps of a run."""
    environment = results.environment
    benchmarks: dict[str, dict[str, Entry]] = {}
    for one in results.benchmarks:
        if one.median and one.verdict not in ("missing", "removed"):
            file, _, name = one.key.partition("::")
            benchmarks.setdefault(file, {})[name] = _entry(one)
    kind = baseline_name(environment.system, environment.architecture, environment.cpu, environment.services)
    return Run(
        HISTORY_SCHEMA,
        environment.commit,
        results.created,
        kind.removesuffix(".json"),
        results.verdict or "",
        benchmarks,
        results.base.partition(",")[0][:_COMMIT_DIGITS],
    )


def _entry(benchmark: Benchmark) -> Entry:
    change, error = None, None
    if any(reason.kind == "unaffected" for reason in benchmark.reasons):
        change = error = 0.0
    elif benchmark.change_error is not None and benchmark.change is not None:
        change, error = math.log1p(benchmark.change), benchmark.change_error
    return Entry(
        benchmark.median * 1e9,
        _total(benchmark, f".{SOCKETS}", SOCKETS),
        _total(benchmark, COMMANDS, COMMANDS),
        _total(benchmark, STATEMENTS, STATEMENTS),
        _total(benchmark, f".{ALLOCATIONS}", f".{ALLOCATIONS}"),
        None if change is None else change * 1e4,
        None if error is None else error * 1e4,
    )


def _total(benchmark: Benchmark, ending: str, family: str) -> float | None:
    """Return the sum of the counts of a kind; None if it was not counted, or varies between rounds."""
    varies = any(kind_of(name).endswith(ending) for name in benchmark.counts_varying)
    if varies or not any(one.endswith(family) for one in benchmark.counted):
        return None
    return sum(count for name, count in benchmark.counts.items() if kind_of(name).endswith(ending))


def entry_of(run: Run, keys: Collection[str]) -> Entry | None:
    """Return the entry of a benchmark in a run. `keys`: its key, and its former one if it was renamed."""
    return next((entry for key in keys if key and (entry := run.entry(key))), None)


def levels(runs: Sequence[Run], keys: Collection[str]) -> list[Level]:
    """Return the level of each commit that a benchmark has a link at, in the order of the runs.

    `keys`: the key of the benchmark, and its former one if it was renamed.
    """
    links: dict[tuple[str, str], list[tuple[float, float]]] = {}
    dates: dict[str, tuple[str, str]] = {}  # of the commits that were measured, with their full hash
    commits: dict[str, None] = {}  # in the order in which they appear
    for run in runs:
        entry = entry_of(run, keys)
        if not (entry and run.base and entry.change_e4 is not None and entry.error_e4 is not None):
            continue
        commit = run.commit[:_COMMIT_DIGITS]
        commits |= {run.base: None, commit: None}
        dates.setdefault(commit, (run.date, run.commit))
        if commit != run.base:
            links.setdefault((run.base, commit), []).append((entry.change_e4 / 1e4, entry.error_e4 / 1e4))
    neighbours: dict[str, list[tuple[str, _Step]]] = {commit: [] for commit in commits}
    for (base, commit), measured in links.items():
        change, variance, too_low = _mean(measured)
        neighbours[base].append((commit, _Step(variance, change, too_low, 0.0)))
        neighbours[commit].append((base, _Step(variance, -change, 0.0, too_low)))
    found: dict[str, tuple[str, _Step]] = {}
    for origin in commits:
        if origin not in found:
            found |= {commit: (origin, path) for commit, path in _paths(origin, neighbours).items()}
    chain = []
    for commit, (date, full) in dates.items():
        origin, path = found[commit]
        known = dates.get(origin, ("", origin))[1]
        chain.append(Level(full, date, known, path.change, math.sqrt(path.variance), path.too_low, path.too_high))
    return chain


class _Step(NamedTuple):
    """A link in one direction, or the sum of those of a path."""

    variance: float
    change: float
    too_low: float
    too_high: float


def _mean(measured: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Return the weighted mean of changes with their standard errors, its variance, and how much too low it may be."""
    if exact := [change for change, error in measured if not error]:
        return exact[0], 0.0, 0.0
    changes, errors = zip(*measured, strict=True)
    weights = [1 / max(error, _SMALLEST) ** 2 for error in errors]
    return fmean(changes, weights), 1 / sum(weights), TOO_LOW * fmean(errors, weights)


def _paths(origin: str, neighbours: Mapping[str, Sequence[tuple[str, _Step]]]) -> dict[str, _Step]:
    """Return the sum of the path with the smallest variance from an origin to each commit that it is connected with.

    Source: Dijkstra 1959, Numerische Mathematik 1:269.
    """
    found: dict[str, _Step] = {}
    waiting = [(_Step(0.0, 0.0, 0.0, 0.0), origin)]
    while waiting:
        path, commit = heapq.heappop(waiting)
        if commit in found:
            continue
        found[commit] = path
        for other, step in neighbours[commit]:
            if other not in found:
                heapq.heappush(waiting, (_Step(*map(sum, zip(path, step, strict=True))), other))
    return found


def has_moved(level: Level, tolerance: float, sharing: int) -> bool:
    """Return whether a benchmark is significantly slower or faster than at its origin by more than the tolerance.

    `sharing`: the number of benchmarks that share the allowed false positives.
    """
    low, high = level.interval(NORMAL.inv_cdf(1 - FALSE_POSITIVES / 2 / max(sharing, 1)))
    return low > tolerance or high < 1 / (1 + tolerance) - 1


def counts_along(runs: Iterable[Run], keys: Collection[str]) -> dict[str, list[tuple[str, float]]]:
    """Return the known values of each count of a benchmark, with their commits, in the order of the runs."""
    found: dict[str, list[tuple[str, float]]] = {}
    for run in runs:
        if entry := entry_of(run, keys):
            for name in COUNTS:
                if (count := getattr(entry, name)) is not None:
                    found.setdefault(name, []).append((run.commit, count))
    return found
