"""Find benchmarks whose chain of changes, or whose counts, have moved in the history of the default branch."""

from collections.abc import Sequence
from typing import NamedTuple

from plumbline.counting.families import ALLOCATIONS, more
from plumbline.judging.chain import Level, counts_along, has_moved, levels
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.reporting.next_step import bisect_command
from plumbline.results.history import Run
from plumbline.results.schema import Benchmark, Results

MOST = 5  # benchmarks
_DEFAULT_TOLERANCE = 0.02  # of results without one


class Moved(NamedTuple):
    """A benchmark that has moved along the default branch."""

    key: str  # "" for a text about all benchmarks
    text: str
    command: str = ""  # finds the commit


def moved(results: Results, runs: Sequence[Run]) -> list[Moved]:
    """Return the benchmarks that have moved along the default branch, the greatest change first."""
    chains = {one.key: levels(runs, keys_of(one)) for one in results.benchmarks}
    sharing = sum(map(bool, chains.values()))
    found: list[tuple[float, Moved]] = []
    for one in results.benchmarks:
        tolerance, chain = content.limits(results, one)[0] or _DEFAULT_TOLERANCE, chains[one.key]
        last = [chain[-1]] if chain and has_moved(chain[-1], tolerance, sharing) else []
        counts = _counts(one, runs)
        texts = [*map(summary, [chain] if last else []), *(count.text for count in counts)]
        if texts:
            size = abs(last[0].level) if last else 0.0
            # Commits between which the time grew, or else a count.
            ranges = [(level.origin, level.commit) for level in last if level.level > 0]
            ranges += [(count.before, count.since) for count in counts if count.grew]
            command = bisect_command(one.key, *(commit[:10] for commit in ranges[0])) if ranges else ""
            found.append((size, Moved(one.key, "; ".join(texts), command)))
    found.sort(key=lambda entry: -entry[0])
    rest = [Moved("", f"and {len(found) - MOST:,} more; the HTML report has all")] if found[MOST:] else []
    return [one for _, one in found[:MOST]] + rest


def keys_of(benchmark: Benchmark) -> list[str]:
    return [benchmark.key, benchmark.renamed_from]


def summary(chain: Sequence[Level]) -> str:
    """+12 % (+9.1…+15) since 0123456, in 57 runs"""
    last = chain[-1]
    runs = sum(level.origin == last.origin for level in chain)
    change = f"{form.percent(last.change)} ({form.interval(*last.interval())})"
    return f"{change} since {last.origin[:7]}, in {runs:,} run{'s' if runs > 1 else ''}"


def count_moved(name: str, first: float, last: float) -> bool:
    """Return whether a count differs by more than is allowed."""
    kind = f".{ALLOCATIONS}" if name == ALLOCATIONS else name
    return more(kind, first, last) or more(kind, last, first)


class _Count(NamedTuple):
    """A count that differs between the oldest and the newest run."""

    text: str  # statements 2 → 51 at 89abcde
    before: str  # the last commit with another count than the newest one
    since: str
    grew: bool


def _counts(benchmark: Benchmark, runs: Sequence[Run]) -> list[_Count]:
    found = []
    for name, values in counts_along(runs, keys_of(benchmark)).items():
        first, last = values[0][1], values[-1][1]
        if count_moved(name, first, last):
            number = max(index for index, (_, count) in enumerate(values) if count_moved(name, count, last))
            before, since = values[number][0], values[number + 1][0]
            text = f"{name} {first:,.6g} → {last:,.6g} at {since[:7]}"
            found.append(_Count(text, before, since, values[number][1] < last and before != since))
    return found
