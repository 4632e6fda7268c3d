"""Verdicts: the one place where a record and the evidence about it become results."""

import math
from collections.abc import Mapping, Sequence

from msgspec.structs import asdict, replace

from plumbline.judging.accepted import with_accepted
from plumbline.judging.baseline_check import differences, package_differences
from plumbline.judging.budgets import with_kept_budget
from plumbline.judging.counts import explaining, grown_counts, growth
from plumbline.judging.evidence import BaselineEvidence, ComparisonEvidence, CountEvidence, Evidence
from plumbline.judging.run_verdict import missing_benchmarks, removed_benchmarks, run_verdict
from plumbline.results.reasons import Reason
from plumbline.results.schema import Benchmark, Results
from plumbline.settings import BenchmarkSettings, GateSettings

MOST_SAMPLES_KEPT = 200


def decide(
    record: Results, evidence: Evidence, gate: GateSettings, own: Mapping[str, BenchmarkSettings] = {}
) -> Results:
    """Return the results of a run: the record with verdicts, reasons and an exit code.

    `own`: benchmarks' own settings, by key. The record of a run that was ended early keeps its exit code and reasons.
    """
    benchmarks = judge_benchmarks(record, evidence, gate)
    comparison, baseline = evidence.comparison, evidence.baseline
    reasons = list(record.reasons)
    notes = [*record.notes]
    if baseline is not None and baseline.environment.dirty:
        notes.append("the baseline was recorded with changes in the tree that its commit doesn't hold")
    notes += comparison.notes
    base = comparison.base
    if none := comparison.none:
        if none.cause == "invalid":
            reasons.append(Reason("comparison_invalid", none.detail))
        elif evidence.comparison_required:
            reasons.append(Reason("no_comparison", none.detail))
        else:
            notes.append(f"no paired comparison: {none.detail}")
        base = base if none.cause == "invalid" else ""
    reasons += evidence.confirmation.failed
    if baseline is not None:
        benchmarks += missing_benchmarks(baseline, record)
        if evidence.base_baseline is not None:
            benchmarks += removed_benchmarks(evidence.base_baseline, baseline, record)
    judged = replace(
        record,
        benchmarks=[_with_own(benchmark, own.get(benchmark.key)) for benchmark in benchmarks],
        reasons=reasons,
        notes=notes,
        tolerance=gate.tolerance,
        minimum_effect=gate.minimum_effect,
        baseline=evidence.baseline_file,
        base=base,
        base_differences=comparison.base_differences,
    )
    if baseline is not None:
        judged = replace(
            judged,
            baseline_commit=baseline.environment.commit,
            baseline_created=baseline.created,
            baseline_differences=differences(baseline.environment, record.environment)
            + package_differences(baseline.environment, record.environment),
        )
    verdict, code, reasons = run_verdict(judged, gate.fail_on)
    return replace(judged, verdict=verdict, exit_code=record.exit_code or code, reasons=reasons)


def judge_benchmarks(record: Results, evidence: Evidence, gate: GateSettings) -> list[Benchmark]:
    """Return the benchmarks of a record with their verdicts: by timings, then budgets, counts and what is accepted."""
    judged = []
    for benchmark in record.benchmarks:
        key = benchmark.key
        one = with_timings(benchmark, evidence, gate)
        one = with_kept_budget(one, evidence.confirmation.fresh.get(key, []))
        one = _with_counts(one, evidence.counts.get(key), drifted=key in evidence.comparison.unaffected)
        judged.append(with_accepted(one, evidence.accepted.get(key), gate.minimum_effect))
    return judged


def with_timings(benchmark: Benchmark, evidence: Evidence, gate: GateSettings) -> Benchmark:
    """Return a benchmark with the verdict of its timings: of the latest stage that has judged them."""
    key = benchmark.key
    if found := evidence.timings.get(key):
        benchmark = _with_baseline(benchmark, found)
    again = evidence.confirmation.timings.get(key)
    if key in evidence.application_elsewhere:
        reasons = [*benchmark.reasons, Reason("application_elsewhere")]
        benchmark = replace(benchmark, verdict="inconclusive", reasons=reasons)
        again = None if again and again.verdict == "new" else again
    if key in evidence.comparison.compared:
        benchmark = _with_comparison(benchmark, evidence.comparison, gate)
    return _with_baseline(benchmark, again) if again else benchmark


def _with_baseline(benchmark: Benchmark, evidence: BaselineEvidence) -> Benchmark:
    found = {name: value for name, value in asdict(evidence).items() if value is not None}
    return replace(benchmark, **found)


def _with_comparison(benchmark: Benchmark, comparison: ComparisonEvidence, gate: GateSettings) -> Benchmark:
    key = benchmark.key
    # Only the machine that recorded the baseline can show this.
    slower = benchmark.change_low is not None and benchmark.change_low > gate.tolerance
    judgement = comparison.judgements.get(key)
    if key in comparison.unaffected:
        reasons = [Reason("unaffected", comparison.base)]
        return replace(benchmark, verdict="drift" if slower else "pass", reasons=reasons)
    if key in comparison.failures:
        verdict = "new" if benchmark.verdict == "new" else "inconclusive"
        return replace(benchmark, verdict=verdict, reasons=[Reason("comparison_failed", comparison.failures[key])])
    if judgement is None:
        if benchmark.verdict in ("pass", "improvement"):
            return benchmark  # the baseline check has passed it already
        return replace(benchmark, verdict="inconclusive", reasons=[Reason("no_time_left")])
    verdict = judgement.verdict
    reasons = [Reason("pairs_inconclusive" if verdict == "inconclusive" else "compared", number=judgement.pairs)]
    if verdict == "regression" and key in comparison.baseline_edited:
        verdict = "accepted"
        reasons.append(Reason("baseline_edited"))
    elif verdict == "pass" and slower:
        verdict = "drift"
        reasons.append(Reason("not_slower_than_base"))
    base_s, head_s = comparison.samples_s.get(key, ([], []))
    return replace(
        benchmark,
        verdict=verdict,
        reasons=reasons,
        change=judgement.change,
        change_low=judgement.low,
        change_high=judgement.high,
        minimum_detectable_effect=judgement.minimum_detectable_effect,
        differences=comparison.differences[key],
        base_samples_s=thinned(base_s),
        head_samples_s=thinned(head_s),
        functions=comparison.functions.get(key, []),
    )


def _with_counts(benchmark: Benchmark, evidence: CountEvidence | None, *, drifted: bool) -> Benchmark:
    if evidence is None:
        return benchmark
    benchmark = replace(benchmark, count_changes=evidence.changes)
    reasons = [Reason("count_grown", counts=[growth(change)]) for change in explaining(grown_counts(benchmark))]
    verdict = benchmark.verdict
    if evidence.fails:
        verdict = "drift" if drifted else "regression"
    return replace(benchmark, verdict=verdict, reasons=[*reasons, *benchmark.reasons])


def _with_own(benchmark: Benchmark, own: BenchmarkSettings | None) -> Benchmark:
    return replace(benchmark, tolerance=own.tolerance, minimum_effect=own.minimum_effect) if own else benchmark


def thinned(samples_s: Sequence[float]) -> list[float]:
    """Return at most MOST_SAMPLES_KEPT of them, evenly."""
    return list(samples_s[:: math.ceil(len(samples_s) / MOST_SAMPLES_KEPT) or 1])
