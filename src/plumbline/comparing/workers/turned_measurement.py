"""`measure` in a worker: it times blocks when the coordinator asks for them, with timers that may do more."""

import asyncio
import contextlib
import cProfile
import functools
import os
import signal
import statistics
import time
import timeit
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from plumbline.cache import digest
from plumbline.comparing.statistics.inference import figure
from plumbline.comparing.workers.asgi_wrapper import APP_PID, APP_PROFILE, REQUESTS, STEPS, TIMED, shared_numbers, work
from plumbline.comparing.workers.profiles import PARTS, write_profile
from plumbline.comparing.workers.protocol import Begins, Block, Line, Start, Turn
from plumbline.measuring.loop import Measure, MeasureError, Steps, Timer
from plumbline.measuring.statistics import summarize
from plumbline.settings import Profile

DRAINING_ROUNDS = 3
STEP_REPEATS, STEPS_AT_ONCE = 3, 1_000
APPLICATION_LIMIT_S, POLL_S = 2.0, 0.005


class TurnedMeasurement(Measure):
    """A `measure` that waits for its turns; `summary` has the samples of all of them."""

    def __init__(self, profile: Profile, line: Line, start: Start, key: str) -> None:
        super().__init__(profile)
        self._line = line
        self._start = start
        self._key = key
        self._left = 0

    async def __anext__(self) -> Any:
        waits, began_s = self._left == 0, time.monotonic()
        timer = await super().__anext__()
        if waits:
            hold_clock(asyncio.get_running_loop(), time.monotonic() - began_s)
            for _ in range(DRAINING_ROUNDS):
                await asyncio.sleep(0)
        return timer

    def _passes(self, *_: float) -> Steps:
        timer = _timer_of(self._start, self._key, self._samples_s, self.operations)
        all_s: list[float] = []
        self._line.send(Begins(self._key))
        while samples := self._line.expect(Turn).samples:
            self._samples_s.clear()
            self._rounds = 0
            for self._left in reversed(range(samples)):
                yield timer
            samples_s = [sample_s / self.operations for sample_s in self._samples_s]
            all_s += samples_s
            timer.end_block(self._samples_s)
            self._line.send(Block(samples_s))
        timer.end()
        self.summary = summarize(all_s) if all_s else None


def hold_clock(loop: asyncio.AbstractEventLoop, held_s: float) -> None:
    """Move the clock of an event loop back by the time for which its thread was blocked, and so all its deadlines."""
    replaced = getattr(loop, "__dict__", {}).get("time")
    if replaced is not None and getattr(replaced, "func", None) is not _held:
        return  # by the test, which keeps its own clock
    behind_s = type(loop).time(loop) - loop.time() + held_s  # by this time and by the earlier ones
    with contextlib.suppress(AttributeError):  # a loop written in C keeps its own
        loop.time = functools.partial(_held, loop, behind_s)  # type: ignore[method-assign]


def _held(loop: asyncio.AbstractEventLoop, behind_s: float) -> float:
    return type(loop).time(loop) - behind_s


class WorkerTimer(Timer):
    """A timer that knows when a block, and when the benchmark, is over."""

    def end_block(self, samples_s: Sequence[float]) -> None:
        """Called after each block with its samples, in seconds."""

    def end(self) -> None:
        """Called after the last block."""


def _timer_of(start: Start, key: str, samples_s: list[float], operations: int) -> WorkerTimer:
    folder = Path(start.folder)
    if start.profiles:
        return ProfilingTimer(key, samples_s, operations, folder)
    share, process = start.slow_down.get(key, (0.0, "block"))
    if process == "application":
        return SlowedApplicationTimer(samples_s, share, folder)
    return SlowedTimer(samples_s, share) if process == "block" and share else WorkerTimer(samples_s)


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
    """Has the application do more work during timed blocks: a share of what the blocks so far took without it."""

    def __init__(self, samples_s: list[float], share: float, folder: Path) -> None:
        super().__init__(samples_s, folder)
        self._share = share
        self._steps_without: list[float] = []
        self._shared[STEPS] = self._shared[REQUESTS] = 0

    def end_block(self, samples_s: Sequence[float]) -> None:
        """Choose the steps of each request in the next block: the first one is a warm-up. Raises MeasureError."""
        requests = self._shared[REQUESTS] / len(samples_s)
        self._shared[REQUESTS] = 0
        if not requests:
            raise MeasureError("the application can't slow this down: it was sent no request while a block was timed")
        # Blocks are summarised as the comparison does it, and counted in steps of work, timed just after each block.
        self._steps_without.append(figure(samples_s) / step_now_s() - requests * self._shared[STEPS])
        self._shared[STEPS] = self._share * statistics.median(self._steps_without) / requests


def step_now_s() -> float:
    """Return what a step of `work` takes at the moment, in seconds."""
    times_s = timeit.repeat(lambda: work(STEPS_AT_ONCE), number=1, repeat=STEP_REPEATS)
    return statistics.median(times_s) / STEPS_AT_ONCE


class ProfilingTimer(_SharedTimer):
    """Profiles each timed block, in this process and in the application's."""

    def __init__(self, key: str, samples_s: list[float], operations: int, folder: Path) -> None:
        super().__init__(samples_s, folder)
        self._key = key
        self._folder = folder
        self._operations = operations
        self._samples = 0
        self._profilers = [cProfile.Profile() for _ in range(PARTS)]

    def _enter(self) -> None:
        super()._enter()
        self._profilers[self._samples % PARTS].enable()

    def _leave(self, kind: object, error: object, traceback: object) -> None:
        self._profilers[self._samples % PARTS].disable()
        super()._leave(kind, error, traceback)
        self._samples += 1

    def end(self) -> None:
        """Write the profile of this process, and have the application write its own."""
        own = self._folder / digest(self._key)
        own.mkdir()
        operations = [len(range(part, self._samples, PARTS)) * self._operations for part in range(PARTS)]
        write_profile(own / "test.json", self._profilers, operations)
        try:
            os.kill(int((self._folder / APP_PID).read_text()), signal.SIGUSR1)
        except (FileNotFoundError, ProcessLookupError):
            return
        written, deadline_s = self._folder / APP_PROFILE, time.monotonic() + APPLICATION_LIMIT_S
        while not written.exists() and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        with contextlib.suppress(FileNotFoundError):
            written.replace(own / "app.json")
