import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from plumbline.judging.baseline_check import SPREAD_FLOOR, check_baseline, common_variance, differences, judge
from plumbline.judging.decide import judge_benchmarks
from plumbline.judging.evidence import BaselineEvidence, ConfirmationEvidence, Evidence, Judgement, Thresholds
from plumbline.judging.sessions import MOST_RUNS
from plumbline.measuring.statistics import log_spread
from plumbline.results.schema import SCHEMA, Benchmark, Environment, Reason, Results, Shard
from plumbline.settings import BenchmarkSettings, GateSettings

GATE = GateSettings(tolerance=0.02, minimum_effect=0.05, false_alarms=0.01, power=0.97, confirm_processes=5)
# Quantiles of Student's t for 8 degrees of freedom: 3.355 to fail, 2.306 to pass.
LIMITS = Thresholds(tolerance=0.02, minimum_effect=0.05, false_alarms=0.005, power=0.975)
VARIANCE = 0.01**2
ENVIRONMENT = Environment(
    machine="m1",
    system="linux",
    architecture="x86_64",
    cpu="Xeon",
    cpu_count=2,
    kernel="6.12",
    python="3.11.9",
    services={"redis": "docker", "postgres": "embedded"},
    versions={"redis": "8.0", "postgres": "18.1"},
    pin=1,
    commit="0f1e2d3",
    dirty=False,
    packages={},
)


def compare(
    baseline: Sequence[float],
    now: Sequence[float],
    variance: float,
    limits: Thresholds,
    *,
    confirmed: bool,
    processes: int = 5,
) -> Judgement:
    """Judge medians of the same session."""
    return judge(baseline, now, variance, limits, processes, confirmed=confirmed, sessions=0.0)


def of_suite(benchmarks: int, gate: GateSettings | None = None) -> Thresholds:
    """Return the thresholds of each benchmark in a suite of this size."""
    return Thresholds.of(gate or GATE, None).with_shares(1 / benchmarks, 1)


def against_level(
    *changes: float, limits: Thresholds = LIMITS, confirmed: bool = False, processes: int = 5
) -> Judgement:
    """Judge medians that differ by these logarithms from five equal ones."""
    now = [math.exp(change) for change in changes]
    return compare([1.0] * 5, now, VARIANCE, limits, confirmed=confirmed, processes=processes)


# ---- one comparison


def test_a_comparison_gives_the_figures_of_the_formula() -> None:
    """3 % slower in one process against five gives these bounds and this minimum_detectable_effect by hand.

    Variance (0 + 4 · 0.01²) / 8, error √(0.00005 · (1/5 + 1)) = 0.0077460, bounds ln 1.03 ± 2.306 · error,
    minimum_detectable_effect ln 1.02 + (3.355 + 2.306) · √(0.00005 · (1/5 + 1/5)).
    """
    result = compare([100e-6] * 5, [103e-6], VARIANCE, LIMITS, confirmed=False)

    assert result.change == pytest.approx(0.03)
    assert result.low == pytest.approx(0.011765, abs=2e-6)
    assert result.high == pytest.approx(0.048564, abs=2e-6)
    assert result.minimum_detectable_effect == pytest.approx(0.046153, abs=5e-6)


# Squares of logarithms that add up to 0.001.
SOME = [math.exp(log) for log in (-0.02, -0.01, 0.0, 0.01, 0.02)]
# Squares that add up to 0.0002.
OTHERS = [math.exp(log) for log in (-0.01, 0.0, 0.0, 0.0, 0.01)]


def test_the_variance_is_shrunk_towards_that_of_all_benchmarks() -> None:
    """Squares of 0.0012 with 8 degrees of freedom and a prior of 0.0016 with 4 give a variance of 0.0028/12."""
    result = compare(SOME, OTHERS, 0.02**2, LIMITS, confirmed=True)

    assert math.log1p(result.high) == pytest.approx(2.1788 * math.sqrt(0.0028 / 12 * (1 / 5 + 1 / 5)), abs=1e-6)
    assert math.log1p(result.low) == pytest.approx(-math.log1p(result.high))


