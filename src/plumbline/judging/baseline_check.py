"""Compare timings with the baseline's on the same machine: pure functions of data.

Everything is judged on logarithms of medians of fresh processes, where a slow-down is a shift. The spread of those
medians comes from the baseline's own processes. Five of them are few, so each benchmark's variance is drawn half-way
towards that of all benchmarks (a moderated t-statistic: Smyth 2004, Statistical Applications in Genetics and Molecular
Biology 3:3, with prior degrees of freedom equal to the benchmark's own).

One fresh process can only acquit. What looks slower than its spread explains is measured again in several fresh
processes, and those alone convict: the first figure has been selected for being high. How small a slow-down those can
convict is the comparison's minimum detectable effect; each verdict comes with it. Where a fixed piece of work beside a benchmark is
slower than in the baseline as well, that much is the machine's doing and convicts nobody; where it is faster, that much
acquits nobody.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from plumbline.judging.distributions import student_quantile
from plumbline.measuring.statistics import log_spread
from plumbline.results.schema import Benchmark, Environment, Results, Verdict
from plumbline.settings import BenchmarkSettings, GateSettings

SPREAD_FLOOR = 0.005
"""Five processes in a row may agree better than any two runs a day apart ever will."""
ACQUITTED = ("pass", "improvement")
MEDIAN_TO_MEAN = 0.839
"""Median over mean of a variance from five values: that of chi-squared with 4 degrees of freedom, over 4."""


@dataclass(frozen=True)
class Comparison:
    """A benchmark against its baseline; changes and bounds as shares (0.05 is 5 % slower)."""

    verdict: Verdict
    change: float
    low: float
    high: float
    minimum_detectable_effect: float
    """The slow-down that is convicted with the wanted power, once measured again."""
    reason: str


@dataclass(frozen=True)
class Limits:
    """What one benchmark is judged by."""

    tolerance: float
    minimum_effect: float
    false_alarms: float
    """For this one benchmark: the suite's, divided by the number of benchmarks (Bonferroni)."""
    power: float
    confirm_processes: int

    @classmethod
    def of(cls, gate: GateSettings, own: BenchmarkSettings | None, benchmarks: int) -> "Limits":
        gate = gate.with_own(own)
        return cls(
            tolerance=gate.tolerance,
            minimum_effect=gate.minimum_effect,
            false_alarms=gate.false_alarms / max(benchmarks, 1),
            power=gate.power,
            confirm_processes=gate.confirm_processes,
        )


def common_variance(baseline: Results) -> float:
    """Median over the benchmarks of the variance between processes, of logarithms."""
    variances = [b.spread**2 for b in baseline.benchmarks if b.spread is not None]
    return max(statistics.median(variances) / MEDIAN_TO_MEAN if variances else 0.0, SPREAD_FLOOR**2)


