"""Families of counts, and if two counts of a family are the same: pure functions of data."""

from collections.abc import Sequence

SOCKETS, COMMANDS, STATEMENTS, ROWS = "messages", "redis.command", "postgres.statement", "postgres.rows_read"
"""Families of counts, which are taken, or can't be taken, together."""

BYTES_SHARE, BYTES = 0.01, 16
"""What bytes may grow by, 16 for each message, command or statement: ids, dates and numbers do, as time goes by."""
ROUNDED = 1e-4
"""What a count may differ by for being written with five digits."""


def family(name: str) -> str:
    """The family of a count."""
    kind = kind_of(name)
    if kind == "postgres.parse":
        return STATEMENTS
    return kind if kind in (COMMANDS, STATEMENTS, ROWS) else SOCKETS


def more(name: str, old: float, new: float, requests: float = 1) -> bool:
    """Whether a count has grown by more than it may; `requests`: how many messages, commands or statements it is of."""
    if ".bytes_" in kind_of(name):
        return new > old * (1 + BYTES_SHARE) + BYTES * max(requests, 1)
    return new > old * (1 + ROUNDED)


def same_count(name: str, values: Sequence[float]) -> bool:
    """Whether these are the same count, taken several times."""
    return not more(name, min(values), max(values))


def kind_of(name: str) -> str:
    """What a count is of, without the command or the text that it may go on with."""
    return name.partition(" ")[0]
