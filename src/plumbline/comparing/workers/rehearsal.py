"""The rehearsal: both workers run once without measuring, to see which benchmarks the change can affect."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline.comparing.statistics.controls import CONTROLS
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.comparing.trees.affected import PREPARE, Changed, affected, changed_paths, may_make, open_traces
from plumbline.comparing.trees.at_start.sitecustomize import TESTS
from plumbline.comparing.trees.sides import Sides, foreign
from plumbline.comparing.workers.pair_workers import PairWorkers
from plumbline.comparing.workers.process import pytest_configuration
from plumbline.comparing.workers.protocol import Order
from plumbline.settings import Settings


@dataclass(frozen=True)
class _Traces:
    """What the processes of both sides have read, into a folder for each, and what has changed, if that is known.

    `configuration`: head's, of pytest. Both sides use it, so that it is no difference between their tests.
    """

    folder: Path
    changed: Mapping[str, Changed | None]
    configuration: Path | None

    def affected(self, processes: Sequence[str]) -> set[str] | None:
        """Return the benchmarks that the change affects in the tests or in these processes; None for all."""
        found: set[str] = set()
        for side, paths in self.changed.items():
            if paths is None:
                return None
            of_tests = {path: functions for path, functions in paths.items() if path != self.configuration}
            for names, differing in ([TESTS], of_tests), (processes, paths):
                keys = affected(names, self.folder / side, differing)
                if keys is None:
                    return None
                found |= keys
        return found

    def may_make(self, processes: Sequence[str]) -> bool:
        """Return whether changed functions may make something that stays, if they do not affect all benchmarks."""
        names = [TESTS, *processes]
        makes = any(may_make(names, self.folder / side, paths or {}) for side, paths in self.changed.items())
        return makes and self.affected(processes) is not None


def rehearse(workers: PairWorkers, settings: Settings, sides: Sides, plans: Sequence[BenchmarkPlan]) -> frozenset[str]:
    """Prepare the databases, check where both sides import from, and return the keys of the unaffected benchmarks.

    If the change may affect only some benchmarks, each one runs to see whether it does: twice if functions decide that.
    `plans` include the controls. Raises ComparisonInvalid.
    """
    # Processes beside the tests': those that each benchmark depends on, and those behind a served application.
    always = [PREPARE] if settings.prepare else []
    serving = [*always, *(["app"] if settings.app else []), *settings.processes]
    with tempfile.TemporaryDirectory(prefix="perf-reads-") as name:
        traces = _Traces(Path(name), changed_paths(sides), pytest_configuration(sides.head.root))
        for side, paths in traces.changed.items():
            open_traces(traces.folder / side, paths or {})
        with workers.running(plans, traces=traces.folder) as (pair, _):
            base, head = (worker.collected for worker in pair.both)
            for worker in pair.both:
                if strange := foreign(worker.collected.origins, worker.side.tree):
                    where = f"{worker.side.name} imports from outside its own tree"
                    raise ComparisonInvalid(f"{where}: {', '.join(strange)}")
            keys = {plan.key for plan in plans} - CONTROLS.keys()
            rehearsed = [key for key in base.keys if key in keys and not pair.why_missing(key)]
            served = {*base.served}.intersection(head.served)
            if not sides.differ or traces.affected(always) is None:
                rehearsed = []
            twice = traces.may_make(always), traces.may_make(serving)
            again = [key for key in rehearsed if twice[key in served]]
            # pytest leaves set up what the next test needs, so no test may follow itself.
            order = [*rehearsed, next(iter(CONTROLS)), *again] if again else rehearsed
            for worker in pair.both:
                worker.send(Order(order))
            failed = {key for key in order for worker in pair.both if worker.end()}
            for worker in pair.both:
                worker.leave(worker.start_limit_s)
        workers.keep_prepared()
        passed = {*rehearsed} - failed
        unaffected: set[str] = set()
        for processes, keys in (always, passed - served), (serving, passed & served):
            if keys and (found := traces.affected(processes)) is not None:
                unaffected |= keys - found
        return frozenset(unaffected)