def compare(
    baseline_medians: Sequence[float], medians: Sequence[float], variance: float, limits: Limits, *, confirmed: bool
) -> Comparison:
    """Judge medians of fresh processes (seconds) against the baseline's.

    `variance`: that of all benchmarks, of logarithms. `confirmed`: whether these processes were run to confirm a
    suspicion; only then may the verdict be `regression`. Raises ValueError where there is nothing to compare.
    """
    if len(baseline_medians) < 2 or not medians:
        raise ValueError("a comparison needs two processes of the baseline and one of now")
    change = _mean_log(medians) - _mean_log(baseline_medians)
    own_degrees = len(baseline_medians) + len(medians) - 2
    own = log_spread(baseline_medians) ** 2 * (len(baseline_medians) - 1)
    own += log_spread(medians) ** 2 * (len(medians) - 1)
    prior_degrees = len(baseline_medians) - 1
    degrees = own_degrees + prior_degrees
    # A benchmark that is noisier than most is believed to be so, or it would be convicted more often than stated.
    spread = max(math.sqrt(max((own + prior_degrees * variance) / degrees, own / own_degrees)), SPREAD_FLOOR)
    error = spread * math.sqrt(1 / len(baseline_medians) + 1 / len(medians))
    to_convict = student_quantile(1 - limits.false_alarms, degrees)
    to_acquit = student_quantile(limits.power, degrees)
    tolerance = math.log1p(limits.tolerance)
    # What the confirming processes convict, past the tolerance by both margins.
    confirming = spread * math.sqrt(1 / len(baseline_medians) + 1 / limits.confirm_processes)
    minimum_detectable_effect = tolerance + (to_convict + to_acquit) * confirming

    verdict: Verdict = "inconclusive"
    reason = f"{limits.minimum_effect:.0%} slower can't be ruled out"
    if change + to_convict * error < -tolerance:
        verdict, reason = "improvement", ""
    elif change + to_acquit * error < math.log1p(limits.minimum_effect):
        verdict, reason = "pass", ""
    elif confirmed and change - to_convict * error > tolerance:
        verdict, reason = "regression", f"slower in {len(medians)} fresh processes"
    return Comparison(
        verdict=verdict,
        change=math.expm1(change),
        low=math.expm1(change - to_acquit * error),
        high=math.expm1(change + to_acquit * error),
        minimum_detectable_effect=math.expm1(minimum_detectable_effect),
        reason=reason,
    )


def _mean_log(medians: Sequence[float]) -> float:
    return statistics.fmean(math.log(median) for median in medians)


def _level(medians: Sequence[float]) -> float:
    """Their geometric mean; 0 where one is."""
    return math.exp(_mean_log(medians)) if all(medians) else 0.0


def differences(baseline: Environment, now: Environment) -> list[str]:
    """Why timings of these two environments can't be compared; empty where they can."""
    found = []
    if baseline.machine != now.machine:
        found.append(f"another machine ({baseline.machine}, now {now.machine})")
    for name in sorted(now.services.keys() & baseline.services.keys()):
        if baseline.services[name] != now.services[name]:
            found.append(f"{name} was {baseline.services[name]}, is {now.services[name]}")
        elif baseline.versions.get(name) != now.versions.get(name):
            found.append(f"{name} was version {baseline.versions.get(name)}, is {now.versions.get(name)}")
    if (baseline.pin is None) != (now.pin is None):
        found.append(
            "the baseline was pinned to one core, this run is not"
            if now.pin is None
            else "this run is pinned to one core, the baseline was not"
        )
    if baseline.python != now.python:
        found.append(f"Python was {baseline.python}, is {now.python}")
    return found


def package_differences(baseline: Environment, now: Environment) -> list[str]:
    """Packages of another version than the baseline's, one line each: redis 6.4.0 → 8.1.0."""
    names = sorted(baseline.packages.keys() | now.packages.keys())
    versions = [(name, baseline.packages.get(name, "none"), now.packages.get(name, "none")) for name in names]
    return [f"{name} {old} → {new}" for name, old, new in versions if old != new]