def test_a_benchmark_that_is_noisier_than_most_is_believed_to_be_so() -> None:
    """A prior of 0.0001 does not reduce squares of 0.0012 with 8 degrees of freedom."""
    result = compare(SOME, OTHERS, 0.01**2, LIMITS, confirmed=True)

    assert math.log1p(result.high) == pytest.approx(2.1788 * math.sqrt(0.0012 / 8 * (1 / 5 + 1 / 5)), abs=1e-6)


def test_processes_that_agree_exactly_are_not_believed() -> None:
    """The floor replaces a spread of 0."""
    result = compare([1.0] * 5, [1.0], 0.0, LIMITS, confirmed=False)

    assert math.log1p(result.high) == pytest.approx(2.306 * SPREAD_FLOOR * math.sqrt(1.2), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (0.0, "pass"),
        (0.0300, "pass"),  # ln 1.05 - 2.306 · error = 0.0309
        (0.0320, "inconclusive"),
        (1.0, "inconclusive"),
        (-0.0440, "pass"),  # -ln 1.02 - 3.355 · error = -0.0458
        (-0.0470, "improvement"),
    ],
)
def test_one_process_passes_and_never_fails(change: float, verdict: str) -> None:
    """One process gives a pass, an improvement or inconclusive, however slow it is."""
    result = against_level(change)

    assert result.verdict == verdict


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (0.0, "pass"),
        (0.0400, "pass"),  # ln 1.05 - 2.179 · √(0.0004/12 · 0.4) = 0.0408
        (0.0310, "pass"),  # slower than the tolerance for sure, but less than what matters
        (0.0420, "regression"),
        (1.0, "regression"),
        (-0.0300, "pass"),  # -ln 1.02 - 3.055 · error = -0.0310
        (-0.0320, "improvement"),
    ],
)
def test_several_processes_can_fail_a_benchmark(change: float, verdict: str) -> None:
    """Several fresh processes can fail a benchmark that they cannot pass."""
    result = against_level(*[change] * 5, confirmed=True)

    assert result.verdict == verdict


@pytest.mark.parametrize(("change", "verdict"), [(0.0320, "pass"), (0.0415, "inconclusive"), (0.0425, "regression")])
def test_processes_fail_past_the_margin_alone(change: float, verdict: str) -> None:
    """With a spread of 2 %, a change of 0.0421 (ln 1.02 + 3.055 · error) fails, and 0.0329 passes."""
    result = compare([1.0] * 5, [math.exp(change)] * 5, 0.02**2, LIMITS, confirmed=True)

    assert result.verdict == verdict


def test_a_confirmation_that_is_too_noisy_is_inconclusive() -> None:
    """Processes that differ by 20 % neither pass nor fail a benchmark."""
    result = against_level(-0.14, 0.26, 0.06, -0.14, 0.26, confirmed=True)

    assert result.verdict == "inconclusive"
    assert result.minimum_detectable_effect > 0.25


def test_a_noisy_benchmark_that_is_far_slower_fails_all_the_same() -> None:
    """A benchmark that is six times slower is suspicious at first, and then a regression."""
    noisy = [math.exp(change) for change in (-0.3, -0.15, 0.0, 0.15, 0.3)]

    first = compare(noisy, [6.0], VARIANCE, LIMITS, confirmed=False)
    again = compare(noisy, [6.0] * 5, VARIANCE, LIMITS, confirmed=True)

    assert first.minimum_detectable_effect > 0.25
    assert (first.verdict, again.verdict) == ("inconclusive", "regression")
    assert first.high >= first.minimum_detectable_effect


def test_a_noisy_benchmark_that_is_far_faster_is_an_improvement() -> None:
    """Noise does not hide a gain that is much larger than the noise."""
    noisy = [math.exp(change) for change in (-0.3, -0.15, 0.0, 0.15, 0.3)]

    result = compare(noisy, [0.1], VARIANCE, LIMITS, confirmed=False)

    assert result.verdict == "improvement"


def test_a_noisy_benchmark_of_which_little_is_wanted_passes() -> None:
    """It passes if its minimum effect is above the minimum detectable effect."""
    noisy = [math.exp(change) for change in (-0.3, -0.15, 0.0, 0.15, 0.3)]

    result = compare(noisy, [1.0], VARIANCE, msgspec.structs.replace(LIMITS, minimum_effect=5.0), confirmed=False)

    assert result.minimum_detectable_effect > 0.25
    assert result.verdict == "pass"


