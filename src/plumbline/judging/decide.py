"""Verdicts from a record and the evidence about it, and the choice of benchmarks to compare or measure again."""

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import asdict, replace

from plumbline.judging.accepted import with_accepted
from plumbline.judging.baseline_check import differences, package_differences
from plumbline.judging.counts import compare_sides, counts_of, grown_counts
from plumbline.judging.evidence import BaselineEvidence, ComparisonEvidence, CountEvidence, Evidence, Judgement
from plumbline.judging.explaining import explaining, group_changes, growth
from plumbline.judging.missing import missing_benchmarks, removed_benchmarks
from plumbline.measuring.statistics import SAMPLES_FOR_P99, Summary, slower_by, tail_figure
from plumbline.project import EXIT_INCONCLUSIVE, EXIT_INVALID, EXIT_PASS, EXIT_REGRESSION
from plumbline.results.schema import Benchmark, BudgetResult, Kind, LoopHold, Reason, Results, TailChange, Verdict
from plumbline.settings import BenchmarkSettings, Budget, GateSettings

MOST_SAMPLES_KEPT = 200
LOOP_HOLD = "max_loop_hold_ms"
UNCOMPARED: set[Kind] = {"comparison_failed", "copy_failed", "no_time_left", "application_elsewhere"}


def decide(
    record: Results, evidence: Evidence, gate: GateSettings, own: Mapping[str, BenchmarkSettings] = {}
) -> Results:
    """Return the results of a run: the record with verdicts, reasons and an exit code.

    `own`: settings of single benchmarks, by key. A run that ended early keeps its exit code and reasons.
    """
    comparison, baseline = evidence.comparison, evidence.baseline
    with_own = [_with_own_thresholds(one, own.get(one.key, BenchmarkSettings())) for one in record.benchmarks]
    record = replace(record, benchmarks=with_own)
    benchmarks, absent = judge_benchmarks(record, evidence, gate), list[Benchmark]()
    reasons, notes = [*record.reasons], [*record.notes, *evidence.notes]
    uncompared = {one.key for one in benchmarks if _is_uncompared(one, required=evidence.comparison_required)}
    allowed = {key for key in uncompared if _may_be_unmeasured(key, gate, own)}
    benchmarks = [replace(one, verdict="invalid") if one.key in uncompared - allowed else one for one in benchmarks]
    unserved = {one.key for one in record.tests if one.service_missing} if evidence.comparison_required else set()
    allowed |= {key for key in unserved if _may_be_unmeasured(key, gate, own)}
    reasons += _about("services_missing", sorted(unserved - allowed))
    warnings = _about("unmeasured_allowed", sorted(allowed))
    if baseline is not None:
        then, now = baseline.environment, record.environment
        record = replace(
            record,
            baseline_commit=then.commit,
            baseline_created=baseline.created,
            baseline_differences=differences(then, now) + package_differences(then, now),
        )
        if evidence.base_baseline is not None:
            absent += removed_benchmarks(evidence.base_baseline, baseline, record)
        if then.dirty:
            notes.append("the baseline was recorded with uncommitted changes")
    if known := baseline or evidence.baseline_elsewhere:
        absent += missing_benchmarks(known, record)
    if record.shard:  # another one may have measured them, by new names
        shard = replace(record.shard, proposed=evidence.comparison_required, absent=absent)
        record, absent = replace(record, shard=shard), []
    notes += [note for note in comparison.notes if note not in notes]
    if none := comparison.none:
        if none.cause == "invalid":
            reasons.append(Reason("comparison_invalid", none.detail))
        elif evidence.comparison_required or none.cause == "copy":
            if all(_may_be_unmeasured(one.key, gate, own) for one in record.benchmarks):
                warnings.append(Reason("unmeasured_allowed", none.detail))
            else:
                reasons.append(Reason("no_comparison", none.detail))
        else:
            notes.append(f"no paired comparison: {none.detail}")
    judged = replace(
        record,
        benchmarks=[*benchmarks, *absent],
        reasons=[*reasons, *evidence.confirmation.failed],
        notes=notes,
        tolerance=gate.tolerance,
        minimum_effect=gate.minimum_effect,
        baseline=evidence.baseline_file,
        base="" if none and none.cause == "no_base" else comparison.base,
        base_differences=comparison.base_differences,
        unjudged_packages=comparison.unjudged_packages,
    )
    return conclude(judged, warnings, gate.fail_on)


