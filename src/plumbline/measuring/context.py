"""The surroundings of the tests in a pytest process that runs a suite: settings, services, and an early end."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from plumbline.exit_codes import EXIT_INTERRUPTED, EXIT_INVALID, EXIT_USAGE
from plumbline.measuring.guards import limit_held
from plumbline.measuring.items import fixtures_of, key_of, set_key, uses_application
from plumbline.project import SETTINGS
from plumbline.results.reasons import Reason
from plumbline.services import NotReady, ServiceError, Services
from plumbline.services.readiness import describe
from plumbline.settings import load_settings

INTERRUPT_AGAIN_S = 0.01
# How long the fixtures of a run that ended early may take before the servers are stopped under them.
TEARDOWN_LIMIT_S = 1.0
ERROR_LINES, LINE_CHARACTERS = 6, 500


class RunContext:
    """What the ordinary run and the worker of a comparison share. It is a pytest plugin, too.

    `controlled`: a caller reads the outcome, reports the end, and interrupts the process by SIGTERM as well. Raises
    SettingsError.
    """

    def __init__(self, config: pytest.Config, suite: Path, *, controlled: bool) -> None:
        self.config = config
        self.suite = suite
        self.root = suite.parents[1]
        self.controlled = controlled
        self.settings = load_settings(suite / SETTINGS)
        self.profile_name: str = config.getoption("--perf-profile")
        self.profile = self.settings.profile(self.profile_name)
        self.keys: dict[str, str] = {}
        """Keys of the suite's items by node id."""
        self.reasons: list[Reason] = []
        """Why the run ended early, if it did."""
        self._off_skips: list[BaseException] = []
        self.exit_code: int | None = None
        """The documented exit code of a run that ended early."""
        self.at_stop = contextlib.ExitStack()
        self._services: Services | None = None
        if self.settings.app:
            sys.path.insert(1, str(self.root / self.settings.app.directory))  # behind the repository's root

    @property
    def begun(self) -> bool:
        """Whether the services have been asked to start."""
        return self._services is not None

    @property
    def services(self) -> Services:
        """The services of this run, once `begin` was called."""
        assert self._services is not None
        return self._services

    def begin(self, make_services: Callable[[], Services]) -> None:
        """Start the servers and set the variables of the code under test; end the run if a server cannot start."""
        _interrupt_again_if_lost(self)
        if self.controlled:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
            signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        before: dict[str, str | None] = {}
        self.at_stop.callback(_update_environment, before)
        try:
            self._services = make_services()
            self.at_stop.callback(self._services.stop)
            self._services.begin()
            changes = self._services.environment()
        except ServiceError as error:
            self.end(str(error), EXIT_USAGE)
        except NotReady as error:
            self.end(str(error), EXIT_INVALID)
        before.update({name: os.environ.get(name) for name in changes})
        _update_environment(changes)

    def wait_ready(self, items: Iterable[pytest.Item], *, application: bool = False) -> None:
        """Wait for the servers, and for the application if one of these items uses it; end the run if one fails."""
        items = list(items)
        try:
            self.services.wait_ready()
            if application or any(map(uses_application, items)):
                self.services.start_application()
            elif any("postgres_url" in fixtures_of(item) for item in items):
                self.services.prepare()  # its tables are there without the application as well
        except NotReady as error:
            self.end(str(error), EXIT_INVALID)

    def add_key(self, item: pytest.Item, key: str) -> None:
        """Make an item one of the suite's: a key is the node id below the suite's folder."""
        set_key(item, key)
        self.keys[item.nodeid] = key

    def check_alive(self) -> None:
        """End the run if a service has died."""
        for service in self.services.running():
            if not service.alive():
                self.end(service.obituary(), EXIT_INVALID)

    def end(self, reason: str, exit_code: int) -> NoReturn:
        """End the run early, with a documented exit code."""
        reason = self.scrub(reason)
        self.reasons.append(Reason("ended", reason))
        self.exit_code = exit_code
        pytest.exit(reason, exit_code)

    def skip_off(self, reason: str) -> BaseException:
        """Return what to raise to skip a test because the settings have switched its service off."""
        self._off_skips.append(pytest.skip.Exception(f"off: {reason}"))
        return self._off_skips[-1]

    def is_skip_off(self, call: pytest.CallInfo[None]) -> bool:
        """Return whether `skip_off` has skipped a test; a wider fixture raises the same exception again."""
        return call.excinfo is not None and any(call.excinfo.value is skip for skip in self._off_skips)

    def say(self, lines: Iterable[str]) -> None:
        """Print lines in pytest's output."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            for line in lines:
                reporter.write_line(self.scrub(line))

    def scrub(self, text: str) -> str:
        """Return the text without any password of the services."""
        return self._services.scrub(text) if self._services is not None else text

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Tear down session fixtures inside; then stop everything.

        The fixtures of a run that ended early may hang or fail: they get TEARDOWN_LIMIT_S, and errors are only printed.
        """
        patience = threading.Timer(TEARDOWN_LIMIT_S, self.stop)
        if self.exit_code is not None:
            patience.start()
        try:
            yield
        except BaseException as error:
            if self.exit_code is None:
                raise
            self.say([f"not all fixtures could be torn down: {describe(error)}"])
        finally:
            patience.cancel()
            if patience.ident is not None:
                patience.join()
            self.stop()

    def ignore_signals(self) -> None:
        """Ignore interruptions from now on if the caller reports the end."""
        if self.controlled:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)

    def stop(self) -> None:
        """Stop the services and undo all changes to this process; harmless if called again."""
        self.at_stop.close()

    # ---- hooks of pytest

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        if item.path.is_relative_to(self.suite):
            name = "".join(item.nodeid.partition("::")[1:])
            self.add_key(item, item.path.relative_to(self.suite).as_posix() + name)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported makes the run invalid."""
        if report.failed and (self.config.rootpath / report.nodeid).resolve().is_relative_to(self.suite):
            self._scrub_report(report)
            lines = [line[:LINE_CHARACTERS] for line in report.longreprtext.splitlines() if line.strip()]
            errors = [line[1:].strip() for line in lines if line.startswith("E ")] or lines
            detail = "\n".join(errors[:ERROR_LINES])
            self.reasons.append(Reason("not_collected", detail, subjects=[report.nodeid]))
            self.exit_code = EXIT_INVALID

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if key_of(item):
            self.check_alive()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        # On a slow machine pytest takes a second to render a failure, in which pytest-timeout would end the run.
        with limit_held():
            report = yield
        if key_of(item):
            if report.failed:
                for service in self.services.running():
                    if service.own and (state := service.state()) != "running":
                        report.sections.append((f"service {service.name}: {state}", service.log_tail()))
                        self.services.notices.append(f"{service.name}: {state}, when {key_of(item)} failed")
            self._scrub_report(report)
        return report

    def _scrub_report(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Remove passwords from all that pytest prints and writes, also of tests that pass or are skipped."""
        if isinstance(report.longrepr, tuple):
            path, line, reason = report.longrepr
            report.longrepr = (path, line, self.scrub(reason))
        elif (text := self.scrub(report.longreprtext)) != report.longreprtext:
            report.longrepr = text
        report.sections = [(title, self.scrub(text)) for title, text in report.sections]

    @pytest.hookimpl(tryfirst=True)  # before pytest renders the traceback, which takes its time
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.ignore_signals()
        # pytest's own Interrupted, as after an error in collection, is a KeyboardInterrupt, too.
        if isinstance(excinfo.value, KeyboardInterrupt) and not isinstance(excinfo.value, pytest.Session.Interrupted):
            self.exit_code = EXIT_INTERRUPTED

    def pytest_unconfigure(self) -> None:
        self.stop()


def _update_environment(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _interrupt_again_if_lost(context: RunContext) -> None:
    """Interrupt again, a moment later, if a destructor or a callback has swallowed an interruption."""
    report = sys.unraisablehook

    def on_unraisable(lost: "sys.UnraisableHookArgs") -> None:
        if isinstance(lost.exc_value, KeyboardInterrupt):
            threading.Timer(INTERRUPT_AGAIN_S, os.kill, [os.getpid(), signal.SIGINT]).start()
        elif context.exit_code is None:  # else a fixture that was not torn down has left it
            report(lost)

    sys.unraisablehook = on_unraisable  # pytest, whose own hook this replaces, resets it at the end
