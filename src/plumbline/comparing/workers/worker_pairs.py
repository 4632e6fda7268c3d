"""Pairs of worker processes: starting both, also ahead of time, and ending them."""

import contextlib
import os
import random
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.comparing.trees.sides import Side, Sides
from plumbline.comparing.workers.pair_servers import PairServers
from plumbline.comparing.workers.process import WorkerProcess, worker_command, worker_environment
from plumbline.comparing.workers.protocol import Start
from plumbline.settings import Settings

Plans = Sequence[BenchmarkPlan]


@dataclass(frozen=True)
class Purpose:
    """The purpose of a pair that does not measure times."""

    traces: Path | None = None  # the folder for the traces of a rehearsal
    profiles: Path | None = None  # the folder for profiles
    counts: bool = False
    head_only: bool = False  # base has no worker


TIMES = Purpose()


@dataclass(frozen=True)
class WorkerPair:
    """Both workers of a pair."""

    both: list[WorkerProcess]  # base, then head; or only head
    plans: Plans
    round: int

    def serves(self, plans: Plans) -> bool:
        """Return whether the workers were started for all of these benchmarks."""
        known, wanted = (
            {(one.key, one.slow_down, one.slowed_in, one.slowed_calls) for one in some} for some in (self.plans, plans)
        )
        return known >= wanted

    def named(self, problems: Iterable[str]) -> str:
        """Return the problems of base and head as one text, "" if there is none."""
        sides = [worker.side for worker in self.both]
        named = [(side, problem.replace(f"{side.tree}/", "")) for side, problem in zip(sides, problems, strict=True)]
        return "; ".join(f"in {side.name}: {problem}" for side, problem in named if problem)

    def end_test(self, *, head_first: bool) -> list[str]:
        """Let a test end in both workers. Return why it did not pass in base and in head, "" if it passed."""
        problems = {worker: worker.end() for worker in (self.both[::-1] if head_first else self.both)}
        return [problems[worker] for worker in self.both]

    def end(self, *, patient: bool) -> None:
        """End both workers. If `patient`, wait until they end by themselves. Raises ComparisonInvalid."""
        with contextlib.ExitStack() as stack:
            for worker in self.both:
                stack.callback(worker.close)
            for worker in self.both if patient else ():
                worker.leave()


class WorkerPairs(contextlib.AbstractContextManager["WorkerPairs"]):
    """Starts the workers of each pair, the next ones ahead of time, and ends those of past pairs."""

    def __init__(self, settings: Settings, sides: Sides, servers: PairServers, core: int | None, profile: str) -> None:
        """`core`: the core that measures. `profile`: the profile of the suite."""
        self.sides = sides
        self._servers = servers
        self._core = core
        self._profile = profile
        # The time in which a worker must start its application, after importing its tests.
        self._start_limit_s = max([one.ready_limit_s for one in settings.code_under_test], default=0.0)
        if settings.prepare and settings.code_under_test:
            self._start_limit_s += settings.prepare_limit_s * len(settings.prepare_commands)
        self._rng = random.Random()
        self._count = 0
        self._leaving: list[WorkerPair] = []
        self._ahead: WorkerPair | None = None

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self.dismiss_ahead()
            self.settle(patient=kind is None)
        finally:
            self.settle(patient=False)

    @property
    def round(self) -> int:
        """The round of servers that the newest pair uses."""
        return self._count % self._servers.rounds

    @contextlib.contextmanager
    def running(self, plans: Plans, purpose: Purpose = TIMES) -> Iterator[tuple[WorkerPair, float]]:
        """Start both workers, or take those that were started ahead. They end while the next pair is measured.

        Yields the pair, and the seconds of waiting for a pair that was started ahead. Raises ComparisonInvalid.
        """
        started, began_s = self._ahead, time.monotonic()
        if is_ahead := started is not None and purpose == TIMES and started.serves(plans):
            self._ahead = None
            for worker in started.both:
                worker.pin(os.sched_getaffinity(0))  # the measurement of the last pair is over
        else:
            self.dismiss_ahead()
            started = self.start(plans, (), purpose)
        with contextlib.ExitStack() as stack:
            stack.callback(started.end, patient=False)
            for worker in reversed(started.both):  # head first: if both fail, report the copy of the working tree
                worker.listen()
            yield started, time.monotonic() - began_s if is_ahead else 0.0
            self._leaving.append(started)
            stack.pop_all()

    def start_ahead(self, plans: Plans) -> None:
        """Start the workers of the next pair on the cores that measure nothing, if there are any."""
        others = os.sched_getaffinity(0) - {self._core} if self._core is not None else ()
        if others and self._servers.rounds > 1:
            self._ahead = self.start(plans, others)

    def dismiss_ahead(self) -> None:
        """End the workers that were started ahead, if there are any."""
        started, self._ahead = self._ahead, None
        if started is not None:
            for worker in started.both:
                worker.dismiss()
            started.end(patient=False)

    def settle(self, *, round_: int | None = None, patient: bool = True) -> None:
        """End the workers of past pairs, of one round or of all. Raises ComparisonInvalid."""
        for started in [one for one in self._leaving if round_ in (one.round, None)]:
            self._leaving.remove(started)
            started.end(patient=patient)

    def start(self, plans: Plans, cores: Collection[int], purpose: Purpose = TIMES) -> WorkerPair:
        """Start the workers of a pair, on these cores if there are any."""
        self._count += 1
        self.settle(round_=self.round)
        hash_seed = self._rng.randrange(1, 2**32)
        with contextlib.ExitStack() as stack:
            workers = []
            sides = [self.sides.head] if purpose.head_only else [self.sides.base, self.sides.head]
            self._rng.shuffle(sides)
            for side in sides:
                command = worker_command(side, self.sides.suite_of, plans, self._profile)
                environ = worker_environment(side, self.sides, hash_seed, purpose.traces)
                worker = WorkerProcess(side, command, environ, self._servers.scrub, self._start_limit_s)
                stack.callback(worker.close)
                if cores:
                    worker.pin(cores)
                workers.append(worker)
            # Meanwhile the workers import. They start nothing before the first message.
            self._servers.make(self.round, [side.name for side in sides])
            for worker in workers:
                worker.send(self._first_message(worker.side, plans, purpose))
            stack.pop_all()
        return WorkerPair(sorted(workers, key=lambda worker: worker.side is self.sides.head), plans, self.round)

    def _first_message(self, side: Side, plans: Plans, purpose: Purpose) -> Start:
        name, rehearses = side.name, purpose.traces is not None
        servers = self._servers.addresses(name, self.round, prepared=rehearses)
        folder = (purpose.profiles or self._servers.directory / f"pair-{self._count}") / name
        folder.mkdir(mode=0o700, parents=True)
        slowed = [plan for plan in plans if plan.slow_down]
        return Start(
            keys=[plan.key for plan in plans],
            servers=servers,
            prefix=f"perf:{name}:" if "redis" in servers else "",
            core=None if rehearses or purpose.counts else self._core,
            prepare=rehearses or self._servers.prepares_each(servers),
            rehearses=rehearses,
            app_python=str(side.app.python) if side.app else "",
            modules=self.sides.modules,
            slow_down={one.key: (one.slow_down * (name == "head"), one.slowed_in, one.slowed_calls) for one in slowed},
            folder=str(folder),
            profiles=purpose.profiles is not None,
            counts=purpose.counts,
        )