def test_two_processes_of_the_baseline_are_enough() -> None:
    """Two processes have a spread."""
    assert compare([1.0, 1.0], [1.0], VARIANCE, LIMITS, confirmed=False).verdict == "pass"


def test_fewer_processes_than_wanted_may_leave_it_open() -> None:
    """With two of five processes, a change between both margins is inconclusive."""
    result = compare([1.0] * 5, [math.exp(0.045)] * 2, 0.02**2, LIMITS, confirmed=True)

    assert result.verdict == "inconclusive"


def test_a_larger_tolerance_lets_a_slow_down_be() -> None:
    """The same medians fail with a tolerance of 2 % and not with 10 %."""
    strict = against_level(*[0.08] * 5, confirmed=True)
    lenient = against_level(
        *[0.08] * 5, limits=Thresholds(0.10, 0.15, LIMITS.false_alarms, LIMITS.power), confirmed=True
    )

    assert (strict.verdict, lenient.verdict) == ("regression", "pass")


def test_the_unit_of_time_makes_no_difference() -> None:
    """Medians that are a thousand times larger give the same result."""
    baseline, now = [10.0, 10.2, 9.9, 10.1, 10.0], [10.4, 10.6, 10.5]

    small = compare([b / 1000 for b in baseline], [n / 1000 for n in now], VARIANCE, LIMITS, confirmed=True)
    large = compare(baseline, now, VARIANCE, LIMITS, confirmed=True)

    assert small.verdict == large.verdict
    assert (small.change, small.low, small.high, small.minimum_detectable_effect) == pytest.approx(
        (large.change, large.low, large.high, large.minimum_detectable_effect)
    )


def test_more_confirming_processes_detect_smaller_effects() -> None:
    """The minimum detectable effect is that of the confirming processes, not of the first one."""
    few = against_level(0.0, processes=2)
    many = against_level(0.0, processes=20)

    assert many.minimum_detectable_effect < few.minimum_detectable_effect


@pytest.mark.parametrize(("baseline", "now"), [([], [1.0]), ([1.0], [1.0]), ([1.0, 1.0], [])])
def test_too_few_processes_can_t_be_compared(baseline: list[float], now: list[float]) -> None:
    """A comparison needs two medians of the baseline and one of this run."""
    with pytest.raises(ValueError, match="two medians of the baseline and one of this run"):
        compare(baseline, now, VARIANCE, LIMITS, confirmed=False)


def test_the_difference_between_sessions_adds_to_the_error() -> None:
    """A spread of 0.5 % and sessions that differ by 2 % give these bounds by hand.

    Variance within a session 0.005² · (1/5 + 1) = 0.00003, error √(0.00003 + 0.0004) = 0.020736. Degrees of freedom
    8 · (0.00043 / 0.00003)², at most 20, with quantiles of 2.845 and 2.086.
    """
    result = judge([1.0] * 5, [1.03], 0.005**2, LIMITS, 5, confirmed=False, sessions=0.02**2)

    assert math.log1p(result.high) == pytest.approx(math.log(1.03) + 2.086 * 0.020736, abs=1e-5)
    assert math.log1p(result.low) == pytest.approx(math.log(1.03) - 2.086 * 0.020736, abs=1e-5)
    least = math.log(1.02) + (2.845 + 2.086) * math.sqrt(0.005**2 * 0.4 + 0.0004)
    assert math.log1p(result.minimum_detectable_effect) == pytest.approx(least, abs=2e-5)


# ---- what it promises, on samples of known spread


def processes(chance: random.Random, count: int, spread: float, change: float = 0.0) -> list[float]:
    """Return medians of processes whose logarithms are normally distributed around the change."""
    return [math.exp(chance.gauss(change, spread)) for _ in range(count)]


def rate(verdicts: Sequence[str], wanted: str) -> float:
    return verdicts.count(wanted) / len(verdicts)


def most(expected: float, count: int) -> float:
    """Return the number that a rate over so many comparisons exceeds by chance once in a thousand times."""
    return expected + 3.1 * math.sqrt(expected * (1 - expected) / count)


