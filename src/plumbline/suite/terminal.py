"""The output of an ordinary run of the suite: its progress for the gate, a table of its benchmarks by hand."""

import sys

import pytest
from msgspec.structs import replace
from rich.console import Console

from plumbline.judging.baseline import find_baseline, find_counts
from plumbline.judging.baseline_check import check_baseline
from plumbline.judging.budgets import broken
from plumbline.judging.counts import check_counts
from plumbline.judging.decide import judge_benchmarks
from plumbline.judging.evidence import Evidence
from plumbline.measuring.context import RunContext
from plumbline.reporting import terminal
from plumbline.reporting.format import duration, file_and_name
from plumbline.reporting.progress import Progress
from plumbline.results.files import ResultsError
from plumbline.results.schema import Results
from plumbline.suite.recorder import Recorder


class SuiteTerminal:
    """Shows the progress in place of pytest's dots. A pytest plugin."""

    def __init__(self, context: RunContext, recorder: Recorder) -> None:
        self._context = context
        self._recorder = recorder
        self._progress: Progress | None = None

    def begin(self, tests: int) -> None:
        """Show the progress of so many tests from now on."""
        reporter = self._context.config.pluginmanager.get_plugin("terminalreporter")
        self._progress = Progress(reporter._tw._file if reporter is not None else sys.stdout, tests)

    def close(self) -> None:
        """End the line of the progress."""
        if self._progress is not None:
            self._progress.close()

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        if self._progress is None or hasattr(report, "wasxfail"):
            return None
        if report.when != "call" and report.passed:
            return "", "", ""
        category: str = "error" if report.when != "call" and report.failed else report.outcome
        return category, "", category.upper()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self._progress is None:
            return
        tests, benchmarks = self._recorder.tests, self._recorder.benchmarks
        last = benchmarks[-1] if tests and tests[-1].benchmark else None
        figures = f"{duration(last.median)}, {last.samples:,} samples" if last else ""
        self._progress.step(len(tests), file_and_name(nodeid)[1].removeprefix("test_"), figures)

    def show(self, results: Results, reporter: "pytest.TerminalReporter") -> None:
        """Print a table of the benchmarks, compared with the baseline, and the broken budgets."""
        baselines, settings = self._context.suite / "baselines", self._context.settings
        try:
            found = find_baseline(baselines, results.environment)
            timings = check_baseline(results, found, settings.gate, settings.benchmarks)
            counts = check_counts(results, find_counts(baselines, results.environment), timings)
            judged = judge_benchmarks(results, Evidence(timings=timings, counts=counts), settings.gate)
            results = replace(results, benchmarks=judged)
        except ResultsError as error:
            reporter.write_line(str(error))
        terminal.render_table(results, Console(file=sys.stdout))
        if over := [benchmark.key for benchmark in results.benchmarks if broken(benchmark)]:
            reporter.write_line(f"failed, as a budget is broken: {', '.join(over)}", red=True, bold=True)
