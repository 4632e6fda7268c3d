"""The paired comparison: two workers, base and head, measure the same benchmarks in turn on one core.

A pair is two fresh processes, each with the application served from its own tree and a database of its own. Within a
pair, each benchmark is measured in alternating blocks, so that each block begins with the caches that the other side
has left. Which side begins is drawn at random, so that a drift of the machine cancels over the pairs. Before the first
pair, a rehearsal finds the benchmarks that the change can affect.
"""

import contextlib
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from plumbline.comparing.statistics.inference import ComparisonInvalid, block_differences, figure
from plumbline.comparing.statistics.plan import CONTROLS, MOST_BLOCKS, BenchmarkPlan, Pair, controls
from plumbline.comparing.statistics.schedule import PairedComparison, conduct
from plumbline.comparing.trees.affected import PREPARE, Changed, affected, changed_paths, may_make, open_traces
from plumbline.comparing.trees.at_start.sitecustomize import TESTS
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.sides import Sides, foreign
from plumbline.comparing.workers.pair_servers import pair_servers
from plumbline.comparing.workers.pair_workers import PairWorkers, Plans
from plumbline.comparing.workers.process import WorkerProcess, pytest_configuration
from plumbline.comparing.workers.profiles import slower_functions
from plumbline.comparing.workers.protocol import Order
from plumbline.measuring.cpu_affinity import CoreLock, rest_s
from plumbline.results.schema import FunctionTime
from plumbline.settings import Settings

# Of the benchmarks that got slower, this many, the worst first, are profiled for as long as this, without the profiler.
MOST_PROFILED, PROFILED_S = 20, 0.5
# Shorter rests between turns are put together: other processes change the caches in each.
LEAST_REST_S = 0.02

Say = Callable[[str], None]
Progress = Callable[[], AbstractContextManager[Say]]


def compare(
    settings: Settings,
    sides: Sides,
    plans: Plans,
    *,
    budget_s: float,
    profile: str = "ci",
    backends: Mapping[str, str] = {},
    say: Say = lambda _: None,
    progress: Progress = lambda: contextlib.nullcontext(lambda _: None),
) -> PairedComparison:
    """Compare the affected benchmarks until each one fails or passes, or until `budget_s` is over.

    `profile`: of settings.toml. `backends`: by server, the one to prefer where the settings leave it open. `say` gets
    lines for the reader, and `progress` opens what shows how far the comparison is. Raises ComparisonInvalid, and
    NoBase if the base can't be run.
    """
    say(f"  {len(plans)} benchmarks, in pairs of fresh processes, for up to {budget_s:g} s")
    began_s = time.monotonic()
    numbers = itertools.count(1)
    with progress() as on_pair, pair_runner(settings, sides, plans, profile, backends) as runner:

        def run_pair(chosen: Plans, then: Plans = ()) -> Pair:
            left_s = max(began_s + budget_s - time.monotonic(), 0.0)
            on_pair(f"  pair {next(numbers)}: {len(chosen)} benchmarks still open, at most {left_s:.0f} s left")
            return runner.run_pair(chosen, then)

        plans = [plan for plan in plans if plan.key not in runner.unaffected]
        found = PairedComparison()
        if plans:
            found = conduct(plans, run_pair, budget_s=budget_s, clock=lambda: time.monotonic() - began_s)
        changes = {key: one.change for key, one in found.judgements.items() if one.verdict == "regression"}
        slower = sorted((plan for plan in plans if plan.key in changes), key=lambda plan: -changes[plan.key])
        functions = runner.slower_functions(slower[:MOST_PROFILED])
        found = replace(found, unaffected=runner.unaffected, functions=functions)
    if found.unaffected:
        say(f"  {len(found.unaffected)} of them execute nothing that differs")
    if found.pairs:
        say(f"  {found.pairs} pairs in {found.elapsed_s:.0f} s")
    return found


