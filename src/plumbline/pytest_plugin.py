"""The pytest side of the harness: services around the run, the `measure` fixture, guards around each test, the record.

It acts on tests below tests/performance alone and is the only module that knows pytest.
"""

import datetime
import faulthandler
import gc
import hashlib
import inspect
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn, TextIO

import pytest

from plumbline.comparing.statistics.controls import CONTROLS_FILE
from plumbline.comparing.trees.trace import Stages
from plumbline.comparing.workers.worker_link import WorkerLink
from plumbline.counting.counter import Counter
from plumbline.exit_codes import EXIT_INTERRUPTED, EXIT_INVALID, EXIT_REGRESSION, EXIT_USAGE
from plumbline.judging.baseline import find_baseline, find_counts, preferred_backends
from plumbline.judging.baseline_check import judge
from plumbline.judging.counts import judge_counts, note_counts
from plumbline.judging.verdict import OFF, broken, check_budget
from plumbline.measuring import guards
from plumbline.measuring.cpu_affinity import CoreLock, not_allowed
from plumbline.measuring.loop import Measure, MeasureError, warnings_of
from plumbline.measuring.machine_speed import Disturbances
from plumbline.measuring.statistics import Summary
from plumbline.processes import pinned_core, set_affinity
from plumbline.project import find_project
from plumbline.reporting.format import duration, file_and_name, first_lines
from plumbline.reporting.progress import Progress
from plumbline.results.environment import describe_environment
from plumbline.results.schema import SCHEMA, Benchmark, Outcome, Results, ResultsError, TestOutcome, write_results
from plumbline.services import NotReady, Service, ServiceError, Services
from plumbline.services.readiness import describe
from plumbline.settings import Budget, Settings, SettingsError, check_keys, load_settings

