"""Benchmarks of a baseline that a run has not measured."""

from plumbline.results.reasons import Reason
from plumbline.results.schema import Benchmark, Results, TestOutcome, Verdict


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
