"""The records of Locust's processes, and when these processes stalled. Pure."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec

TICK_S = 0.02  # as in in_locust/plumbline_open_loop.py


class ArrivalRow(msgspec.Struct, array_like=True, frozen=True):
    """The arrival of a task: the time it was due, its delay (None if it never began), and whether no user was free."""

    due_s: float
    late_s: float | None
    waited: bool


class RequestRow(msgspec.Struct, array_like=True, frozen=True):
    """A request: the time it was due, its delay, the duration of the answer, its name, and the error or ""."""

    due_s: float
    late_s: float
    took_s: float
    name: str
    error: str
    stalled_s: float = 0.0  # how long its Locust process stalled meanwhile


class TickRow(msgspec.Struct, array_like=True, frozen=True):
    """The delay of a timer of TICK_S in a Locust process."""

    at_s: float
    late_s: float


class Rows(msgspec.Struct, frozen=True):
    """The records of Locust's processes, in the order of time."""

    process: str = ""  # "" for all of them
    arrivals: list[ArrivalRow] = []
    requests: list[RequestRow] = []
    ticks: list[TickRow] = []


def merged(parts: Iterable[Rows], late_ms: float) -> Rows:
    """Return the rows of all processes in the order of time, and how long a process stalled during each request.

    A process has stalled if one of its timers was later than `late_ms`.
    """
    by_process, found = defaultdict[str, list[Rows]](list), Rows()
    for part in parts:
        by_process[part.process].append(part)
    for several in by_process.values():
        ticks = sorted((row for part in several for row in part.ticks), key=lambda row: row.at_s)
        late = [row for row in ticks if row.late_s * 1000 > late_ms]
        stalls = [(row.at_s, row.at_s + TICK_S + row.late_s) for row in late]
        for part in several:
            found.arrivals.extend(part.arrivals)
            found.requests.extend(_with_stalls(row, stalls) if stalls else row for row in part.requests)
        found.ticks.extend(one for row in ticks for one in _with_missed(row))
    found.arrivals.sort(key=lambda row: row.due_s)
    found.requests.sort(key=lambda row: row.due_s)
    found.ticks.sort(key=lambda row: row.at_s)
    return found


def _with_stalls(row: RequestRow, stalls: Sequence[tuple[float, float]]) -> RequestRow:
    end_s, stalled_s = row.due_s + row.late_s + row.took_s, 0.0
    for begin_s, over_s in stalls[bisect_right(stalls, row.due_s, key=lambda stall: stall[1]) :]:
        if begin_s >= end_s:
            break
        stalled_s += min(over_s, end_s) - max(begin_s, row.due_s)
    return msgspec.structs.replace(row, stalled_s=stalled_s) if stalled_s else row


def _with_missed(row: TickRow) -> Iterator[TickRow]:
    """Yield a tick, and those that it has kept from beginning: a stall delays all timers of its time."""
    for number in range(1 + max(0, int(row.late_s / TICK_S))):
        yield TickRow(row.at_s + number * TICK_S, row.late_s - number * TICK_S)
