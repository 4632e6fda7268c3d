"""Judge a paired comparison: pure functions of data.

The unit of evidence is a pair of fresh processes, base and head, that measured the same benchmark alternately: blocks
and samples of one process are not independent of each other. A pair gives each benchmark one difference, the
logarithm of head's time over base's: 0.05 is about 5 % slower.

A benchmark fails if "the slow-down is at most `tolerance`" is rejected, and passes if "it is `minimum_effect` or more"
is rejected. Until then it is inconclusive. All interim analyses share the allowed error (`schedule.py`), and all
compared benchmarks share the allowed false alarms: a group-sequential test by Bonferroni's inequality (Lan and DeMets
1983, Biometrika 70:659).

A variance from a few pairs is uncertain. It is shrunk towards what the other benchmarks and the spread of the
benchmark's own blocks predict, the more the better the others agree with that (a moderated t-statistic: Smyth 2004,
Statistical Applications in Genetics and Molecular Biology 3:3, section 6.2).
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

# Share of a block's samples, the fastest, that stands for the block.
FASTEST = 0.25
# Standard deviation between processes that are alike: what is left of a pair's with any number of blocks.
BETWEEN = 0.01
# The other benchmarks count for no more than this many pairs of a benchmark's own.
MOST_PRIOR_DEGREES = 10
# Fewer variances do not show how well they agree.
LEAST_FOR_PRIOR = 4
# Smallest believable standard error of a pair, as a logarithm.
LEAST_SPREAD = 0.002
# The spread of all pairs' blocks counts for this many blocks of a pair's own.
USUAL_BLOCKS = 2
# Two pairs of a busy machine can leave bounds beyond every number: none is shown above this one.
MOST_SHOWN = math.log(1000)
# A control is wrong if a 99.9 % interval excludes the truth by more than a point.
CONTROL_ERROR, CONTROL_TOLERANCE = 0.001, 0.01
NORMAL_QUARTILE = statistics.NormalDist().inv_cdf(0.75)
# Variance of the median of the differences between neighbours, over that of a mean of as many independent ones as there
# are blocks of each side. For independent differences it is pi / 2. Here two share a block, so their signs agree more.
OF_MEDIAN = math.pi / 2 * 5 / 6


class ComparisonInvalid(Exception):
    """A comparison proves nothing: a side died or hung, or a control read an impossible figure."""

    def __init__(self, reason: str, side: str = "") -> None:
        """`side`: the one that is to blame, if it is one."""
        super().__init__(reason)
        self.side = side


@dataclass(frozen=True)
class Prior:
    """How pairs of the other benchmarks vary."""

    ratio: float  # their variance over the expected one: BETWEEN² and the variance within each pair together
    degrees: int  # degrees of freedom that this is worth

    def moderated(self, values: Sequence[float], within: Sequence[float]) -> tuple[float, int]:
        """Return the variance of at least two differences over the expected one, shrunk, and its degrees of freedom.

        `within`: standard error of each by its own blocks alone.
        """
        own_degrees = len(values) - 1
        degrees = own_degrees + self.degrees
        return (own_degrees * ratio_of(values, within) + self.degrees * self.ratio) / degrees, degrees


NO_PRIOR = Prior(0.0, 0)
# For few benchmarks. Most of this project's vary by less on a noisy machine, half of them by less than 1.7 times.
OF_FEW = Prior(3.0, 4)


def figure(samples_s: Sequence[float]) -> float:
    """Return the mean of a block's fastest quarter, in seconds.

    Neighbours of a shared machine only ever add time, to some of the samples: between blocks that differ in nothing
    else, the fastest quarter varies about half as much as the median.
    """
    fastest = sorted(samples_s)[: math.ceil(len(samples_s) * FASTEST)]
    return statistics.fmean(fastest)


def block_differences(first: Sequence[float], second: Sequence[float], *, head_first: bool) -> list[float]:
    """Return by how much head was slower, by each two neighbouring blocks, as logarithms.

    `first` and `second`: the figures of the n blocks of each side, measured alternately; 2n - 1 pairs are neighbours.
    Neighbours alone are compared: the speed of a shared machine changes within a few blocks, and a disturbed block then
    spoils two differences only.
    """
    in_turns = [math.log(figure_s) for both in zip(first, second, strict=True) for figure_s in both]
    neighbours = itertools.pairwise(in_turns)
    return [
        earlier - later if (turn % 2 == 0) == head_first else later - earlier
        for turn, (earlier, later) in enumerate(neighbours)
    ]


def blocks_of(differences: Sequence[float]) -> int:
    """Return how many blocks of each side these differences come from."""
    return (len(differences) + 1) // 2


def difference(blocks: Sequence[float]) -> float:
    """Return the difference of one pair from those of its blocks, at least one."""
    return statistics.median(blocks)


def spread_of_blocks(pairs: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation of the blocks' differences within their pairs.

    It comes from the median deviation, so that disturbed blocks do not count. 0 if no pair has two blocks of each side.
    """
    deviations: list[float] = []
    for differences in pairs:
        center = difference(differences)
        # The least is that of the median from itself.
        deviations += sorted(abs(one - center) for one in differences)[1:]
    return statistics.median(deviations) / NORMAL_QUARTILE if deviations else 0.0


