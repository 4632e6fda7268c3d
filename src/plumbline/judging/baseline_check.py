"""The baseline check: compare the timings of a run with those of a baseline from the same machine.

The check compares logarithms of the medians of fresh processes. The spread of these medians comes from the processes of
the baseline. Because five processes are few, each benchmark's variance is shrunk half-way towards the common variance
of all benchmarks: a moderated t-statistic (Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3:3,
with prior degrees of freedom equal to the benchmark's own).

One process can only pass a benchmark. If a benchmark is slower than its spread explains, several fresh processes
measure it again. Only these can fail it, because the first measurement was selected for being slow.

Two sessions, such as two days, differ by more than the processes of one session. `judging.sessions` estimates by how
much, and that is added to the error of each change.

The speed of the machine is measured beside each benchmark. A slow-down does not fail a benchmark if the machine is
slower than in the baseline by as much. A gain does not pass it if the machine is faster by as much.
"""

import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from plumbline.judging.distributions import student_quantile
from plumbline.judging.evidence import (
    BASELINE_MISSES,
    LATER_MISSES,
    BaselineEvidence,
    Judgement,
    Thresholds,
    sharing_of,
)
from plumbline.judging.sessions import ASSUMED, Difference, Sessions, sessions_of
from plumbline.measuring.statistics import log_spread
from plumbline.results.schema import Benchmark, Environment, Reason, Results, Verdict
from plumbline.settings import BenchmarkSettings, GateSettings

SPREAD_FLOOR = 0.005  # processes in a row can agree better than runs on different days
PASSED = ("pass", "improvement")
# Median over mean of the variance of five values: the median of chi-squared with 4 degrees of freedom, divided by 4.
MEDIAN_TO_MEAN = 0.839
MOST_DEGREES = 20


def check_baseline(
    record: Results,
    baseline: Results | None,
    gate: GateSettings,
    own: Mapping[str, BenchmarkSettings],
    *,
    fresh: Mapping[str, Sequence[Benchmark]] = {},
    history: Sequence[Results] = (),
) -> dict[str, BaselineEvidence]:
    """Return the evidence about each benchmark of a record, by key.

    `own`: settings of single benchmarks, by key. `fresh`: results of the fresh processes that measured benchmarks
    again, by key. `history`: earlier runs, of any machine and baseline.
    """
    entries = {entry.key: entry for entry in baseline.benchmarks} if baseline else {}
    variance = common_variance(baseline) if baseline else 0.0
    different = differences(baseline.environment, record.environment) if baseline else []
    alike = [run for run in history if baseline and not differences(baseline.environment, run.environment)]
    sessions = sessions_of(record, baseline, [] if different else alike, variance) if baseline else Sessions()
    found = {}
    for benchmark in record.benchmarks:
        old = entries.get(benchmark.key) or entries.get(benchmark.renamed_from)
        if old is None or not all([old.median, *old.process_medians]):
            found[benchmark.key] = BaselineEvidence("new")
            continue
        again = fresh.get(benchmark.key, [])
        thresholds = Thresholds.of(gate, own.get(benchmark.key)).with_shares(
            1 / sharing_of(record), LATER_MISSES if again else BASELINE_MISSES
        )
        judge_these = functools.partial(
            judge,
            old.process_medians,
            variance=variance,
            thresholds=thresholds,
            confirm_processes=gate.confirm_processes,
            confirmed=bool(again),
            sessions=sessions.between(benchmark.key, of_run=not again),
            to_pass=sessions.to_pass(benchmark.key, of_run=not again),
        )
        found[benchmark.key] = _check(benchmark, old, again, different, thresholds, judge_these)
    return found


