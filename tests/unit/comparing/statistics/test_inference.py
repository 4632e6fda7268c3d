"""Inference from the differences of pairs."""

import math
import random
import statistics

import pytest
from msgspec.structs import replace

from plumbline.comparing.statistics.inference import (
    BETWEEN,
    LEAST_TO_FAIL,
    OF_FEW,
    PRIOR_DEGREES,
    SLOWER,
    block_differences,
    difference,
    errors_within,
    figure,
    judge_pairs,
    mean_of,
    ratio_of,
    spread_of_blocks,
    usual_ratio,
)
from plumbline.judging.evidence import Judgement, Thresholds

LIMITS = Thresholds(tolerance=0.02, minimum_effect=0.05, false_alarms=0.01, power=0.97)


def judged(values: list[float], sharing: int = 1, *, limits: Thresholds = LIMITS) -> Judgement:
    return judge_pairs(values, [0.0] * len(values), limits, 1.0, sharing=sharing)


def around(center: float, spread: float, pairs: int) -> list[float]:
    """Return values with exactly this mean and standard deviation."""
    values = [(-1.0) ** number for number in range(pairs)]
    deviation = math.sqrt(sum(value**2 for value in values) / (pairs - 1))
    return [center + spread * value / deviation for value in values]


def test_a_block_is_summarised_by_its_fastest_quarter() -> None:
    """Two of eight samples, one of three. Slow samples have no influence."""
    assert figure([5.0, 1.0, 9.0, 3.0, 9.0, 9.0, 9.0, 9.0]) == pytest.approx(2.0)
    assert figure([3.0, 70.0, 2.0]) == 2.0
    assert figure([4.0]) == 4.0


@pytest.mark.parametrize("head_first", [False, True])
def test_blocks_are_compared_with_their_neighbours(head_first: bool) -> None:
    """20 % slower, then 10 % faster, while the machine gets twice as slow; computed by hand."""
    base, head = [1.0, 2.0], [1.2, 1.8]
    if head_first:
        assert block_differences(head, base, head_first=True) == pytest.approx(
            [math.log(1.2), math.log(1.8), math.log(0.9)]
        )
    else:
        assert block_differences(base, head, head_first=False) == pytest.approx(
            [math.log(1.2), math.log(0.6), math.log(0.9)]
        )


def test_a_benchmark_fails_as_soon_as_a_slow_down_explains_its_pairs_well_enough() -> None:
    """By hand: the likelihood ratio of four pairs that vary by 1 %, with half of the usual variance from others."""
    for size in (0.04, 0.06, 0.08, 0.1):
        values = around(math.log1p(size), 0.01, pairs=4)

        def likelihood(change: float, size: float = size) -> float:
            squares = (PRIOR_DEGREES + 3) * BETWEEN**2 + 4 * (math.log1p(size) - change) ** 2
            return float(squares ** (-(PRIOR_DEGREES + 4) / 2))

        likely = sum(weight * likelihood(times * math.log(1.05)) for times, weight in SLOWER.items())
        ratio = likely / likelihood(math.log(1.02))
        for least, verdict in ((ratio * 0.99, "regression"), (ratio * 1.01, "")):
            found = judged(values, limits=replace(LIMITS, false_alarms=min(1 / least, 0.5)))
            assert (found.verdict == "regression") == bool(verdict)


def test_a_steady_drift_cancels_over_both_orders() -> None:
    """The machine gets 10 % slower with each block. Base begins in one pair, head in the other."""
    early, late = [1.0, 1.21, 1.4641], [1.1, 1.331, 1.61051]
    drift = math.log(1.1)
    assert difference(block_differences(early, late, head_first=False)) == pytest.approx(drift)
    assert difference(block_differences(early, late, head_first=True)) == pytest.approx(-drift)
    assert block_differences(early, late, head_first=False) == pytest.approx([drift, -drift, drift, -drift, drift])
    assert block_differences(early, late, head_first=True) == pytest.approx([-drift, drift, -drift, drift, -drift])


def test_the_difference_of_a_pair_is_the_median_of_its_blocks() -> None:
    """One disturbed block has little influence."""
    assert difference([0.1, 0.0, 5.0]) == 0.1


def in_turns(blocks: int, spread: float, rng: random.Random) -> list[float]:
    """Return the block differences of a pair with this spread."""
    base, head = ([math.exp(rng.gauss(0, spread / math.sqrt(2))) for _ in range(blocks)] for _ in range(2))
    return block_differences(base, head, head_first=False)


def test_the_spread_of_blocks_is_that_within_pairs() -> None:
    """Pairs differ by 10 %, and differences within a pair by 1 %."""
    rng = random.Random(1)
    for blocks in (64, 3):
        pairs = [[pair / 10 + one for one in in_turns(blocks, 0.01, rng)] for pair in range(200)]
        assert spread_of_blocks(pairs) == pytest.approx(0.01, rel=0.1)
    assert spread_of_blocks([[0.1], [0.2]]) == 0


