"""The timers of a worker: plain, slower on purpose in the block or in the application, or with a profiler."""

import contextlib
import cProfile
import os
import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from plumbline.cache import digest
from plumbline.comparing.statistics.inference import figure
from plumbline.comparing.workers.asgi_wrapper import REQUESTS, STEPS, TIMED, shared_numbers
from plumbline.comparing.workers.profiler import APPLICATION, APPLICATION_PID, PARTS, write_profile
from plumbline.comparing.workers.slowed import work
from plumbline.measuring.loop import MeasureError, Timer

STEP_REPEATS, STEPS_AT_ONCE = 3, 1_000
APPLICATION_LIMIT_S, POLL_S = 2.0, 0.005


class WorkerTimer(Timer):
    """A timer that knows when a block, and when the benchmark, is over."""

    def end_block(self, samples_s: Sequence[float]) -> None:
        """Called after each block with its samples, in seconds."""

    def end(self) -> None:
        """Called after the last block."""


class SlowedTimer(WorkerTimer):
    """Makes each sample longer by a share of itself."""

    def __init__(self, samples_s: list[float], share: float) -> None:
        start = 0.0

        def enter() -> None:
            nonlocal start
            start = perf_counter()

        def leave(_kind: object, _error: object, _traceback: object) -> None:
            end = until = perf_counter()
            until += (end - start) * share
            while end < until:
                end = perf_counter()
            samples_s.append(end - start)

        self.__enter__ = enter  # type: ignore[method-assign]
        self.__exit__ = leave  # type: ignore[method-assign]


class _SharedTimer(WorkerTimer):
    """Lets the application know when a block is timed."""

    def __init__(self, samples_s: list[float], folder: Path) -> None:
        super().__init__(samples_s)
        self._shared = shared = shared_numbers(folder)
        enter_block, leave_block = self.__enter__, self.__exit__

        def enter() -> None:
            shared[TIMED] = 1
            enter_block()

        def leave(kind: object, error: object, traceback: object) -> None:
            leave_block(kind, error, traceback)
            shared[TIMED] = 0

        self.__enter__ = enter  # type: ignore[method-assign]
        self.__exit__ = leave  # type: ignore[method-assign]


class SlowedApplicationTimer(_SharedTimer):
    """Has the application do more work during timed blocks: a share of what the blocks so far took without it.

    Blocks are summarised as the comparison does it, and counted in steps of work, timed just after each block.
    """

    def __init__(self, samples_s: list[float], share: float, folder: Path) -> None:
        super().__init__(samples_s, folder)
        self._share = share
        self._steps_without: list[float] = []
        self._shared[STEPS] = self._shared[REQUESTS] = 0

    def end_block(self, samples_s: Sequence[float]) -> None:
        self.learn(samples_s, step_now_s())

    def learn(self, samples_s: Sequence[float], step_s: float) -> None:
        """Choose the steps for each request of the next block; raises MeasureError if no request was sent in this one.

        `samples_s`: of the block; `step_s`: what a step takes now. The first block, a warm-up, gets no steps.
        """
        requests = self._shared[REQUESTS] / len(samples_s)
        self._shared[REQUESTS] = 0
        if not requests:
            raise MeasureError("the application can't slow this down: it was sent no request while a block was timed")
        self._steps_without.append(figure(samples_s) / step_s - requests * self._shared[STEPS])
        self._shared[STEPS] = self._share * statistics.median(self._steps_without) / requests


def step_now_s() -> float:
    """Return what a step of `slowed.work` takes at the moment, in seconds."""
    times_s = []
    for _ in range(STEP_REPEATS):
        start_s = perf_counter()
        work(STEPS_AT_ONCE)
        times_s.append(perf_counter() - start_s)
    return statistics.median(times_s) / STEPS_AT_ONCE


class ProfilingTimer(_SharedTimer):
    """Profiles each timed block, in this process and in the application's."""

    def __init__(self, key: str, samples_s: list[float], operations: int, folder: Path) -> None:
        """`key`: of the benchmark; `operations`: of each sample; `folder`: shared with the application."""
        super().__init__(samples_s, folder)
        self._key = key
        self._folder = folder
        self._operations = operations
        self._samples = 0
        self._profilers = profilers = [cProfile.Profile() for _ in range(PARTS)]
        enter_block, leave_block = self.__enter__, self.__exit__

        def enter() -> None:
            enter_block()
            profilers[self._samples % PARTS].enable()

        def leave(kind: object, error: object, traceback: object) -> None:
            profilers[self._samples % PARTS].disable()
            leave_block(kind, error, traceback)
            self._samples += 1

        self.__enter__ = enter  # type: ignore[method-assign]
        self.__exit__ = leave  # type: ignore[method-assign]

    def end(self) -> None:
        """Write the profile of this process, and have the application write its own."""
        own = self._folder / digest(self._key)
        own.mkdir()
        operations = [len(range(part, self._samples, PARTS)) * self._operations for part in range(PARTS)]
        write_profile(own / "test.json", self._profilers, operations)
        try:
            os.kill(int((self._folder / APPLICATION_PID).read_text()), signal.SIGUSR1)
        except (FileNotFoundError, ProcessLookupError):
            return
        written, deadline_s = self._folder / APPLICATION, time.monotonic() + APPLICATION_LIMIT_S
        while not written.exists() and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        with contextlib.suppress(FileNotFoundError):
            written.replace(own / "app.json")