# Reasons that `conclude` finds in benchmarks and tests: it finds them again in those of merged shards.
FOUND_AGAIN: set[Kind] = {
    *("not_compared", "benchmarks_invalid", "benchmarks_missing", "nothing_measured", "new_benchmarks"),
    *("counts_grown", "slower_than_base", "slower_than_baseline", "budgets_broken", "tests_failed"),
    *("benchmarks_inconclusive", "drifted", "no_baseline", "sources_changed", "within_limits"),
}


def conclude(judged: Results, warnings: Sequence[Reason], fail_on: Sequence[str]) -> Results:
    """Return judged results with the verdict of the run. If they have reasons or an exit code, these come first."""
    verdict, code, reasons = run_verdict(judged, fail_on)
    new = [one.key for one in judged.benchmarks if any(reason.kind == "new_in_change" for reason in one.reasons)]
    reasons = [*warnings, *reasons, *_about("new_benchmarks", new)]
    return replace(judged, verdict=verdict, exit_code=judged.exit_code or code, reasons=reasons)


def _with_own_thresholds(benchmark: Benchmark, own: BenchmarkSettings) -> Benchmark:
    return replace(benchmark, tolerance=own.tolerance, minimum_effect=own.minimum_effect)


def _may_be_unmeasured(key: str, gate: GateSettings, own: Mapping[str, BenchmarkSettings]) -> bool:
    allowed = own.get(key, BenchmarkSettings()).allow_unmeasured
    return gate.allow_unmeasured if allowed is None else allowed


def _is_uncompared(benchmark: Benchmark, *, required: bool) -> bool:
    """Return whether a comparison is missing that is required, or that failed in the copy of the working tree.

    A benchmark that the baseline check has passed needs no comparison.
    """
    causes = {reason.kind for reason in benchmark.reasons} & (UNCOMPARED if required else {"copy_failed"})
    return bool(causes) and benchmark.verdict in ("inconclusive", "new", "changed")


def judge_benchmarks(record: Results, evidence: Evidence, gate: GateSettings) -> list[Benchmark]:
    """Return the benchmarks with verdicts by their timings, budgets, counts and accepted regressions, in this order."""
    judged = []
    measured = {one.key: counts_of(one) for one in record.benchmarks}
    sides = compare_sides(evidence.comparison.counts, measured)
    for benchmark in record.benchmarks:
        key = benchmark.key
        one = with_timings(benchmark, evidence, gate)
        one = with_kept_budget(one, evidence.confirmation.fresh.get(key, []))
        counts, drifted = evidence.counts.get(key), key in evidence.comparison.unaffected
        if of_sides := sides.get(key):  # the base decides, and the baseline shows drift
            is_drift = counts is not None and counts.fails and not of_sides.fails
            counts, drifted = counts if is_drift else of_sides, is_drift
        if counts:
            one = _with_counts(one, counts, drifted=drifted)
        judgement = evidence.comparison.judgements.get(key)
        worse = bool(judgement and judgement.verdict == "regression") or bool(of_sides and of_sides.fails)
        one = _with_accepted(one, evidence, gate, worse_than_base=worse)
        if key not in evidence.comparison.failures:  # which says the same
            one = _with_uncounted(one, evidence.comparison.uncounted.get(key, ""))
        judged.append(_with_unjudged_budget(one))
    return judged


