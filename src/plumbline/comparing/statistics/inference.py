"""Statistics of a paired comparison, as pure functions.

The unit of evidence is a pair: two fresh processes, base and head, that measured the same benchmark alternately. Blocks
and samples of one process are not independent. A pair gives each benchmark one difference, log(head time / base time):
0.05 is about 5 % slower.

After each pair, each benchmark asks how much better a slow-down explains its pairs than "at most `tolerance` slower"
does. The answer is a likelihood ratio. It fails if the ratio reaches the number of compared benchmarks divided by
`false_alarms`: 6,333 for 38 benchmarks and 0.6 %, as the tails have the rest of 1 %. It passes if "no change" explains
its pairs 1 / (1 - `power`) times as well as "`minimum_effect` slower" does: 44 times for 97.75 %, as the baseline check
may miss the other 0.75 % that 97 % allow.

Such a ratio may be read after every pair, because the chance that it ever reaches a limit without a slow-down is at
most one divided by this limit (Ville 1939; Ramdas et al. 2023, Statistical Science 38:576, "e-process").

The variance of a few pairs is uncertain. Each likelihood is an average over variances: those of the benchmark's own
pairs, and the usual one of all benchmarks, with the weight of PRIOR_DEGREES pairs (Smyth 2004, Statistical Applications
in Genetics and Molecular Biology 3:3).

A change also moves code and objects in memory, which can make a benchmark a little faster or slower in all pairs alike.
If this `bias` is known, it is added to the error as one normally distributed value (Mytkowicz et al. 2009, ASPLOS).
"""

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from plumbline.judging.distributions import NORMAL, NORMAL_QUARTILE, student_quantile
from plumbline.judging.evidence import Judgement, Thresholds
from plumbline.results.schema import Verdict

# A block is summarised by this share of its samples, the fastest.
FASTEST = 0.25
# Standard deviation between equal processes. It remains in the difference of a pair however many blocks there are.
BETWEEN = 0.01
# Weight of the usual variance of all benchmarks, in pairs.
PRIOR_DEGREES = 4
# Fewer benchmarks do not show a usual variance.
LEAST_FOR_PRIOR = 4
# The usual variance of few benchmarks, over the expected one. On a noisy machine most benchmarks of this project's
# suite have less. Half have less than 1.7.
OF_FEW = 3.0
# No benchmark fails before it has this many pairs: two or three processes can agree by chance.
LEAST_TO_FAIL = 4
# Slow-downs that are compared with `tolerance`, as multiples of `minimum_effect`, and their weights.
SLOWER = {1.0: 3 / 4} | {1.25**step: 1 / 88 for step in range(1, 23)}
# Changes that are compared with `minimum_effect`, and their weights.
ALIKE = {0.0: 3 / 4, 0.5: 1 / 8} | {-(2.0**step): 1 / 48 for step in range(6)}
# The common spread of all pairs has the weight of this many blocks of a pair.
USUAL_BLOCKS = 2
# Two pairs on a busy machine can give infinite bounds. No change is reported above this one, a logarithm.
MOST_SHOWN = math.log(1000)
MOST_EXPONENT = 500  # a larger one is beyond the range of floats
# Variance of the median of neighbour differences, relative to that of the mean of one independent difference per block.
# It would be pi / 2 for independent differences. Two neighbouring differences share a block.
OF_MEDIAN = math.pi / 2 * 5 / 6


class ComparisonInvalid(Exception):
    """The comparison is invalid: a worker died or hung, or a control read a wrong value."""

    def __init__(self, reason: str, side: str = "") -> None:
        """`side`: the side whose worker failed, if one did."""
        super().__init__(reason)
        self.side = side


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
    return _spread_of(itertools.chain.from_iterable(map(_deviations, pairs)))


def _deviations(differences: Sequence[float]) -> list[float]:
    """Return absolute deviations from the median, without the smallest: that of the median itself."""
    center = difference(differences)
    return sorted([abs(one - center) for one in differences])[1:]


def _spread_of(deviations: Iterable[float]) -> float:
    found = [*deviations]
    return statistics.median(found) / NORMAL_QUARTILE if found else 0.0


def errors_within(pairs: Sequence[Sequence[float]]) -> list[float]:
    """Return the standard error of each pair's difference by the spread of its blocks alone.

    A disturbed pair has a larger standard error. The spread of few blocks is uncertain, so it is shrunk towards the
    common spread of all pairs, which has the weight of USUAL_BLOCKS blocks.
    """
    deviations = [*map(_deviations, pairs)]
    usual = _spread_of(itertools.chain.from_iterable(deviations))
    errors = []
    for differences, found in zip(pairs, deviations, strict=True):
        own = blocks_of(differences) - 1
        variance = (own * _spread_of(found) ** 2 + USUAL_BLOCKS * usual**2) / (own + USUAL_BLOCKS)
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