def errors_within(pairs: Sequence[Sequence[float]]) -> list[float]:
    """Return the standard error of each pair's difference by the spread of its blocks alone.

    A pair that the machine disturbs has a greater one. Few blocks show little of their spread: it is shrunk towards
    that of all pairs, as if these were USUAL_BLOCKS more of its own.
    """
    usual = spread_of_blocks(pairs)
    errors = []
    for differences in pairs:
        own = blocks_of(differences) - 1
        variance = (own * spread_of_blocks([differences]) ** 2 + USUAL_BLOCKS * usual**2) / (own + USUAL_BLOCKS)
        errors.append(math.sqrt(variance * (OF_MEDIAN if own else 1) / (own + 1)))
    return errors


def weights_of(within: Sequence[float]) -> list[float]:
    """Return the weight of each pair: one over the expected variance, by its blocks and between processes."""
    return [1 / (BETWEEN**2 + error**2) for error in within]


def mean_of(values: Sequence[float], within: Sequence[float]) -> float:
    return statistics.fmean(values, weights_of(within))


def ratio_of(values: Sequence[float], within: Sequence[float]) -> float:
    """Return the variance of at least two differences over the expected one (Hartung and Knapp 2001, Statistics in
    Medicine 20:3875).
    """
    mean = mean_of(values, within)
    deviations = [weight * (value - mean) ** 2 for value, weight in zip(values, weights_of(within), strict=True)]
    return sum(deviations) / (len(values) - 1)


def blocks_wanted(pairs: Sequence[Sequence[float]], error: float) -> int:
    """Return the blocks of each side that give a pair this standard error, by how blocks varied in these pairs."""
    return math.ceil(OF_MEDIAN * (spread_of_blocks(pairs) / error) ** 2)


def judge_pairs(
    differences: Sequence[float], within: Sequence[float], thresholds: Thresholds, prior: Prior, *, sharing: int
) -> Judgement:
    """Judge a benchmark by the differences of its pairs, at least two.

    `within`: standard error of each by its own blocks alone, below which pairs cannot vary. `thresholds`: with the
    errors that this analysis may make. `sharing`: how many benchmarks share the false alarms.
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
    """Return what all benchmarks together show of the variance of each: Smyth's moments of the logarithms of variances.

    `within`: as for judge_pairs. Benchmarks with a single pair do not count. `of_few`: the prior for fewer than
    LEAST_FOR_PRIOR others; by default the variance that pairs have in general.
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
    """Raise ComparisonInvalid if a control did not read what is true.

    `prior`: how the benchmarks vary; blocks of controls hardly do. A control with a single pair proves nothing.
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
                f"the control {key.rpartition('::')[2]} reads {math.expm1(change):+.1%} and should read"
                f" {truth:+.0%}: this machine can't be trusted now"
            )
