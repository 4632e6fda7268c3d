"""The verdict and the exit code of a run whose benchmarks have been judged, and the benchmarks that it lacks."""

from collections.abc import Iterable, Sequence

from plumbline.exit_codes import EXIT_INCONCLUSIVE, EXIT_INVALID, EXIT_PASS, EXIT_REGRESSION
from plumbline.judging.budgets import broken
from plumbline.judging.counts import group_changes, grown_counts
from plumbline.results.reasons import Kind, Reason
from plumbline.results.schema import Benchmark, Results, TestOutcome, Verdict


def run_verdict(results: Results, fail_on: Sequence[str]) -> tuple[Verdict, int, list[Reason]]:
    """Return the verdict, exit code and reasons of a run, the most important reason first.

    A reason that `results.reasons` already holds (a service is not ready, nothing was selected) makes the run invalid.
    """
    keys: dict[Verdict, list[str]] = {}
    for benchmark in results.benchmarks:
        keys.setdefault(benchmark.verdict or "invalid", []).append(benchmark.key)
    measured = [benchmark for benchmark in results.benchmarks if benchmark.samples]
    invalid = list(results.reasons)
    if not measured and not invalid:
        invalid.append(Reason("nothing_measured"))
    invalid += _about("benchmarks_invalid", keys.get("invalid", []))
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
    if len(keys.get("new", [])) == len(measured):
        return "new", EXIT_PASS, [Reason("no_baseline")]
    judged = [benchmark for benchmark in measured if benchmark.verdict not in {"new", "changed"}]
    if not judged:
        return "changed", EXIT_PASS, _about("sources_changed", keys["changed"])
    return "pass", EXIT_PASS, [Reason("within_limits", number=len(judged))]


def _failures(results: Results, measured: Iterable[Benchmark]) -> list[Reason]:
    regressed = [benchmark for benchmark in results.benchmarks if benchmark.verdict == "regression"]
    counts = group_changes(regressed)
    slower: Kind = "slower_than_base" if results.base else "slower_than_baseline"
    return [
        *([Reason("counts_grown", counts=counts)] if counts else []),
        *_about(slower, [benchmark.key for benchmark in regressed if not grown_counts(benchmark)]),
        *_about("budgets_broken", [benchmark.key for benchmark in measured if broken(benchmark)]),
        *_about("tests_failed", [test.key for test in results.tests if test.outcome == "failed"]),
    ]


def _about(kind: Kind, keys: Sequence[str]) -> list[Reason]:
    return [Reason(kind, subjects=keys)] if keys else []


def missing_benchmarks(baseline: Results, record: Results) -> list[Benchmark]:
    """Return the benchmarks that this run should have measured and did not.

    Neither those that were deselected or failed, nor those that were skipped because their service is off.
    """
    known = {benchmark.key for benchmark in record.benchmarks} | set(record.deselected)
    known |= {benchmark.renamed_from for benchmark in record.benchmarks}
    tests = {test.key: test for test in record.tests}
    files = set(record.collected_files)
    return [
        _absent(old, "missing", _why_missing(test))
        for old in baseline.benchmarks
        for test in [tests.get(old.key)]
        if old.key not in known
        and old.key.partition("::")[0] in files
        and not (test and (test.outcome == "failed" or test.service_off))
    ]


def removed_benchmarks(base_baseline: Results, baseline: Results, record: Results) -> list[Benchmark]:
    """Return the benchmarks that a change has taken out of the baseline, and that are measured no more."""
    known = {one.key for one in [*baseline.benchmarks, *record.benchmarks]} | set(record.deselected)
    known |= {one.renamed_from for one in [*baseline.benchmarks, *record.benchmarks]}
    return [_absent(old, "removed", Reason("removed")) for old in base_baseline.benchmarks if old.key not in known]


def _why_missing(test: TestOutcome | None) -> Reason:
    if test is None:
        return Reason("test_gone")
    return Reason("test_skipped", test.message) if test.outcome == "skipped" else Reason("test_measures_nothing")


def _absent(old: Benchmark, verdict: Verdict, reason: Reason) -> Benchmark:
    return Benchmark(old.key, old.unit, verdict, 0.0, {}, baseline_median=old.median, reasons=[reason])