def test_false_positives_stay_below_the_suite_s_rate() -> None:
    """Of suites of ten benchmarks that are slower by the tolerance, at most the allowed 5 % fail."""
    chance = random.Random(1)
    limits = of_suite(10, GateSettings(false_alarms=0.05))
    suites, false_positives = 300, 0

    for _ in range(suites):
        baselines = [processes(chance, 5, 0.03) for _ in range(10)]
        variance = sum(log_spread(baseline) ** 2 for baseline in baselines) / 10
        verdicts = [
            compare(baseline, processes(chance, 5, 0.03, math.log(1.02)), variance, limits, confirmed=True).verdict
            for baseline in baselines
        ]
        false_positives += "regression" in verdicts

    assert 0 < false_positives / suites <= most(0.05, suites)


def test_nothing_fails_without_a_change() -> None:
    """None of 3,000 unchanged benchmarks fails, because the tolerance adds to the margin."""
    chance = random.Random(2)
    limits = of_suite(10)

    verdicts = [
        compare(processes(chance, 5, 0.015), processes(chance, 5, 0.015), 0.015**2, limits, confirmed=True).verdict
        for _ in range(3000)
    ]

    assert rate(verdicts, "regression") == 0
    assert rate(verdicts, "pass") > 0.9


@pytest.mark.parametrize("spread", [0.01, 0.03])
def test_the_minimum_detectable_effect_fails_with_the_wanted_power(spread: float) -> None:
    """About 97 % of slow-downs of the minimum detectable effect fail, and far fewer of half that size."""
    chance = random.Random(3)
    limits = of_suite(10)
    level = [math.exp(spread * step) for step in (-1.2649, -0.6325, 0.0, 0.6325, 1.2649)]  # of just this spread
    minimum_detectable_effect = compare(level, level, spread**2, limits, confirmed=True).minimum_detectable_effect

    def failed(change: float) -> float:
        verdicts = [
            compare(
                processes(chance, 5, spread), processes(chance, 5, spread, change), spread**2, limits, confirmed=True
            ).verdict
            for _ in range(2000)
        ]
        return rate(verdicts, "regression")

    assert 0.92 <= failed(math.log1p(minimum_detectable_effect)) <= 0.995
    assert failed(math.log1p(minimum_detectable_effect) / 2) < 0.6


@pytest.mark.parametrize("spread", [0.01, 0.02, 0.05])
def test_one_process_rarely_passes_a_slow_down_of_the_minimum_effect(spread: float) -> None:
    """The first process passes a slow-down of the minimum effect in about 3 % of cases, 5 % at most."""
    chance = random.Random(4)
    limits = of_suite(10)
    level = [math.exp(spread * step) for step in (-1.2649, -0.6325, 0.0, 0.6325, 1.2649)]  # of just this spread
    minimum_detectable_effect = compare(level, level, spread**2, limits, confirmed=True).minimum_detectable_effect
    slow_down = math.log1p(max(0.05, minimum_detectable_effect))

    verdicts = [
        compare(
            processes(chance, 5, spread),
            processes(chance, 1, spread, slow_down),
            spread**2,
            limits,
            confirmed=False,
        ).verdict
        for _ in range(4000)
    ]

    assert 1 - rate(verdicts, "inconclusive") <= 0.05  # more than 3 %, as the spread is itself an estimate


def test_one_process_passes_most_of_what_is_unchanged() -> None:
    """With a spread of 1 %, nine in ten unchanged benchmarks pass at once."""
    chance = random.Random(5)
    limits = of_suite(10)

    verdicts = [
        compare(processes(chance, 5, 0.01), processes(chance, 1, 0.01), 0.01**2, limits, confirmed=False).verdict
        for _ in range(2000)
    ]

    assert rate(verdicts, "pass") > 0.9


# ---- limits and the common spread


def entry(key: str = "a.py::a", **fields: Any) -> Benchmark:
    """Return a benchmark that was measured in five processes, by default with 1 ms each."""
    values: dict[str, Any] = {
        "key": key,
        "unit": "s",
        "verdict": None,
        "median": 0.001,
        "counts": {},
        "process_medians": [0.001] * 5,
        "spread": 0.01,
        "pin": 1,
        "source_hash": "5a1",
    }
    return Benchmark(**(values | fields))


def run(*entries: Benchmark, **environment: Any) -> Results:
    return Results(SCHEMA, None, msgspec.structs.replace(ENVIRONMENT, **environment), list(entries))