@contextlib.contextmanager
def pair_runner(
    settings: Settings, sides: Sides, plans: Plans, profile: str, backends: Mapping[str, str] = {}
) -> Iterator["PairRunner"]:
    """Start what both sides share, rehearse, and return what runs pairs; raises as `compare`."""
    with contextlib.ExitStack() as stack:
        core = CoreLock.acquire(settings.pin)
        stack.callback(core.release)
        services = stack.enter_context(pair_servers(settings, sides.head.root, core.core, backends))
        workers = stack.enter_context(PairWorkers(settings, sides, services, core.core, profile))
        try:
            unaffected = _rehearse(workers, settings, sides, [*controls(plans[0].thresholds), *plans])
        except ComparisonInvalid as error:
            if error.side == "base":
                raise NoBase(f"the base can't be run: {error}") from None
            raise
        yield PairRunner(workers, sides, unaffected)


class PairRunner:
    """Runs pairs of fresh processes."""

    def __init__(self, workers: PairWorkers, sides: Sides, unaffected: set[str]) -> None:
        self.unaffected = unaffected
        self._workers = workers
        self._sides = sides
        self._rng = random.Random()

    def run_pair(self, chosen: Plans, then: Plans = ()) -> Pair:
        """Run one pair with the controls, and start the next one meanwhile, for `then`; raises ComparisonInvalid."""
        then = [*controls(then[0].thresholds), *then] if then else []
        return self._measure([*controls(chosen[0].thresholds), *chosen], then)

    def slower_functions(self, plans: Plans) -> dict[str, list[FunctionTime]]:
        """Run one more pair under a profiler; return by key what got slower, nothing if that pair fails."""
        if not plans:
            return {}
        short = [plan.within(PROFILED_S, MOST_BLOCKS) for plan in plans]
        with tempfile.TemporaryDirectory(prefix="perf-profile-") as name:
            with contextlib.suppress(ComparisonInvalid):
                self._measure(short, profiles=Path(name))
                self._workers.settle()
            sides = (self._sides.base, self._sides.head)
            folders = {side.name: Path(name, side.name) for side in sides}
            trees = {side.name: side.tree for side in sides}
            return {plan.key: slower_functions(plan.key, folders, trees) for plan in plans}

    def _measure(self, chosen: Plans, then: Plans = (), profiles: Path | None = None) -> Pair:
        differences: dict[str, list[float]] = {}
        samples_s: dict[str, tuple[list[float], list[float]]] = {}
        with self._workers.running(chosen, profiles=profiles) as (pair, idle_s):
            failures: dict[str, str] = {}
            for plan in chosen:
                if why := pair.named(worker.collected.why_missing(plan.key) for worker in pair.both):
                    failures[plan.key] = why
            collected = [plan for plan in chosen if plan.key not in failures]
            for worker in pair.both:
                worker.send(Order([plan.key for plan in collected]))
            if then:
                self._workers.start_ahead(then)
            for plan in collected:
                turns = _in_turns(pair.both, plan, head_first=self._rng.random() >= 0.5)
                if why := pair.named([worker.end() for worker in pair.both]):
                    failures[plan.key] = why
                elif turns is not None:
                    differences[plan.key], samples_s[plan.key] = turns
                else:
                    failures[plan.key] = "too short for the clock: it measured 0"
        return Pair(differences, failures, samples_s, idle_s)