def _with_uncounted(benchmark: Benchmark, why: str) -> Benchmark:
    """Make a benchmark that could not be counted inconclusive, unless it fails already or is new."""
    if not why or benchmark.verdict not in ("pass", "improvement", "drift", "accepted", "inconclusive"):
        return benchmark
    reasons = [Reason("comparison_failed", f"its counts: {why}"), *benchmark.reasons]
    return replace(benchmark, verdict="inconclusive", reasons=reasons)


def _with_unjudged_budget(benchmark: Benchmark) -> Benchmark:
    """Make a benchmark inconclusive if a limit of its budget could not be judged, unless it fails already."""
    unjudged = [result.name for result in benchmark.budgets if result.kept and result.note]
    if not unjudged or benchmark.verdict in ("regression", "inconclusive", "invalid", "missing"):
        return benchmark
    reasons = [Reason("budget_unjudged", subjects=unjudged), *benchmark.reasons]
    return replace(benchmark, verdict="inconclusive", reasons=reasons)


def _with_accepted(benchmark: Benchmark, evidence: Evidence, gate: GateSettings, *, worse_than_base: bool) -> Benchmark:
    """Accept a regression that this change has accepted. An edited baseline, or what the base has, accepts nothing."""
    key = benchmark.key
    accepted, effect = evidence.accepted.get(key), benchmark.minimum_effect or gate.minimum_effect
    before = worse_than_base and accepted == evidence.comparison.accepted.get(key)
    benchmark = with_accepted(benchmark, accepted, effect, worse_than_base=before)
    if benchmark.verdict == "regression" and key in evidence.edited:
        benchmark = replace(benchmark, reasons=[*benchmark.reasons, Reason("baseline_edited", subjects=[key])])
    return benchmark


def with_timings(benchmark: Benchmark, evidence: Evidence, gate: GateSettings) -> Benchmark:
    """Return a benchmark with the verdict of the latest stage that has judged its timings."""
    key = benchmark.key
    if found := evidence.timings.get(key):
        benchmark = _with_baseline(benchmark, found)
    again = evidence.confirmation.timings.get(key)
    if key in evidence.application_elsewhere:
        reasons = [*benchmark.reasons, Reason("application_elsewhere")]
        benchmark = replace(benchmark, verdict="inconclusive", reasons=reasons)
        again = None if again and again.verdict == "new" else again
    if key in evidence.comparison.compared:
        # The base may be faster still than what is faster than the baseline.
        due = key in evidence.edited or (evidence.comparison_required and benchmark.verdict == "improvement")
        benchmark = _with_comparison(benchmark, evidence.comparison, gate, due=due)
        benchmark = _with_unjudged(benchmark, evidence.comparison.unjudged.get(key, []))
    return _with_baseline(benchmark, again) if again else benchmark


def _with_baseline(benchmark: Benchmark, evidence: BaselineEvidence) -> Benchmark:
    return replace(benchmark, **{name: value for name, value in asdict(evidence).items() if value is not None})