def test_the_common_variance_is_the_median_over_the_benchmarks() -> None:
    """One unusual benchmark does not change it, and one without a spread does not count."""
    baseline = run(*[entry(spread=spread) for spread in (0.01, 0.02, 0.9, None)])

    assert common_variance(baseline) == pytest.approx(0.02**2 / 0.839)


@pytest.mark.parametrize("spreads", [[], [None], [0.0001, 0.0001]])
def test_the_common_variance_has_a_floor(spreads: list[float | None]) -> None:
    """The floor applies if there are no spreads, or if they are very small."""
    baseline = run(*[entry(spread=spread) for spread in spreads])

    assert common_variance(baseline) == SPREAD_FLOOR**2


# ---- what can be compared at all


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"machine": "m2"}, "another machine (m1, now m2)"),
        ({"services": {"redis": "embedded", "postgres": "embedded"}}, "redis was docker, is embedded"),
        ({"versions": {"redis": "8.2", "postgres": "18.1"}}, "redis was version 8.0, is 8.2"),
        ({"versions": {"postgres": "18.1"}}, "redis was version 8.0, is None"),
        ({"pin": None}, "the baseline was pinned to one core, this run is not"),
        ({"python": "3.13.1"}, "Python was 3.11.9, is 3.13.1"),
    ],
)
def test_differences_that_timings_depend_on_are_named(now: dict[str, Any], told: str) -> None:
    """A different machine, backend, server version, pin or Python is named with its old and new value."""
    assert differences(ENVIRONMENT, msgspec.structs.replace(ENVIRONMENT, **now)) == [told]


def test_a_pinned_and_an_unpinned_run_differ() -> None:
    """Either of both may be the pinned one."""
    unpinned = msgspec.structs.replace(ENVIRONMENT, pin=None)

    assert differences(unpinned, ENVIRONMENT) == ["this run is pinned to one core, the baseline was not"]


@pytest.mark.parametrize(
    "now",
    [
        {},
        {"pin": 0},
        {"commit": "ffff", "dirty": True},
        {"packages": {"redis": "9"}},
        {"services": {"redis": "docker"}, "versions": {"redis": "8.0"}},
        {"services": {"redis": "docker", "postgres": "embedded", "app": "process"}},
    ],
    ids=["same", "another core", "another commit", "another package", "a service off", "a service more"],
)
def test_what_is_being_tested_is_no_difference(now: dict[str, Any]) -> None:
    """Code, packages, the number of the core, and services of only one side do not count."""
    assert differences(ENVIRONMENT, msgspec.structs.replace(ENVIRONMENT, **now)) == []


# ---- judging a run


def checked(now: Benchmark, old: Benchmark | None, *fresh: float, **now_on: Any) -> Benchmark:
    """Return one benchmark of a run as judged with these medians of fresh processes."""
    record, baseline = run(now, **now_on), run(old) if old else None
    again = {now.key: [msgspec.structs.replace(now, median=median) for median in fresh]} if fresh else {}
    [judged] = judge_benchmarks(record, evidence_of(record, baseline, again), GATE)
    return judged


def evidence_of(record: Results, baseline: Results | None, fresh: Mapping[str, list[Benchmark]] = {}) -> Evidence:
    history = calm_history(baseline) if baseline else []
    timings = check_baseline(record, baseline, GATE, {}, history=history)
    again = check_baseline(record, baseline, GATE, {}, fresh=fresh, history=history) if fresh else {}
    return Evidence(timings=timings, confirmation=ConfirmationEvidence(timings=again))


def calm_history(baseline: Results) -> list[Results]:
    """Return earlier runs that did not differ from each other."""
    return [baseline] * MOST_RUNS


def check(record: Results, baseline: Results, **own: BenchmarkSettings) -> list[BaselineEvidence]:
    """Return the evidence about each benchmark of a record, on a machine whose sessions hardly differ."""
    return list(check_baseline(record, baseline, GATE, own, history=calm_history(baseline)).values())


def test_a_benchmark_as_fast_as_before_passes_with_its_figures() -> None:
    """The evidence has the baseline's median, the change with its bounds, and the minimum detectable effect."""
    result = checked(entry(median=0.001001), entry())

    assert result.verdict == "pass"
    assert result.baseline_median == pytest.approx(0.001)
    assert result.change == pytest.approx(0.001)
    assert result.change_low is not None
    assert result.change_high is not None
    assert result.change_low < 0.001 < result.change_high < 0.05
    assert result.minimum_detectable_effect is not None
    assert result.minimum_detectable_effect > 0.02
    assert result.reasons == []


