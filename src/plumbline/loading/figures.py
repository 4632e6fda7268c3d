"""The figures of a load test from what Locust's processes recorded. Pure."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from msgspec import Struct

from plumbline.loading.plan import Window
from plumbline.loading.rows import RequestRow, Rows

PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
MOST_ERRORS = 3
Row = TypeVar("Row")


class Figures(Struct, frozen=True, kw_only=True):
    """The figures of one side in one stage, or in one window. Times are timed from when a request was due."""

    rate_per_s: float  # the wanted rate
    measured_s: float
    arrivals: int
    sent: int
    requests: int
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    p99_from_sending_ms: float = 0.0
    error_share: float = 0.0
    waited_share: float = 0.0  # of arrivals for which no user was free
    generator_late_ms: float = 0.0  # how late the generator itself was, at the 99th percentile
    stalled: int = 0  # requests during which the generator stalled
    stalled_error_share: float = 0.0  # of requests that failed during a stall
    unstalled_ms: dict[str, float] = {}  # percentiles of the times without these stalls
    on_time_s: list[float] = []  # of requests that were sent on time, in ascending order
    errors: list[str] = []  # the most frequent ones, with their number

    @property
    def reached_per_s(self) -> float:
        return self.sent / self.measured_s if self.measured_s else 0.0

    def ms(self, name: str) -> float:
        """Return a percentile by its name, such as p95."""
        return float(getattr(self, f"{name}_ms"))

    @property
    def least_error_share(self) -> float:
        return self.error_share - self.stalled_error_share

    def least_ms(self, name: str) -> float:
        """Return a percentile without the generator's stalls."""
        return self.unstalled_ms.get(name, self.ms(name))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile of values in ascending order, by nearest rank; 0 if there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def figures_of(rows: Rows, windows: Sequence[Window], late_ms: float) -> Figures:
    """Return the figures of requests that were due in these windows of one side, without their first seconds.

    A task has waited for a user if it was sent later than `late_ms` for want of one.
    """
    arrivals = _within(rows.arrivals, lambda row: row.due_s, windows)
    requests = _within(rows.requests, lambda row: row.due_s, windows)
    times_s = sorted(row.late_s + row.took_s for row in requests)
    unstalled_s = sorted(map(_unstalled_s, requests))
    failed = [row for row in requests if row.error]
    # A task that no user was free for is late because of the application, which kept the users waiting.
    late_s = [row.late_s for row in arrivals if row.late_s is not None and not row.waited]
    late_s += [row.late_s for row in _within(rows.ticks, lambda row: row.at_s, windows)]
    waited = [row for row in arrivals if row.waited and (row.late_s is None or row.late_s * 1000 > late_ms)]
    errors = Counter(f"{row.name}: {row.error}" if row.name else row.error for row in failed)
    at = {f"{name}_ms": percentile(times_s, share) * 1000 for name, share in PERCENTILES.items()}
    return Figures(
        rate_per_s=windows[0].rate_per_s,
        measured_s=sum(window.end_s - window.measured_from_s for window in windows),
        arrivals=len(arrivals),
        sent=sum(row.late_s is not None for row in arrivals),
        requests=len(requests),
        max_ms=percentile(times_s, 1) * 1000,
        p99_from_sending_ms=percentile(sorted(row.took_s for row in requests), 0.99) * 1000,
        error_share=len(failed) / (len(requests) or 1),
        waited_share=len(waited) / (len(arrivals) or 1),
        generator_late_ms=percentile(sorted(late_s), 0.99) * 1000,
        stalled=sum(row.stalled_s > 0 for row in requests),
        unstalled_ms={name: percentile(unstalled_s, share) * 1000 for name, share in PERCENTILES.items()},
        stalled_error_share=sum(row.stalled_s > 0 for row in failed) / (len(requests) or 1),
        on_time_s=sorted(_unstalled_s(row) for row in requests if row.late_s * 1000 <= late_ms),
        errors=[f"{count} x {text}" for text, count in errors.most_common(MOST_ERRORS)],
        **at,
    )


def _unstalled_s(row: RequestRow) -> float:
    return row.late_s + row.took_s - row.stalled_s


def _within(rows: Sequence[Row], time_of: Callable[[Row], float], windows: Iterable[Window]) -> list[Row]:
    """Return the rows in the measured time of these windows. `rows` are in the order of their times."""
    found: list[Row] = []
    for window in windows:
        begin, end = (bisect_left(rows, at_s, key=time_of) for at_s in (window.measured_from_s, window.end_s))
        found += rows[begin:end]
    return found