def _check(
    benchmark: Benchmark,
    old: Benchmark,
    fresh: Sequence[Benchmark],
    different: Sequence[str],
    thresholds: Thresholds,
    judge_these: Callable[[Sequence[float]], Judgement],
) -> BaselineEvidence:
    # Report what the change is computed from: the geometric mean of the medians.
    medians = [one.median for one in fresh or [benchmark]]
    now = math.exp(_mean_log(medians)) if fresh and all(medians) else min(medians)
    then = math.exp(_mean_log(old.process_medians or [old.median]))
    reason: Reason | None = None
    verdict: Verdict = "inconclusive"
    if old.source_hash != benchmark.source_hash:
        verdict, reason = "changed", Reason("source_changed")
    elif different:
        reason = Reason("not_comparable", subjects=different)
    elif (benchmark.pin is None) != (old.pin is None):
        reason = Reason("pinned_once")
    elif not now:
        verdict, reason = "invalid", Reason("measured_zero")
    if reason is not None:
        change = now / then - 1 if now else None
        return BaselineEvidence(verdict, [reason], median=now, baseline_median=then, change=change)

    before_s, now_s = old.machine_speed_s, [one.machine_speed_s for one in fresh or [benchmark]]
    # The slow-down of the machine itself; 1 if unknown.
    machine = statistics.fmean(now_s) / before_s if before_s and all(now_s) else 1.0
    judgement, at_baseline_speed = map(judge_these, (medians, [median / machine for median in medians]))
    verdict, reason = _beside_machine(judgement, at_baseline_speed.verdict, machine, thresholds.minimum_effect)
    return BaselineEvidence(
        verdict,
        [reason] if reason else [],
        median=now,
        baseline_median=then,
        change=judgement.change,
        change_low=judgement.low,
        change_high=judgement.high,
        minimum_detectable_effect=judgement.minimum_detectable_effect,
        process_medians=medians,
    )


def judge(
    baseline_medians: Sequence[float],
    medians: Sequence[float],
    variance: float,
    thresholds: Thresholds,
    confirm_processes: int,
    *,
    confirmed: bool,
    sessions: float = ASSUMED**2,
    to_pass: Difference | None = None,
) -> Judgement:
    """Judge medians of fresh processes against the medians of the baseline, both in seconds.

    `variance` is the common variance of all benchmarks, of logarithms. `thresholds` has the false-positive rate of this
    benchmark alone. The minimum detectable effect is that of `confirm_processes` processes. `confirmed`: whether
    `medians` come from these; otherwise the verdict cannot be `regression`. `sessions` is the variance of the
    difference between two sessions, of logarithms. `to_pass` is the same if the benchmark may pass, if that differs.
    Raises ValueError for fewer than two baseline medians or no medians.
    """
    if len(baseline_medians) < 2 or not medians:
        raise ValueError("a comparison needs at least two medians of the baseline and one of this run")
    change = _mean_log(medians) - _mean_log(baseline_medians)
    own_degrees = len(baseline_medians) + len(medians) - 2
    own = log_spread(baseline_medians) ** 2 * (len(baseline_medians) - 1)
    own += log_spread(medians) ** 2 * (len(medians) - 1)
    prior_degrees = len(baseline_medians) - 1
    degrees = own_degrees + prior_degrees
    # Do not shrink the variance of a benchmark that is noisier than most: it would fail too often.
    spread = max(math.sqrt(max((own + prior_degrees * variance) / degrees, own / own_degrees)), SPREAD_FLOOR)
    within = spread**2 * (1 / len(baseline_medians) + 1 / len(medians))
    error = math.sqrt(within + sessions)
    to_pass = to_pass or Difference(sessions, math.inf)
    passing_error = math.sqrt(within + to_pass.variance)
    # Each part of the variance has its own degrees of freedom (Welch 1947, Biometrika 34:28). If a benchmark may fail,
    # the difference between sessions counts as known.
    of_failing = min(round(degrees * (error**2 / within) ** 2), MOST_DEGREES)
    of_passing = passing_error**4 / (within**2 / degrees + to_pass.variance**2 / to_pass.degrees)
    failing = student_quantile(1 - thresholds.false_alarms, of_failing)
    passing = student_quantile(thresholds.power, min(round(of_passing), MOST_DEGREES))
    tolerance = math.log1p(thresholds.tolerance)
    confirming = math.sqrt(spread**2 * (1 / len(baseline_medians) + 1 / confirm_processes) + sessions)

    verdict: Verdict = "inconclusive"
    if change + failing * error < -tolerance:
        verdict = "improvement"
    elif change + passing * passing_error < math.log1p(thresholds.minimum_effect):
        verdict = "pass"
    elif confirmed and change - failing * error > tolerance:
        verdict = "regression"
    return Judgement(
        verdict=verdict,
        change=math.expm1(change),
        low=math.expm1(change - passing * passing_error),
        high=math.expm1(change + passing * passing_error),
        minimum_detectable_effect=math.expm1(tolerance + (failing + passing) * confirming),
        pairs=len(medians),
        error=error,
    )


