"""Counts against the baseline's: pure functions of data, without noise and nearly without the machine."""

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from plumbline.counting.families import COMMANDS, ROWS, STATEMENTS, family, kind_of, more
from plumbline.results.schema import Benchmark, CountChange, Results

T = TypeVar("T")

CUT_OTHERWISE = 2
"""How many times as many segments a message may be that doesn't fit one: they are half full at least."""


def compare_counts(
    old: Benchmark, new: Benchmark, *, same_backend: bool, same_profile: bool = True
) -> list[CountChange]:
    """What has changed, what is held against the benchmark first.

    Nothing is said of a count that varies in either, or whose family couldn't be taken in either. Held against it is
    what has grown: messages on the same backend alone, as another cuts them otherwise, and where they don't fit one
    segment only what has more than doubled; rows read under the same profile alone, as with more samples more may have
    been written before. A command or statement in the place of another one is told, but not held against it as long as
    there are no more of them altogether.
    """
    changes = []
    before, after = _as_messages(old.counts), _as_messages(new.counts)
    varying = _as_messages(old.counts_varying).keys() | _as_messages(new.counts_varying).keys()
    for name in sorted((before.keys() | after.keys()) - varying):
        if not (family(name) in old.counted and family(name) in new.counted):
            continue
        then, now = before.get(name, 0.0), after.get(name, 0.0)
        cut = bool(then and now) and not (name in old.counts and name in new.counts)
        factor = CUT_OTHERWISE if cut else 1
        requests = _requests(before, name)
        grown = more(name, then * factor, now, requests)
        if grown or more(name, now * factor, then, requests):
            replaces = then == 0 and " " in name and not more(name, _total(old, name), _total(new, name))
            comparable = same_backend if kind_of(name).endswith(".messages") else same_profile or name != ROWS
            gated = grown and not replaces and comparable
            changes.append(CountChange(name, then, now, gated))
    return sorted(changes, key=lambda change: not change.gated)


def note_counts(results: Results, baseline: Results | None) -> list[Benchmark]:
    """Note what has changed in the counts of each benchmark; returns those against which some of it is held.

    `baseline` may be one of another kind of machine. Where the benchmark's own source is another, it is told alone.
    """
    held = []
    entries = {entry.key: entry for entry in baseline.benchmarks} if baseline else {}
    for benchmark in results.benchmarks:
        old = entries.get(benchmark.key) or entries.get(benchmark.renamed_from)
        if baseline is None or old is None:
            continue
        same_backend = baseline.environment.services == results.environment.services
        same_profile = baseline.profile == results.profile
        benchmark.count_changes = compare_counts(old, benchmark, same_backend=same_backend, same_profile=same_profile)
        if grown_counts(benchmark) and benchmark.verdict != "invalid" and old.source_hash == benchmark.source_hash:
            held.append(benchmark)
    return held


def judge_counts(results: Results, held: Iterable[Benchmark], unaffected: Collection[str] = ()) -> None:
    """Lay the judgement of counts over the verdicts that the timings of a run have been given.

    What is held against a benchmark makes a regression; for those keys that run nothing that differs from the base,
    `drift`.
    """
    for benchmark in held:
        benchmark.verdict = "drift" if benchmark.key in unaffected else "regression"
    for benchmark in results.benchmarks:
        grown = grown_counts(benchmark)
        benchmark.reasons = [describe(change) for change in _telling(grown)] + benchmark.reasons


def grown_counts(benchmark: Benchmark) -> list[CountChange]:
    """The counts that are held against a benchmark."""
    return [change for change in benchmark.count_changes if change.gated]


def grown_beyond(benchmark: Benchmark, counts: Mapping[str, float]) -> list[CountChange]:
    """The counts held against a benchmark that have grown beyond these as well, or aren't among them."""
    return [
        one
        for one in grown_counts(benchmark)
        if more(one.name, counts.get(one.name, one.old), one.new, _requests(benchmark.counts, one.name))
    ]


def describe(change: CountChange) -> str:
    """`redis messages 1 → 50`, `SELECT … FROM item WHERE id = $1: 1 → 51`"""
    return f"{_label(change.name)} {_number(change.old)} → {_number(change.new)}"


def group_changes(benchmarks: Iterable[Benchmark], *, gated: bool = True) -> list[str]:
    """Counts that have changed in several benchmarks alike: `redis messages 6 → 8 in 12 benchmarks`.

    Either those that are held against the benchmarks, or the others.
    """
    alike: dict[tuple[str, str], list[CountChange]] = {}
    for benchmark in benchmarks:
        for change in _telling([change for change in benchmark.count_changes if change.gated == gated]):
            alike.setdefault((change.name, _number(change.new - change.old)), []).append(change)
    lines = []
    for (name, growth), changes in sorted(alike.items(), key=lambda item: -len(item[1])):
        texts = {describe(change) for change in changes}
        text = texts.pop() if len(texts) == 1 else f"{_label(name)} {growth if growth[0] == '-' else f'+{growth}'}"
        lines.append(f"{text} in {len(changes)} benchmarks" if len(changes) > 1 else text)
    return lines


def _as_messages(counts: Mapping[str, T]) -> dict[str, T]:
    """Segments under the name of the messages that they are parts of."""
    names = {name: name.replace(".segments", ".messages") if kind_of(name) == name else name for name in counts}
    return {names[name]: count for name, count in counts.items()}


def _requests(counts: Mapping[str, float], name: str) -> float:
    """The messages, commands or statements, whichever are most, of the service whose count this one is."""
    service = name.partition(".")[0]
    kinds = (f"{service}.messages", COMMANDS, STATEMENTS)
    return max(
        sum(n for one, n in counts.items() if kind_of(one) == kind and one.startswith(f"{service}.")) for kind in kinds
    )


def _total(benchmark: Benchmark, name: str) -> float:
    """All commands, all statements or all that were parsed, whichever this one is of."""
    return sum(count for one, count in benchmark.counts.items() if kind_of(one) == kind_of(name))


def _telling(changes: list[CountChange]) -> list[CountChange]:
    """Without bytes where messages, commands or statements say why there are more or fewer of them."""
    in_bytes = [change for change in changes if ".bytes_" in kind_of(change.name)]
    services = {change.name.partition(".")[0] for change in changes if change not in in_bytes}
    return [one for one in changes if one not in in_bytes or one.name.partition(".")[0] not in services]


def _label(name: str) -> str:
    kind, _, text = name.partition(" ")
    service, _, unit = kind.partition(".")
    if unit == "statement":
        return f"{text}:"
    if unit == "parse":
        return f"{text}: prepared"
    return f"{service} {text or unit.replace('_', ' ')}"


def _number(count: float) -> str:
    return f"{count:,.4g}" if count < 10_000 else f"{count:,.0f}"
