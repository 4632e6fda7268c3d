"""Statistics of samples: pure functions."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from plumbline.settings import Tail

SAMPLES_FOR_P99 = 1000
LEAST_OF_P90, MOST_OF_P90 = 0.85, 0.95
PARTS, MIN_IN_PART = 5, 7


@dataclass(frozen=True)
class Summary:
    """The figures of a measurement. Times are in seconds per operation."""

    #: All samples, in the order in which they were taken.
    samples_s: tuple[float, ...]
    #: The median.
    median_s: float
    #: The mean.
    mean_s: float
    #: The 95th percentile.
    p95_s: float
    #: The 99th percentile. None if there are fewer than 1,000 samples, because a few samples would decide it.
    p99_s: float | None
    #: The shortest sample.
    minimum_s: float
    #: The longest sample.
    maximum_s: float
    #: Operations per second, which is one divided by the mean.
    rate_per_s: float


def summarize(samples_s: Sequence[float]) -> Summary:
    """Summarize samples, in seconds per operation; raise ValueError if there are none."""
    mean_s = statistics.fmean(samples_s)
    return Summary(
        samples_s=tuple(samples_s),
        median_s=statistics.median(samples_s),
        mean_s=mean_s,
        p95_s=percentile(samples_s, 95),
        p99_s=percentile(samples_s, 99) if len(samples_s) >= SAMPLES_FOR_P99 else None,
        minimum_s=min(samples_s),
        maximum_s=max(samples_s),
        rate_per_s=1 / mean_s if mean_s else 0.0,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, linear between ranks (Hyndman and Fan 1996, type 7)."""
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def tail_figure(tail: Tail, samples: Sequence[float]) -> float:
    """Return the mean, or the 90th percentile as the mean of the samples from the 85th to the 95th percentile.

    If one call in ten is slow, the single sample at the 90th percentile is one of them or not, by chance.
    """
    if tail == "mean":
        return statistics.fmean(samples)
    ordered, count = sorted(samples), len(samples)
    return statistics.fmean(ordered[math.floor(count * LEAST_OF_P90) : math.ceil(count * MOST_OF_P90)])


def unsteadiness(samples: Sequence[float]) -> float:
    """Split samples into five consecutive parts and compare the slowest with the fastest by their medians.

    Returns the difference as a fraction, or 0 for fewer than 7 samples per part. Steady samples stay well below 0.1,
    even with a long tail.
    """
    size = len(samples) // PARTS
    if size < MIN_IN_PART:
        return 0.0
    medians = [statistics.median(samples[part * size : (part + 1) * size]) for part in range(PARTS)]
    return max(medians) / min(medians) - 1 if min(medians) else 0.0


def slope(values: Sequence[float]) -> float:
    """Return the growth of a series per step: the median of the slopes between all pairs (Theil 1950, Sen 1968).

    Use it to assert that memory does not grow. A single outlier, such as a garbage collection, does not change it.

    Args:
        values: At least two values, measured at equal intervals.

    Returns:
        The growth from one value to the next, in the unit of the values.

    Raises:
        ValueError: If there are fewer than two values.

    Example::

        assert slope([10.0, 12.0, 14.0]) == 2.0
    """
    if len(values) < 2:
        raise ValueError("a slope needs two values")
    return statistics.median((b - a) / (j - i) for (i, a), (j, b) in combinations(enumerate(values), 2))


def slower_by(base_s: Sequence[float], head_s: Sequence[float], effect: float) -> float:
    """Return by how much head's samples have a slower median or mean than base's, as a share.

    0 if neither is slower by more than `effect`. A mean also has to be slower beyond its three standard errors.
    """
    if min(len(base_s), len(head_s)) < MIN_IN_PART or not all([*base_s, *head_s]):
        return 0.0
    median = statistics.median(head_s) / statistics.median(base_s) - 1
    mean = statistics.fmean(head_s) / statistics.fmean(base_s) - 1
    parts = (statistics.stdev(one) ** 2 / statistics.fmean(one) ** 2 / len(one) for one in (base_s, head_s))
    error = (1 + mean) * math.sqrt(sum(parts))
    return max((one for one, least in ((median, effect), (mean, effect + 3 * error)) if one > least), default=0.0)


def log_spread(medians_s: Sequence[float]) -> float:
    """Return the standard deviation of the logarithms of medians: 0.01 is about 1 %. 0 for fewer than two medians."""
    return statistics.stdev(math.log(median) for median in medians_s) if len(medians_s) > 1 else 0.0