def judge(
    results: Results,
    baseline: Results | None,
    gate: GateSettings,
    own: dict[str, BenchmarkSettings],
    confirmations: dict[str, list[float]],
    only: Collection[str] | None = None,
    machine_speeds: Mapping[str, Sequence[float]] = {},
) -> None:
    """Give each benchmark of a run its verdict and the figures behind it.

    `confirmations`: medians (seconds) of the fresh processes that measured a suspicious benchmark again, by key.
    `machine_speeds`: what the fixed piece of work took in those (seconds), by key, where it is known.
    `only`: the keys of those to be judged, where it isn't all.
    """
    entries = {entry.key: entry for entry in baseline.benchmarks} if baseline else {}
    variance = common_variance(baseline) if baseline else 0.0
    different = differences(baseline.environment, results.environment) if baseline else []
    for benchmark in results.benchmarks:
        if only is not None and benchmark.key not in only:
            continue
        old = entries.get(benchmark.key) or entries.get(benchmark.renamed_from)
        fresh = confirmations.get(benchmark.key, [])
        if old is None or not all([old.median, *old.process_medians]):
            benchmark.verdict = "new"
            continue
        # What is shown is what the change is computed from: of several processes the geometric mean.
        benchmark.baseline_median = _level(old.process_medians or [old.median])
        benchmark.median = _level(fresh) if fresh else benchmark.median
        benchmark.change = benchmark.median / benchmark.baseline_median - 1 if benchmark.median else None
        if old.source_hash != benchmark.source_hash:
            benchmark.verdict = "changed"
            benchmark.reasons = ["its source or a fixture's is another than the baseline's"]
        elif different:
            benchmark.verdict = "inconclusive"
            benchmark.reasons = [f"not comparable: {'; '.join(different)}"]
        elif (benchmark.pin is None) != (old.pin is None):
            benchmark.verdict = "inconclusive"
            benchmark.reasons = ["pinned to one core in the baseline or now, but not in both"]
        elif not all([benchmark.median, *fresh]):
            benchmark.verdict = "invalid"
            benchmark.reasons = ["too short for the clock: it measured 0"]
        else:
            limits = Limits.of(gate, own.get(benchmark.key), len(results.benchmarks))
            medians = fresh or [benchmark.median]
            result = compare(old.process_medians, medians, variance, limits, confirmed=bool(fresh))
            machine = _machine_slower(
                old.machine_speed_s, machine_speeds.get(benchmark.key, []) if fresh else [benchmark.machine_speed_s]
            )
            level = [median / machine for median in medians]
            at_baseline_speed = compare(old.process_medians, level, variance, limits, confirmed=bool(fresh))
            result = _beside_machine(result, at_baseline_speed.verdict, machine, limits)
            benchmark.verdict = result.verdict
            benchmark.change, benchmark.change_low, benchmark.change_high = result.change, result.low, result.high
            benchmark.minimum_detectable_effect = result.minimum_detectable_effect
            benchmark.reasons = [result.reason] if result.reason else []
            benchmark.process_medians = medians


def _beside_machine(result: Comparison, at_baseline_speed: Verdict, machine: float, limits: Limits) -> Comparison:
    """What is left of a verdict where the machine's own speed has changed.

    `at_baseline_speed`: the verdict on what it would have taken at the baseline's. `machine`: see _machine_slower.
    """
    if result.verdict == "regression" and machine > 1 and at_baseline_speed != "regression":
        reason = f"the machine itself is {machine - 1:.0%} slower than when the baseline was recorded"
        return replace(result, verdict="inconclusive", reason=reason)
    if result.verdict not in ACQUITTED or machine >= 1 - limits.tolerance:
        return result
    if at_baseline_speed in ACQUITTED:
        return replace(result, verdict=at_baseline_speed)
    reason = f"the machine itself is {1 - machine:.0%} faster than when the baseline was recorded"
    return replace(result, verdict="inconclusive", reason=reason)


def _machine_slower(before_s: float, now_s: Sequence[float]) -> float:
    """Times that the fixed piece of work takes now, over before; 1 where either is not known."""
    return statistics.fmean(now_s) / before_s if before_s and now_s and all(now_s) else 1.0


def suspicious(results: Results) -> list[str]:
    """Keys of the benchmarks that may be so much slower that confirming processes could convict them."""
    return [
        benchmark.key
        for benchmark in results.benchmarks
        if benchmark.verdict == "inconclusive"
        and benchmark.minimum_detectable_effect is not None
        and (benchmark.change_high or 0.0) >= benchmark.minimum_detectable_effect
    ]


def undecided(results: Results) -> list[Benchmark]:
    """What could not be acquitted, the worst first."""
    found = [benchmark for benchmark in results.benchmarks if benchmark.verdict == "inconclusive"]
    return sorted(found, key=lambda benchmark: -(benchmark.change or 0.0))