ROOT = find_project(Path.cwd()) or Path.cwd()
SUITE = ROOT / "tests/performance"
WORKER_LIMIT_S = 3600.0
REHEARSED_ROUNDS = 2
"""What finds something cached runs in the second one."""
INTERRUPT_AGAIN_S = 0.01
TEARDOWN_LIMIT_S = 1.0
"""How long the fixtures of a run that ended early may take before the servers are stopped under them."""
MARKERS = {
    "full": "belongs to the full profile",
    "disruptive": "pauses or kills services: in the full profile, after all others",
    "unpinned": "concurrency: in the full profile measured with the pin off",
    "readiness": "what `nox -s readiness` runs",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("performance")
    group.addoption("--perf-profile", default="ci", help="profile of settings.toml: ci (default) or full")
    group.addoption(
        "--perf-output", metavar="PATH", help="write what was measured here, and leave judging to the caller"
    )
    group.addoption(
        "--perf-worker", type=int, metavar="FD", help="a side of a paired comparison: the line to its coordinator"
    )
    group.addoption("--perf-table", action="store_true", help="print a table of the services once they are ready")


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    run = Run(config)
    config.pluginmanager.register(run, "performance-run")
    if run.once and run.output:
        raise pytest.UsageError(f"the gate can't run {run.once}: its timings would mean nothing. Run it without.")


class ControlsModule(pytest.Module):
    """The controls, imported as a part of this package: pytest's own import would change `sys.path`."""

    def _getobj(self) -> ModuleType:
        from plumbline.comparing.workers import controls

        return controls


class Run:
    """One pytest run of the suite: hooks and fixtures share their state here."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.output: str | None = config.getoption("--perf-output")
        self.profile_name: str = config.getoption("--perf-profile")
        line: int | None = config.getoption("--perf-worker")
        self.side = WorkerLink.of(line) if line is not None else None
        self.settings: Settings | None = None
        self.services: Services | None = None
        self.counter: Counter | None = None
        self.disturbances: Disturbances | None = None
        self.core: CoreLock | None = None
        self.free_cores: set[int] = set()
        self.pinned_core: int | None = None
        """The one core that tests and services are on, as last read back."""
        self.benchmarks: list[Benchmark] = []
        self.tests: list[TestOutcome] = []
        self.collected_files: set[str] = set()
        self.deselected: list[str] = []
        self.app_elsewhere: list[str] = []
        self.reasons: list[str] = []
        """Why the run ended early, if it did."""
        self.exit_code: int | None = None
        """The documented exit code of a run that ended early."""
        self.service_lines: list[str] = []
        self.environment_before: dict[str, str | None] = {}
        self._results_at_end: Results | None = None
        self.progress: Progress | None = None
        self.stderr = os.dup(2)
        """Where the interpreter can say its last words although pytest captures stderr."""
        self.once = _why_untimed(config)
        self.stages = Stages(os.environ)

    # ---- collection

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """Start the servers before the first of our modules is imported: user code reads its settings at import."""
        if not isinstance(collector, pytest.Module) or not _is_ours(collector.path):
            return
        if not self.config.getoption("lf", default=False) and collector.path not in self._files_named_in_part():
            self.collected_files.add(collector.path.relative_to(SUITE).as_posix())
        if self.settings is None:
            self._load()
            if not self.config.option.collectonly:
                self._begin()

    def _files_named_in_part(self) -> set[Path]:
        """Files of which the arguments name single tests: what else they hold was not asked for."""
        named = [argument.partition("::")[0] for argument in self.config.args if "::" in argument]
        return {(self.config.invocation_params.dir / name).resolve() for name in named}

    def _load(self) -> None:
        try:
            self.settings = load_settings(SUITE / "settings.toml")
            self.settings.profile(self.profile_name)
            if self.settings.app:
                sys.path.insert(1, str(ROOT / self.settings.app.directory))  # behind the repository's root
        except SettingsError as error:
            self._end(str(error), EXIT_USAGE)

    def _begin(self) -> None:
        assert self.settings is not None
        self._interrupt_again_where_lost()
        if self.output or self.side:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
            signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        if not self.side and (wrong := not_allowed(self.settings.pin)):
            self._end(wrong, EXIT_USAGE)
        self.free_cores = set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()
        try:
            preferred = preferred_backends(SUITE / "baselines")
            if self.side:
                self.services = self.side.services(self.settings, ROOT, preferred)
            else:
                self.services = Services(self.settings, ROOT, preferred=preferred)
            self.services.begin()
            changes = self.services.environment()
        except ServiceError as error:
            self._end(str(error), EXIT_USAGE)
        except NotReady as error:
            self._end(str(error), EXIT_INVALID)
        self.environment_before = {name: os.environ.get(name) for name in changes}
        _update_environment(changes)

    def _interrupt_again_where_lost(self) -> None:
        """Interrupt again, a moment later, where a destructor or a callback has swallowed it."""
        tell = sys.unraisablehook

        def on_unraisable(lost: "sys.UnraisableHookArgs") -> None:
            if isinstance(lost.exc_value, KeyboardInterrupt):
                threading.Timer(INTERRUPT_AGAIN_S, os.kill, [os.getpid(), signal.SIGINT]).start()
            elif self.exit_code is None:  # else what a fixture left behind that was not torn down
                tell(lost)

        sys.unraisablehook = on_unraisable  # pytest, whose own it takes the place of, resets it at the end

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        if self.side:
            from plumbline.comparing.workers import controls

            self.config.stash[controls.LINK] = self.side
            module = ControlsModule.from_parent(session, path=Path(controls.__file__), nodeid=CONTROLS_FILE)
            items += session.genitems(module)
        ours = [item for item in items if _is_ours_item(item)]
        wanted = [item for item in ours if self.profile_name == "full" or not item.get_closest_marker("full")]
        if len(wanted) < len(ours):
            left_out = [item for item in ours if item not in wanted]
            self.config.hook.pytest_deselected(items=left_out)
        wanted.sort(key=lambda item: item.get_closest_marker("disruptive") is not None)
        items[:] = [item for item in items if not _is_ours_item(item)] + wanted
        for item in wanted:
            self._guard(item)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.deselected += [_key(item) for item in items if _is_ours_item(item)]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """A typo in the key of a budget would switch that budget off without a word."""
        if self.settings is None or self.exit_code is not None:
            return
        known = {*self.deselected, *(_key(item) for item in session.items if _is_ours_item(item))}
        try:
            check_keys(self.settings, known, lambda file: file in self.collected_files or not (SUITE / file).is_file())
        except SettingsError as error:
            self._end(str(error), EXIT_USAGE)

    def _guard(self, item: pytest.Item) -> None:
        """Limits from the inside out: the loop's own, pytest-timeout's at twice that, faulthandler's behind both."""
        assert self.settings is not None
        if not isinstance(item, pytest.Function):
            return
        marker = item.get_closest_marker("timeout")
        limit_s = float(marker.args[0]) if marker and marker.args else self.settings.test_limit_s
        if self.side:  # it waits for its turns: the coordinator watches over it
            item.add_marker(pytest.mark.timeout(0), append=False)
            if inspect.iscoroutinefunction(item.obj):
                item.obj = guards.guarded(item.obj, WORKER_LIMIT_S)
            return
        if inspect.iscoroutinefunction(item.obj):
            item.obj = guards.interruptible(guards.guarded(item.obj, limit_s))
            limit_s *= 2
        item.add_marker(pytest.mark.timeout(limit_s, func_only=False), append=False)
        item.stash[LIMIT_S] = limit_s

    # ---- the run

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        ours = [item for item in session.items if _is_ours_item(item)]
        if not ours or self.config.option.collectonly or self.services is None:
            return (yield)
        wanted = [item for item in ours if _key(item) in self.side.start.keys] if self.side else ours
        names = {name for item in wanted for name in _fixtures(item)}
        if self.side:
            self.side.send_imported()
        try:
            self.services.wait_ready()
            if any(map(_uses_application, wanted)) or (self.side and self.side.start.prepare):
                self.services.start_application()
            elif "postgres_url" in names:
                self.services.prepare()  # its tables are there without the application as well
        except NotReady as error:
            self._end(str(error), EXIT_INVALID)
        if self.side:
            session.items[:] = self._in_order(self.side, ours)
        self.counter = None if self.once or self.side else Counter(self.services)
        if self.output and self.config.option.verbose < 0:
            self.progress = Progress(self._terminal(), len(session.items))
        self._pin()
        # What is there now stays: neither the collections before each measurement nor those at pytest's and the
        # interpreter's end, which take half a second, need look at it again.
        gc.collect()
        gc.freeze()
        try:
            outcome = yield
        finally:
            if self.progress is not None:
                self.progress.close()
        self._end_if_one_has_died()
        return outcome

    def _in_order(self, side: WorkerLink, ours: list[pytest.Item]) -> list[pytest.Item]:
        """Tell the coordinator what there is and where it was imported from; it says what to run."""
        items = {_key(item): item for item in ours}
        served = [key for key, item in items.items() if _uses_application(item)]
        return [items[key] for key in side.send_collected(list(items), served, self.reasons)]

    def _end_if_one_has_died(self) -> None:
        assert self.services is not None
        for service in self.services.running():
            if not service.alive():
                self._end(service.obituary(), EXIT_INVALID)

    def _pin(self) -> None:
        assert self.settings is not None
        assert self.services is not None
        if self.side:
            self.core = CoreLock(self.side.start.core, "")
            self._set_cores({self.core.core} if self.core.core is not None else None)
            return
        self.core = CoreLock.acquire("off" if self.once else self.settings.pin)
        self._set_cores({self.core.core} if self.core.core is not None else None)
        pinned = {service.name: self._pinned(service) for service in self.services.running()}
        self.service_lines = self.services.lines(pinned)
        if self.core.core is None:
            self.service_lines.append(f"not pinned to one core: {self.core.why}")
        self._say(self.services.notices + self.service_lines)
        if self.config.option.perf_table:
            self._say(self.services.table())

    def _set_cores(self, cores: set[int] | None) -> None:
        assert self.services is not None
        if cores is None:
            return
        for service in self.services.running():
            if service.own:
                service.pin(cores)
        set_affinity([os.getpid()], cores)
        self.pinned_core = self._read_back()

    def _pinned(self, service: Service) -> int | None:
        return pinned_core(service.pids()) if service.own else None

    def _read_back(self) -> int | None:
        """The one core that the test process and every service are on, read back; None if there is none."""
        if self.services is None or self.core is None or self.core.core is None:
            return None
        pids = [os.getpid()]
        for service in self.services.running():
            own = service.pids()
            if not own:
                return None
            pids += own
        return pinned_core(pids)

    def _terminal(self) -> TextIO:
        """Where pytest writes, whatever it captures."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        file: TextIO = reporter._tw._file if reporter is not None else sys.stdout
        return file

    def _say(self, lines: list[str]) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            for line in lines:
                reporter.write_line(self.scrub(line))

    def scrub(self, text: str) -> str:
        """The text without any password of the services."""
        return self.services.scrub(text) if self.services is not None else text

    def _end(self, reason: str, exit_code: int) -> NoReturn:
        reason = self.scrub(reason)
        self.reasons.append(reason)
        self.exit_code = exit_code
        pytest.exit(reason, exit_code)

    @pytest.hookimpl(tryfirst=True)  # before pytest renders the traceback, which takes its time
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self._ignore_signals()
        # pytest's own Interrupted, as after an error in collection, is a KeyboardInterrupt, too.
        if isinstance(excinfo.value, KeyboardInterrupt) and not isinstance(excinfo.value, pytest.Session.Interrupted):
            self.exit_code = EXIT_INTERRUPTED

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that can't be imported measures nothing: the run is invalid."""
        if report.failed and _is_ours((self.config.rootpath / report.nodeid).resolve()):
            self._scrub_report(report)
            error = first_lines(report.longreprtext, 6)
            self.reasons.append("\n".join([f"{report.nodeid} can't be collected:", *error]))
            self.exit_code = EXIT_INVALID

    # ---- each test

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if LIMIT_S in item.stash:
            faulthandler.dump_traceback_later(item.stash[LIMIT_S] * 2 + 30, exit=True, file=self.stderr)
        if self.stages.recorded:
            ran = any(test.key == _key(item) for test in self.tests)
            self.stages.begin("again" if ran else "first", [_key(item)])
        try:
            return (yield)
        finally:
            if LIMIT_S in item.stash:
                faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """In a rehearsal, what a fixture runs that outlives a test is for all that use it."""
        if fixturedef.scope == "function" or not self.stages.recorded:
            return (yield)
        users = [_key(item) for item in request.session.items if fixturedef.argname in _fixtures(item)]
        if not self.stages.keys <= {*users}:  # this benchmark asks for it by name, and others may do so as well
            return (yield)
        with self.stages.within("fixture", users):
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Without pytest's dots where we say ourselves how far the run is."""
        if self.progress is None or hasattr(report, "wasxfail"):
            return None
        if report.when != "call" and report.passed:
            return "", "", ""
        category: str = "error" if report.when != "call" and report.failed else report.outcome
        return category, "", category.upper()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self.progress is not None:
            last = self.benchmarks[-1] if self.tests and self.tests[-1].benchmark else None
            told = f"{duration(last.median)}, {last.samples:,} samples" if last else ""
            self.progress.step(len(self.tests), file_and_name(nodeid)[1].removeprefix("test_"), told)

    def pytest_runtest_logfinish(self) -> None:
        if self.side and self.tests:
            over = self.tests[-1]
            self.side.send_over(over.key, over.outcome, self.scrub(over.message))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if not _is_ours_item(item) or self.services is None:
            return
        self._end_if_one_has_died()
        if self.profile_name == "full" and item.get_closest_marker("unpinned"):
            self._set_cores(self.free_cores)
        item.stash[PORTS] = self._own_ports()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            if PORTS in item.stash:
                if self.profile_name == "full" and item.get_closest_marker("unpinned") and self.core is not None:
                    self._set_cores({self.core.core} if self.core.core is not None else None)
                self._fail_on_leaked_connections(item.stash[PORTS])

    def _own_ports(self) -> dict[str, set[int]]:
        assert self.services is not None
        servers = [server for server in (self.services.redis, self.services.postgres) if server is not None]
        return {server.name: guards.own_ports(server.address.host, server.address.port) for server in servers}

    def _fail_on_leaked_connections(self, before: dict[str, set[int]]) -> None:
        assert self.services is not None
        leaked = []
        for name, ports in self._own_ports().items():
            if new := ports - before.get(name, set()):
                ask = guards.leaked_redis if name == "redis" else guards.leaked_postgres
                leaked += ask(getattr(self.services, name).address.url, new)
        if leaked:
            advice = f"close it in the test, or name it {guards.KEPT_CONNECTION_NAME!r} where a wider fixture keeps it"
            pytest.fail("\n".join(["left connections open:", *leaked, advice]), pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        # On a slow machine pytest takes a second to show what failed, and the whole run would be ended in it.
        with guards.limit_held():
            report = yield
        if not _is_ours_item(item):
            return report
        measure = getattr(item, "funcargs", {}).get("measure")
        if report.when == "call" and report.passed and isinstance(measure, Measure):
            try:
                if not self.once and not self.side:
                    self.benchmarks.append(self._benchmark(item, measure))
            except MeasureError as error:
                report.outcome = "failed"
                report.longrepr = str(error)
        if report.failed and self.services is not None:
            for service in self.services.running():
                if service.own and (state := service.state()) != "running":
                    report.sections.append((f"service {service.name}: {state}", service.log_tail()))
                    self.services.notices.append(f"{service.name}: {state}, when {_key(item)} failed")
        self._scrub_report(report)
        return report

    def _scrub_report(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """No password in what pytest shows and writes, of tests that pass or are skipped either."""
        if isinstance(report.longrepr, tuple):
            path, line, reason = report.longrepr
            report.longrepr = (path, line, self.scrub(reason))
        elif (text := self.scrub(report.longreprtext)) != report.longreprtext:
            report.longrepr = text
        report.sections = [(title, self.scrub(text)) for title, text in report.sections]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        path = (self.config.rootpath / report.nodeid.partition("::")[0]).resolve()
        is_control = report.nodeid.startswith(CONTROLS_FILE)
        if not (is_control or _is_ours(path)) or (report.when != "call" and report.passed):
            return
        file = CONTROLS_FILE if is_control else path.relative_to(SUITE).as_posix()
        key = file + report.nodeid[len(report.nodeid.partition("::")[0]) :]
        outcome: Outcome = "failed" if report.failed else "skipped" if report.skipped else "passed"
        self.tests = [test for test in self.tests if test.key != key or test.outcome != "passed"]
        message = ""
        if report.skipped and isinstance(report.longrepr, tuple):
            message = str(report.longrepr[2]).removeprefix("Skipped: ")
        elif report.failed:
            message = report.longreprtext[-4000:]
        is_benchmark = any(benchmark.key == key for benchmark in self.benchmarks)
        self.tests.append(TestOutcome(key, outcome, report.duration, message, is_benchmark))

    def _benchmark(self, item: pytest.Item, measure: Measure) -> Benchmark:
        measurement = measure.measurement
        if measurement is None:
            raise MeasureError("this test asked for the fixture `measure` and never called it")
        if measurement.summary is None:
            raise MeasureError("the loop over measure() was left before its end: nothing was measured")
        assert isinstance(item, pytest.Function)
        assert self.settings is not None
        if "app" in self.settings.external_urls and "api_url" in item.fixturenames:
            self.app_elsewhere.append(_key(item))
        summary = measurement.summary
        budget = measure.budget or self._budget(_key(item))
        return Benchmark(
            key=_key(item),
            unit="s",
            verdict=None,
            median=summary.median_s,
            counts=measurement.counts.same,
            counts_varying=measurement.counts.varying,
            counted=measurement.counts.families,
            mean=summary.mean_s,
            p95=summary.p95_s,
            p99=summary.p99_s,
            minimum=summary.minimum_s,
            maximum=summary.maximum_s,
            rate_per_s=summary.rate_per_s,
            operations=measurement.operations,
            samples=len(summary.samples_s),
            samples_s=list(summary.samples_s),
            process_medians=[summary.median_s],
            pin=self.pinned_core,
            machine_speed_s=self.disturbances.machine_speed.latest_s if self.disturbances else 0.0,
            source_hash=_source_hash(item),
            renamed_from=measure.renamed_from,
            description=(inspect.getdoc(item.function) or "").partition("\n")[0],
            line=item.location[1] or 0,
            source=_source(item),
            budgets=check_budget(budget, summary) if budget else [],
            warnings=warnings_of(summary, measurement.operations, measurement.retried),
        )

    def _budget(self, key: str) -> Budget | None:
        assert self.settings is not None
        return self.settings.budgets.get(key) or self.settings.budgets.get(key.partition("[")[0])

    def measure_for(self, item: pytest.Item) -> Measure:
        """The `measure` of one test: once more where a budget broke or something disturbed it."""
        assert self.settings is not None
        side, key = self.side, _key(item)
        if side is not None and side.start.rehearses:
            return Measure(
                self.settings.profile(self.profile_name), lambda *_: "", once="in a rehearsal", rounds=REHEARSED_ROUNDS
            )
        if side is not None:
            return Measure(
                self.settings.profile(self.profile_name),
                lambda _summary, _budget: "",
                in_turns=lambda operations: side.measurement(key, operations),
            )
        self.disturbances = self.disturbances or Disturbances()
        disturbed = self.disturbances.watch()

        def retry(summary: Summary, budget: Budget | None) -> str:
            budget = budget or self._budget(key)
            over = [result.name for result in check_budget(budget, summary) if not result.kept] if budget else []
            return disturbed(summary) or (f"its budget was broken ({', '.join(over)})" if over else "")

        return Measure(self.settings.profile(self.profile_name), retry, self.once, self.counter)

    def url(self, name: str) -> str:
        """URL of a service; skips the test where it is off."""
        assert self.services is not None
        service = next((service for service in self.services.running() if service.name == name), None)
        if service is None:
            pytest.skip(f"{OFF}{self.services.skipped.get(name, f'{name} is not configured')}")
        return service.address.url

    # ---- the end

    def _ignore_signals(self) -> None:
        """The end has begun, and where there is a caller it is he who tells of it."""
        if self.output or self.side:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Keep the results, let fixtures be torn down on servers that still run, then stop those."""
        self._ignore_signals()
        if self.side and self.free_cores:
            self._set_cores(self.free_cores)  # nothing is measured any more, and stopping is work
        results = self._results() if self.settings is not None and not self.side else None
        self._results_at_end = results
        if results is not None and self.output:
            try:
                write_results(Path(self.output), results)
            except ResultsError as error:  # the caller says that nothing arrived
                self._say(["", str(error)])
        elif results is not None and any(broken(benchmark) for benchmark in self.benchmarks):
            session.exitstatus = session.exitstatus or EXIT_REGRESSION
        # Of a run that was interrupted, fixtures may hang on what it was in the middle of, or fail at it.
        patience = threading.Timer(TEARDOWN_LIMIT_S, self._stop)
        if self.exit_code is not None:
            patience.start()
        try:
            return (yield)
        except BaseException as error:
            if self.exit_code is None:
                raise
            self._say([f"not all fixtures could be torn down: {describe(error)}"])
            return None
        finally:
            patience.cancel()
            if patience.ident is not None:
                patience.join()
            self._stop()

    def _results(self) -> Results:
        assert self.settings is not None
        running = self.services.running() if self.services is not None else []
        return Results(
            schema=SCHEMA,
            verdict=None,
            environment=describe_environment(
                ROOT,
                machine=self.settings.machine,
                services={service.name: service.backend for service in running},
                versions={service.name: service.version for service in running if service.version},
                pin=self.pinned_core,
            ),
            benchmarks=self.benchmarks,
            profile=self.profile_name,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            exit_code=self.exit_code,
            reasons=self.reasons,
            notes=[
                *(self.services.notices if self.services else []),
                *(self.counter.notes if self.counter else []),
                *(self.disturbances.notes if self.disturbances else []),
            ],
            collected_files=sorted(self.collected_files),
            deselected=sorted(self.deselected),
            app_elsewhere=sorted(self.app_elsewhere),
            tests=self.tests,
            service_lines=self.service_lines,
        )

    def _stop(self) -> None:
        if self.counter is not None:
            self.counter.close()
        if self.services is not None:
            self.services.stop()
            _update_environment(self.environment_before)
        if self.core is not None:
            self.core.release()
            set_affinity([os.getpid()], self.free_cores)

    def pytest_unconfigure(self) -> None:
        self._stop()
        os.close(self.stderr)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.once and self.tests:
            terminalreporter.write_line(f"each benchmark ran once and untimed, as pytest runs {self.once}")
        if self.output or self.side or self.settings is None or not self.benchmarks:
            return
        results = self._results_at_end
        assert results is not None
        try:
            found = find_baseline(SUITE / "baselines", results.environment)
            judge(results, found, self.settings.gate, self.settings.benchmarks, {})
            judge_counts(results, note_counts(results, find_counts(SUITE / "baselines", results.environment)))
        except ResultsError as error:
            terminalreporter.write_line(str(error))
        from rich.console import Console  # here, as sides of a paired comparison start often and show nothing

        from plumbline.reporting import terminal

        terminal.render_table(results, Console(file=sys.stdout))
        if over := [benchmark.key for benchmark in self.benchmarks if broken(benchmark)]:
            terminalreporter.write_line(f"failed, as a budget is broken: {', '.join(over)}", red=True, bold=True)


LIMIT_S = pytest.StashKey[float]()
PORTS = pytest.StashKey[dict[str, set[int]]]()


@pytest.fixture(scope="session")
def perf_run(request: pytest.FixtureRequest) -> Run:
    run = request.config.pluginmanager.get_plugin("performance-run")
    assert isinstance(run, Run)
    return run


@pytest.fixture(scope="session")
def services(perf_run: Run) -> Services:
    """The running services: their addresses, states and, where they are ours, pause, kill and restart."""
    assert perf_run.services is not None
    return perf_run.services


@pytest.fixture(scope="session")
def redis_url(perf_run: Run) -> str:
    """URL of the Redis server, with its password."""
    return perf_run.url("redis")


@pytest.fixture(scope="session")
def postgres_url(perf_run: Run) -> str:
    """URL of this run's own PostgreSQL database, with its password."""
    return perf_run.url("postgres")


@pytest.fixture(scope="session")
def api_url(perf_run: Run) -> str:
    """URL of the application."""
    return perf_run.url("app")


@pytest.fixture(scope="session")
def key_prefix(perf_run: Run) -> str:
    """What each Redis key of this run begins with."""
    assert perf_run.services is not None
    return perf_run.services.key_prefix


@pytest.fixture
def measure(request: pytest.FixtureRequest, perf_run: Run) -> Iterator[Measure]:
    """`for timer in measure(): with timer: …`: see measure.py."""
    measure = perf_run.measure_for(request.node)
    yield measure
    if measure.measurement is not None:
        measure.measurement.close()


def _is_ours(path: Path) -> bool:
    return path.is_relative_to(SUITE)


def _is_ours_item(item: pytest.Item) -> bool:
    return _is_ours(item.path) or item.nodeid.startswith(CONTROLS_FILE)


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


def _uses_application(item: pytest.Item) -> bool:
    """Whether the application and the processes beside it have to be there."""
    return not _fixtures(item).isdisjoint({"api_url", "services"})


def _key(item: pytest.Item) -> str:
    if item.nodeid.startswith(CONTROLS_FILE):
        return item.nodeid
    return item.path.relative_to(SUITE).as_posix() + item.nodeid[item.nodeid.index("::") :]


def _source(item: pytest.Function) -> str:
    """The code of the test, as it stands at the left margin; "" where there is none."""
    try:
        return textwrap.dedent(inspect.getsource(item.function))
    except OSError:
        return ""


def _source_hash(item: pytest.Function) -> str:
    """Of the test's own source and that of the fixtures of this suite that it uses."""
    functions = [item.function]
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        functions += [definition.func for definition in definitions]
    sources = {inspect.getsource(f) for f in functions if _is_ours(Path(inspect.getfile(f)))}
    return hashlib.sha256("".join(sorted(sources)).encode()).hexdigest()[:12]


def _why_untimed(config: pytest.Config) -> str:
    """What makes timings meaningless in this process, if anything does."""
    if hasattr(config, "workerinput") or getattr(config.option, "numprocesses", None):
        return "under pytest-xdist (-n)"
    if config.getoption("usepdb", default=False) or config.getoption("trace", default=False):
        return "with a debugger (--pdb, --trace)"
    coverage = sys.modules.get("coverage")
    if config.pluginmanager.hasplugin("_cov") or (coverage and coverage.Coverage.current() is not None):
        return "under coverage"
    if sys.gettrace() is not None:
        return "under a debugger or tracer"
    return ""


def _update_environment(changes: dict[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
