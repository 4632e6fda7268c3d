"""The workers of each pair: started, if possible while the last pair is measured, and seen to end."""

import contextlib
import os
import random
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.comparing.trees.sides import Sides
from plumbline.comparing.workers.pair_servers import ROUNDS, Databases
from plumbline.comparing.workers.process import LEAVE_LIMIT_S, WorkerProcess, worker_command, worker_environment
from plumbline.comparing.workers.protocol import Start
from plumbline.services import Services
from plumbline.settings import Settings

Plans = Sequence[BenchmarkPlan]


@dataclass(frozen=True)
class WorkerPair:
    """Both workers of a pair."""

    both: list[WorkerProcess]  # base, then head
    plans: Plans
    round: int

    def serves(self, plans: Plans) -> bool:
        """Return whether the workers were started for these benchmarks, and perhaps for more."""
        known, wanted = ({(one.key, one.slow_down, one.slowed_in) for one in some} for some in (self.plans, plans))
        return known >= wanted

    def named(self, problems: Iterable[str]) -> str:
        """Return the problems of base and of head as one, "" if neither has one."""
        named = zip(self.both, problems, strict=True)
        return "; ".join(f"in {worker.side.name}: {problem}" for worker, problem in named if problem)

    def end(self, *, patient: bool) -> None:
        """Wait until both workers have ended, if `patient`; kill those that have not. Raises ComparisonInvalid."""
        with contextlib.ExitStack() as stack:
            for worker in self.both:
                stack.callback(worker.close)
            for worker in self.both if patient else ():
                worker.leave(LEAVE_LIMIT_S)


class PairWorkers(contextlib.AbstractContextManager["PairWorkers"]):
    """Starts and ends the workers of all pairs of one comparison."""

    def __init__(self, settings: Settings, sides: Sides, services: Services, core: int | None, profile: str) -> None:
        """`services`: shared by both sides; `core`: the one to measure on, if any; `profile`: of settings.toml."""
        self._sides = sides
        self._services = services
        self._databases = Databases(services)
        self._core = core
        self._profile = profile
        # How long a worker may take to start what it needs, once its tests are imported.
        processes = [process for process in (settings.app, *settings.processes.values()) if process]
        self._start_limit_s = max([process.ready_limit_s for process in processes], default=0.0)
        if settings.prepare and processes:
            self._start_limit_s += settings.ready_limit_s
        self._rng = random.Random()
        self._count = 0
        self._leaving: list[WorkerPair] = []
        self._ahead: WorkerPair | None = None

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._dismiss_ahead()
            self.settle(patient=kind is None)
        finally:
            self.settle(patient=False)

    @contextlib.contextmanager
    def running(
        self, plans: Plans, *, traces: Path | None = None, profiles: Path | None = None
    ) -> Iterator[tuple[WorkerPair, float]]:
        """Start both workers, or take those that were started ahead; they end while the next pair is measured.

        `traces` and `profiles`: folders for traces of what the workers read, in a rehearsal, or for profiles; without,
        the pair is measured. Yields the pair, ready to measure, and how many seconds it was waited for although it had
        been started ahead. Raises ComparisonInvalid.
        """
        started, began_s = self._ahead, time.monotonic()
        if is_ahead := started is not None and not traces and not profiles and started.serves(plans):
            self._ahead = None
            for worker in started.both:
                worker.pin(os.sched_getaffinity(0))  # nothing else is measured any more
        else:
            self._dismiss_ahead()
            started = self._start(plans, (), traces, profiles)
        with contextlib.ExitStack() as stack:
            stack.callback(started.end, patient=False)
            for worker in started.both:
                worker.listen()
            yield started, time.monotonic() - began_s if is_ahead else 0.0
            self._leaving.append(started)
            stack.pop_all()

    def start_ahead(self, plans: Plans) -> None:
        """Start the next pair on the cores that are not measured on, if there are such."""
        if self._core is not None and (others := os.sched_getaffinity(0) - {self._core}):
            self._ahead = self._start(plans, others, None, None)

    def settle(self, *, round_: int | None = None, patient: bool = True) -> None:
        """See the workers of past pairs end, of one round or all; raises ComparisonInvalid if one does not."""
        for started in [one for one in self._leaving if round_ in (one.round, None)]:
            self._leaving.remove(started)
            started.end(patient=patient)

    def keep_prepared(self) -> None:
        """Have all pairs from now on begin with the databases as the last pair has left them."""
        self.settle()
        self._databases.keep_prepared(self._count % ROUNDS)

    def _dismiss_ahead(self) -> None:
        started, self._ahead = self._ahead, None
        if started is not None:
            for worker in started.both:
                worker.dismiss()
            started.end(patient=False)

    def _start(self, plans: Plans, cores: Collection[int], traces: Path | None, profiles: Path | None) -> WorkerPair:
        self._count += 1
        round_ = self._count % ROUNDS
        self.settle(round_=round_)
        hash_seed = self._rng.randrange(1, 2**32)
        with contextlib.ExitStack() as stack:
            workers = []
            for side in (self._sides.base, self._sides.head):
                command = worker_command(side, self._sides.head.root, plans, self._profile)
                environ = worker_environment(side, self._sides, hash_seed, traces)
                worker = WorkerProcess(side, command, environ, self._services.scrub, self._start_limit_s)
                stack.callback(worker.close)
                if cores:
                    worker.pin(cores)
                workers.append(worker)
            # While they import: they start nothing before the first message.
            self._databases.make(round_)
            slowed = [plan for plan in plans if plan.slow_down]
            for worker in workers:
                name = worker.side.name
                servers = self._databases.addresses(name, round_, prepared=traces is not None)
                folder = (profiles or self._services.directory / f"pair-{self._count}") / name
                folder.mkdir(parents=True)
                start = Start(
                    keys=[plan.key for plan in plans],
                    servers=servers,
                    prefix=f"perf:{name}:" if "redis" in servers else "",
                    core=None if traces else self._core,
                    prepare=traces is not None or "postgres" not in servers,
                    rehearses=traces is not None,
                    modules=self._sides.modules,
                    slow_down={one.key: (one.slow_down * (name == "head"), one.slowed_in) for one in slowed},
                    folder=str(folder),
                    profiles=profiles is not None,
                )
                worker.send(start)
            stack.pop_all()
        return WorkerPair(workers, plans, round_)