def test_a_slow_benchmark_is_only_suspicious_at_first() -> None:
    """A benchmark that is twice as slow in one process is inconclusive, to be measured again."""
    record = run(entry("a.py::slow", median=0.002), entry("b.py::fine"))

    found = check(record, run(entry("a.py::slow"), entry("b.py::fine")))

    assert [(evidence.verdict, evidence.suspicious) for evidence in found] == [("inconclusive", True), ("pass", False)]


@pytest.mark.parametrize(("median", "again"), [(0.001, False), (0.01, True)])
def test_a_noisy_benchmark_is_measured_again_if_it_is_far_slower(median: float, again: bool) -> None:
    """Fresh processes run only if they could fail the benchmark."""
    noisy = [0.001, 0.00125, 0.0008, 0.0012, 0.0009]
    [found] = check(run(entry(median=median)), run(entry(process_medians=noisy)))

    assert (found.verdict, found.suspicious) == ("inconclusive", again)


def test_a_slow_benchmark_that_is_slow_again_is_a_regression() -> None:
    """The evidence has the medians of the fresh processes."""
    result = checked(entry(median=0.003), entry(), *[0.002] * 5)

    assert result.verdict == "regression"
    assert result.change == pytest.approx(1.0)
    assert result.process_medians == [0.002] * 5
    assert result.reasons == [Reason("slower_in_processes", number=5)]


def test_a_slow_benchmark_that_was_bad_luck_is_passed() -> None:
    """The first median was selected for being slow, so it does not count beside fresh ones."""
    result = checked(entry(median=0.002), entry(), *[0.001] * 5)

    assert result.verdict == "pass"
    assert result.change == pytest.approx(0.0)


@pytest.mark.parametrize("fresh", [[], [0.001, 0.001, 0.003, 0.003, 0.004]], ids=["one process", "measured again"])
@pytest.mark.parametrize("source_hash", ["5a1", "another"])
def test_the_change_is_that_of_the_two_figures_shown_beside_it(fresh: list[float], source_hash: str) -> None:
    """Both shown times are the means that give the change. Medians could contradict it."""
    old = entry(median=0.002, process_medians=[0.001, 0.001, 0.002, 0.002, 0.002])

    result = checked(entry(median=0.0019, source_hash=source_hash), old, *fresh)

    assert result.baseline_median == pytest.approx(0.001 * 8 ** (1 / 5))
    assert result.median == pytest.approx(0.001 * 36 ** (1 / 5) if fresh else 0.0019)
    assert result.change == pytest.approx(result.median / (result.baseline_median or 0.0) - 1)


def test_fresh_processes_of_another_benchmark_fail_nothing() -> None:
    """A benchmark that was not measured again does not fail."""
    record, baseline = run(entry(median=0.002)), run(entry())

    fresh = {"b.py::b": [entry(median=0.002)] * 5}
    [found] = check_baseline(record, baseline, GATE, {}, fresh=fresh, history=calm_history(baseline)).values()

    assert found.verdict == "inconclusive"
    assert found.reasons == [Reason("not_ruled_out", share=0.05)]


def test_a_benchmark_s_own_thresholds_judge_it() -> None:
    """A benchmark that may be 10 % slower passes, and the others do not."""
    own = {"a.py::a": BenchmarkSettings(tolerance=0.2, minimum_effect=0.3)}
    record = run(entry("a.py::a", median=0.0011), entry("b.py::b", median=0.0011))

    found = check(record, run(entry("a.py::a"), entry("b.py::b")), **own)

    assert [evidence.verdict for evidence in found] == ["pass", "inconclusive"]


def test_a_benchmark_that_was_not_measured_is_not_checked() -> None:
    """A benchmark that only the baseline has gives no evidence."""
    assert check(run(), run(entry("a.py::a"))) == []


def test_without_a_baseline_everything_is_new() -> None:
    result = checked(entry(), None)

    assert (result.verdict, result.baseline_median, result.change) == ("new", None, None)


def test_a_benchmark_that_the_baseline_does_not_hold_is_new() -> None:
    assert checked(entry("b.py::b"), entry("a.py::a")).verdict == "new"


