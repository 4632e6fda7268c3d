"""The timers of a worker: plain ones, those that slow down on purpose, and those that profile."""

import functools
import random
import statistics
import timeit
from collections.abc import Sequence
from pathlib import Path

from plumbline.cache import digest
from plumbline.comparing.statistics.inference import figure
from plumbline.comparing.workers.in_application.plumbline_profiling import (
    PARTS,
    REQUESTS,
    STEPS,
    TIMED,
    Profilers,
    shared_numbers,
    work,
    write_profile,
)
from plumbline.comparing.workers.profiles import profile_of_application
from plumbline.comparing.workers.protocol import Start
from plumbline.measuring.clock import Clock
from plumbline.measuring.loop import MeasureError, Timer

STEP_REPEATS, STEPS_AT_ONCE = 3, 1_000


class WorkerTimer(Timer):
    """A timer with hooks for the end of a block and of the benchmark."""

    def end_block(self, samples_s: Sequence[float]) -> None:
        """Called after each block, with its samples in seconds."""

    def end(self) -> None:
        """Called after the last block."""


def timer_of(start: Start, key: str, samples_s: list[float], operations: int) -> WorkerTimer:
    folder = Path(start.folder)
    if start.profiles:
        return ProfilingTimer(key, samples_s, operations, folder)
    share, process, calls = start.slow_down.get(key, (0.0, "block", 1.0))
    if process == "application":
        return SlowedApplicationTimer(samples_s, share, folder)
    return SlowedTimer(samples_s, share, calls) if process == "block" and share else WorkerTimer(samples_s)


class SlowedTimer(WorkerTimer):
    """Makes samples longer by a share of themselves: all, or a random share of them."""

    def __init__(self, samples_s: list[float], share: float, calls: float = 1.0) -> None:
        start, clock, draw = 0.0, Clock.read, random.Random().random

        def enter() -> None:
            nonlocal start
            start = clock()

        def leave(_kind: object, _error: object, _traceback: object) -> None:
            end = until = clock()
            until += (end - start) * share * (draw() < calls)
            while end < until:
                end = clock()
            samples_s.append(end - start)

        self.__enter__ = enter  # type: ignore[method-assign]
        self.__exit__ = leave  # type: ignore[method-assign]


class _SharedTimer(WorkerTimer):
    """A timer that shows the application, in shared memory, when a block is timed."""

    def __init__(self, samples_s: list[float], folder: Path) -> None:
        super().__init__(samples_s)
        self._shared = shared_numbers(folder)
        self._start_clock, self._stop_clock = self.__enter__, self.__exit__
        self.__enter__ = self._enter  # type: ignore[method-assign]
        self.__exit__ = self._leave  # type: ignore[method-assign]

    def _enter(self) -> None:
        self._shared[TIMED] = 1
        self._start_clock()

    def _leave(self, kind: object, error: object, traceback: object) -> None:
        self._stop_clock(kind, error, traceback)
        self._shared[TIMED] = 0


class SlowedApplicationTimer(_SharedTimer):
    """Makes the application slower during timed blocks, by a share of their time without the slow-down."""

    def __init__(self, samples_s: list[float], share: float, folder: Path) -> None:
        super().__init__(samples_s, folder)
        self._share = share
        self._steps_without: list[float] = []
        self._shared[STEPS] = self._shared[REQUESTS] = 0

    def end_block(self, samples_s: Sequence[float]) -> None:
        """Set the work for each request of the next block. Raises MeasureError if the application got no request."""
        requests = self._shared[REQUESTS] / len(samples_s)
        self._shared[REQUESTS] = 0
        if not requests:
            raise MeasureError("the application can't slow this down: it got no request while a block was timed")
        # Summarise the block as the comparison does, and convert it to steps of work at the current machine speed.
        self._steps_without.append(figure(samples_s) / step_now_s() - requests * self._shared[STEPS])
        self._shared[STEPS] = self._share * statistics.median(self._steps_without) / requests


def step_now_s() -> float:
    """Return the current duration of a step of `work`, in seconds."""
    times_s = timeit.repeat(lambda: work(STEPS_AT_ONCE), timer=Clock.read, number=1, repeat=STEP_REPEATS)
    return statistics.median(times_s) / STEPS_AT_ONCE


_profilers = functools.cache(Profilers)


class ProfilingTimer(_SharedTimer):
    """Profiles each timed block, in this process and in the application."""

    def __init__(self, key: str, samples_s: list[float], operations: int, folder: Path) -> None:
        super().__init__(samples_s, folder)
        self._key = key
        self._folder = folder
        self._operations = operations
        self._samples = 0
        self._samples_s = samples_s
        self._timed_s = [0.0] * PARTS
        self._profilers = _profilers()
        self._profilers.take()  # discard the profiles of a benchmark that failed

    def _enter(self) -> None:
        super()._enter()
        self._profilers.start(self._samples % PARTS)

    def _leave(self, kind: object, error: object, traceback: object) -> None:
        self._profilers.stop()
        super()._leave(kind, error, traceback)
        self._timed_s[self._samples % PARTS] += self._samples_s[-1]
        self._samples += 1

    def end(self) -> None:
        """Write the profile of this process and the one of the application, from all its processes."""
        own = self._folder / digest(self._key)
        own.mkdir()
        operations = [len(range(part, self._samples, PARTS)) * self._operations for part in range(PARTS)]
        write_profile(own / "test.json", self._profilers, operations, self._timed_s)
        if found := profile_of_application(self._folder):
            (own / "app.json").write_bytes(found)