def _rehearse(workers: PairWorkers, settings: Settings, sides: Sides, plans: Plans) -> set[str]:
    """Prepare the databases, check where both sides import from, and return the keys of the unaffected benchmarks.

    Both workers run once without measuring. If the change may affect only some benchmarks, each one runs to see whether
    it does: twice if functions decide that. `plans` include the controls.
    """
    # Processes beside the tests': those that each benchmark depends on, and those behind a served application.
    always = [PREPARE] if settings.prepare else []
    serving = [*always, *(["app"] if settings.app else []), *settings.processes]
    changed = changed_paths(sides)
    with tempfile.TemporaryDirectory(prefix="perf-reads-") as name:
        folder = Path(name)
        for side, paths in changed.items():
            open_traces(folder / side, paths or {})
        with workers.running(plans, traces=folder) as (pair, _):
            for worker in pair.both:
                if strange := foreign(worker.collected.origins, worker.side.tree):
                    where = f"{worker.side.name} imports from outside its own tree"
                    raise ComparisonInvalid(f"{where}: {', '.join(strange)}")
            base, head = (worker.collected for worker in pair.both)
            keys = {plan.key for plan in plans}.intersection(base.keys, head.keys) - CONTROLS.keys()
            served = keys.intersection(base.served, head.served)
            rehearsed, again = set[str](), set[str]()
            for names, users in (always, keys - served), (serving, served):
                if sides.differ and _affected(names, sides, folder, changed) is not None:
                    rehearsed |= users
                    if any(may_make([TESTS, *names], folder / one, paths or {}) for one, paths in changed.items()):
                        again |= users
            order = [key for key in base.keys if key in rehearsed]
            if again:  # pytest leaves set up what the next test needs, so no test may follow itself
                order += [next(iter(CONTROLS)), *(key for key in order if key in again)]
            for worker in pair.both:
                worker.send(Order(order))
            failed = {key for key in order for worker in pair.both if worker.end()}
            for worker in pair.both:
                worker.leave(worker.start_limit_s)
        workers.keep_prepared()
        unaffected = set[str]()
        for names, users in (always, keys - served), (serving, served):
            if (found := _affected(names, sides, folder, changed)) is not None:
                unaffected |= (users & rehearsed) - failed - found
        return unaffected


def _affected(
    processes: Sequence[str], sides: Sides, folder: Path, changed: Mapping[str, Changed | None]
) -> set[str] | None:
    """Return the benchmarks that the change affects in the tests or in these processes, by their traces; None for all.

    Both sides use head's configuration of pytest, so that it is no difference between their tests.
    """
    configuration = pytest_configuration(sides.head.root)
    found = set[str]()
    for side, paths in changed.items():
        if paths is None:
            return None
        of_tests = {path: functions for path, functions in paths.items() if path != configuration}
        for names, differing in ([TESTS], of_tests), (processes, paths):
            keys = affected(names, folder / side, differing)
            if keys is None:
                return None
            found |= keys
    return found


def _in_turns(
    workers: Sequence[WorkerProcess], plan: BenchmarkPlan, *, head_first: bool
) -> tuple[list[float], tuple[list[float], list[float]]] | None:
    """Measure one benchmark in alternating blocks.

    Returns by how much head was slower, for each two neighbouring blocks, and the samples of base and of head, in
    seconds per operation; None if either side skips or fails it, or if a block measured 0.
    """
    begun = [worker.begins(plan.key) for worker in workers]
    if not all(begun) or not all(worker.block(plan.warm_up) for worker in workers):
        return None
    order = [*reversed(workers)] if head_first else workers
    figures: dict[WorkerProcess, list[float]] = {worker: [] for worker in workers}
    samples_s: dict[WorkerProcess, list[float]] = {worker: [] for worker in workers}
    began_s = time.monotonic()
    for _ in range(plan.blocks):
        for worker in order:
            block = worker.block(plan.samples)
            if not block:
                return None
            figures[worker].append(figure(block))
            samples_s[worker] += block
        if (due_s := rest_s(time.monotonic() - began_s)) > LEAST_REST_S:
            time.sleep(due_s)
            began_s = time.monotonic()
    time.sleep(rest_s(time.monotonic() - began_s))
    first, second = (figures[worker] for worker in order)
    if not all(first + second):
        return None
    base, head = workers
    return block_differences(first, second, head_first=head_first), (samples_s[base], samples_s[head])
