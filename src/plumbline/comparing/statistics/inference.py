"""Judge a paired comparison: pure functions of data.

The unit of evidence is a pair of fresh processes, base and head, that measured the same benchmark in turns: blocks
and samples of one process are not independent of each other. A pair gives each benchmark one difference d, the
logarithm of head's time over base's: 0.05 is about 5 % slower.

A benchmark is convicted when "the slow-down is at most `tolerance`" is rejected, and acquitted when "it is
`minimum_effect` or more" is; until then it is tried on. The number of looks at the growing pairs is fixed beforehand,
and the error allowed is shared by all of them (`comparison.py` says how) and, for convictions, by all benchmarks tried: a
group-sequential test by Bonferroni's inequality (Lan and DeMets 1983, Biometrika 70:659).

A variance from a few pairs is itself uncertain, so it is drawn towards what the other benchmarks and the spread of its
own blocks let expect, as far as the others agree with that (a moderated t-statistic: Smyth 2004, Statistical
Applications in Genetics and Molecular Biology 3:3, section 6.2), or, where there are few, towards what pairs in general
do.
"""

import itertools
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from plumbline.judging.distributions import digamma, student_quantile, trigamma
from plumbline.judging.thresholds import Judgement, Thresholds
from plumbline.results.schema import Verdict

FASTEST = 0.25
"""Share of a block's samples that it is told by."""
MOST_PRIOR_DEGREES = 10
"""Other benchmarks count for no more than so many pairs of a benchmark's own."""
BETWEEN = 0.01
"""Standard deviation between processes that are alike, about: what is left of a pair's with any number of blocks."""
LEAST_FOR_PRIOR = 4
"""Of fewer variances nobody can say how well they agree."""
LEAST_SPREAD = 0.002
USUAL_BLOCKS = 2
MOST_TOLD = math.log(1000)
NORMAL_QUARTILE = statistics.NormalDist().inv_cdf(0.75)
OF_MEDIAN = math.pi / 2 * 5 / 6
"""Variance of a median of the differences between neighbours, over that of a mean of as many independent ones as there
are blocks of each side. It is pi / 2 for independent ones; here two share a block, so their signs agree more often.
"""


class ComparisonInvalid(Exception):
    """A comparison says nothing: a side died or hung, or a control read what can't be."""

    def __init__(self, reason: str, side: str = "") -> None:
        """`side`: whose fault it is, if one side's."""
        super().__init__(reason)
        self.side = side


@dataclass(frozen=True)
class Prior:
    """What the other benchmarks say of how pairs vary, and how many degrees of freedom that is worth."""

    ratio: float
    """Their variance, over BETWEEN² and that within each together."""
    degrees: int

    def moderated(self, values: Sequence[float], within: Sequence[float]) -> tuple[float, int]:
        """By how much at least two differences vary, over what is expected of each, drawn towards what the others say;
        and its degrees of freedom.

        `within`: standard error of each by its own blocks alone.
        """
        own_degrees = len(values) - 1
        degrees = own_degrees + self.degrees
        return (own_degrees * ratio_of(values, within) + self.degrees * self.ratio) / degrees, degrees


NO_PRIOR = Prior(0.0, 0)
OF_FEW = Prior(3.0, 4)
"""Where few benchmarks are compared: most of this project's vary by less, half of them by less than 1.7 times what is
expected, on a noisy machine.
"""


def figure(samples_s: Sequence[float]) -> float:
    """What a block took: the mean of its fastest quarter, in seconds.

    Neighbours of a shared machine only ever add time, to some of the samples: between blocks that differ in nothing
    else, the fastest quarter varies about half as much as the median.
    """
    fastest = sorted(samples_s)[: math.ceil(len(samples_s) * FASTEST)]
    return statistics.fmean(fastest)


def block_differences(first: Sequence[float], second: Sequence[float], *, head_first: bool) -> list[float]:
    """By how much head was slower, by the figures of each two neighbouring blocks, as logarithms.

    `first` and `second`: the figures of the n blocks of each side that were measured in turns; 2n - 1 are neighbours.
    Neighbours alone: the speed of a shared machine changes within a few of its blocks, and a disturbed one then spoils
    two differences.
    """
    in_turns = [math.log(figure_s) for both in zip(first, second, strict=True) for figure_s in both]
    neighbours = itertools.pairwise(in_turns)
    return [
        earlier - later if (turn % 2 == 0) == head_first else later - earlier
        for turn, (earlier, later) in enumerate(neighbours)
    ]


def blocks_of(differences: Sequence[float]) -> int:
    """How many blocks of each side these were differences of."""
    return (len(differences) + 1) // 2


def difference(blocks: Sequence[float]) -> float:
    """The difference of one pair out of those of its blocks, at least one."""
    return statistics.median(blocks)


def spread_of_blocks(pairs: Sequence[Sequence[float]]) -> float:
    """Standard deviation of the blocks' differences within their pairs.

    By the median deviation, so that disturbed ones don't count. 0 where no pair has two blocks of each side.
    """
    deviations: list[float] = []
    for differences in pairs:
        center = difference(differences)
        # The least is that of the median from itself.
        deviations += sorted(abs(one - center) for one in differences)[1:]
    return statistics.median(deviations) / NORMAL_QUARTILE if deviations else 0.0