def _with_comparison(
    benchmark: Benchmark, comparison: ComparisonEvidence, gate: GateSettings, *, due: bool
) -> Benchmark:
    """Return a benchmark with the verdict of the comparison. `due`: the baseline check is not enough to pass it."""
    key = benchmark.key
    # `change_low` is only known on the machine of the baseline.
    slower = benchmark.change_low is not None and benchmark.change_low > (benchmark.tolerance or gate.tolerance)
    if key in comparison.unaffected:
        reasons = [Reason("unaffected", comparison.base)]
        return replace(benchmark, verdict="drift" if slower else "pass", reasons=reasons)
    if key in comparison.failures:
        verdict = "new" if benchmark.verdict == "new" else "inconclusive"
        kind: Kind = "comparison_failed"
        if key in comparison.failed_in_head:
            kind = "copy_failed"
        elif key in comparison.new:
            return replace(benchmark, verdict="new", reasons=[Reason("new_in_change", comparison.failures[key])])
        return replace(benchmark, verdict=verdict, reasons=[Reason(kind, comparison.failures[key])])
    judgement = comparison.judgements.get(key)
    if judgement is None:
        if benchmark.verdict in ("pass", "improvement") and not due:
            return benchmark  # the baseline check has passed it
        return replace(benchmark, verdict="inconclusive", reasons=[Reason("no_time_left")])
    verdict = judgement.verdict
    reasons = [Reason("pairs_inconclusive" if verdict == "inconclusive" else "compared", number=judgement.pairs)]
    base_s, head_s = comparison.samples_s.get(key, ([], []))
    tails = _tail_changes(judgement, base_s, head_s)
    slower_tails = [one.tail for one in tails if one.slower]
    if slower_tails and judgement.low <= (benchmark.tolerance or gate.tolerance):
        reasons.insert(0, Reason("tail_slower", subjects=slower_tails))
    elif verdict == "inconclusive" and (unclear := [one.tail for one in tails if one.unclear]):
        reasons.insert(0, Reason("tail_unclear", subjects=unclear))
    if verdict == "pass" and slower:
        verdict = "drift"
        reasons.append(Reason("not_slower_than_base"))
        if share := slower_by(base_s, head_s, benchmark.minimum_effect or gate.minimum_effect):
            verdict = "inconclusive"
            reasons[-1] = Reason("samples_slower", share=share)
    return replace(
        benchmark,
        verdict=verdict,
        reasons=reasons,
        change=judgement.change,
        change_low=judgement.low,
        change_high=judgement.high,
        change_error=judgement.error,
        minimum_detectable_effect=judgement.minimum_detectable_effect,
        differences=comparison.differences[key],
        base_samples_s=_thinned(base_s),
        head_samples_s=_thinned(head_s),
        tails=tails,
        functions=comparison.functions.get(key, []),
    )


def _tail_changes(judgement: Judgement, base_s: Sequence[float], head_s: Sequence[float]) -> list[TailChange]:
    return [
        TailChange(
            tail,
            tail_figure(tail, base_s),
            tail_figure(tail, head_s),
            one.change,
            one.low,
            one.high,
            slower=one.verdict == "regression",
            unclear=one.verdict == "inconclusive",
        )
        for tail, one in judgement.tails.items()
    ]


def _with_unjudged(benchmark: Benchmark, packages: Sequence[str]) -> Benchmark:
    """Make a benchmark inconclusive that runs packages whose change was not compared, unless it is a regression."""
    if not packages or benchmark.verdict not in ("pass", "improvement", "drift", "inconclusive"):
        return benchmark
    reason = Reason("packages_unjudged", subjects=packages)
    return replace(benchmark, verdict="inconclusive", reasons=[reason, *benchmark.reasons])


def _thinned(samples_s: Sequence[float]) -> list[float]:
    return list(samples_s[:: math.ceil(len(samples_s) / MOST_SAMPLES_KEPT) or 1])


def _with_counts(benchmark: Benchmark, evidence: CountEvidence, *, drifted: bool) -> Benchmark:
    benchmark = replace(benchmark, count_changes=evidence.changes, plan_changes=evidence.plans)
    reasons = [Reason("count_grown", counts=[growth(change)]) for change in explaining(grown_counts(benchmark))]
    verdict = benchmark.verdict
    if evidence.fails and not drifted:
        verdict = "regression"
    elif evidence.fails and verdict in ("pass", "improvement", "new"):  # timings may have found more than drift
        verdict = "drift"
    if evidence.unclear and verdict in ("pass", "improvement", "drift"):
        verdict = "inconclusive"
        reasons.append(Reason("counts_unclear", counts=[growth(change) for change in explaining(evidence.unclear)]))
    return replace(benchmark, verdict=verdict, reasons=[*reasons, *benchmark.reasons])


