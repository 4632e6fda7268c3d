"""Families of counts, whether a count has grown, and the interface of a source of counts."""

from collections.abc import Sequence
from typing import Protocol

# Counts of one family can be taken together, or not at all.
SOCKETS, COMMANDS, STATEMENTS, ROWS = "messages", "redis.command", "postgres.statement", "postgres.rows_read"
# Allowed growth of bytes: a share, and 16 for each message, command or statement. Ids, dates and numbers grow in time.
BYTES_SHARE, BYTES = 0.01, 16
ROUNDED = 1e-4  # counts are written with five digits


def family(name: str) -> str:
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


Numbers = dict[str, float]


class CannotCount(Exception):
    """Something cannot be counted here; str() says why."""


class Source(Protocol):
    """Something that counts. Each method may raise CannotCount; the source is then left out of the rest of a pass."""

    families: list[str]

    def begin(self) -> None:
        """Get ready for some rounds."""

    def enter(self) -> None:
        """Begin the window of one round."""

    def leave(self) -> None:
        """End it."""

    def end(self) -> list[Numbers]:
        """Return the counts since `begin`, by round; called even if the source was left out, to clean up."""
