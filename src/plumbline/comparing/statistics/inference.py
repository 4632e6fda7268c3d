"""Statistics of a paired comparison, as pure functions.

The unit of evidence is a pair: two fresh processes, base and head, that measured the same benchmark alternately. Blocks
and samples of one process are not independent. A pair gives each benchmark one difference, log(head time / base time):
0.05 is about 5 % slower.

A benchmark fails if the hypothesis "the slow-down is at most `tolerance`" is rejected. It passes if the hypothesis "the
slow-down is at least `minimum_effect`" is rejected. Otherwise it is inconclusive. All interim analyses share the
allowed error (`schedule.py`), and all compared benchmarks share the allowed false positives: a group-sequential test
with Bonferroni's inequality (Lan and DeMets 1983, Biometrika 70:659).

The variance of a few pairs is uncertain. It is shrunk towards the prediction from the other benchmarks and from the
spread of the benchmark's own blocks. The better the other benchmarks agree with that prediction, the more it counts (a
moderated t-statistic: Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3:3, section 6.2).
"""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plumbline.comparing.statistics.plan import CONTROLS
from plumbline.judging.distributions import digamma, student_quantile, trigamma
from plumbline.judging.evidence import Judgement, Thresholds
from plumbline.results.schema import Verdict

# A block is summarised by this share of its samples, the fastest.
FASTEST = 0.25
# Standard deviation between equal processes. It remains in the difference of a pair however many blocks there are.
BETWEEN = 0.01
# Upper limit of the weight of the other benchmarks, in degrees of freedom.
MOST_PRIOR_DEGREES = 10
# Fewer variances do not show how well they agree.
LEAST_FOR_PRIOR = 4
# Lower limit of the standard error of a pair, as a logarithm.
LEAST_SPREAD = 0.002
# The common spread of all pairs has the weight of this many blocks of a pair.
USUAL_BLOCKS = 2
# Two pairs on a busy machine can give infinite bounds. No change is reported above this one, a logarithm.
MOST_SHOWN = math.log(1000)
# A control is wrong if a 99.9 % interval excludes the truth by more than one percentage point.
CONTROL_ERROR, CONTROL_TOLERANCE = 0.001, 0.01
NORMAL_QUARTILE = statistics.NormalDist().inv_cdf(0.75)
# Variance of the median of neighbour differences, relative to that of the mean of one independent difference per block.
# It would be pi / 2 for independent differences. Two neighbouring differences share a block.
OF_MEDIAN = math.pi / 2 * 5 / 6


class ComparisonInvalid(Exception):
    """The comparison is invalid: a worker died or hung, or a control read a wrong value."""

    def __init__(self, reason: str, side: str = "") -> None:
        """`side`: the side whose worker failed, if one did."""
        super().__init__(reason)
        self.side = side


@dataclass(frozen=True)
class Prior:
    """The variance of the other benchmarks' pairs."""

    ratio: float  # their variance over the expected one, which is BETWEEN² plus the variance within a pair
    degrees: int  # weight of the ratio, in degrees of freedom

    def moderated(self, values: Sequence[float], within: Sequence[float]) -> tuple[float, int]:
        """Return the shrunk ratio of actual to expected variance of the differences, and its degrees of freedom.

        `within`: the standard error of each difference by its blocks alone.
        """
        own_degrees = len(values) - 1
        degrees = own_degrees + self.degrees
        return (own_degrees * ratio_of(values, within) + self.degrees * self.ratio) / degrees, degrees


NO_PRIOR = Prior(0.0, 0)
# For few benchmarks. On a noisy machine most ratios of this project's suite are lower; half are below 1.7.
OF_FEW = Prior(3.0, 4)


def figure(samples_s: Sequence[float]) -> float:
    """Return the mean of a block's fastest 25 % of samples, in seconds.

    Other load on a shared machine adds time to some of the samples. Between equal blocks, this mean varies about half
    as much as the median.
    """
    fastest = sorted(samples_s)[: math.ceil(len(samples_s) * FASTEST)]
    return statistics.fmean(fastest)


def block_differences(first: Sequence[float], second: Sequence[float], *, head_first: bool) -> list[float]:
    """Return log(head / base) for each two neighbouring blocks.

    `first` and `second` are the times of the n blocks of each side, measured alternately. This gives 2n - 1 differences
    of neighbours. Only neighbours are compared, because the speed of a shared machine changes within a few blocks. A
    disturbed block then affects only two differences.
    """
    in_turns = [math.log(figure_s) for both in zip(first, second, strict=True) for figure_s in both]
    neighbours = itertools.pairwise(in_turns)
    return [
        earlier - later if (turn % 2 == 0) == head_first else later - earlier
        for turn, (earlier, later) in enumerate(neighbours)
    ]


def blocks_of(differences: Sequence[float]) -> int:
    """Return the number of blocks of each side that gave these differences."""
    return (len(differences) + 1) // 2


def difference(blocks: Sequence[float]) -> float:
    """Return the difference of a pair: the median of its block differences."""
    return statistics.median(blocks)