def check_budget(budget: Budget, summary: Summary) -> list[BudgetResult]:
    """Compare each limit of a budget with the measured value.

    With fewer than 1,000 samples, p99 is only known to be broken, if p95 exceeds its limit already.
    """
    measured = {
        "median_ms": summary.median_s * 1e3,
        "mean_ms": summary.mean_s * 1e3,
        "p95_ms": summary.p95_s * 1e3,
        "p99_ms": (summary.p95_s if summary.p99_s is None else summary.p99_s) * 1e3,
        "max_ms": summary.maximum_s * 1e3,
        "rate_per_s": summary.rate_per_s,
    }
    results = []
    for name, value in measured.items():
        if (limit := getattr(budget, name)) is not None:
            note, kept = "", value >= limit if name == "rate_per_s" else value <= limit
            if name == "p99_ms" and summary.p99_s is None and kept:
                note = f"not judged: needs {SAMPLES_FOR_P99:,} samples, there were {len(summary.samples_s)}"
            results.append(BudgetResult(name, limit, value, kept, note))
    return results


def check_loop_hold(budget: Budget, hold: LoopHold | None) -> list[BudgetResult]:
    """Compare the limit of a budget with the longest hold of an event loop. The note says why that is not known."""
    if (limit := budget.max_loop_hold_ms) is None:
        return []
    if hold is None or hold.unknown:
        why = f"could not be measured: {hold.unknown}" if hold else "was not measured"
        return [BudgetResult(LOOP_HOLD, limit, 0.0, kept=True, note=why)]
    measured = hold.duration_s * 1e3
    return [BudgetResult(LOOP_HOLD, limit, measured, kept=measured <= limit)]


def broken(benchmark: Benchmark) -> list[BudgetResult]:
    return [result for result in benchmark.budgets if not result.kept]


def with_kept_budget(benchmark: Benchmark, fresh: Sequence[Benchmark]) -> Benchmark:
    """Replace a broken budget by a warning if most fresh processes kept the budget."""
    kept = [one for one in fresh if not broken(one)]
    if not broken(benchmark) or len(kept) <= len(fresh) / 2:
        return benchmark
    warning = f"its budget was broken, but {len(kept)} of {len(fresh)} fresh processes stayed within it"
    return replace(benchmark, budgets=kept[-1].budgets, warnings=[*benchmark.warnings, warning])


def run_verdict(results: Results, fail_on: Sequence[str]) -> tuple[Verdict, int, list[Reason]]:
    """Return the verdict, exit code and reasons of a run, the most important reason first.

    If `results` has reasons already, for example a service that is not ready, the run is invalid.
    """
    keys: dict[Verdict, list[str]] = {}
    for benchmark in results.benchmarks:
        keys.setdefault(benchmark.verdict or "invalid", []).append(benchmark.key)
    measured = [benchmark for benchmark in results.benchmarks if benchmark.samples]
    invalid = list(results.reasons)
    if not measured and not invalid and not _measures_nothing(results):
        invalid.append(Reason("nothing_measured"))
    uncompared = {one.key for one in measured if any(reason.kind in UNCOMPARED for reason in one.reasons)}
    invalid += _about("not_compared", [key for key in keys.get("invalid", []) if key in uncompared])
    invalid += _about("benchmarks_invalid", [key for key in keys.get("invalid", []) if key not in uncompared])
    invalid += _about("benchmarks_missing", keys.get("missing", []))
    bad = _failures(results, measured)
    if invalid:
        return "invalid", EXIT_INVALID, invalid + bad
    if bad:
        return "regression", EXIT_REGRESSION, bad
    if inconclusive := keys.get("inconclusive"):
        reason = Reason("benchmarks_inconclusive", number=len(inconclusive), of=len(measured))
        return "inconclusive", EXIT_INCONCLUSIVE if "inconclusive" in fail_on else EXIT_PASS, [reason]
    if "drift" in keys:
        return "drift", EXIT_PASS, _about("drifted", keys["drift"])
    if len(keys.get("new", [])) == len(measured) > 0:
        return "new", EXIT_PASS, [Reason("no_baseline")]
    judged = [benchmark for benchmark in measured if benchmark.verdict not in {"new", "changed"}]
    if not judged and measured:
        return "changed", EXIT_PASS, _about("sources_changed", keys["changed"])
    return "pass", EXIT_PASS, [Reason("within_limits", number=len(judged))]