def test_a_renamed_benchmark_keeps_its_history() -> None:
    """A benchmark that names its former key is compared with that entry."""
    result = checked(entry("b.py::b", renamed_from="a.py::a", median=0.002), entry("a.py::a"))

    assert result.verdict == "inconclusive"
    assert result.baseline_median == pytest.approx(0.001)


def test_a_renamed_benchmark_is_compared_under_its_new_key_once_that_is_recorded() -> None:
    """The entry of the new key has priority."""
    record = run(entry("b.py::b", renamed_from="a.py::a", median=0.002))

    [found] = check(record, run(entry("a.py::a"), entry("b.py::b", median=0.002, process_medians=[0.002] * 5)))

    assert found.verdict == "pass"


def test_a_benchmark_with_another_source_is_changed() -> None:
    """An edited benchmark measures something else, so its change is shown but not judged."""
    result = checked(entry(median=0.002, source_hash="b2"), entry())

    assert result.verdict == "changed"
    assert result.change == pytest.approx(1.0)
    assert result.reasons == [Reason("source_changed")]


def test_an_edited_benchmark_on_another_machine_is_changed() -> None:
    """The changed source is reported rather than the other machine."""
    assert checked(entry(source_hash="b2"), entry(), machine="m2").verdict == "changed"


def test_another_environment_is_inconclusive_with_every_reason() -> None:
    """Timings of another machine are shown, not judged, and not measured again."""
    result = checked(entry(median=0.002), entry(), machine="m2", python="3.13.1")

    assert result.verdict == "inconclusive"
    different = ["another machine (m1, now m2)", "Python was 3.11.9, is 3.13.1"]
    assert result.reasons == [Reason("not_comparable", subjects=different)]
    assert result.change == pytest.approx(1.0)
    [found] = check(run(entry(median=0.002), machine="m2"), run(entry()))
    assert not found.suspicious


@pytest.mark.parametrize(("was", "now"), [(None, 1), (1, None)])
def test_a_benchmark_pinned_once_only_is_inconclusive(was: int | None, now: int | None) -> None:
    """A benchmark that was pinned in only one of the two runs is not judged."""
    result = checked(entry(pin=now), entry(pin=was))

    assert result.verdict == "inconclusive"
    assert result.reasons == [Reason("pinned_once")]


def test_a_benchmark_pinned_to_another_core_is_judged() -> None:
    assert checked(entry(pin=0), entry(pin=1)).verdict == "pass"


def test_a_benchmark_that_measured_nothing_is_invalid() -> None:
    """A median of 0 is invalid."""
    result = checked(entry(median=0.0), entry())

    assert result.verdict == "invalid"
    assert result.change is None
    assert result.reasons == [Reason("measured_zero")]


def test_a_fresh_process_that_measured_nothing_makes_it_invalid() -> None:
    """A median of 0 in a fresh process is invalid."""
    assert checked(entry(median=0.002), entry(), 0.001, 0.0).verdict == "invalid"


@pytest.mark.parametrize(
    "old",
    [{"median": 0.0, "process_medians": [0.0] * 5}, {"process_medians": [0.0, 0.001, 0.001]}],
    ids=["all", "one process"],
)
def test_a_baseline_of_zero_is_none(old: dict[str, Any]) -> None:
    """A baseline median of 0 cannot be compared, so the benchmark is new."""
    assert checked(entry(), entry(**old)).verdict == "new"


def test_more_benchmarks_ask_for_more_evidence() -> None:
    """Evidence that fails a single benchmark does not fail one of fifty, nor a shard with one of fifty."""
    fresh = [entry(median=0.001 * math.exp(change)) for change in (0.02, 0.06, 0.10, 0.06, 0.06)]
    alone, among = run(entry(median=0.002)), run(entry(median=0.002), *[entry(f"{i}.py::a") for i in range(49)])
    shard = msgspec.structs.replace(alone, shard=Shard(1, 50, "", keys=[one.key for one in among.benchmarks]))
    baseline = run(entry(spread=0.02), *[entry(f"{i}.py::a", spread=0.02) for i in range(49)])

    one, of_many, of_shard = (
        check_baseline(record, baseline, GATE, {}, fresh={"a.py::a": fresh}, history=calm_history(baseline))["a.py::a"]
        for record in (alone, among, shard)
    )

    assert (one.verdict, of_many.verdict) == ("regression", "inconclusive")
    assert (of_many.minimum_detectable_effect or 0) > (one.minimum_detectable_effect or 0)
    assert of_shard == of_many


