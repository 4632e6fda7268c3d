"""The worker of a paired comparison: a pytest process that runs one side's benchmarks block by block."""

import asyncio
import contextlib
import functools
import gc
import inspect
import os
import signal
import socket
import threading
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace

from plumbline import __version__
from plumbline.comparing.statistics.controls import CONTROLS_FILE
from plumbline.comparing.trees.trace import Stages, child_environ
from plumbline.comparing.workers import controls
from plumbline.comparing.workers.in_application import with_hook
from plumbline.comparing.workers.protocol import (
    Alive,
    Begins,
    Block,
    Collected,
    Counted,
    Imported,
    Line,
    LogAsked,
    LogText,
    Order,
    Over,
    Start,
    Turn,
)
from plumbline.comparing.workers.timers import timer_of
from plumbline.counting.counter import Counter
from plumbline.measuring.clock import Clock
from plumbline.measuring.context import RunContext, outcome_of, uses_application
from plumbline.measuring.cpu_affinity import CoreLock, start_children_normally
from plumbline.measuring.fixtures import declare, provide
from plumbline.measuring.guards import guarded
from plumbline.measuring.loop import Measure, MeasureError, Steps
from plumbline.measuring.output import output_in
from plumbline.measuring.reports import Reports
from plumbline.measuring.statistics import summarize
from plumbline.project import below
from plumbline.results.environment import origins
from plumbline.services.services import Services
from plumbline.settings import Profile

SILENT_LIMIT_S = 17.0  # a test fails if its next message takes longer; the coordinator would give up the pair at 20 s
TEST_LIMIT_S = 3600.0  # tests wait for their turns, and the coordinator has limits of its own
REHEARSED_ROUNDS = 2  # code that reads from a cache runs in the second round
DRAINING_ROUNDS = 3


class ControlsModule(pytest.Module):
    """The module of the controls, imported as part of this package because pytest's import would change `sys.path`."""

    def _getobj(self) -> ModuleType:
        return controls


