"""The progress display of a suite run."""

import sys
from collections.abc import Generator, Sequence

import pytest

from plumbline.reporting.format import duration, per, short_name
from plumbline.reporting.progress import Progress
from plumbline.results.schema import Benchmark, TestOutcome


def what_runs(items: Sequence[pytest.Item]) -> str:
    """Measuring 12 benchmarks and running 3 other tests"""
    benchmarks = sum("measure" in getattr(item, "fixturenames", ()) for item in items)
    others = len(items) - benchmarks
    measured = f"Measuring {benchmarks:,} benchmark{'s' * (benchmarks != 1)}" if benchmarks else ""
    other = f"{'running' if measured else 'Running'} {others:,} {'other ' * bool(measured)}test{'s' * (others != 1)}"
    return " and ".join(filter(None, [measured, other if others else ""]))


class SuiteProgress:
    """Shows the progress instead of pytest's dots. A pytest plugin."""

    def __init__(self, tests: Sequence[TestOutcome], benchmarks: Sequence[Benchmark]) -> None:
        """Show the last entries of these lists, which grow during the run."""
        self._tests = tests
        self._benchmarks = benchmarks

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        self._progress = Progress(reporter._tw._file if reporter is not None else sys.stdout, len(session.items))
        try:
            return (yield)
        finally:
            self._progress.close()

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        if hasattr(report, "wasxfail"):
            return None
        if report.when != "call" and report.passed:
            return "", "", ""
        category: str = "error" if report.when != "call" and report.failed else report.outcome
        return category, "", category.upper()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        tests, benchmarks = self._tests, self._benchmarks
        last = benchmarks[-1] if benchmarks and tests and tests[-1].benchmark else None
        figures = f"{duration(last.median, per(last))}, {last.samples:,} samples" if last else ""
        self._progress.step(len(tests), short_name(nodeid), figures)