def _beside_machine(
    judgement: Judgement, at_baseline_speed: Verdict, machine: float, minimum_effect: float
) -> tuple[Verdict, Reason | None]:
    """Return the verdict and its reason, corrected for the speed of the machine.

    `at_baseline_speed`: the verdict on the time divided by `machine`, the slow-down of the machine.
    """
    verdict = judgement.verdict
    if verdict in PASSED:
        if machine >= 1:
            return verdict, None
        if at_baseline_speed in PASSED:
            return at_baseline_speed, None
        return "inconclusive", Reason("machine_faster", share=1 - machine)
    if verdict == "regression":
        if machine > 1 and at_baseline_speed != "regression":
            return "inconclusive", Reason("machine_slower", share=machine - 1)
        return verdict, Reason("slower_in_processes", number=judgement.pairs)
    return verdict, Reason("not_ruled_out", share=minimum_effect)


def common_variance(baseline: Results) -> float:
    """Return the median, over all benchmarks, of the variance of log medians between processes."""
    variances = [b.spread**2 for b in baseline.benchmarks if b.spread is not None]
    return max(statistics.median(variances) / MEDIAN_TO_MEAN if variances else 0.0, SPREAD_FLOOR**2)


def _mean_log(medians: Sequence[float]) -> float:
    return statistics.fmean(math.log(median) for median in medians)


def differences(baseline: Environment, now: Environment) -> list[str]:
    """Return the differences that make the timings of two environments incomparable."""
    found = []
    if baseline.machine != now.machine:
        found.append(f"another machine ({baseline.machine}, now {now.machine})")
    for name in sorted(now.services.keys() & baseline.services.keys()):
        if baseline.services[name] != now.services[name]:
            found.append(f"{name} was {baseline.services[name]}, is {now.services[name]}")
        elif baseline.versions.get(name) != now.versions.get(name):
            found.append(f"{name} was version {baseline.versions.get(name)}, is {now.versions.get(name)}")
    if baseline.pin is not None and now.pin is None:
        found.append("the baseline was pinned to one core, this run is not")
    if baseline.pin is None and now.pin is not None:
        found.append("this run is pinned to one core, the baseline was not")
    if baseline.fixed_addresses != now.fixed_addresses:
        was, now_is = ("fixed" if one.fixed_addresses else "random" for one in (baseline, now))
        found.append(f"memory addresses were {was}, are {now_is}")
    if baseline.python != now.python:
        found.append(f"Python was {baseline.python}, is {now.python}")
    return found


def package_differences(baseline: Environment, now: Environment) -> list[str]:
    """Return the packages with another version than in the baseline, one line each: redis 6.4.0 → 8.1.0."""
    names = sorted(baseline.packages.keys() | now.packages.keys())
    versions = [(name, baseline.packages.get(name, "none"), now.packages.get(name, "none")) for name in names]
    return [f"{name} {old} → {new}" for name, old, new in versions if old != new]