def spread_of_blocks(pairs: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation of block differences within their pairs, from the median absolute deviation.

    Disturbed blocks hardly change it. 0 if no pair has two blocks of each side.
    """
    deviations: list[float] = []
    for differences in pairs:
        center = difference(differences)
        # The smallest deviation is that of the median itself.
        deviations += sorted(abs(one - center) for one in differences)[1:]
    return statistics.median(deviations) / NORMAL_QUARTILE if deviations else 0.0


def errors_within(pairs: Sequence[Sequence[float]]) -> list[float]:
    """Return the standard error of each pair's difference by the spread of its blocks alone.

    A disturbed pair has a larger standard error. The spread of few blocks is uncertain, so it is shrunk towards the
    common spread of all pairs, which has the weight of USUAL_BLOCKS blocks.
    """
    usual = spread_of_blocks(pairs)
    errors = []
    for differences in pairs:
        own = blocks_of(differences) - 1
        variance = (own * spread_of_blocks([differences]) ** 2 + USUAL_BLOCKS * usual**2) / (own + USUAL_BLOCKS)
        errors.append(math.sqrt(variance * (OF_MEDIAN if own else 1) / (own + 1)))
    return errors


def weights_of(within: Sequence[float]) -> list[float]:
    """Return the weight of each pair: the inverse of its expected variance."""
    return [1 / (BETWEEN**2 + error**2) for error in within]


def mean_of(values: Sequence[float], within: Sequence[float]) -> float:
    return statistics.fmean(values, weights_of(within))


def ratio_of(values: Sequence[float], within: Sequence[float]) -> float:
    """Return the ratio of actual to expected variance of two or more differences.

    Source: Hartung and Knapp 2001, Statistics in Medicine 20:3875.
    """
    mean = mean_of(values, within)
    deviations = [weight * (value - mean) ** 2 for value, weight in zip(values, weights_of(within), strict=True)]
    return sum(deviations) / (len(values) - 1)


def blocks_wanted(pairs: Sequence[Sequence[float]], error: float) -> int:
    """Return the blocks per side that a pair needs for this standard error, from the spread of blocks in `pairs`."""
    return math.ceil(OF_MEDIAN * (spread_of_blocks(pairs) / error) ** 2)


def judge_pairs(
    differences: Sequence[float], within: Sequence[float], thresholds: Thresholds, prior: Prior, *, sharing: int
) -> Judgement:
    """Judge a benchmark by the differences of two or more pairs.

    `within`: the standard error of each difference by its blocks alone, a lower limit. `thresholds`: with the errors
    allowed in this analysis. `sharing`: the number of benchmarks that share the allowed false positives.
    """
    change = mean_of(differences, within)
    ratio, degrees = prior.moderated(differences, within)
    least = 1 / sum(1 / max(error, LEAST_SPREAD) ** 2 for error in within)
    error = math.sqrt(max(ratio / sum(weights_of(within)), least))
    to_fail = student_quantile(1 - thresholds.false_alarms / sharing, degrees) * error
    to_pass = student_quantile(thresholds.power, degrees) * error
    tolerance = math.log1p(thresholds.tolerance)
    verdict: Verdict = "inconclusive"
    if change - to_fail > tolerance:
        verdict = "regression"
    elif change + to_fail < -tolerance:
        verdict = "improvement"
    elif change + to_pass < math.log1p(thresholds.minimum_effect):
        verdict = "pass"
    return Judgement(
        verdict,
        change=_share(change),
        low=_share(change - to_fail),
        high=_share(change + to_pass),
        minimum_detectable_effect=_share(tolerance + to_fail + to_pass),
        pairs=len(differences),
        error=error,
    )


def _share(logarithm: float) -> float:
    return math.expm1(min(logarithm, MOST_SHOWN))


def prior_of(
    differences: Mapping[str, Sequence[float]], within: Mapping[str, Sequence[float]], *, of_few: Prior = OF_FEW
) -> Prior:
    """Estimate the common variance of all benchmarks from the moments of log variances (Smyth 2004, section 6.2).

    `within`: as for `judge_pairs`. Benchmarks with a single pair do not count. `of_few`: the prior to use if fewer than
    LEAST_FOR_PRIOR benchmarks count.
    """
    variances = [
        (max(ratio_of(values, within[key]), (LEAST_SPREAD / BETWEEN) ** 2), len(values) - 1)
        for key, values in differences.items()
        if len(values) > 1
    ]
    if len(variances) < LEAST_FOR_PRIOR:
        return of_few
    logs = [math.log(variance) - digamma(degrees / 2) + math.log(degrees / 2) for variance, degrees in variances]
    beyond_chance = statistics.variance(logs) - statistics.fmean(trigamma(degrees / 2) for _, degrees in variances)
    degrees = MOST_PRIOR_DEGREES
    while degrees > 0 and trigamma(degrees / 2) < beyond_chance:
        degrees -= 1
    if degrees == 0:
        return NO_PRIOR
    return Prior(math.exp(statistics.fmean(logs) + digamma(degrees / 2) - math.log(degrees / 2)), degrees)


def check_controls(differences: Mapping[str, Sequence[float]], prior: Prior) -> None:
    """Raise ComparisonInvalid if a control did not read its known slow-down.

    `prior`: the variance of the benchmarks. A control with a single pair is not checked.
    """
    for key, truth in CONTROLS.items():
        values = differences.get(key, [])
        if len(values) < 2:
            continue
        change = statistics.fmean(values)
        ratio, degrees = prior.moderated(values, [0.0] * len(values))
        margin = student_quantile(1 - CONTROL_ERROR / 2, degrees) * BETWEEN * math.sqrt(ratio / len(values))
        if abs(change - math.log1p(truth)) - margin > CONTROL_TOLERANCE:
            raise ComparisonInvalid(
                f"the control {key.rpartition('::')[2]} reads {math.expm1(change):+.1%} and should read {truth:+.0%}:"
                " the timings of this machine can't be trusted now; run it again when the machine is less busy"
            )
