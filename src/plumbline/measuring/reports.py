"""Adds the application's output to the reports of failed tests, and removes passwords."""

import signal
from collections.abc import Generator, Mapping

import pytest

from plumbline.measuring.context import RunContext
from plumbline.measuring.loop import OwnProcess
from plumbline.measuring.output import new_output
from plumbline.measuring.secrecy import scrub_names, scrub_report
from plumbline.project import below
from plumbline.services.application import Process
from plumbline.services.errors import describe

_OUTPUT_ENDS = pytest.StashKey[Mapping[Process, int]]()


class Reports:
    """Completes the reports of the tests of a suite. A pytest plugin."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._process = OwnProcess()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> Generator[None, None, None]:
        yield
        if self._context.begun and below(metafunc.definition.path, self._context.suite):
            scrub_names(metafunc, self._context.services.scrub_name)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self._context.key_of(item):
            processes = self._context.services.code_under_test()
            item.stash[_OUTPUT_ENDS] = {process: process.output_end() for process in processes}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        self._process.end_if_forked()
        # pytest may take a second to render a failure. Suspend pytest-timeout, which would end the run.
        left_s = signal.setitimer(signal.ITIMER_REAL, 0)[0]
        try:
            report = yield
        finally:
            if left_s:
                signal.setitimer(signal.ITIMER_REAL, left_s)
        if self._context.key_of(item):
            try:
                self._complete(item, report)
            except Exception as error:  # fails this test, but not the run
                report.outcome, report.sections = "failed", []
                report.longrepr = f"this test could not be reported: {describe(error)}"
        return report

    def _complete(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Add output and the state of dead services to a failed test's report, and remove passwords."""
        if report.failed:
            self._context.has_failed = not self._context.is_worker
            report.sections += new_output(item.stash.get(_OUTPUT_ENDS, {}))
            services, key = self._context.services, self._context.key_of(item)
            for service in services.running():
                if service.own and (state := service.state()) != "running":
                    report.sections.append((f"service {service.name}: {state}", service.log_tail()))
                    services.notices.append(f"{service.name}: {state}, when {key} failed")
        scrub_report(report, self._context.scrub)
