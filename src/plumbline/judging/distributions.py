"""Probability distributions: quantiles and confidence intervals."""

import functools
import math
import statistics
from collections.abc import Callable

CONFIDENCE = 0.95
NORMAL = statistics.NormalDist()
NORMAL_QUARTILE = NORMAL.inv_cdf(0.75)  # of the median absolute deviation, in standard deviations


@functools.lru_cache(maxsize=4096)
def student_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t for 0.5 <= probability < 1, by bisection of the distribution function."""
    low, high = 0.0, 1.0
    while _student_cdf(high, degrees) < probability:
        low, high = high, high * 2
    return _solve(lambda t: _student_cdf(t, degrees), probability, low, high)


def _student_cdf(t: float, degrees: int) -> float:
    """Return the distribution function of Student's t for t >= 0 (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    theta = math.atan(t / math.sqrt(degrees))
    cosine_squared = math.cos(theta) ** 2
    term = total = math.sin(theta) if degrees % 2 == 0 else math.sin(theta) * math.cos(theta)
    for k in range(2 + degrees % 2, degrees, 2):
        term *= cosine_squared * (k - 1) / k
        total += term
    if degrees == 1:
        total = 0.0
    within = total if degrees % 2 == 0 else 2 / math.pi * (theta + total)
    return (1 + within) / 2


def binomial_interval(count: int, of: int) -> tuple[float, float]:
    """Return the exact confidence interval of a share, `count` / `of` (Clopper and Pearson 1934, Biometrika 26:404)."""
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if count == 0 else _solve(lambda share: 1 - _at_most(count - 1, of, share), tail)
    high = 1.0 if count == of else _solve(lambda share: 1 - _at_most(count, of, share), 1 - tail)
    return low, high


def _solve(rising: Callable[[float], float], wanted: float, low: float = 0.0, high: float = 1.0) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return high


def _at_most(count: int, of: int, share: float) -> float:
    """Return the probability of at most `count` successes in `of` trials with probability `share`."""
    if not 0 < share < 1:
        return float(share <= 0 or count >= of)
    logs = [
        math.lgamma(of + 1)
        - math.lgamma(one + 1)
        - math.lgamma(of - one + 1)
        + one * math.log(share)
        + (of - one) * math.log1p(-share)
        for one in range(count + 1)
    ]
    return min(sum(map(math.exp, logs)), 1.0)
