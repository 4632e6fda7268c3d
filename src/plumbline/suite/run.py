"""The suite run in a pytest process: starts the services, guards and measures each test, and records the results."""

import datetime
import faulthandler
import gc
import inspect
import os
import sys
from collections import Counter as Tally
from collections.abc import Callable, Collection, Generator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from plumbline.counting.counter import Counter, Round
from plumbline.judging.baseline import find_baseline, find_counts, preferred_backends
from plumbline.judging.baseline_check import check_baseline
from plumbline.judging.counts import check_counts
from plumbline.judging.decide import broken, check_budget, check_loop_hold, judge_benchmarks
from plumbline.judging.evidence import Evidence
from plumbline.measuring.context import RunContext, outcome_of
from plumbline.measuring.cpu_affinity import CoreLock, not_allowed
from plumbline.measuring.fixtures import provide
from plumbline.measuring.guards import guarded
from plumbline.measuring.loop import Measure, MeasureError, warnings_of
from plumbline.measuring.machine_speed import Disturbances
from plumbline.measuring.output import output_in
from plumbline.measuring.reports import Reports
from plumbline.measuring.statistics import Summary
from plumbline.processes import pinned_core
from plumbline.project import EXIT_INVALID, EXIT_REGRESSION, EXIT_USAGE, below
from plumbline.results.environment import describe_environment, project_name
from plumbline.results.files import ResultsError, redacted, rounded, write_results
from plumbline.results.schema import SCHEMA, Benchmark, Counts, Results, TestOutcome
from plumbline.services.errors import describe
from plumbline.services.overview import service_lines, service_table
from plumbline.services.services import Services
from plumbline.settings import Budget, SettingsError
from plumbline.settings_file import check_keys
from plumbline.suite.limits import limit_of
from plumbline.suite.progress import SuiteProgress, what_runs
from plumbline.suite.shards import select, shard_of
from plumbline.suite.sources import Source, source_of
from plumbline.suite.untimed import why_untimed

_SOURCE = pytest.StashKey[Source]()


