"""Changes of counts for a reader: the likely cause first, and without those that come with others."""

from collections.abc import Collection, Iterable, Sequence

from plumbline.counting.families import (
    BUFFERS,
    CHANGES,
    COMMANDS,
    KEYS_READ,
    PARSES,
    PEAK_BYTES,
    READS,
    ROWS,
    STATEMENTS,
    is_memory,
    kind_of,
    of_statement,
)
from plumbline.results.schema import Benchmark, CallSite, CountChange, CountGrowth

TRANSACTIONS = {"BEGIN", "START", "COMMIT", "ROLLBACK"}  # they come with the statements between them


def growth(change: CountChange) -> CountGrowth:
    first = next(iter(change.sites), None)
    return CountGrowth(change.name, change.old, change.new, most=change.most, site=first)


def group_changes(benchmarks: Iterable[Benchmark], *, gated: bool = True) -> dict[CountGrowth, list[str]]:
    """Group equal changes of a count in several benchmarks, the most common first, with the benchmarks' keys.

    `gated`: which changes to group.
    """
    alike: dict[tuple[str, float], dict[str, CountChange]] = {}
    for benchmark in benchmarks:
        for change in explaining([one for one in _without_parses(benchmark.count_changes) if one.gated == gated]):
            alike.setdefault((change.name, _as_shown(change.new - change.old)), {})[benchmark.key] = change
    return {
        CountGrowth(
            name,
            next(iter(changes.values())).old,
            next(iter(changes.values())).new,
            benchmarks=len(changes),
            alike=len({(_as_shown(one.old), _as_shown(one.new), one.most) for one in changes.values()}) == 1,
            most=next(iter(changes.values())).most,
            site=_common_site(changes.values()),
        ): list(changes)
        for (name, _), changes in sorted(alike.items(), key=lambda item: -len(item[1]))
    }


def _common_site(changes: Collection[CountChange]) -> CallSite | None:
    """Return the line that a count came from in all benchmarks, or None."""
    sites = [change.sites[0] for change in changes if change.sites]
    places = {(one.file, one.line, one.function) for one in sites}
    return sites[0] if len(places) == 1 and len(sites) == len(changes) else None


def explaining(changes: Sequence[CountChange]) -> list[CountChange]:
    """Leave out changes that come with others.

    - what a statement reads, if it has been executed more often;
    - a service's bytes and keys, if its messages, commands or rows have changed;
    - allocations if anything else has changed, because requests and their answers take memory;
    - the peak of a process if its allocations have changed.
    """
    changes = _without_reads(_without_parses(changes))
    memory = [change for change in changes if is_memory(change.name)]
    if len(memory) < len(changes):
        changes = [change for change in changes if change not in memory]
    lesser = (KEYS_READ, CHANGES)
    sizes = [
        change
        for change in changes
        if ".bytes_" in kind_of(change.name) or change.name.endswith(f".{PEAK_BYTES}") or change.name in lesser
    ]
    services = {change.name.partition(".")[0] for change in changes if change not in sizes}
    return [one for one in changes if one not in sizes or one.name.partition(".")[0] not in services]


def _without_parses(changes: Sequence[CountChange]) -> list[CountChange]:
    """Leave out how often a statement is prepared if it is executed as many times more."""
    more = {change.name: change.new - change.old for change in changes}
    executed = {PARSES + name.removeprefix(STATEMENTS): grown for name, grown in more.items() if STATEMENTS in name}
    return [one for one in changes if one.name not in executed or executed[one.name] < more[one.name]]


def _without_reads(changes: Sequence[CountChange]) -> list[CountChange]:
    """Leave out the buffers of a statement if its rows or executions have changed, and rows that grew as executions."""
    found = {change.name: change for change in changes}

    def is_explained(one: CountChange) -> bool:
        executed, rows = (found.get(of_statement(kind, one.name)) for kind in (STATEMENTS, ROWS))
        if kind_of(one.name) == BUFFERS:
            return bool(executed or rows)
        return executed is not None and (
            one.new - one.old <= executed.new - executed.old or 0 < one.new * executed.old <= one.old * executed.new
        )

    return [one for one in changes if kind_of(one.name) not in READS or not is_explained(one)]


def most_telling_first(changes: Iterable[CountChange]) -> list[CountChange]:
    """Sort changes: what counts against the benchmark, then what is most likely its cause, then what grew most.

    Of those that grew alike, new ones are more likely the cause.
    """

    def likely(one: CountChange) -> int:
        kind = kind_of(one.name)
        is_transaction = one.name.partition(" ")[2].partition(" ")[0] in TRANSACTIONS
        causes = (
            kind in {STATEMENTS, COMMANDS, PARSES} and not is_transaction,
            kind.endswith(".connections"),
            " " in one.name,
        )
        return [*causes, not is_memory(one.name), True].index(True)

    return sorted(changes, key=lambda one: (not one.gated, likely(one), one.old - one.new, one.old))


def _as_shown(count: float) -> float:
    return float(f"{count:.4g}" if count < 10_000 else f"{count:.0f}")