# ---- a machine that has become slower


def checked_beside_work(speeds_s: list[float], before_s: float, slower: float) -> BaselineEvidence:
    """Judge five fresh processes that are slower by this factor, with this time of the fixed piece of work."""
    now = entry(median=0.001 * slower)
    fresh = [entry(median=0.001 * slower, machine_speed_s=speed_s) for speed_s in speeds_s]
    baseline = run(entry(machine_speed_s=before_s))
    history = calm_history(baseline)
    return check_baseline(run(now), baseline, GATE, {}, fresh={now.key: fresh}, history=history)[now.key]


@pytest.mark.parametrize("slower", [1.4, 1.3, 1.41])
def test_what_a_slower_machine_explains_is_no_regression(slower: float) -> None:
    """If the fixed work takes 40 % longer, factors of 1.4 and 1.41 are no regression."""
    result = checked_beside_work([1.4e-4] * 5, 1e-4, slower)

    assert result.verdict == "inconclusive"
    assert result.reasons == [Reason("machine_slower", share=pytest.approx(0.4))]  # type: ignore[arg-type]
    assert result.change == pytest.approx(slower - 1)


@pytest.mark.parametrize(
    ("speeds_s", "before_s"),
    [([1.4e-4] * 5, 1e-4), ([1e-4] * 5, 1e-4), ([0.5e-4] * 5, 1e-4), ([1.4e-4] * 5, 0.0), ([0.0] * 5, 1e-4)],
    ids=["slower", "alike", "faster", "unknown before", "unknown now"],
)
def test_what_is_slower_than_the_machine_is_a_regression(speeds_s: list[float], before_s: float) -> None:
    """A slow-down of 50 % is more than the machine's 40 %. A faster machine makes nothing worse."""
    assert checked_beside_work(speeds_s, before_s, 1.5).verdict == "regression"


# ---- a machine that has become faster


def checked_on_faster_machine(machine_speed_s: float, change: float) -> BaselineEvidence:
    """Judge one run with this factor, and with this time of the fixed piece of work, which took 0.1 ms before."""
    now = entry(median=0.001 * (1 + change), machine_speed_s=machine_speed_s)
    [found] = check(run(now), run(entry(machine_speed_s=1e-4)))
    return found


def test_what_a_faster_machine_hides_is_not_passed() -> None:
    """An unchanged time on a machine that is 30 % faster may be a slow-down of 43 %."""
    result = checked_on_faster_machine(0.7e-4, 0.0)

    assert result.verdict == "inconclusive"
    assert result.reasons == [Reason("machine_faster", share=pytest.approx(0.3))]  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [-0.3, -0.31, -0.298])
def test_what_is_faster_as_the_machine_is_passes(change: float) -> None:
    """A gain that equals that of the machine is a pass, not an improvement."""
    assert checked_on_faster_machine(0.7e-4, change).verdict == "pass"


def test_what_is_faster_than_the_machine_is_an_improvement() -> None:
    """Half of the time is an improvement if the fixed work takes 30 % less."""
    assert checked_on_faster_machine(0.7e-4, -0.5).verdict == "improvement"


@pytest.mark.parametrize("machine_speed_s", [0.0, 1e-4, 1.3e-4], ids=["unknown", "alike", "slower"])
def test_a_machine_that_is_no_faster_passes(machine_speed_s: float) -> None:
    assert checked_on_faster_machine(machine_speed_s, 0.0).verdict == "pass"


def test_a_machine_that_is_a_little_faster_hides_nothing() -> None:
    """0.5 % slower passes by itself, and not on a machine that is 2 % faster."""
    assert checked_on_faster_machine(1e-4, 0.005).verdict == "pass"
    assert checked_on_faster_machine(0.98e-4, -0.015).verdict == "pass"

    result = checked_on_faster_machine(0.98e-4, 0.005)

    assert result.verdict == "inconclusive"
    assert result.reasons == [Reason("machine_faster", share=pytest.approx(0.02))]  # type: ignore[arg-type]