@pytest.mark.parametrize("blocks", [2, 3, 9, 64])
def test_the_error_within_pairs_is_that_of_the_median_of_their_blocks(blocks: int) -> None:
    """Compared with the standard deviation of 2,000 such medians."""
    rng = random.Random(blocks)
    pairs = [in_turns(blocks, 0.01, rng) for _ in range(2_000)]
    medians = [difference(pair) for pair in pairs]
    found = math.sqrt(statistics.fmean(error**2 for error in errors_within(pairs)))
    assert found == pytest.approx(statistics.stdev(medians), rel=0.1)


def test_a_single_block_has_the_usual_error() -> None:
    """By hand: its spread is only known from other pairs."""
    pairs = [[-0.01, 0.0, 0.01], [0.3]]
    assert errors_within(pairs)[1] == pytest.approx(spread_of_blocks(pairs))


def test_a_disturbed_pair_has_a_greater_error_within() -> None:
    """By hand: 4 blocks with ten times the usual spread contribute 3/5 of the variance."""
    calm, disturbed = ([-size, size, -size, 0.0, size, -size, size] for size in (0.01, 0.1))
    pairs = [calm, calm, calm, disturbed]
    usual, own = spread_of_blocks(pairs), spread_of_blocks([disturbed])
    *errors, greater = errors_within(pairs)
    assert greater == pytest.approx(math.sqrt((3 * own**2 + 2 * usual**2) / 5 * math.pi / 2 * 5 / 6 / 4))
    assert greater > 7 * errors[0] == 7 * errors[1] == 7 * errors[2]


def test_a_disturbed_pair_counts_for_little() -> None:
    """By hand: 1 % between processes, and 1 or 7 % within, give weights of 1/2 and 1/50."""
    within = [0.01, 0.07]
    assert mean_of([0.0, 0.08], within) == pytest.approx(0.08 / 26)
    assert ratio_of([0.0, 0.08], within) == pytest.approx(
        ((0.08 / 26) ** 2 / 2 + (2 / 26) ** 2 / 50) / BETWEEN**2, rel=0.01
    )


def test_equal_weights_change_nothing() -> None:
    """The result is the ordinary mean and variance."""
    values, within = around(0.03, 0.02, 6), [0.01] * 6
    assert mean_of(values, within) == pytest.approx(0.03)
    assert ratio_of(values, within) == pytest.approx(0.02**2 / (BETWEEN**2 + 0.01**2))


def test_one_pair_of_a_disturbed_moment_spoils_no_verdict() -> None:
    """Six pairs around 0 pass beside a disturbed pair that reads 30 %. A quiet seventh pair would count."""
    values = [*around(0.0, 0.01, 6), 0.3]
    for error, verdict in ((0.3, "pass"), (0.0, "inconclusive")):
        found = judge_pairs(values, [0.0] * 6 + [error], LIMITS, 1.0, sharing=1)
        assert found.verdict == verdict


def test_pairs_vary_no_less_than_their_blocks_allow() -> None:
    """Four pairs agree by chance, but their blocks have an error of 3 %, so they do not pass."""
    found = judge_pairs([0.0] * 4, [0.06] * 4, LIMITS, 1.0, sharing=1)
    assert found.verdict == "inconclusive"


def test_a_clear_slow_down_is_a_regression() -> None:
    """Eight pairs read 10 %, with a spread of 1 %."""
    found = judged(around(math.log(1.1), 0.01, 8))
    assert found.verdict == "regression"
    assert found.change == pytest.approx(0.1)
    assert found.low > 0.02


def test_bounds_beyond_all_numbers_are_limited() -> None:
    """Two very different pairs among 1,000 benchmarks say nothing."""
    found = judged([-5.0, 5.0], sharing=1000)
    assert found.verdict == "inconclusive"
    assert found.minimum_detectable_effect == pytest.approx(999)


def test_no_difference_passes_soon() -> None:
    """Four pairs around 0, with a spread of 1 %."""
    found = judged(around(0.0, 0.01, 4))
    assert found.verdict == "pass"
    assert found.high < 0.05


def test_a_clear_speed_up_is_an_improvement() -> None:
    """Eight pairs read 10 % less."""
    assert judged(around(math.log(0.9), 0.01, 8)).verdict == "improvement"


def test_a_slow_down_within_the_tolerance_is_never_a_regression() -> None:
    """80 pairs agree on 1.9 %, below the tolerance of 2 %."""
    assert judged(around(math.log(1.019), 0.001, 80)).verdict == "pass"


def test_a_change_between_the_thresholds_is_inconclusive() -> None:
    """Eight pairs of 3.5 %, with a spread of 3 %, neither fail nor pass."""
    found = judged(around(math.log(1.035), 0.03, 8))
    assert found.verdict == "inconclusive"
    assert found.low < 0.02 < 0.05 < found.high
    assert found.minimum_detectable_effect > 0.05


