"""What an ordinary run of the suite has measured: benchmarks, the outcomes of tests, and the results made of both."""

import datetime
import hashlib
import inspect
import itertools
import textwrap
from collections.abc import Callable, Collection, Generator
from pathlib import Path

import pytest

from plumbline.counting.counter import Counter
from plumbline.judging.decide import check_budget
from plumbline.measuring.context import RunContext, outcome_of
from plumbline.measuring.loop import Measure, MeasureError, warnings_of
from plumbline.measuring.machine_speed import Disturbances
from plumbline.measuring.statistics import Summary
from plumbline.results.environment import describe_environment
from plumbline.results.schema import SCHEMA, Benchmark, Results, TestOutcome
from plumbline.services.errors import describe
from plumbline.settings import Budget


class Recorder:
    """Starts the measurements of the suite's tests, and records what came of them. A pytest plugin."""

    def __init__(self, context: RunContext, untimed: str) -> None:
        self.benchmarks: list[Benchmark] = []
        self.tests: list[TestOutcome] = []
        self.service_lines: list[str] = []
        self.counter: Counter | None = None
        self._context = context
        self._untimed = untimed  # why timings would mean nothing in this process, or ""
        self._disturbances: Disturbances | None = None
        self._app_elsewhere: list[str] = []
        self._service_off: set[str] = set()

    def start_measure(self, item: pytest.Item) -> Measure:
        """Return the `measure` of one test; it measures again if a budget was broken or the machine was disturbed."""
        if self._untimed:
            return Measure(self._context.profile, untimed_rounds=1)
        self._disturbances = self._disturbances or Disturbances()
        disturbed = self._disturbances.watch()

        def retry(summary: Summary, budget: Budget | None) -> str:
            budget = budget or self._budget(self._context.key_of(item))
            over = [result.name for result in check_budget(budget, summary) if not result.kept] if budget else []
            return disturbed(summary) or (f"its budget was broken ({', '.join(over)})" if over else "")

        return Measure(self._context.profile, retry, self.counter.rounds if self.counter else None)

    def results(self, collected_files: Collection[str], deselected: Collection[str]) -> Results:
        """Return the record of the run, which is not judged yet."""
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
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.excinfo and call.excinfo.value in self._context.off_skips:  # a wider fixture raises it again
            self._service_off.add(self._context.key_of(item))
        measure = getattr(item, "funcargs", {}).get("measure")
        is_recorded = report.when == "call" and report.passed and not self._untimed and self._context.key_of(item)
        if is_recorded and isinstance(measure, Measure) and isinstance(item, pytest.Function):
            try:
                self.benchmarks.append(self._benchmark(item, measure))
            except Exception as error:  # it costs this benchmark, not the run
                is_misuse = isinstance(error, MeasureError)
                report.longrepr = str(error) if is_misuse else f"it could not be recorded: {describe(error)}"
                report.outcome = "failed"
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        key = self._context.keys.get(report.nodeid)
        if key is None or (report.when != "call" and report.passed):
            return
        outcome, message = outcome_of(report)
        is_benchmark = any(benchmark.key == key for benchmark in self.benchmarks)
        self.tests[:] = [test for test in self.tests if test.key != key or test.outcome != "passed"]
        service_off = key in self._service_off
        self.tests.append(TestOutcome(key, outcome, report.duration, message, is_benchmark, service_off))

    def _benchmark(self, item: pytest.Function, measure: Measure) -> Benchmark:
        if not measure.operations:
            raise MeasureError("this test asked for the fixture `measure` and never called it")
        if measure.summary is None:
            raise MeasureError("the loop over measure() was left before its end: nothing was measured")
        key, suite, summary = self._context.key_of(item), self._context.suite, measure.summary
        if "app" in self._context.settings.external_urls and "api_url" in item.fixturenames:
            self._app_elsewhere.append(key)
        fixtures = itertools.chain(*item._fixtureinfo.name2fixturedefs.values())
        # The code of the test and of the suite's fixtures that it uses.
        sources = {_source(function, suite) for function in (item.function, *(fixture.func for fixture in fixtures))}
        budget = measure.budget or self._budget(key)
        return Benchmark(
            key=key,
            unit="s",
            verdict=None,
            median=summary.median_s,
            counts=measure.counts.same,
            counts_varying=measure.counts.varying,
            counted=measure.counts.families,
            mean=summary.mean_s,
            p95=summary.p95_s,
            p99=summary.p99_s,
            minimum=summary.minimum_s,
            maximum=summary.maximum_s,
            rate_per_s=summary.rate_per_s,
            operations=measure.operations,
            samples=len(summary.samples_s),
            samples_s=list(summary.samples_s),
            process_medians=[summary.median_s],
            pin=self._context.lock.pinned,
            machine_speed_s=self._disturbances.machine_speed_s if self._disturbances else 0.0,
            source_hash=hashlib.sha256("".join(sorted(sources)).encode()).hexdigest()[:12],
            renamed_from=measure.renamed_from,
            description=(inspect.getdoc(item.function) or "").partition("\n")[0],
            line=item.location[1] or 0,
            source=textwrap.dedent(_source(item.function)),
            budgets=check_budget(budget, summary) if budget else [],
            warnings=warnings_of(summary, measure.operations, measure.retried),
        )

    def _budget(self, key: str) -> Budget | None:
        budgets = self._context.settings.budgets
        return budgets.get(key) or budgets.get(key.partition("[")[0])


def _source(function: Callable[..., object], folder: Path | None = None) -> str:
    """Return the code of a function; "" if it is not below the folder, or if its file has changed during the run."""
    try:
        if folder is None or Path(inspect.getfile(function)).is_relative_to(folder):
            return inspect.getsource(function)
    except (OSError, TypeError, SyntaxError):  # TypeError: a built-in or a callable object
        pass
    return ""
