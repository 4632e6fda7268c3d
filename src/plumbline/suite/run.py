"""The ordinary run of a suite: services around it, guards around each test, and a record of what was measured."""

import gc
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from plumbline.counting.counter import Counter
from plumbline.exit_codes import EXIT_REGRESSION, EXIT_USAGE
from plumbline.judging.baseline import preferred_backends
from plumbline.judging.budgets import broken
from plumbline.measuring.connections import ConnectionCheck
from plumbline.measuring.context import RunContext
from plumbline.measuring.cpu_affinity import CoreLock, Pinning, not_allowed
from plumbline.measuring.fixtures import provide
from plumbline.processes import pinned_core
from plumbline.results.files import ResultsError, write_results
from plumbline.results.schema import Results
from plumbline.services import Services
from plumbline.settings import SettingsError, check_keys
from plumbline.suite.limits import TimeLimits
from plumbline.suite.recorder import Recorder
from plumbline.suite.terminal import SuiteTerminal


class SuiteRun:
    """One run of a suite in this pytest process. A pytest plugin."""

    def __init__(self, config: pytest.Config, suite: Path) -> None:
        """Raise SettingsError, and UsageError if the gate has started pytest in a way that disturbs timings."""
        self._config = config
        self._suite = suite
        self._output: str | None = config.getoption("--perf-output")
        self._untimed = why_untimed(config)
        if self._untimed and self._output:
            raise pytest.UsageError(
                f"the gate can't run {self._untimed}: its timings would mean nothing. Run it without."
            )
        self._collected_files: set[str] = set()
        self._deselected: list[str] = []
        self._results: Results | None = None
        self._context = context = RunContext(config, suite, controlled=bool(self._output))
        self._pinning = Pinning(context)
        self._recorder = Recorder(context, self._pinning, self._untimed)
        self._terminal = SuiteTerminal(context, self._recorder)
        self._limits = TimeLimits()
        provide(context, self._recorder.start_measure)
        parts = context, self._pinning, self._recorder, self._terminal, self._limits, ConnectionCheck(context)
        for part in parts:
            config.pluginmanager.register(part)

    # ---- collection

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """Start the servers before the first test module is imported: user code reads its settings at import."""
        if not isinstance(collector, pytest.Module) or not collector.path.is_relative_to(self._suite):
            return
        if not self._config.getoption("lf", default=False) and collector.path not in self._files_named_in_part():
            self._collected_files.add(collector.path.relative_to(self._suite).as_posix())
        if not self._context.begun and not self._config.option.collectonly:
            if wrong := not_allowed(self._context.settings.pin):
                self._context.end(wrong, EXIT_USAGE)
            self._context.begin(self._make_services)

    def _make_services(self) -> Services:
        preferred = preferred_backends(self._suite / "baselines")
        return Services(self._context.settings, self._context.root, preferred=preferred)

    def _files_named_in_part(self) -> set[Path]:
        """Return the files of which the arguments name single tests: nothing else of them was to be collected."""
        named = [argument.partition("::")[0] for argument in self._config.args if "::" in argument]
        return {(self._config.invocation_params.dir / name).resolve() for name in named}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        selected, left_out = self._context.select(items)
        if left_out:
            self._config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not self._context.key_of(item)] + selected
        self._limits.limit(selected, self._context.settings.test_limit_s)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._deselected += [key for item in items if (key := self._context.key_of(item))]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """A typo in the key of a budget would switch that budget off silently."""
        if self._context.exit_code is not None:
            return
        known = {*self._deselected, *map(self._context.key_of, session.items)}

        def is_whole(file: str) -> bool:
            return file in self._collected_files or not (self._suite / file).is_file()

        try:
            check_keys(self._context.settings, known, is_whole)
        except SettingsError as error:
            self._context.end(str(error), EXIT_USAGE)

    # ---- the run

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        items = [item for item in session.items if self._context.key_of(item)]
        if not items or not self._context.begun:
            return (yield)
        self._context.wait_ready(items)
        if not self._untimed:
            self._recorder.counter = Counter(self._context.services)
            self._context.at_stop.callback(self._recorder.counter.close)
        if self._output and self._config.option.verbose < 0:
            self._terminal.begin(len(session.items))
        self._pin()
        freeze_garbage()
        try:
            outcome = yield
        finally:
            self._terminal.close()
        self._context.check_alive()
        return outcome

    def _pin(self) -> None:
        lock = CoreLock.acquire("off" if self._untimed else self._context.settings.pin)
        self._pinning.pin(lock)
        services = self._context.services
        cores = {one.name: pinned_core(one.pids()) if one.own else None for one in services.running()}
        lines = services.lines(cores)
        if lock.core is None:
            lines.append(f"not pinned to one core: {lock.why}")
        self._recorder.service_lines = lines
        self._context.say(services.notices + lines)
        if self._config.option.perf_table:
            self._context.say(services.table())

    # ---- the end

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._output or self._context.begun:
            self._results = self._recorder.results(self._collected_files, self._deselected)
        if self._output and self._results is not None:
            try:
                write_results(Path(self._output), self._results)
            except ResultsError as error:  # the caller reports that nothing arrived
                self._context.say(["", str(error)])
        elif any(broken(benchmark) for benchmark in self._recorder.benchmarks):
            session.exitstatus = session.exitstatus or EXIT_REGRESSION

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        if self._untimed and self._recorder.tests:
            terminalreporter.write_line(f"each benchmark ran once and untimed, as pytest runs {self._untimed}")
        if not self._output and self._results is not None and self._results.benchmarks:
            self._terminal.show(self._results, terminalreporter)


def freeze_garbage() -> None:
    """Take all objects of now out of later collections: before measurements, and at the end, where one takes 0.5 s."""
    gc.collect()
    gc.freeze()


def why_untimed(config: pytest.Config) -> str:
    """Return what makes timings meaningless in this process, such as "under coverage"; "" if nothing does."""
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
