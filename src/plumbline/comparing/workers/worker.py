"""A worker of a paired comparison: the pytest process that runs one side's benchmarks as its coordinator asks."""

import gc
import inspect
import os
import socket
from collections.abc import Generator
from pathlib import Path
from types import ModuleType

import pytest
from msgspec.structs import replace

from plumbline import __version__
from plumbline.comparing.statistics.plan import CONTROLS_FILE
from plumbline.comparing.trees.trace import Stages, child_environ
from plumbline.comparing.workers import controls
from plumbline.comparing.workers.asgi_wrapper import profiled, slowed, wrapped
from plumbline.comparing.workers.protocol import Collected, Imported, Line, Order, Over, Start
from plumbline.comparing.workers.turned_measurement import TurnedMeasurement
from plumbline.measuring.context import RunContext, outcome_of, uses_application
from plumbline.measuring.cpu_affinity import CoreLock
from plumbline.measuring.fixtures import declare, provide
from plumbline.measuring.guards import guarded
from plumbline.measuring.loop import Measure
from plumbline.results.environment import origins
from plumbline.services.services import Services

TEST_LIMIT_S = 3600.0  # the coordinator watches over each test, which waits for its turns
REHEARSED_ROUNDS = 2  # code that uses a cache runs in the second one


class ControlsModule(pytest.Module):
    """The controls, imported as a part of this package: pytest's own import would change `sys.path`."""

    def _getobj(self) -> ModuleType:
        return controls


class Worker:
    """One side's process. A pytest plugin."""

    def __init__(self, config: pytest.Config, suite: Path, file_number: int) -> None:
        """`file_number`: of the socket to the coordinator, whose first message it waits for."""
        self._line = Line(socket.socket(fileno=file_number))
        self._start = self._line.expect(Start)
        self._stages = Stages(os.environ)
        self._ran: set[str] = set()
        self._last: pytest.TestReport | None = None
        self._context = context = RunContext(config, suite, controlled=True)
        provide(context, self._start_measure)
        config.stash[controls.START] = self._start
        config.pluginmanager.register(context)

    def _start_measure(self, item: pytest.Item) -> Measure:
        profile = self._context.profile
        if self._start.rehearses:
            return Measure(profile, untimed_rounds=REHEARSED_ROUNDS)
        return TurnedMeasurement(profile, self._line, self._start, self._context.key_of(item))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """Start the servers before the first test module is imported: user code reads its settings at import."""
        is_ours = isinstance(collector, pytest.Module) and collector.path.is_relative_to(self._context.suite)
        if is_ours and not self._context.begun:
            self._context.begin(self._services)

    def _services(self) -> Services:
        start, settings = self._start, self._context.settings  # the coordinator's servers, its own application
        if settings.app:
            app = replace(settings.app, port=0)  # its usual one may be in use on the other side
            if start.profiles:
                app = wrapped(app, profiled, start.folder)
            elif any(process == "application" for _, process in start.slow_down.values()):
                app = wrapped(app, slowed, start.folder)
            settings = replace(settings, app=app)
        return Services(
            settings,
            self._context.root,
            shared=start.servers,
            key_prefix=start.prefix,
            prepare=start.prepare,
            child_environ=child_environ,
        )

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        module = ControlsModule.from_parent(session, path=Path(controls.__file__), nodeid=CONTROLS_FILE)
        declare(module)
        controlling = list(session.genitems(module))
        for item in controlling:
            self._context.keys[item.nodeid] = item.nodeid
        items[:] = self._context.select([*items, *controlling])
        for item in items:
            item.add_marker(pytest.mark.timeout(0), append=False)
            if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
                item.obj = guarded(item.obj, TEST_LIMIT_S)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        start, items = self._start, {self._context.key_of(item): item for item in session.items}
        if not self._context.begun:
            return (yield)
        self._line.send(Imported(__version__))
        self._context.wait_ready([items[key] for key in start.keys if key in items], application=start.prepare)
        served = [key for key, item in items.items() if uses_application(item)]
        reasons = [reason for reason in self._context.reasons if reason.kind == "not_collected"]
        errors = {reason.subjects[0]: reason.detail for reason in reasons}
        self._line.send(Collected([*items], served, errors, origins(start.modules)))
        session.items[:] = [items[key] for key in self._line.expect(Order).keys]
        self._context.lock = CoreLock(start.core)
        self._context.lock.move(self._context.services.running())
        gc.collect()
        gc.freeze()
        outcome = yield
        self._context.check_alive()
        return outcome

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if self._stages.recorded:
            key = self._context.key_of(item)
            self._stages.begin("again" if key in self._ran else "first", [key])
            self._ran.add(key)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """In a rehearsal, a fixture that outlives a test runs for all benchmarks that use it."""
        if fixturedef.scope == "function" or not self._stages.recorded:
            return (yield)
        using = [item for item in request.session.items if fixturedef.argname in getattr(item, "fixturenames", ())]
        users = [self._context.key_of(item) for item in using]
        if not self._stages.keys <= {*users}:  # this benchmark asks for it by name, and others may do so as well
            return (yield)
        with self._stages.fixture(users):
            return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self._last = report  # a failure in the clean-up outweighs a pass

    def pytest_runtest_logfinish(self) -> None:
        if (report := self._last) is not None:
            outcome, message = outcome_of(report)
            self._line.send(Over(outcome, self._context.scrub(message)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        if self._context.begun:  # nothing is measured any more, and stopping is work
            self._context.lock.move(self._context.services.running(), free=True)
