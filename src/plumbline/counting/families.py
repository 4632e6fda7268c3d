"""Families of counts, the comparison of two counts, and the interface of a source of counts."""

from collections.abc import Sequence
from typing import Protocol

# The counts of a family are taken together or not at all.
SOCKETS, COMMANDS, STATEMENTS, ROWS = "messages", "redis.command", "postgres.statement", "postgres.rows_read"
PARSES = "postgres.parse"  # of STATEMENTS: how often one is prepared
# Rows and buffers are counted for each statement: its text follows the name, as in that of STATEMENTS.
BUFFERS, KEYS, STORED = "postgres.buffers", "redis.keys", "redis.bytes_stored"
KEYS_READ, CHANGES = "redis.keys_read", "redis.changes"  # both of KEYS
READS = (ROWS, BUFFERS)
CPU = "redis.cpu_us"  # of no family: it is not exact, and only shown
BLOCKING = "blocking"  # calls that block an event loop, by function
ALLOCATIONS, PEAK_BYTES = "allocations", "peak_bytes"  # of one process, whose name is before the dot
# The share by which each of them may grow, and the number on top of that: see docs/explanation/accuracy.md.
MEMORY: dict[str, tuple[float, float]] = {ALLOCATIONS: (0.03, 2), PEAK_BYTES: (0.02, 8192)}
# Bytes may grow by 1 %, and by 16 per message, command or statement: ids, dates and numbers get longer over time.
BYTES_SHARE, BYTES = 0.01, 16
# Buffers may grow by 25 %, and by 4 per statement: pages fill differently. `scripts.buffers` measures it.
BUFFERS_SHARE, BUFFERS_EACH = 0.25, 4
ROUNDED = 1e-4  # tolerance: counts are saved with five digits


def family(name: str) -> str:
    kind = kind_of(name)
    if is_memory(name):
        return f"{kind.rpartition('.')[0]}.{ALLOCATIONS}"
    if kind == PARSES:
        return STATEMENTS
    if kind in (KEYS_READ, CHANGES):
        return KEYS
    return kind if kind in (COMMANDS, STATEMENTS, ROWS, BUFFERS, STORED, CPU, BLOCKING) else SOCKETS


def more(name: str, old: float, new: float, requests: float = 1) -> bool:
    """Return whether a count has grown too much. `requests` is its number of messages, commands or statements."""
    if ".bytes_" in kind_of(name):
        return new > old * (1 + BYTES_SHARE) + BYTES * max(requests, 1)
    if kind_of(name) == BUFFERS:
        return new > old * (1 + BUFFERS_SHARE) + BUFFERS_EACH * requests
    if is_memory(name):
        share, extra = MEMORY[kind_of(name).rpartition(".")[2]]
        return new > old * (1 + share) + extra
    return new > old * (1 + ROUNDED)


def same_count(name: str, values: Sequence[float]) -> bool:
    """Return whether these values of a count differ by no more than is allowed."""
    return not more(name, min(values), max(values))


def kind_of(name: str) -> str:
    """Return a count's name without the command or the statement."""
    return name.partition(" ")[0]


def of_statement(kind: str, name: str) -> str:
    """Return the name of another count of the same statement."""
    return f"{kind} {name.partition(' ')[2]}"


def is_memory(name: str) -> bool:
    return kind_of(name).rpartition(".")[2] in MEMORY


def divisor(name: str, operations: int) -> int:
    """Return what a round's count is divided by. The peak is that of the whole block."""
    return 1 if name.endswith(f".{PEAK_BYTES}") else operations


Numbers = dict[str, float]


class CannotCount(Exception):
    """Something cannot be counted. str() is the reason."""


class Source(Protocol):
    """A source of counts. If a method raises CannotCount, the source is dropped for the rest of the pass."""

    families: list[str]

    def begin(self) -> None:
        """Prepare for a pass."""

    def enter(self) -> None:
        """Begin to count at the start of a round's block."""

    def leave(self) -> None:
        """Stop counting at the end of a round's block."""

    def end(self) -> list[Numbers]:
        """Clean up and return the counts since `begin`, by round. Called even if the source was dropped."""
