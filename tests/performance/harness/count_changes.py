"""Counts against the baseline's: pure functions of data, without noise and nearly without the machine."""

from collections.abc import Collection, Iterable, Sequence

from .results import Benchmark, CountChange, Results

SOCKETS, COMMANDS, STATEMENTS, ROWS = "messages", "redis.command", "postgres.statement", "postgres.rows_read"
"""Families of counts, which are taken, or can't be taken, together."""

BYTES_SHARE, BYTES = 0.01, 16
"""What bytes may grow by: ids, timestamps and numbers do, as time goes by."""
ROUNDED = 1e-4
"""What a count may differ by for being written with five digits."""


def family(name: str) -> str:
    """The family of a count."""
    kind = name.partition(" ")[0]
    if kind == "postgres.parse":
        return STATEMENTS
    return kind if kind in (COMMANDS, STATEMENTS, ROWS) else SOCKETS


def more(name: str, old: float, new: float) -> bool:
    """Whether a count has grown by more than it may."""
    if ".bytes_" in name:
        return new > old * (1 + BYTES_SHARE) + BYTES
    return new > old * (1 + ROUNDED)


def same_count(name: str, values: Sequence[float]) -> bool:
    """Whether these are the same count, taken several times."""
    return not more(name, min(values), max(values))


def compare_counts(old: Benchmark, new: Benchmark, *, same_backend: bool) -> list[CountChange]:
    """What has changed, what is held against the benchmark first.

    Nothing is said of a count that varies in either, or whose family couldn't be taken in either. Held against it is
    what has grown: messages on the same backend alone, as another cuts them otherwise. A command or statement in the
    place of another one is told, but not held against it as long as there are no more of them altogether.
    """
    changes = []
    for name in sorted(old.counts.keys() | new.counts.keys()):
        if name in old.counts_varying or name in new.counts_varying:
            continue
        if not (family(name) in old.counted and family(name) in new.counted):
            continue
        then, now = old.counts.get(name, 0.0), new.counts.get(name, 0.0)
        grown = more(name, then, now)
        if grown or more(name, now, then):
            replaces = then == 0 and " " in name and not more(name, _total(old, name), _total(new, name))
            gated = grown and not replaces and (same_backend or not name.endswith(".messages"))
            changes.append(CountChange(name, then, now, gated))
    return sorted(changes, key=lambda change: not change.gated)


def judge_counts(results: Results, baseline: Results | None, accepted: Collection[str] = ()) -> None:
    """Lay the judgement of counts over the verdicts that the timings of a run have been given.

    A count that has grown makes a regression on any machine, or `accepted` for these keys; where the benchmark's own
    source is another, it is told alone.
    """
    entries = {entry.key: entry for entry in baseline.benchmarks} if baseline else {}
    for benchmark in results.benchmarks:
        old = entries.get(benchmark.key) or entries.get(benchmark.renamed_from)
        if baseline is None or old is None:
            continue
        same_backend = baseline.environment.services == results.environment.services
        benchmark.count_changes = compare_counts(old, benchmark, same_backend=same_backend)
        grown = grown_counts(benchmark)
        if grown and benchmark.verdict not in ("changed", "invalid"):
            benchmark.verdict = "accepted" if benchmark.key in accepted else "regression"
        benchmark.reasons += [describe(change) for change in _telling(grown)]


def grown_counts(benchmark: Benchmark) -> list[CountChange]:
    """The counts that are held against a benchmark."""
    return [change for change in benchmark.count_changes if change.gated]


def describe(change: CountChange) -> str:
    """`redis messages 1 → 50`, `SELECT … FROM item WHERE id = $1: 1 → 51`"""
    return f"{_label(change.name)} {_number(change.old)} → {_number(change.new)}"


def group_changes(benchmarks: Iterable[Benchmark]) -> list[str]:
    """Counts that have grown in several benchmarks alike: `redis messages 6 → 8 in 12 benchmarks`."""
    alike: dict[tuple[str, str], list[CountChange]] = {}
    for benchmark in benchmarks:
        for change in _telling(grown_counts(benchmark)):
            alike.setdefault((change.name, _number(change.new - change.old)), []).append(change)
    lines = []
    for (name, growth), changes in sorted(alike.items(), key=lambda item: -len(item[1])):
        texts = {describe(change) for change in changes}
        text = texts.pop() if len(texts) == 1 else f"{_label(name)} +{growth}"
        lines.append(f"{text} in {len(changes)} benchmarks" if len(changes) > 1 else text)
    return lines


def _total(benchmark: Benchmark, name: str) -> float:
    """All commands, all statements or all that were parsed, whichever this one is of."""
    kind = name.partition(" ")[0]
    return sum(count for one, count in benchmark.counts.items() if one.partition(" ")[0] == kind)


def _telling(grown: list[CountChange]) -> list[CountChange]:
    """Without bytes where more messages, commands or statements say why there are more of them."""
    services = {change.name.partition(".")[0] for change in grown if ".bytes_" not in change.name}
    return [one for one in grown if ".bytes_" not in one.name or one.name.partition(".")[0] not in services]


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