class Likelihood:
    """The likelihood of a change, given the differences of two or more pairs, up to a constant factor."""

    def __init__(self, differences: Sequence[float], within: Sequence[float], usual: float) -> None:
        self.mean = mean_of(differences, within)
        self._weight = sum(weights_of(within))
        squares = (len(differences) - 1) * ratio_of(differences, within)
        self._squares = squares + PRIOR_DEGREES * usual
        self._degrees = len(differences) + PRIOR_DEGREES

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return math.sqrt(self._squares / (self._degrees - 1) / self._weight)

    def log_of(self, change: float) -> float:
        return -self._degrees / 2 * math.log(self._squares + self._weight * (change - self.mean) ** 2)

    def margin(self, likely: Mapping[float, float], limit: float) -> float:
        """Return how far from the mean a change is for which the likelihood ratio is `limit`.

        `likely`: the changes that it is compared with, and their weights.
        """
        logs = [math.log(weight) + self.log_of(change) for change, weight in likely.items()]
        greatest = max(logs)
        log_likely = greatest + math.log(sum(math.exp(log - greatest) for log in logs))
        squares = math.exp(min((math.log(limit) - log_likely) * 2 / self._degrees, MOST_EXPONENT))
        return math.sqrt(max(squares - self._squares, 0.0) / self._weight)


def judge_pairs(
    differences: Sequence[float], within: Sequence[float], thresholds: Thresholds, usual: float, *, sharing: int
) -> Judgement:
    """Judge a benchmark by the differences of two or more pairs.

    `within`: the standard error of each difference by its blocks alone. `usual`: from `usual_ratio`. `sharing`: the
    number of benchmarks that share the allowed false positives.
    """
    tolerance, effect = math.log1p(thresholds.tolerance), math.log1p(thresholds.minimum_effect)
    likelihood, to_fail = Likelihood(differences, within, usual), sharing / thresholds.false_alarms
    change, error, degrees = likelihood.mean, likelihood.error, len(differences) - 1 + PRIOR_DEGREES
    slower = {effect * times: weight for times, weight in SLOWER.items()}
    # Bounds that decide nothing are those of Student's t.
    above = missed = student_quantile(thresholds.power, degrees) * error
    below = student_quantile(1 - 1 / to_fail, degrees) * error
    if change > tolerance:
        below = likelihood.margin(slower, to_fail)
    bias = math.log1p(thresholds.bias)
    of_failing = bias * NORMAL.inv_cdf(1 - 1 / to_fail)
    of_passing = bias * NORMAL.inv_cdf(thresholds.power)
    if change < effect:
        alike = {effect * times: weight for times, weight in ALIKE.items()}
        above = likelihood.margin(alike, 1 / (1 - thresholds.power))
    below, above, missed = math.hypot(below, of_failing), math.hypot(above, of_passing), math.hypot(missed, of_passing)
    verdict: Verdict = "inconclusive"
    if change - below > tolerance and len(differences) >= LEAST_TO_FAIL:
        verdict = "regression"
    elif change + above < effect:
        verdict = "pass"
    if change < -tolerance and len(differences) >= LEAST_TO_FAIL:
        faster = {-times: weight for times, weight in slower.items()}
        if change + math.hypot(likelihood.margin(faster, to_fail), of_failing) < -tolerance:
            verdict = "improvement"
    least = math.hypot(likelihood.margin({change: SLOWER[1]}, to_fail), of_failing) + missed
    return Judgement(
        verdict,
        change=_share(change),
        low=_share(change - below),
        high=_share(change + above),
        minimum_detectable_effect=_share(tolerance + least),
        pairs=len(differences),
        error=math.hypot(error, bias),
    )


def _share(logarithm: float) -> float:
    return math.expm1(min(logarithm, MOST_SHOWN))


def usual_ratio(differences: Mapping[str, Sequence[float]], within: Mapping[str, Sequence[float]]) -> float | None:
    """Return the median ratio of actual to expected variance of all benchmarks with two pairs or more, at least 1.

    `within`: as for `judge_pairs`. None if there are fewer than LEAST_FOR_PRIOR of them.
    """
    ratios = [
        ratio_of(values, within[key]) / (1 - 2 / (9 * (len(values) - 1))) ** 3  # the median of a variance is below it
        for key, values in differences.items()
        if len(values) > 1
    ]
    return max(statistics.median(ratios), 1.0) if len(ratios) >= LEAST_FOR_PRIOR else None
