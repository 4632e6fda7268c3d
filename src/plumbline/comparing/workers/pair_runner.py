"""Running pairs: two workers, base and head, measure the same benchmarks alternately on one core.

A pair has two fresh worker processes. Each serves the application from its own tree and uses its own databases. Each
benchmark is measured in alternating blocks. A random side begins, so that a drift of the machine cancels out over
several pairs. Before the first pair, a rehearsal finds the benchmarks that the change can affect.
"""

import contextlib
import itertools
import os
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from plumbline.comparing.statistics.controls import is_control, with_controls
from plumbline.comparing.statistics.inference import ComparisonInvalid, block_differences, figure
from plumbline.comparing.statistics.plan import MOST_BLOCKS, BenchmarkPlan, Pair
from plumbline.comparing.statistics.tails import Reading, tails_of
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.ignored import CopyFailed
from plumbline.comparing.trees.sides import Sides, foreign
from plumbline.comparing.workers.pair_servers import PairServers, pair_servers
from plumbline.comparing.workers.process import WorkerProcess
from plumbline.comparing.workers.profiles import slower_functions
from plumbline.comparing.workers.protocol import Counted, Order
from plumbline.comparing.workers.rehearsal import Rehearsal
from plumbline.comparing.workers.worker_pairs import Plans, Purpose, WorkerPair, WorkerPairs
from plumbline.measuring.cpu_affinity import CoreLock, rest_s
from plumbline.processes import adopt_orphans, end_descendants
from plumbline.results.schema import Counts, FunctionTime
from plumbline.settings import Settings, Tail

PROFILED_S = 0.5  # how long a benchmark runs under a profiler, estimated without the profiler's overhead
LEAST_REST_S = 0.02  # combine shorter rests between blocks, because other processes change the caches in each rest


