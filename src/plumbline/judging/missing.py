"""Benchmarks of a baseline that a run has not measured."""

from collections.abc import Iterable

from plumbline.results.schema import Benchmark, Reason, Results, Verdict


def missing_benchmarks(baseline: Results, record: Results) -> list[Benchmark]:
    """Return the benchmarks that this run should have measured but did not.

    A benchmark is not missing if it was deselected, failed, or was skipped because its service is off.
    """
    known = names_of(record.benchmarks) | {*record.deselected}
    tests, files = {test.key: test for test in record.tests}, {*record.collected_files}
    missing = []
    for old in baseline.benchmarks:
        if old.key in known or old.key.partition("::")[0] not in files:
            continue
        test = tests.get(old.key)
        if test is None:
            missing.append(_absent(old, "missing", Reason("test_gone")))
        elif test.outcome == "passed":
            missing.append(_absent(old, "missing", Reason("test_measures_nothing")))
        elif test.outcome == "skipped" and not test.service_off:
            missing.append(_absent(old, "missing", Reason("test_skipped", test.message)))
    return missing


def removed_benchmarks(base_baseline: Results, baseline: Results, record: Results) -> list[Benchmark]:
    """Return the benchmarks that a change has removed from the baseline and that are no longer measured."""
    known = names_of(baseline.benchmarks) | names_of(record.benchmarks) | {*record.deselected}
    return [_absent(old, "removed", Reason("removed")) for old in base_baseline.benchmarks if old.key not in known]


def names_of(benchmarks: Iterable[Benchmark]) -> set[str]:
    """Return the keys of benchmarks, and the former keys of renamed ones."""
    return {name for one in benchmarks for name in (one.key, one.renamed_from)}


def _absent(old: Benchmark, verdict: Verdict, reason: Reason) -> Benchmark:
    return Benchmark(old.key, old.unit, verdict, 0.0, {}, baseline_median=old.median, reasons=[reason])
