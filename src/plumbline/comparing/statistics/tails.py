"""The 90th percentile and the mean of a pair. They show a slow-down of some calls, which the fastest samples do not."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from plumbline.measuring.statistics import tail_figure
from plumbline.settings import Tail

TAILS: tuple[Tail, ...] = ("p90", "mean")
MOST_BATCHES, LEAST_IN_BATCH = 10, 10


class Reading(NamedTuple):
    """One pair's measurement of one tail."""

    difference: float  # log(head / base)
    spread: float  # its standard error by the samples, times the root of their number
    samples: int  # of each side


def tails_of(base_s: Sequence[float], head_s: Sequence[float]) -> dict[Tail, Reading]:
    """Return what a pair reads, from three or more samples of each side in seconds, in the order of measurement."""
    batches = min(max(len(head_s) // LEAST_IN_BATCH, 2), MOST_BATCHES)
    size = len(head_s) // batches
    found: dict[Tail, Reading] = {}
    for tail in TAILS:
        # The sides alternate, so what changes slowly is in both parts of a batch, and cancels out.
        # Source: the method of batch means (Law 2015, Simulation Modeling and Analysis, section 9.5.3).
        parts = [slice(at * size, (at + 1) * size) for at in range(batches)]
        spread = statistics.stdev(_difference(tail, base_s[part], head_s[part]) for part in parts) * math.sqrt(size)
        found[tail] = Reading(_difference(tail, base_s, head_s), spread, len(head_s))
    return found


def _difference(tail: Tail, base_s: Sequence[float], head_s: Sequence[float]) -> float:
    return math.log(tail_figure(tail, head_s) / tail_figure(tail, base_s))


def errors_of(readings: Sequence[Reading]) -> list[float]:
    """Return the standard error of each pair's difference by its number of samples.

    All pairs share one spread. By its own one, a pair that met no slow call would seem to be the most certain.
    """
    spread = math.sqrt(statistics.fmean(read.spread**2 for read in readings))
    return [spread / math.sqrt(read.samples) for read in readings]
