"""Families of counts, and whether a count has grown: pure functions of data."""

from collections.abc import Sequence

# Counts of one family can be taken together, or not at all.
SOCKETS, COMMANDS, STATEMENTS, ROWS = "messages", "redis.command", "postgres.statement", "postgres.rows_read"
# Allowed growth of bytes: a share, and 16 for each message, command or statement. Ids, dates and numbers grow in time.
BYTES_SHARE, BYTES = 0.01, 16
# Counts are written with five digits.
ROUNDED = 1e-4


def family(name: str) -> str:
    """Return the family of a count."""
    kind = kind_of(name)
    if kind == "postgres.parse":
        return STATEMENTS
    return kind if kind in (COMMANDS, STATEMENTS, ROWS) else SOCKETS


def more(name: str, old: float, new: float, requests: float = 1) -> bool:
    """Return whether a count has grown by more than is allowed; `requests`: its messages, commands or statements."""
    if ".bytes_" in kind_of(name):
        return new > old * (1 + BYTES_SHARE) + BYTES * max(requests, 1)
    return new > old * (1 + ROUNDED)


def same_count(name: str, values: Sequence[float]) -> bool:
    """Return whether these are the same count, taken several times."""
    return not more(name, min(values), max(values))


def kind_of(name: str) -> str:
    """Return a count's name without the command or the text of the statement."""
    return name.partition(" ")[0]
