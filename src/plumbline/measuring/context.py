"""Shared parts of the suite run and the worker of a comparison: keys of tests, services, and the end of a run."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from plumbline.measuring.causes import KnownCauses
from plumbline.measuring.connections import fail_if_leaked, open_ports
from plumbline.measuring.cpu_affinity import CoreLock
from plumbline.measuring.ending import end_within_seconds
from plumbline.measuring.guards import LOOPS
from plumbline.measuring.interruptions import Interruptions
from plumbline.measuring.output import keep_output
from plumbline.measuring.secrecy import hide_passwords, scrub_report
from plumbline.processes import adopt_orphans, end_descendants
from plumbline.project import EXIT_INTERRUPTED, EXIT_INVALID, EXIT_USAGE, SETTINGS, SUITE, below
from plumbline.results.schema import Outcome, Reason
from plumbline.services.at_start.sitecustomize import Variables
from plumbline.services.errors import NotReady, ServiceError, describe
from plumbline.services.liveness import liveness_error
from plumbline.services.services import Services
from plumbline.settings import SettingsError
from plumbline.settings_file import load_settings

# After an early end, the time for fixtures to be torn down before the servers are stopped.
TEARDOWN_LIMIT_S = 1.0
ANSWER_LIMIT_S = 5.0
CHECK_EVERY_S = 0.5  # the interval of checking connections, which takes 10 ms
ERROR_LINES, LINE_CHARACTERS, MESSAGE_CHARACTERS = 6, 500, 4000
DJANGO_FIXTURES = {"db", "transactional_db", "django_db_setup", "django_db_blocker", "django_user_model"}
DJANGO_FIXTURES |= {"admin_user", "admin_client", "django_assert_num_queries", "django_assert_max_num_queries"}

_PORTS = pytest.StashKey[dict[str, set[int]]]()


class RunContext:
    """The state of a pytest process that runs a suite. A pytest plugin."""

    def __init__(self, config: pytest.Config, suite: Path, *, controlled: bool) -> None:
        self.config = config
        self.suite = suite
        self.root = suite.parents[1]
        self.keeps_output = False  # whether the application's output is saved beside the results
        self.controlled = controlled  # a command started this process, reports its end, and may send SIGTERM
        # The output of a worker goes to a file.
        self.is_worker: bool = config.getoption("--perf-worker") is not None
        self.profile_name: str = config.getoption("--perf-profile")
        try:
            self.settings = load_settings(suite / SETTINGS)
            self.profile = self.settings.profile(self.profile_name)
        except SettingsError as error:
            pytest.exit(str(error), EXIT_USAGE)
        self.keys: dict[str, str] = {}  # by node id: the node id relative to the suite's folder
        self.reasons: list[Reason] = []  # for an early end
        self.exit_code: int | None = None  # of a run that ended early
        self.refused: dict[str, str] = {}  # by node id: why the test cannot run
        self.off_skips: list[BaseException] = []  # skips because a service is off in the settings
        self.missing_skips: list[BaseException] = []  # skips because a service can't run on this machine
        self.at_stop = contextlib.ExitStack()
        self.at_hold: Callable[[str], object] = print  # called with what keeps this process from ending
        self._session: pytest.Session | None = None  # set when it has finished
        self.lock = CoreLock(None)
        self.at_stop.callback(lambda: self.lock.release())  # after the services have stopped
        self._connections_checked_s = 0.0
        self.has_failed = False  # whether a test has failed since the last liveness check
        self.begun = False  # whether the services have been asked to start
        self.services: Services  # set by `begin`
        self._interruptions = Interruptions(lambda: self.exit_code is not None, controlled=controlled)
        self.causes = KnownCauses(self.root, self.end)
        config.pluginmanager.register(self.causes)
        self.at_stop.callback(self.causes.close)
        if self.settings.app:
            sys.path.insert(1, str(self.root / self.settings.app.directory))  # after the repository's root

    def begin(self, make_services: Callable[[], Services]) -> None:
        """Start the servers and set the environment of the code under test. Ends the run if a server cannot start."""
        self._interruptions.begin()
        self.at_stop.callback(end_descendants, adopt_orphans())  # after the services have stopped
        environ = pytest.MonkeyPatch()
        self.at_stop.callback(environ.undo)
        try:
            self.services = make_services()
            self.begun = True
            self.at_stop.callback(self.services.stop)
            if self.keeps_output:
                self.at_stop.callback(keep_output, self.services, self.root / self.settings.results)
            hide_passwords(self.config, self.scrub, self.at_stop, streams=not self.is_worker)
            self.services.begin()
            environment = self.services.environment()
            for name, value in environment.items():
                if value is None:
                    environ.delenv(name, raising=False)
                else:
                    environ.setenv(name, value)
            # The tests may import the application, which may load a `.env` file.
            kept = Variables(
                {name: value for name, value in environment.items() if value is not None}, [str(self.root)]
            )
            environ.setattr(type(os.environ), "__setitem__", lambda *change: kept.set(*change))
        except (ServiceError, NotReady) as error:
            self.end(str(error), EXIT_USAGE if isinstance(error, ServiceError) else EXIT_INVALID)

    def wait_ready(self, items: Sequence[pytest.Item], *, application: bool = False) -> None:
        """Wait for the servers, and for the application if an item uses it. Ends the run after a failure."""
        try:
            self.services.wait_ready()
            if application or any(map(uses_application, items)):
                self.services.start_application()
            elif any("postgres_url" in getattr(item, "fixturenames", ()) for item in items):
                self.services.prepare()  # it creates tables that tests without the application need
        except NotReady as error:
            self.end(str(error), EXIT_INVALID)

    def key_of(self, item: pytest.Item) -> str:
        """Return an item's key, or "" for an item outside the suite."""
        return self.keys.get(item.nodeid, "")

    def select(self, items: Iterable[pytest.Item]) -> list[pytest.Item]:
        """Return the items of the suite that the profile includes, disruptive ones last."""
        is_full = self.profile_name == "full"
        selected = [item for item in items if self.key_of(item) and (is_full or not item.get_closest_marker("full"))]
        return sorted(selected, key=lambda item: item.get_closest_marker("disruptive") is not None)

    def check_alive(self, *, answers: bool = False) -> None:
        """End the run if a service has died, or has connected to a server that does not belong to the run.

        With `answers`, and after a failed test, also end it if a service does not answer.
        """
        try:
            if answers or time.monotonic() - self._connections_checked_s > CHECK_EVERY_S:
                self.services.check_connections()
                self._connections_checked_s = time.monotonic()
        except NotReady as error:
            self.end(str(error), EXIT_INVALID)
        for service in self.services.running():
            if not service.running():
                self.end(service.death_message("run the test before this one alone"), EXIT_INVALID)
        failed, self.has_failed = self.has_failed, False
        for service in self.services.running() if answers or failed else ():
            if unready := liveness_error(service, ANSWER_LIMIT_S, failed=failed):
                self.end(str(unready), EXIT_INVALID)

    def end(self, reason: str, exit_code: int) -> NoReturn:
        """End the run early, with a documented exit code."""
        reason = self.scrub(reason)
        self.reasons.append(Reason("ended", reason))
        self.exit_code = exit_code
        # The command that reads this output file prints the whole reason later.
        pytest.exit(reason.partition("\n")[0] if self.config.getoption("--perf-output") else reason, exit_code)

    def say(self, lines: Iterable[str]) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            for line in lines:
                reporter.write_line(self.scrub(line))

    def scrub(self, text: str) -> str:
        """Return a text without passwords."""
        return self.services.scrub(text) if self.begun else text

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        if path := below(item.path, self.suite):
            name = "".join(item.nodeid.partition("::")[1:])
            self.keys[item.nodeid] = path.as_posix() + name

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Make the run invalid if a file cannot be imported."""
        path = below(self.config.rootpath / report.nodeid, self.suite) if report.failed else None
        if path:
            scrub_report(report, self.scrub)
            lines = [line[:LINE_CHARACTERS] for line in report.longreprtext.splitlines() if line.strip()]
            errors = [line[1:].strip() for line in lines if line.startswith("E ")] or lines
            file = f"{SUITE}/{path.as_posix()}"
            self.reasons.append(Reason("not_collected", "\n".join(errors[:ERROR_LINES]), subjects=[file]))
            self.exit_code = EXIT_INVALID

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self.key_of(item):
            self.check_alive()
            if why := self.refused.get(item.nodeid) or why_not_run(item):
                pytest.fail(why, pytrace=False)
            is_free = self.profile_name == "full" and item.get_closest_marker("unpinned") is not None
            self.lock.move(self.services.running(), free=is_free)
            item.stash[_PORTS] = open_ports(self.services)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        # Closing an event loop waits for jobs of `to_thread` without a limit. With a new executor, the interpreter
        # waits for these jobs at its end, which has a limit.
        for loop in LOOPS if self.controlled and nextitem is None else ():
            loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
        try:
            return (yield)
        finally:
            if _PORTS in item.stash:
                self.lock.move(self.services.running())
                fail_if_leaked(self.services, item.stash[_PORTS])

    @pytest.hookimpl(tryfirst=True)  # before pytest renders the traceback, which is slow
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self._interruptions.ignore()
        # pytest's Interrupted, raised after an error in collection, is a KeyboardInterrupt too.
        if isinstance(excinfo.value, KeyboardInterrupt) and not isinstance(excinfo.value, pytest.Session.Interrupted):
            self.exit_code = EXIT_INTERRUPTED

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Tear session fixtures down while the servers still run. After an early end, fixtures may hang or fail."""
        self._interruptions.ignore()
        self._session = session
        patience = threading.Timer(TEARDOWN_LIMIT_S, self.at_stop.close)
        if self.exit_code is not None:
            try:
                patience.start()
            except RuntimeError:  # no more threads, as under `ulimit -u`
                self.at_stop.close()
        try:
            return (yield)
        except BaseException as error:
            if self.exit_code is None:
                raise
            self.say([f"not all fixtures could be torn down: {describe(error)}"])
            return None
        finally:
            patience.cancel()
            if patience.ident is not None:
                patience.join()
            self.at_stop.close()

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        self.at_stop.close()
        if self.controlled and self._session is not None:
            end_within_seconds(int(self._session.exitstatus), lambda held: self.at_hold(self.scrub(held)))


