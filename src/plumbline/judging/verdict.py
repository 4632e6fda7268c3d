"""Budgets, and the verdict on a whole run: pure functions of data."""

from collections.abc import Iterable, Mapping, Sequence

from plumbline.exit_codes import EXIT_INCONCLUSIVE, EXIT_INVALID, EXIT_PASS, EXIT_REGRESSION
from plumbline.judging.counts import group_changes, grown_counts
from plumbline.measuring.statistics import SAMPLES_FOR_P99, Summary
from plumbline.results.schema import OFF, Benchmark, BudgetResult, Results, TestOutcome, Verdict
from plumbline.settings import Budget


def check_budget(budget: Budget, summary: Summary) -> list[BudgetResult]:
    """Each limit of a budget beside what was measured; p99 is not judged below 1,000 samples."""
    measured_s = {
        "median_ms": summary.median_s,
        "mean_ms": summary.mean_s,
        "p95_ms": summary.p95_s,
        "p99_ms": summary.p99_s,
        "max_ms": summary.maximum_s,
    }
    results = []
    for name, value_s in measured_s.items():
        limit = getattr(budget, name)
        if limit is None:
            continue
        if value_s is None:
            note = f"judged from {SAMPLES_FOR_P99:,} samples on, there were {len(summary.samples_s)}"
            results.append(BudgetResult(name, limit, summary.maximum_s * 1e3, kept=True, note=note))
        else:
            results.append(BudgetResult(name, limit, value_s * 1e3, kept=value_s * 1e3 <= limit))
    if budget.rate_per_s is not None:
        kept = summary.rate_per_s >= budget.rate_per_s
        results.append(BudgetResult("rate_per_s", budget.rate_per_s, summary.rate_per_s, kept))
    return results


def broken(benchmark: Benchmark) -> list[BudgetResult]:
    """The limits of its budget that a benchmark breaks."""
    return [result for result in benchmark.budgets if not result.kept]


def keep_most(benchmarks: Iterable[Benchmark], fresh: Mapping[str, Sequence[Benchmark]]) -> None:
    """Let those of the benchmarks keep their budgets that do so in most of these fresh processes."""
    for benchmark in benchmarks:
        found = fresh.get(benchmark.key, [])
        kept = [one for one in found if not broken(one)]
        if broken(benchmark) and len(kept) > len(found) / 2:
            benchmark.budgets = kept[-1].budgets
            benchmark.warnings.append(f"its budget was broken, and kept in {len(kept)} of {len(found)} fresh processes")


def decide(results: Results, fail_on: Sequence[str]) -> tuple[Verdict, int, list[str]]:
    """Verdict, exit code and reasons of a run whose benchmarks have been judged, the most important reason first.

    A reason that `results.reasons` already holds (a service not ready, nothing selected) makes the run invalid.
    """
    by_verdict: dict[str, list[str]] = {}
    for benchmark in results.benchmarks:
        by_verdict.setdefault(benchmark.verdict or "invalid", []).append(benchmark.key)
    measured = [benchmark for benchmark in results.benchmarks if benchmark.samples]
    invalid = list(results.reasons)
    if not measured and not invalid:
        invalid.append(NOTHING_MEASURED)
    invalid += [f"invalid: {_listed(by_verdict['invalid'])}"] if "invalid" in by_verdict else []
    if "missing" in by_verdict:
        invalid.append(f"in the baseline, but not measured: {_listed(by_verdict['missing'])}")
    failed = [test for test in results.tests if test.outcome == "failed"]
    over = [benchmark.key for benchmark in measured if broken(benchmark)]
    regressed = [benchmark for benchmark in results.benchmarks if benchmark.verdict == "regression"]
    counts = group_changes(regressed)
    slower = [benchmark.key for benchmark in regressed if not grown_counts(benchmark)]
    bad = [f"more than in the baseline: {_listed(counts)}"] if counts else []
    bad += [f"slower than {'the base' if results.base else 'the baseline'}: {_listed(slower)}"] if slower else []
    bad += [f"budget broken: {_listed(over)}"] if over else []
    bad += [f"test failed: {_listed([test.key for test in failed])}"] if failed else []
    if invalid:
        return "invalid", EXIT_INVALID, invalid + bad
    if bad:
        return "regression", EXIT_REGRESSION, bad
    if "inconclusive" in by_verdict:
        count = len(by_verdict["inconclusive"])
        reasons = [f"{count} of {len(measured)} benchmarks could not be judged"]
        return "inconclusive", EXIT_INCONCLUSIVE if "inconclusive" in fail_on else EXIT_PASS, reasons
    if "drift" in by_verdict:
        reason = f"worse than the baseline, but not by what differs from the base: {_listed(by_verdict['drift'])}"
        return "drift", EXIT_PASS, [reason]
    if len(by_verdict.get("new", [])) == len(measured):
        return "new", EXIT_PASS, ["there is no baseline to compare with"]
    judged = [benchmark for benchmark in measured if benchmark.verdict not in {"new", "changed"}]
    if not judged:
        return "changed", EXIT_PASS, [f"nothing was judged, as the source changed: {_listed(by_verdict['changed'])}"]
    return "pass", EXIT_PASS, [f"{len(judged)} benchmarks within their limits"]


def missing_benchmarks(baseline: Results, results: Results) -> list[Benchmark]:
    """Benchmarks of the baseline that this run should have measured and didn't: not deselected, not failed.

    One that was skipped because its service is off is not missing either.
    """
    measured = {benchmark.key for benchmark in results.benchmarks}
    renamed = {benchmark.renamed_from for benchmark in results.benchmarks}
    outcomes: dict[str, TestOutcome] = {test.key: test for test in results.tests}
    found = []
    for old in baseline.benchmarks:
        test = outcomes.get(old.key)
        excused = (
            old.key in measured | renamed | set(results.deselected)
            or old.key.partition("::")[0] not in results.collected_files
            or (test is not None and (test.outcome == "failed" or test.message.startswith(OFF)))
        )
        if not excused:
            why = f"its test {'measures nothing now' if test else 'is gone'}: record a new baseline if that is meant"
            if test is not None and test.outcome == "skipped":
                why = f"skipped: {test.message}"
            found.append(Benchmark(old.key, old.unit, "missing", 0.0, {}, baseline_median=old.median, reasons=[why]))
    return found


def removed_benchmarks(of_base: Results, baseline: Results, results: Results) -> list[Benchmark]:
    """Benchmarks of the base's baseline that a change has taken out of it, and that are measured no more."""
    there = {one.key for one in [*baseline.benchmarks, *results.benchmarks]} | {*results.deselected}
    there |= {one.renamed_from for one in [*baseline.benchmarks, *results.benchmarks]}
    why = "this change takes it out of the baseline"
    return [
        Benchmark(old.key, old.unit, "removed", 0.0, {}, baseline_median=old.median, reasons=[why])
        for old in of_base.benchmarks
        if old.key not in there
    ]


NOTHING_MEASURED = "nothing was measured"
NO_COMPARISON = "no paired comparison"
NOT_A_SERVICE = (NOTHING_MEASURED, "can't be collected", "before its end", NO_COMPARISON)
"""In reasons of an invalid run that lie in the suite, its arguments or the base, rather than in a service."""

def _listed(keys: list[str], most: int = 5) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more