@contextlib.contextmanager
def pair_runner(
    settings: Settings,
    sides: Sides,
    plans: Plans,
    profile: str,
    backends: Mapping[str, str] = {},
    *,
    whole: bool = False,
) -> Iterator["PairRunner"]:
    """Start the shared servers, rehearse, and yield a PairRunner.

    `backends`: the preferred backend of each server. `whole`: rehearse all benchmarks. Raises ComparisonInvalid, NoBase
    if the base can't be run, or CopyFailed if the copy of the working tree can't be run.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(end_descendants, adopt_orphans())  # the processes that a killed worker left behind
        core = CoreLock.acquire(settings.pin)
        stack.callback(core.release)
        servers = stack.enter_context(pair_servers(settings, sides.suite_of, core.core, backends))
        workers = stack.enter_context(WorkerPairs(settings, sides, servers, core.core, profile))
        runner = PairRunner(workers, servers)
        runner.rehearse(settings, plans, whole=whole)
        yield runner


class CountedPair(NamedTuple):
    """The findings of the pair that counts, by key of the benchmark."""

    counts: dict[str, Sequence[Counts]]  # of base and of head, or only of head
    failures: dict[str, str]  # why a benchmark could not be counted
    notes: list[str]  # about what cannot be counted


class PairRunner:
    """Runs pairs: lets two workers measure alternately."""

    def __init__(self, workers: WorkerPairs, servers: PairServers) -> None:
        self.rehearsal: Rehearsal
        self._workers = workers
        self._servers = servers
        self._rng = random.Random()

    def rehearse(self, settings: Settings, plans: Plans, *, whole: bool = False) -> None:
        """Run both workers once, untimed, to prepare the databases and to find the unaffected benchmarks.

        `whole`: run all benchmarks. Raises ComparisonInvalid, also if head is a commit that can't be run, NoBase if the
        base can't be run, or CopyFailed if the copy of the working tree can't be run.
        """
        with tempfile.TemporaryDirectory(dir=self._servers.directory) as name:
            rehearsal = self.rehearsal = Rehearsal(settings, self._workers.sides, Path(name))
            try:
                with (
                    rehearsal.noting_reads(),
                    self._workers.running(with_controls(plans), Purpose(traces=Path(name))) as (pair, _),
                ):
                    self._run_once(pair, plans, whole=whole)
                self._workers.settle()
            except ComparisonInvalid as error:
                if error.side == "base":
                    raise NoBase(f"the base can't be run: {error}") from None
                if error.side == "head" and not self._workers.sides.working:
                    copy = "the copy of the working tree can't be run, although the working tree can"
                    raise CopyFailed(f"{copy}: {error}\n{rehearsal.advice}") from None
                raise
            self._servers.keep_prepared(self._workers.round)
            rehearsal.conclude()

    def _run_once(self, pair: WorkerPair, plans: Plans, *, whole: bool) -> None:
        for worker in pair.both:
            if strange := ", ".join(foreign(worker.collected.origins, worker.side.tree)):
                raise ComparisonInvalid(f"{worker.side.name} imports from outside its own tree: {strange}")
        base, head = (worker.collected for worker in pair.both)
        order = self.rehearsal.order({plan.key for plan in plans}, base, head, whole=whole)
        for worker in pair.both:
            worker.send(Order(order))
        problems = [(plan.key, self._why_missing(plan.key, pair)) for plan in plans]
        problems += [(key, self._problems(key, pair, [worker.end() for worker in pair.both])) for key in order]
        self.rehearsal.failures = {key: why for key, why in problems if why}
        for worker in pair.both:
            worker.leave(worker.start_limit_s)

    def _why_missing(self, key: str, pair: WorkerPair) -> str:
        return self._problems(key, pair, [worker.collected.why_missing(key) for worker in pair.both])

    def _problems(self, key: str, pair: WorkerPair, problems: Sequence[str]) -> str:
        """Return the problems of base and head with a benchmark as one text, with advice; "" if there is none."""
        why = pair.named(problems)
        if problems[-1]:
            self.rehearsal.failed_in_head.add(key)
            why += f". {self.rehearsal.lacking}" if self.rehearsal.lacking else ""
        return why

    def run_pair(self, chosen: Plans, then: Plans = ()) -> Pair:
        """Run one pair with the controls. Meanwhile start the workers of the next pair, for `then`.

        Raises ComparisonInvalid.
        """
        return self._measure(with_controls(chosen), with_controls(then))

    def count(self, plans: Plans, *, head_only: bool = False) -> CountedPair:
        """Run one pair that counts instead of timing, one worker after the other, so that nobody else uses the servers.

        `head_only`: without a worker of base. Raises ComparisonInvalid.
        """
        found = CountedPair({}, {}, [])
        with self._workers.running(plans, Purpose(counts=True, head_only=head_only)) as (pair, _):
            found.failures.update({plan.key: why for plan in plans if (why := self._why_missing(plan.key, pair))})
            collected = [plan for plan in plans if plan.key not in found.failures]
            for worker in pair.both:
                worker.send(Order([plan.key for plan in collected]))
            for plan in collected:
                counted = _count_one(pair, plan, self._servers)
                problems = pair.named([worker.end() for worker in pair.both])
                if len(counted) == len(pair.both) and not problems:
                    found.counts[plan.key] = [one.counts for one in counted]
                    found.notes.extend(note for one in counted for note in one.notes if note not in found.notes)
                else:
                    found.failures[plan.key] = problems or "the test ended before it was counted"
        return found

    @contextlib.contextmanager
    def head_runs_on(self, python: Path | None) -> Iterator[None]:
        """Run the pairs of a `with` block anew, without workers that were started before, and head on this Python."""
        sides = self._workers.sides
        self._workers.dismiss_ahead()
        if python:
            self._workers.sides = replace(sides, head=replace(sides.head, python=python))
        try:
            yield
        finally:
            self._workers.sides = sides
            self._workers.dismiss_ahead()

    def slower_functions(self, plans: Plans) -> dict[str, list[FunctionTime]]:
        """Run one more pair under a profiler. Return by key the functions that got slower, none if the pair fails."""
        if not plans:
            return {}
        short = [plan.within(PROFILED_S, MOST_BLOCKS) for plan in plans]
        with tempfile.TemporaryDirectory(dir=self._servers.directory) as name:
            with contextlib.suppress(ComparisonInvalid):
                self._measure(short, profiles=Path(name))
                self._workers.settle()
            trees = {"base": self._workers.sides.base.tree, "head": self._workers.sides.head.tree}
            project = os.path.relpath(self._workers.sides.head.root, self._workers.sides.head.tree)
            return {plan.key: slower_functions(plan.key, Path(name), trees, project) for plan in plans}

    def _measure(self, chosen: Plans, then: Plans = (), profiles: Path | None = None) -> Pair:
        differences: dict[str, list[float]] = {}
        samples_s: dict[str, tuple[list[float], list[float]]] = {}
        tails: dict[str, dict[Tail, Reading]] = {}
        with self._workers.running(chosen, Purpose(profiles=profiles)) as (pair, idle_s):
            failures: dict[str, str] = {}
            for plan in chosen:
                if why := self._why_missing(plan.key, pair):
                    failures[plan.key] = why
            collected = [plan for plan in chosen if plan.key not in failures]
            collected = shuffled(collected, self._rng)
            for worker in pair.both:
                worker.send(Order([plan.key for plan in collected]))
            if then:
                self._workers.start_ahead(then)
            for plan in collected:
                turns = _in_turns(pair.both, plan, head_first=self._draw_head_first())
                if why := self._problems(plan.key, pair, pair.end_test(head_first=self._draw_head_first())):
                    failures[plan.key] = why
                elif turns is not None:
                    differences[plan.key], samples_s[plan.key] = turns
                    tails[plan.key] = tails_of(*samples_s[plan.key])
                else:
                    failures[plan.key] = "too short for the clock: it measured 0"
        return Pair(differences, failures, samples_s, tails, idle_s)

    def _draw_head_first(self) -> bool:
        """Draw which side does something first, so that an effect of the order is no difference between the sides."""
        return self._rng.random() >= 0.5


def _count_one(pair: WorkerPair, plan: BenchmarkPlan, servers: PairServers) -> list[Counted]:
    """Count a benchmark in each worker. Return nothing of a side that skips or fails it."""
    begun = [worker.begins(plan.key) for worker in pair.both]
    counted = [
        worker.count(plan.rounds_before_counts, partial(servers.log_of, worker.side.name, pair.round))
        for worker in (pair.both if all(begun) else ())
    ]
    return [one for one in counted if one is not None]


def shuffled(plans: Plans, rng: random.Random) -> list[BenchmarkPlan]:
    """Return the controls, then the benchmarks in random order, but those of one file together: they share fixtures."""
    place = {key.partition("::")[0]: rng.random() for key in sorted({plan.key for plan in plans})}
    drawn = rng.sample(plans, len(plans))
    return sorted(drawn, key=lambda plan: (not is_control(plan.key), place[plan.key.partition("::")[0]]))


def _in_turns(
    workers: Sequence[WorkerProcess], plan: BenchmarkPlan, *, head_first: bool
) -> tuple[list[float], tuple[list[float], list[float]]] | None:
    """Measure one benchmark in alternating blocks.

    Return log(head / base) for each two neighbouring blocks, and the samples of base and of head in seconds per
    operation. Return None if either side skips or fails the benchmark, or if a block measured 0.
    """
    order = [*reversed(workers)] if head_first else workers
    begun = [worker.begins(plan.key) for worker in workers]
    if not all(begun) or not all(worker.block(plan.warm_up) for worker in order):
        return None
    blocks: dict[WorkerProcess, list[list[float]]] = {worker: [] for worker in workers}
    began_s = time.monotonic()
    for _ in range(plan.blocks):
        for worker in order:
            block = worker.block(plan.samples)
            if not block:
                return None
            blocks[worker].append(block)
        if (due_s := rest_s(time.monotonic() - began_s)) > LEAST_REST_S:
            time.sleep(due_s)
            began_s = time.monotonic()
    time.sleep(rest_s(time.monotonic() - began_s))
    first, second = ([figure(block) for block in blocks[worker]] for worker in order)
    if not all(first + second):
        return None
    base_s, head_s = ([*itertools.chain.from_iterable(blocks[worker])] for worker in workers)
    return block_differences(first, second, head_first=head_first), (base_s, head_s)