def uses_application(item: pytest.Item) -> bool:
    """Return whether an item needs the application and its processes."""
    return not {"api_url", "services"}.isdisjoint(getattr(item, "fixturenames", ()))


def why_not_run(item: pytest.Item) -> str:
    """Return why a test cannot run, or "" if it can.

    anyio's plugin runs a test and its fixtures in its own event loop. Fixtures of pytest-asyncio that later tests use
    would be left half set up.
    """
    if "anyio_backend" in getattr(item, "fixturenames", ()) and item.get_closest_marker("asyncio"):
        return (
            "this suite runs under pytest-asyncio, and this test also under anyio's plugin:"
            " remove its mark `anyio` and its fixture `anyio_backend`"
        )
    if names := of_pytest_django(item):
        return (
            f"{' and '.join(names)} of pytest-django would make another, empty database: remove that, and call"
            " `django.setup()` in a fixture that asks for `services`. The database that `prepare` has filled is the"
            " one of Django's settings"
        )
    return ""


def of_pytest_django(item: pytest.Item) -> list[str]:
    """Return the mark and the fixtures of pytest-django that a test asks for. Others may have the same names."""
    found = ["the mark `django_db`"] if item.get_closest_marker("django_db") else []
    definitions = getattr(item, "_fixtureinfo", None)
    known = definitions.name2fixturedefs if definitions else {}
    asked = DJANGO_FIXTURES.intersection(getattr(item, "fixturenames", ()))
    theirs = (
        name
        for name in sorted(asked)
        if name not in known or known[name][-1].func.__module__.startswith("pytest_django")
    )
    return [*found, *(f"the fixture `{name}`" for name in theirs)]


def outcome_of(report: pytest.TestReport) -> tuple[Outcome, str]:
    """Return the outcome of a test, and its message if it failed or was skipped."""
    if report.failed:
        return "failed", report.longreprtext[-MESSAGE_CHARACTERS:]
    if report.skipped:
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(getattr(report, "wasxfail", ""))
        return "skipped", reason.removeprefix("Skipped: ")
    return "passed", ""
