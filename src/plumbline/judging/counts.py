"""Comparison of counts. Counts have no noise and hardly depend on the machine."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from msgspec.structs import replace

from plumbline.counting.families import (
    BUFFERS,
    COMMANDS,
    PARSES,
    READS,
    ROWS,
    STATEMENTS,
    family,
    is_memory,
    kind_of,
    more,
    of_statement,
)
from plumbline.judging.evidence import BaselineEvidence, CountEvidence
from plumbline.judging.explaining import explaining, most_telling_first
from plumbline.results.schema import (
    Benchmark,
    CallSite,
    CountChange,
    Counts,
    Environment,
    PlanChange,
    Results,
)

T = TypeVar("T")

# How many times the difference between two runs of head a count has to grow by.
TIMES_VARIED = 3
CUT_OTHERWISE = 2  # a message in several segments may use twice as many: each segment is at least half full


def compare_counts(
    old: Counts,
    new: Counts,
    *,
    same_backend: bool = True,
    same_profile: bool = True,
    same_postgres: bool = True,
    same_python: bool = True,
    is_baseline: bool = False,
) -> list[CountChange]:
    """Return the counts that differ, those that count against the benchmark (`gated`) first.

    Ignore counts that either side could not measure, and allocations under another Python or on another system. A count
    that varies between rounds has grown if its smallest value is above the largest before, by more than it varied then.
    A count that has grown counts against the benchmark, except for:

    - messages on another backend, which splits them differently;
    - messages of several segments, unless they have more than doubled;
    - rows and buffers read with another profile, because more samples may have written more rows;
    - preparing a statement that is executed less often, which clients may put off;
    - buffers read by another version of PostgreSQL, which reads otherwise;
    - a command or statement that replaces another one, if the total has not grown;
    - what a new statement reads, if the statements that it replaces read as much.
    """
    changes = []
    varied, varies = _as_messages(old.varying), _as_messages(new.varying)
    before = _as_messages(old.same) | {name: max(values) for name, values in varied.items()}
    after = _smallest(new)
    for name in sorted(before.keys() | after.keys()):
        if not (family(name) in old.families and family(name) in new.families):
            continue
        if kind_of(name) in READS and _may_be_unread(name, old, new):
            continue
        if is_memory(name) and not same_python:
            continue
        then, now = before.get(name, 0.0), after.get(name, 0.0)
        whole = all(name in one.same or name in one.varying for one in (old, new))
        factor = CUT_OTHERWISE if then and now and not whole else 1
        requests, range_ = _requests(before, name), then - min(varied.get(name, [then]))
        grown = more(name, then * factor + range_, now, requests)
        varying = name in varied or name in varies
        if grown or (not varying and more(name, now * factor, then, requests)):
            replaces = then == 0 and " " in name and _replaces_as_much(name, before, after)
            executions = of_statement(STATEMENTS, name)
            comparable = {
                f"{name.partition('.')[0]}.messages": same_backend,
                ROWS: same_profile,
                BUFFERS: same_profile and same_postgres,
                PARSES: after.get(executions, 0.0) >= before.get(executions, 0.0),
            }
            gated = grown and not replaces and comparable.get(kind_of(name), True)
            sites = _sites(name, old, new, is_baseline) if grown else []
            changes.append(CountChange(name, then, now, gated, max(varies.get(name, [0.0])), sites))
    return most_telling_first(changes)


def check_counts(
    record: Results, baseline: Results | None, timings: Mapping[str, BaselineEvidence] = {}
) -> dict[str, CountEvidence]:
    """Return the changed counts of each benchmark, by key. The baseline may be from another kind of machine.

    A benchmark does not fail by its counts if its source has changed or if its timings are invalid.
    """
    if baseline is None:
        return {}
    same_backend = baseline.environment.services == record.environment.services
    same_profile = baseline.profile == record.profile
    pythons = {_python(one.environment) for one in (baseline, record)}
    versions = {one.environment.versions.get("postgres", "").partition(".")[0] for one in (baseline, record)}
    entries = {entry.key: entry for entry in baseline.benchmarks}
    found = {}
    for benchmark in record.benchmarks:
        if old := entries.get(benchmark.key) or entries.get(benchmark.renamed_from):
            changes = compare_counts(
                counts_of(old),
                counts_of(benchmark),
                same_backend=same_backend,
                same_profile=same_profile,
                same_postgres=len(versions) == 1,
                same_python=len(pythons) == 1,
                is_baseline=True,
            )
            timing = timings.get(benchmark.key)
            valid = old.source_hash == benchmark.source_hash and not (timing and timing.verdict == "invalid")
            fails = valid and any(change.gated for change in changes)
            found[benchmark.key] = CountEvidence(changes, fails, compare_plans(old.plans, benchmark.plans))
    return found


def compare_sides(
    counts: Mapping[str, Sequence[Counts]], measured: Mapping[str, Counts] = {}
) -> dict[str, CountEvidence]:
    """Return the changed counts of each benchmark between base and head of a paired comparison, by key.

    `measured`: the counts of this run, which has measured head's code before, with data of its own. A count that
    differs between these two runs depends on data that `prepare` writes differently each time. It has grown only if it
    grew by far more than that.
    """
    found = {}
    for key, (base, head) in counts.items():
        changes = compare_counts(base, head)
        before = _smallest(measured[key]) if key in measured else {}
        unclear = [one for one in changes if one.gated and _may_be_data(one, before.get(one.name, one.new))]
        changes = [replace(one, gated=False) if one in unclear else one for one in changes]
        fails, plans = any(one.gated for one in changes), compare_plans(base.plans, head.plans)
        found[key] = CountEvidence(changes, fails, plans, unclear)
    return found


def _may_be_data(change: CountChange, measured: float) -> bool:
    """Return whether a count that has grown also differs between two runs of head, and by too much."""
    return min(change.new, measured) - change.old <= TIMES_VARIED * abs(change.new - measured)


def counts_of(benchmark: Benchmark) -> Counts:
    return Counts(
        {**benchmark.counts},
        {name: [*values] for name, values in benchmark.counts_varying.items()},
        [*benchmark.counted],
        {name: [*sites] for name, sites in benchmark.count_sites.items()},
        {**benchmark.plans},
        [*benchmark.unread],
    )


def compare_plans(old: Mapping[str, str], new: Mapping[str, str]) -> list[PlanChange]:
    """Return the statements of both whose plans differ."""
    return [PlanChange(one, old[one], new[one]) for one in sorted(old.keys() & new.keys()) if old[one] != new[one]]


def grown_counts(benchmark: Benchmark) -> list[CountChange]:
    return [change for change in benchmark.count_changes if change.gated]


def grown_beyond(benchmark: Benchmark, counts: Mapping[str, float]) -> list[CountChange]:
    """Return the gated counts that have grown beyond `counts`, or are not among them."""
    return [
        one
        for one in grown_counts(benchmark)
        if more(one.name, counts.get(one.name, one.old), one.new, _requests(benchmark.counts, one.name))
    ]


@dataclass(frozen=True)
class GrownCount:
    """A count that has grown. If `name` is a kind, such as `postgres.statement`, it is the sum of all of this kind."""

    name: str
    old: float
    new: float


def grown_count(base: Counts, head: Counts) -> GrownCount | None:
    """Return the count that has most likely grown by itself, and not because of another one; None if none has.

    Of commands and statements it is the number of all: a later commit can reword a statement.
    """
    for change in explaining([one for one in compare_counts(base, head) if one.gated]):
        for name in (kind_of(change.name), change.name):
            old, new = figure_of(base, name), figure_of(head, name)
            if new > old:
                return GrownCount(name, old, new)
    return None


def figure_of(counts: Counts, name: str) -> float:
    """Return a count, or the sum of all counts of this kind. A count that varies has its smallest value."""
    return sum(value for one, value in _smallest(counts).items() if name in (one, kind_of(one)))


def _may_be_unread(name: str, old: Counts, new: Counts) -> bool:
    """Return whether a side could not count what a statement reads, or what one reads that may be in its place."""
    _, _, statement = name.partition(" ")
    return any(
        statement in one.unread or (bool(one.unread) and name not in one.same and name not in one.varying)
        for one in (old, new)
    )


def _python(environment: Environment) -> tuple[str, str, str]:
    minor = ".".join(environment.python.split(".")[:2])
    return environment.system, environment.architecture, minor


def _sites(name: str, old: Counts, new: Counts, is_baseline: bool) -> list[CallSite]:
    """Return where a count came from, the lines that have more first.

    Of lines that allocate, return those that have more. A baseline has no lines that could tell.
    """
    # A change moves lines, so those whose functions have more come first.
    by_function, by_line = defaultdict[tuple[str, ...], float](float), defaultdict[CallSite, float](float)
    for sign, sites in ((1, new), (-1, old)):
        for one in sites.sites.get(name, []):
            by_function[one.process, one.file, one.function] += sign * one.count
            by_line[replace(one, count=0)] += sign * one.count

    def more(one: CallSite) -> tuple[float, float, float]:
        return by_function[one.process, one.file, one.function], by_line[replace(one, count=0)], one.count

    found = sorted(new.sites.get(name, []), key=more, reverse=True)
    return [one for one in found if not is_memory(name) or (not is_baseline and more(one)[0] > 0)]


def _smallest(counts: Counts) -> dict[str, float]:
    """Return each count, or its smallest value if it varies."""
    return _as_messages(counts.same) | {name: min(values) for name, values in _as_messages(counts.varying).items()}


def _as_messages(counts: Mapping[str, T]) -> dict[str, T]:
    names = {name: name.replace(".segments", ".messages") if kind_of(name) == name else name for name in counts}
    return {names[name]: count for name, count in counts.items()}


def _requests(counts: Mapping[str, float], name: str) -> float:
    """Return the number of messages, commands or statements (the largest) of the service that a count belongs to."""
    if kind_of(name) in READS and name not in READS:
        return counts.get(of_statement(STATEMENTS, name), 0.0)
    service = name.partition(".")[0]
    kinds = (f"{service}.messages", COMMANDS, STATEMENTS)
    return max(
        sum(n for one, n in counts.items() if kind_of(one) == kind and one.startswith(f"{service}.")) for kind in kinds
    )


def _replaces_as_much(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Return whether a command or statement, or what it reads, is no more than what it may have replaced."""
    if kind_of(name) not in READS:
        return not more(name, _total(before, name), _total(after, name))
    # A statement that reads less in as many executions makes no room for others.
    fewer = {
        one: before.get(executed, 0.0) - after.get(executed, 0.0)
        for one in before
        if kind_of(one) == kind_of(name)
        for executed in [of_statement(STATEMENTS, one)]
        # Older baselines have the sum of all statements.
        if after.get(executed, 0.0) < before.get(executed, 0.0) or one in READS
    }
    then = sum(before[one] - after.get(one, 0.0) for one in fewer)
    now = sum(count for one, count in after.items() if kind_of(one) == kind_of(name) and not before.get(one))
    return not more(name, then, now, sum(fewer.values()))


def _total(counts: Mapping[str, float], name: str) -> float:
    """Return the sum of all counts of the same kind, such as all commands."""
    return sum(count for one, count in counts.items() if kind_of(one) == kind_of(name))