class Worker:
    """The pytest plugin of a worker process."""

    def __init__(self, config: pytest.Config, suite: Path, file_number: int) -> None:
        """Wait for the first message of the coordinator. `file_number`: the descriptor of the socket to it."""
        self._line = Line(socket.socket(fileno=file_number))
        self._start = self._line.expect(Start)
        self._stages = Stages(os.environ)
        self._ran: set[str] = set()
        self._measured: set[str] = set()
        self._last: pytest.TestReport | None = None
        self._counter: Counter | None = None
        self._context = context = RunContext(config, suite, controlled=True)
        provide(context, self._start_measure)
        config.stash[controls.START] = self._start
        config.pluginmanager.register(context)
        config.pluginmanager.register(Reports(context))

    def _start_measure(self, item: pytest.Item) -> Measure:
        profile = self._context.profile
        if self._start.rehearses:
            return Measure(profile, untimed_rounds=REHEARSED_ROUNDS)
        key = self._context.key_of(item)
        if key in self._measured:
            raise MeasureError("a pytest plugin runs this test again, which a paired comparison cannot measure")
        self._measured.add(key)
        if self._start.counts:
            if self._counter is None:
                self._counter = Counter(self._context.services, is_compared=True)
                self._context.at_stop.callback(self._counter.close)
            return CountedMeasurement(profile, self._line, self._start, key, self._counter)
        return TurnedMeasurement(profile, self._line, self._start, key)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """Start the servers before pytest imports the first test module, because user code reads settings at import."""
        is_ours = isinstance(collector, pytest.Module) and below(collector.path, self._context.suite)
        if is_ours and not self._context.begun:
            self._context.begin(self._services)

    def _services(self) -> Services:
        start, settings = self._start, self._context.settings  # servers of the coordinator, application of this worker
        if settings.app:
            # The other worker may use the configured port.
            settings = replace(settings, app=replace(settings.app, port=0))
        return Services(
            settings,
            self._context.root,
            shared=start.servers,
            key_prefix=start.prefix,
            prepare=start.prepare,
            app_python=start.app_python,
            child_environ=self._child_environ,
            shared_log=self._log_of if start.counts else None,
        )

    def _log_of(self, service: str, lines: int) -> str:
        self._line.send(LogAsked(service, lines))
        return self._line.expect(LogText).text

    def _child_environ(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> Mapping[str, str]:
        start, changed = self._start, child_environ(name, command, environ)
        slows = any(process == "application" for _, process, _ in start.slow_down.values())
        if name == "app" and (start.profiles or slows):
            return with_hook(changed, "profiled" if start.profiles else "slowed", start.folder)
        return changed

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
        start_children_normally()
        gc.collect()
        gc.freeze()
        outcome = yield
        self._context.check_alive()
        return outcome

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run a test once, also if a plugin would run failed tests again: the coordinator waits for one outcome."""
        if self._stages.recorded:
            key = self._context.key_of(item)
            self._stages.begin("again" if key in self._ran else "first", [key])
            self._ran.add(key)
        runner: Any = item.config.pluginmanager.get_plugin("runner")
        expect_message_soon()
        try:
            return bool(runner.pytest_runtest_protocol(item, nextitem))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Record in a rehearsal that a fixture with a wider scope runs for all benchmarks that use it."""
        if fixturedef.scope == "function" or not self._stages.recorded:
            return (yield)
        using = [item for item in request.session.items if fixturedef.argname in getattr(item, "fixturenames", ())]
        users = [self._context.key_of(item) for item in using]
        if not self._stages.keys <= {*users}:  # requested by `getfixturevalue`, as other benchmarks may do
            return (yield)
        with self._stages.fixture(users):
            return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self._last = report  # a failed teardown replaces a pass

    def pytest_runtest_logfinish(self) -> None:
        report, self._last = self._last, None
        outcome, message = outcome_of(report) if report else ("failed", "pytest reported no outcome")
        texts = (self._context.scrub(message), output_in(report) if report else "")
        # An error message may have lone surrogates, which UTF-8 cannot encode.
        self._line.send(Over(outcome, *(text.encode(errors="replace").decode() for text in texts)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        if self._context.begun:  # the measurement is over: services may stop on all cores
            self._context.lock.move(self._context.services.running(), free=True)


class TurnedMeasurement(Measure):
    """A `measure` that waits for its turn before each block. `summary` has the samples of all blocks."""

    def __init__(self, profile: Profile, line: Line, start: Start, key: str) -> None:
        super().__init__(profile)
        self._line = line
        self._start = start
        self._key = key
        self._left = 0

    async def __anext__(self) -> Any:
        waits, began_s = self._left == 0, Clock.read()
        timer = await super().__anext__()
        if waits and (loop := asyncio._get_running_loop()) is not None:  # None under Trio
            hold_clock(loop, Clock.read() - began_s)
            for _ in range(DRAINING_ROUNDS):
                await asyncio.sleep(0)
        return timer

    def _passes(self, *_: float) -> Steps:
        timer = timer_of(self._start, self._key, self._samples_s, self.operations)
        all_s: list[float] = []
        self._line.send(Begins(self._key))
        while samples := self._next_turn():
            self._samples_s.clear()
            self._rounds = 0
            for self._left in reversed(range(samples)):
                yield timer
            samples_s = [sample_s / self.operations for sample_s in self._samples_s]
            all_s += samples_s
            timer.end_block(self._samples_s)
            self._line.send(Block(samples_s))
        timer.end()
        self.summary = summarize(all_s) if all_s else None

    def _next_turn(self) -> int:
        signal.setitimer(signal.ITIMER_REAL, 0)  # no limit while the other worker measures
        samples = self._line.expect(Turn).samples
        expect_message_soon()
        return samples


class CountedMeasurement(TurnedMeasurement):
    """A `measure` that counts. `summary` has the samples of the rounds before."""

    def __init__(self, profile: Profile, line: Line, start: Start, key: str, counter: Counter) -> None:
        super().__init__(profile, line, start, key)
        self._counter = counter

    def _passes(self, *_: float) -> Steps:
        samples_s: list[float] = []
        self._line.send(Begins(self._key))
        if rounds := self._next_turn():
            for _round in range(rounds):
                yield self._timer
                self._tell()
            samples_s += self._samples_s
            counts = yield from self._counter.rounds(self.operations, self._left_round)
            self._line.send(Counted(counts, self._counter.notes))
            self._next_turn()
        self.summary = summarize(samples_s) if samples_s else None

    def _left_round(self) -> None:
        self._samples_s.append(0.0)
        self._tell()

    def _tell(self) -> None:
        self._line.send(Alive())
        expect_message_soon()


def expect_message_soon() -> None:
    """Fail the test if it hangs, so that the other benchmarks of the pair can go on."""

    def fail(*_: object) -> None:
        pytest.fail(f"it took longer than {SILENT_LIMIT_S:g} s until its next turn in a worker of the comparison")

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, fail)
        signal.setitimer(signal.ITIMER_REAL, SILENT_LIMIT_S)


def hold_clock(loop: asyncio.AbstractEventLoop, held_s: float) -> None:
    """Set the clock of an event loop back by the time for which its thread was blocked. This defers all deadlines."""
    replaced = getattr(loop, "__dict__", {}).get("time")
    if replaced is not None and getattr(replaced, "func", None) is not _held:
        return  # the test has replaced the clock
    behind_s = type(loop).time(loop) - loop.time() + held_s  # the total of all waits
    with contextlib.suppress(AttributeError):  # the clock of a loop written in C cannot be replaced
        loop.time = functools.partial(_held, loop, behind_s)  # type: ignore[method-assign]


def _held(loop: asyncio.AbstractEventLoop, behind_s: float) -> float:
    return type(loop).time(loop) - behind_s