def errors_within(pairs: Sequence[Sequence[float]]) -> list[float]:
    """Standard error of each pair's difference by the spread of its blocks alone.

    A pair in a moment in which the machine is disturbed has more of it. Few blocks say little of their spread: it is
    drawn towards that of all pairs, as if these were USUAL_BLOCKS more of its own.
    """
    usual = spread_of_blocks(pairs)
    errors = []
    for differences in pairs:
        own = blocks_of(differences) - 1
        variance = (own * spread_of_blocks([differences]) ** 2 + USUAL_BLOCKS * usual**2) / (own + USUAL_BLOCKS)
        errors.append(math.sqrt(variance * (OF_MEDIAN if own else 1) / (own + 1)))
    return errors


def weights_of(within: Sequence[float]) -> list[float]:
    """What each pair counts for: one over the variance that is expected of it, by its blocks and between processes."""
    return [1 / (BETWEEN**2 + error**2) for error in within]


def mean_of(values: Sequence[float], within: Sequence[float]) -> float:
    """The mean of pairs, each by its weight."""
    return statistics.fmean(values, weights_of(within))


def ratio_of(values: Sequence[float], within: Sequence[float]) -> float:
    """By how much at least two differences vary, over what is expected (Hartung and Knapp 2001, Statistics in Medicine
    20:3875).
    """
    mean = mean_of(values, within)
    deviations = [weight * (value - mean) ** 2 for value, weight in zip(values, weights_of(within), strict=True)]
    return sum(deviations) / (len(values) - 1)


def blocks_wanted(pairs: Sequence[Sequence[float]], error: float) -> int:
    """How many blocks of each side a pair must have for this standard error, by how they varied in these pairs."""
    return math.ceil(OF_MEDIAN * (spread_of_blocks(pairs) / error) ** 2)


def error_to_decide(change: float, limits: Thresholds, degrees: int, tried: int) -> float:
    """The standard error by which a benchmark that reads this change, as a share, is just convicted or acquitted.

    `degrees`: those of freedom of that error. `limits` and `tried`: as for judge_pairs.
    """
    to_convict = math.log1p(change) - math.log1p(limits.tolerance)
    to_acquit = math.log1p(limits.minimum_effect) - math.log1p(change)
    convicting = to_convict / student_quantile(1 - limits.false_alarms / tried, degrees)
    return max(convicting, to_acquit / student_quantile(limits.power, degrees), LEAST_SPREAD)


def error_of_pair(error: float, pairs: int) -> float:
    """What the blocks of each of so many pairs may leave uncertain, for their mean to have this standard error."""
    return math.sqrt(max(pairs * error**2 - BETWEEN**2, LEAST_SPREAD**2))


def judge_pairs(
    differences: Mapping[str, Sequence[float]],
    due: Collection[str],
    thresholds: Mapping[str, Thresholds],
    prior: Prior,
    *,
    within: Mapping[str, Sequence[float]],
    tried: int,
) -> dict[str, Judgement]:
    """Judge the benchmarks that are due by the differences of their pairs, at least two each.

    `thresholds`: with the errors that may be made at this look. `within`: standard error of each pair's difference by
    its own blocks alone, which pairs can't vary less than. `tried`: how many benchmarks share the false alarms.
    """
    return {key: _judge(differences[key], thresholds[key], prior, within[key], tried) for key in due}


def _judge(values: Sequence[float], limits: Thresholds, prior: Prior, within: Sequence[float], tried: int) -> Judgement:
    pairs = len(values)
    change = mean_of(values, within)
    ratio, degrees = prior.moderated(values, within)
    least = 1 / sum(1 / max(error, LEAST_SPREAD) ** 2 for error in within)
    error = math.sqrt(max(ratio / sum(weights_of(within)), least))
    to_convict = student_quantile(1 - limits.false_alarms / tried, degrees) * error
    to_acquit = student_quantile(limits.power, degrees) * error
    tolerance = math.log1p(limits.tolerance)
    verdict: Verdict = "inconclusive"
    if change - to_convict > tolerance:
        verdict = "regression"
    elif change + to_convict < -tolerance:
        verdict = "improvement"
    elif change + to_acquit < math.log1p(limits.minimum_effect):
        verdict = "pass"
    return Judgement(
        verdict=verdict,
        change=_share(change),
        low=_share(change - to_convict),
        high=_share(change + to_acquit),
        minimum_detectable_effect=_share(tolerance + to_convict + to_acquit),
        pairs=pairs,
        error=error,
    )


def _share(logarithm: float) -> float:
    """As told; two pairs of a busy machine can leave bounds that are beyond all numbers."""
    return math.expm1(min(logarithm, MOST_TOLD))


def prior_of(
    differences: Mapping[str, Sequence[float]], within: Mapping[str, Sequence[float]], *, of_few: Prior = OF_FEW
) -> Prior:
    """What all benchmarks together say of the variance of each: Smyth's moments of the logarithms of variances.

    `within`: as for judge_pairs. Benchmarks with a single pair say nothing. `of_few`: the prior where there are fewer
    than LEAST_FOR_PRIOR others; by default what is known of pairs in general.
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