class SuiteRun:
    """One run of a suite in this pytest process. A pytest plugin."""

    def __init__(self, config: pytest.Config, suite: Path) -> None:
        """Raise UsageError if the gate has started pytest in a way that disturbs timings."""
        self._config = config
        self._output: str | None = config.getoption("--perf-output")
        self._untimed = why_untimed(config)
        if self._untimed and self._output:
            raise pytest.UsageError(
                f"the gate can't run {self._untimed}: its timings would mean nothing. Run it without."
            )
        self._collected_files: set[str] = set()
        self._deselected: list[str] = []
        self._limits_s: dict[str, float] = {}  # of tests by node id
        self._results: Results | None = None
        self._context = context = RunContext(config, suite, controlled=bool(self._output))
        self._shard = shard_of(config.getoption("--perf-shard"), suite)
        self._recorder = Recorder(context, self._untimed)
        self._stderr = os.dup(2)  # faulthandler's output must bypass pytest's capture
        context.at_stop.callback(os.close, self._stderr)
        context.at_hold = self._held
        context.keeps_output = bool(self._output)
        provide(context, self._recorder.start_measure)
        config.pluginmanager.register(context)
        config.pluginmanager.register(Reports(context))
        config.pluginmanager.register(self._recorder)
        if self._output and config.option.verbose < 0:
            config.pluginmanager.register(SuiteProgress(self._recorder.tests, self._recorder.benchmarks))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """Start the servers before the first test module is imported: user code may read its settings at import."""
        path = below(collector.path, self._context.suite)
        if not isinstance(collector, pytest.Module) or path is None:
            return
        # If arguments name single tests of a file, the file is only partly collected.
        named = [argument.partition("::")[0] for argument in self._config.args if "::" in argument]
        in_part = {(self._config.invocation_params.dir / name).resolve() for name in named}
        if not self._config.getoption("lf", default=False) and collector.path.resolve() not in in_part:
            self._collected_files.add(path.as_posix())
        if not self._context.begun and not self._config.option.collectonly:
            if wrong := not_allowed(self._context.settings.pin):
                self._context.end(wrong, EXIT_USAGE)
            self._context.begin(self._services)

    def _services(self) -> Services:
        settings, root = self._context.settings, self._context.root
        python = ""
        if settings.app and settings.app.has_own_environment:
            from plumbline.comparing.trees.application import application_python

            python = str(application_python(settings, root))
        preferred = preferred_backends(self._context.suite / "baselines")
        return Services(settings, root, preferred=preferred, app_python=python)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        selected = self._context.select(items)
        if self._shard:
            keys, folder = map(self._context.key_of, selected), self._context.root / self._context.settings.results
            self._shard, own = select(self._shard, keys, self._context.suite, folder)
            selected = [item for item in selected if self._context.key_of(item) in own]
        others = [item for item in items if not self._context.key_of(item)]
        kept = {*selected, *others}
        if left_out := [item for item in items if item not in kept]:
            self._config.hook.pytest_deselected(items=left_out)
        items[:] = others + selected
        # Three limits: in the event loop, then pytest-timeout at twice that time, then faulthandler.
        for item in selected:
            try:
                limit_s, func_only = limit_of(item, self._context.settings.test_limit_s)
            except ValueError as error:
                limit_s, func_only = self._context.settings.test_limit_s, False
                self._context.refused[item.nodeid] = str(error)
            if isinstance(item, pytest.Function):
                item.stash[_SOURCE] = source_of(item, self._context.suite)
                if inspect.iscoroutinefunction(item.obj):
                    item.obj = guarded(item.obj, limit_s)
                    limit_s *= 2
            item.add_marker(pytest.mark.timeout(limit_s, func_only=func_only), append=False)
            self._limits_s[item.nodeid] = limit_s

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._deselected += [key for item in items if (key := self._context.key_of(item))]

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        """Reject unknown benchmark keys in the settings: a typo would silently switch a budget off."""
        outcome = yield  # raises if the collection is interrupted, because some benchmarks are then missing
        if self._context.exit_code is not None:
            return outcome
        known = {*self._deselected, *map(self._context.key_of, session.items)}
        whole, suite = self._collected_files, self._context.suite
        try:
            check_keys(self._context.settings, known, lambda file: file in whole or not (suite / file).is_file())
        except SettingsError as error:
            self._context.end(str(error), EXIT_USAGE)
        return outcome

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        items = [item for item in session.items if self._context.key_of(item)]
        if not items or not self._context.begun:
            return (yield)
        with self._context.causes.named():
            self._begin(items)
            outcome = yield
            self._context.check_alive(answers=True)
        return outcome

    def _begin(self, items: list[pytest.Item]) -> None:
        """Wait for the services, and prepare this process for measuring."""
        self._context.wait_ready(items)
        if not self._untimed:
            memory = self._config.option.perf_memory or self._context.profile_name == "full"
            self._recorder.counter = Counter(self._context.services, memory=memory)
            self._context.at_stop.callback(self._recorder.counter.close)
        services = self._context.services
        lock = self._context.lock = CoreLock.acquire("off" if self._untimed else self._context.settings.pin)
        lock.move(services.running())
        cores = {one.name: pinned_core(one.pids()) if one.own else None for one in services.running()}
        not_pinned = [f"not pinned to one core: {lock.why}"] if lock.core is None else []
        self._recorder.service_lines = service_lines(services.running(), services.skipped, cores) + not_pinned
        table = service_table(services.running(), services.skipped) if self._config.option.perf_table else []
        lines = [*(table or self._recorder.service_lines), *[what_runs(items)] * bool(self._output)]
        if not self._config.option.perf_again:
            self._context.say([*services.notices, *lines])
        gc.collect()
        gc.freeze()  # makes later collections fast: before measurements, and the last one, which would take 0.5 s

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Limit each attempt of a test: other plugins may run it again."""
        if limit_s := self._limits_s.get(nodeid):
            faulthandler.dump_traceback_later(limit_s * 2 + 30, exit=True, file=self._stderr)

    def pytest_runtest_logfinish(self) -> None:
        faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        faulthandler.cancel_dump_traceback_later()
        if not self._output and not self._context.begun:
            return
        results = self._recorder.results(self._collected_files, self._deselected)
        self._results = replace(results, shard=self._shard)
        if self._output:
            try:
                write_results(Path(self._output), redacted(self._results, self._context.scrub))
            except ResultsError as error:  # the caller reports that nothing arrived
                self._context.say(["", str(error)])
                session.exitstatus = EXIT_INVALID
        elif any(map(broken, self._recorder.benchmarks)):
            session.exitstatus = session.exitstatus or EXIT_REGRESSION

    def _held(self, by: str) -> None:
        """Write the results again with a note about what keeps this process from ending."""
        if self._output and self._results is not None:
            results = replace(self._results, notes=[*self._results.notes, by])
            write_results(Path(self._output), redacted(results, self._context.scrub))

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        if self._untimed and self._recorder.tests:
            terminalreporter.write_line(f"each benchmark ran once and untimed, because pytest runs {self._untimed}")
        results, settings, baselines = self._results, self._context.settings, self._context.suite / "baselines"
        if self._output or results is None or not results.benchmarks:
            return
        try:
            found = find_baseline(baselines, results.environment)
            timings = check_baseline(results, found, settings.gate, settings.benchmarks)
            counts = check_counts(results, find_counts(baselines, results.environment), timings)
            judged = judge_benchmarks(results, Evidence(timings=timings, counts=counts), settings.gate)
            results = replace(results, benchmarks=judged)
        except ResultsError as error:
            terminalreporter.write_line(str(error))
        # Here, because runs that a command starts do without, and rich takes long to import.
        from rich.console import Console

        from plumbline.reporting.terminal import render_table

        render_table(results, Console(file=sys.stdout))
        if over := [benchmark.key for benchmark in results.benchmarks if broken(benchmark)]:
            terminalreporter.write_line(f"failed because of broken budgets: {', '.join(over)}", red=True, bold=True)


class Recorder:
    """Starts the measurements of the tests and records their results. A pytest plugin."""

    def __init__(self, context: RunContext, untimed: str) -> None:
        self.benchmarks: list[Benchmark] = []
        self.tests: list[TestOutcome] = []
        self.service_lines: list[str] = []
        self.counter: Counter | None = None
        self._context = context
        self._untimed = untimed  # why timings are meaningless in this process, or ""
        self._disturbances: Disturbances | None = None
        self._app_elsewhere: list[str] = []
        self._called = ""  # the node id of the last test that has finished
        self._service_off: set[str] = set()
        self._service_missing: set[str] = set()
        self._tries = Tally[str]()  # attempts by key: another plugin may repeat a failed test

    def start_measure(self, item: pytest.Item) -> Measure:
        """Return a `measure` for a test. It measures again if a budget was broken or the machine was disturbed."""
        if self._untimed:
            return Measure(self._context.profile, untimed_rounds=1)
        key = self._context.key_of(item)
        self._tries[key] += 1
        self.benchmarks[:] = [benchmark for benchmark in self.benchmarks if benchmark.key != key]
        self._disturbances = self._disturbances or Disturbances()
        disturbed = self._disturbances.watch()

        def retry(summary: Summary, budget: Budget | None) -> str:
            budget = budget or self._budget(key)
            over = [result.name for result in check_budget(budget, summary) if not result.kept] if budget else []
            return disturbed(summary) or (f"its budget was broken ({', '.join(over)})" if over else "")

        return Measure(self._context.profile, retry, self._count if self.counter else None)

    def _count(self, operations: int, left: Callable[[], None]) -> Generator[Round, None, Counts]:
        """Run the counting pass. Nothing is timed, so the connections can be watched meanwhile."""
        assert self.counter is not None
        with self._context.services.watched():
            return (yield from self.counter.rounds(operations, left))

    def results(self, collected_files: Collection[str], deselected: Collection[str]) -> Results:
        """Return the results of the run, without verdicts."""
        context = self._context
        services = context.services if context.begun else None
        running = services.running() if services else []
        return Results(
            schema=SCHEMA,
            verdict=None,
            environment=describe_environment(
                context.root,
                machine=context.settings.machine,
                services={service.name: service.backend for service in running},
                versions={service.name: service.version for service in running if service.version},
                pin=self._context.lock.pinned,
            ),
            benchmarks=self.benchmarks,
            profile=context.profile_name,
            project=project_name(context.root),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            exit_code=context.exit_code,
            reasons=context.reasons,
            notes=[
                *(services.notices if services else []),
                *(self.counter.notes if self.counter else []),
                *(self._disturbances.notes if self._disturbances else []),
            ],
            collected_files=sorted(collected_files),
            deselected=sorted(deselected),
            app_elsewhere=sorted(self._app_elsewhere),
            tests=self.tests,
            service_lines=self.service_lines,
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            self._called = item.nodeid

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        # Fixtures with a wider scope raise the same exception again.
        if call.excinfo and any(call.excinfo.value is skip for skip in self._context.off_skips):
            self._service_off.add(self._context.key_of(item))
        if call.excinfo and any(call.excinfo.value is skip for skip in self._context.missing_skips):
            self._service_missing.add(self._context.key_of(item))
        measure = getattr(item, "funcargs", {}).get("measure")
        has_passed = report.when == "call" and report.passed and not self._untimed and self._context.key_of(item)
        has_ended = self._called == item.nodeid  # subtests are reported before the test has ended
        if has_passed and has_ended and isinstance(measure, Measure) and isinstance(item, pytest.Function):
            try:
                benchmark = self._benchmark(item, measure)
                # An invalid value would make the whole file of results unwritable.
                msgspec.convert(rounded(msgspec.to_builtins(benchmark), digits=5), Benchmark)
                self.benchmarks.append(benchmark)
            except Exception as error:  # fails this benchmark, but not the run
                is_misuse = isinstance(error, MeasureError)
                report.longrepr = str(error) if is_misuse else f"it could not be recorded: {describe(error)}"
                report.outcome = "failed"
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        key = self._context.keys.get(report.nodeid)
        if key is None or (report.when != "call" and report.passed) or str(report.outcome) == "rerun":
            return
        outcome, message = outcome_of(report)
        if output := output_in(report):
            message = f"{message}\n\n{output}"
        is_benchmark = any(benchmark.key == key for benchmark in self.benchmarks)
        self.tests[:] = [test for test in self.tests if test.key != key or test.outcome != "passed"]
        line = 0 if report.location[1] is None else report.location[1] + 1
        off, missing = key in self._service_off, key in self._service_missing
        self.tests.append(TestOutcome(key, outcome, report.duration, message, is_benchmark, off, line, missing))

    def _benchmark(self, item: pytest.Function, measure: Measure) -> Benchmark:
        if not measure.operations:
            raise MeasureError("this test asked for the fixture `measure` and never called it")
        if measure.summary is None:
            raise MeasureError("the loop over measure() was left before its end: nothing was measured")
        key, source, summary = self._context.key_of(item), item.stash[_SOURCE], measure.summary
        if "app" in self._context.settings.external_urls and "api_url" in item.fixturenames:
            self._app_elsewhere.append(key)
        tries = [f"passed only on attempt {self._tries[key]}"] if self._tries[key] > 1 else []
        budget = measure.budget or self._budget(key)
        return Benchmark(
            key=key,
            unit="s",
            verdict=None,
            median=summary.median_s,
            counts=measure.counts.same,
            counts_varying=measure.counts.varying,
            counted=measure.counts.families,
            unread=measure.counts.unread,
            count_sites=measure.counts.sites,
            plans=measure.counts.plans,
            loop_hold=measure.counts.loop_hold,
            mean=summary.mean_s,
            p95=summary.p95_s,
            p99=summary.p99_s,
            minimum=summary.minimum_s,
            maximum=summary.maximum_s,
            rate_per_s=summary.rate_per_s,
            operations=measure.operations,
            operation=measure.operation,
            samples=len(summary.samples_s),
            samples_s=list(summary.samples_s),
            process_medians=[summary.median_s],
            pin=self._context.lock.pinned,
            machine_speed_s=self._disturbances.machine_speed_s if self._disturbances else 0.0,
            source_hash=source.hash,
            renamed_from=measure.renamed_from,
            description=source.description,
            line=item.location[1] or 0,
            source=source.text,
            budgets=check_budget(budget, summary) + check_loop_hold(budget, measure.counts.loop_hold) if budget else [],
            warnings=tries + warnings_of(summary, measure.operations, measure.retried),
        )

    def _budget(self, key: str) -> Budget | None:
        budgets = self._context.settings.budgets
        return budgets.get(key) or budgets.get(key.partition("[")[0])