def test_two_or_three_pairs_fail_nothing() -> None:
    """Pairs of 30 % agree exactly. They may have the same layout of memory by chance."""
    for pairs in (2, 3, 4):
        found = judged([math.log(1.3)] * pairs)
        assert found.verdict == ("regression" if pairs >= LEAST_TO_FAIL else "inconclusive")
        assert judged([-math.log(1.3)] * pairs).verdict == ("improvement" if pairs >= LEAST_TO_FAIL else "pass")


def test_the_more_benchmarks_are_compared_the_harder_one_fails() -> None:
    """Six pairs of 8 % fail one benchmark, but not one of five hundred."""
    values = around(math.log(1.08), 0.012, 6)
    assert judged(values, sharing=1).verdict == "regression"
    assert judged(values, sharing=500).verdict == "inconclusive"


def test_a_stage_has_its_share_of_the_errors() -> None:
    """A tenth of the false positives, and half of the misses."""
    some = LIMITS.with_shares(0.1, 0.5)
    assert (some.false_alarms, some.power) == pytest.approx((0.001, 0.985))
    assert (some.tolerance, some.minimum_effect) == (LIMITS.tolerance, LIMITS.minimum_effect)


def test_thresholds_of_its_own_judge_a_benchmark() -> None:
    """A benchmark that may be 20 % slower passes with 10 %."""
    lenient = Thresholds(tolerance=0.12, minimum_effect=0.2, false_alarms=0.01, power=0.97)
    assert judged(around(math.log(1.1), 0.01, 8), limits=lenient).verdict == "pass"


def test_equal_values_prove_no_more_than_the_clock_can() -> None:
    """Four equal pairs still have a standard error."""
    found = judged([0.0] * 4)
    assert found.low < 0 < found.high


def test_others_lend_a_benchmark_their_variance() -> None:
    """Two pairs that agree by chance do not pass if the pairs of others vary by 4 %."""
    within = dict.fromkeys(map(str, range(10)), [0.0] * 6)
    for spread, verdict in ((0.01, "pass"), (0.04, "inconclusive")):
        usual = usual_ratio({key: around(0.0, spread, 6) for key in within}, within) or 0.0
        assert usual == pytest.approx((spread / BETWEEN) ** 2, rel=0.2)
        assert judge_pairs([0.0] * 2, [0.0] * 2, LIMITS, usual, sharing=1).verdict == verdict


def test_one_noisy_benchmark_does_not_change_what_is_usual() -> None:
    """Nine vary by 1 %, and one by 30 %."""
    spreads = dict(zip(map(str, range(10)), [0.3, *[0.01] * 9], strict=True))
    within = dict.fromkeys(spreads, [0.0] * 6)
    found = usual_ratio({key: around(0.0, spread, 6) for key, spread in spreads.items()}, within)
    assert found == pytest.approx(1, rel=0.2)


def test_spread_that_blocks_explain_is_usual() -> None:
    """Ten benchmarks vary as their blocks and 1 % between processes predict."""
    within = {str(number): 0.005 * number for number in range(10)}
    found = usual_ratio(
        {key: around(0.0, math.hypot(BETWEEN, error), 6) for key, error in within.items()},
        {key: [error] * 6 for key, error in within.items()},
    )
    assert found == pytest.approx(1, rel=0.2)


def test_few_benchmarks_do_not_show_what_is_usual() -> None:
    """Three benchmarks have none, and benchmarks that agree better than processes can do not lower it."""
    few = dict.fromkeys("abc", around(0.0, 0.001, 6))
    assert usual_ratio(few, dict.fromkeys("abc", [0.0] * 6)) is None
    assert usual_ratio({**few, "d": few["a"]}, dict.fromkeys("abcd", [0.0] * 6)) == 1
    assert OF_FEW > 1


@pytest.mark.parametrize(
    ("change", "bias", "verdict"),
    [
        (0.04, 0.0, "regression"),
        (0.04, 0.01, "inconclusive"),  # 2 % is the tolerance, and 1 % may read 2.3 % more in one of 100 changes
        (0.046, 0.01, "regression"),
        (0.0, 0.01, "pass"),
        (0.0, 0.03, "inconclusive"),  # 5 % slower would read 0 or less in more than 3 % of changes
        (-0.04, 0.01, "pass"),
        (-0.05, 0.01, "improvement"),
    ],
)
def test_what_changes_without_effect_read_is_a_part_of_the_error(change: float, bias: float, verdict: str) -> None:
    """More pairs do not average it out: here 100 pairs agree."""
    values = around(math.log1p(change), 0.0001, 100)
    found = judged(values, limits=replace(LIMITS, bias=bias))
    assert found.verdict == verdict
    assert found.minimum_detectable_effect > judged(values).minimum_detectable_effect or not bias