def _measures_nothing(results: Results) -> bool:
    """Return whether this is a shard that got no test of the run, or only tests that measure nothing."""
    keys = results.shard.keys if results.shard else ()
    return bool(keys) and (bool(results.tests) or {*keys} <= {*results.deselected})


def _failures(results: Results, measured: Iterable[Benchmark]) -> list[Reason]:
    regressed = [benchmark for benchmark in results.benchmarks if benchmark.verdict == "regression"]
    counts = [*group_changes(regressed)]
    grown = [benchmark.key for benchmark in regressed if grown_counts(benchmark)]
    slower: Kind = "slower_than_base" if results.base else "slower_than_baseline"
    return [
        *([Reason("counts_grown", subjects=grown, counts=counts)] if counts else []),
        *_about(slower, [benchmark.key for benchmark in regressed if not grown_counts(benchmark)]),
        *_about("budgets_broken", [benchmark.key for benchmark in measured if broken(benchmark)]),
        *_about("tests_failed", [test.key for test in results.tests if test.outcome == "failed"]),
    ]


def _about(kind: Kind, keys: Sequence[str]) -> list[Reason]:
    return [Reason(kind, subjects=keys)] if keys else []


def choose_pairs(record: Results, evidence: Evidence, *, proposed: bool, every: bool = False) -> list[Benchmark]:
    """Return the benchmarks to compare in pairs, the slowest first.

    These are the benchmarks that the baseline check found inconclusive, and those whose counts have grown. For a
    proposed change also benchmarks whose baseline entry it edits, those that are new, changed or faster since the
    baseline (the base may be faster still), and all benchmarks if there is no baseline. `every`: choose all benchmarks.
    """
    if evidence.baseline is None:
        return [*record.benchmarks] if proposed else []
    timings = evidence.timings
    wanted = {"inconclusive", "new", "changed", "improvement"} if proposed else {"inconclusive"}
    chosen = [benchmark for benchmark in record.benchmarks if timings[benchmark.key].verdict in wanted]
    chosen.sort(key=lambda benchmark: -(timings[benchmark.key].change or 0.0))
    also = {key for key, found in evidence.counts.items() if found.fails}
    also |= {benchmark.key for benchmark in record.benchmarks} if every else set()
    also = (also - {*record.app_elsewhere} | {*evidence.edited}) - {benchmark.key for benchmark in chosen}
    return chosen + [benchmark for benchmark in record.benchmarks if benchmark.key in also]


class Again(Struct, frozen=True):
    """The benchmarks that fresh processes measure again."""

    keys: list[str]
    timings: frozenset[str]  # keys of benchmarks whose timings are judged again, not only their budgets
    all_processes: bool  # whether all processes are needed; for budgets alone, the first ones can suffice


def choose_again(record: Results, evidence: Evidence, gate: GateSettings) -> Again:
    """Return the benchmarks to measure again before they fail.

    These are the benchmarks with a broken budget, and those with a suspicious timing that cannot be compared with a
    base. A benchmark that failed the comparison is not measured again.
    """
    comparison = evidence.comparison
    suspicious = {key for key, found in evidence.timings.items() if found.suspicious}
    no_base = comparison.none is not None and comparison.none.cause == "no_base"
    keys = {benchmark.key for benchmark in record.benchmarks if broken(benchmark)}
    keys |= suspicious if no_base else suspicious & set(record.app_elsewhere)
    keys -= {
        benchmark.key
        for benchmark in record.benchmarks
        if with_timings(benchmark, evidence, gate).verdict == "regression" and benchmark.key not in evidence.accepted
    }
    timings = frozenset(keys - set(comparison.compared))
    return Again(sorted(keys), timings, all_processes=bool(timings & suspicious))


def most_agree(fresh: Sequence[Benchmark], processes: int) -> bool:
    """Return whether a majority of `processes` processes has already kept or broken the budget."""
    kept = sum(not broken(one) for one in fresh)
    return max(kept, len(fresh) - kept) > processes / 2
