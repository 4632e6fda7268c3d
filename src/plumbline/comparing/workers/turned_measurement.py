"""`measure` in a worker: it times blocks when the coordinator asks for them."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from plumbline.comparing.workers.protocol import Begins, Block, FromCoordinator, Line, Turn
from plumbline.comparing.workers.timers import WorkerTimer
from plumbline.measuring.loop import Measure, Steps
from plumbline.measuring.statistics import summarize
from plumbline.settings import Profile

DRAINING_ROUNDS = 3


class TurnedMeasurement(Measure):
    """A `measure` that waits for its turns; `summary` has the samples of all of them."""

    def __init__(
        self,
        profile: Profile,
        line: Line[FromCoordinator],
        key: str,
        make_timer: Callable[[list[float], int], WorkerTimer] = lambda samples_s, _: WorkerTimer(samples_s),
    ) -> None:
        """`make_timer`: from the list for its samples and the number of operations in each."""
        super().__init__(profile)
        self._line = line
        self._key = key
        self._make_timer = make_timer
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
        timer = self._make_timer(self._samples_s, self.operations)
        all_s: list[float] = []
        self._line.send(Begins(self._key))
        while isinstance(message := self._line.receive(), Turn):
            self._samples_s.clear()
            self._rounds = 0
            for self._left in reversed(range(message.samples)):
                yield timer
            samples_s = [sample_s / self.operations for sample_s in self._samples_s]
            all_s += samples_s
            timer.end_block(self._samples_s)
            self._line.send(Block(samples_s))
        timer.end()
        self.summary = summarize(all_s) if all_s else None


def hold_clock(loop: asyncio.AbstractEventLoop, held_s: float) -> None:
    """Move the clock of an event loop back by the time for which its thread was blocked, and so all its deadlines."""
    clock = loop.__dict__.get("time") if hasattr(loop, "__dict__") else None
    if clock is None:
        clock = _HeldClock(loop.time)
        with contextlib.suppress(AttributeError):  # a loop written in C keeps its own
            loop.time = clock  # type: ignore[method-assign]
    if isinstance(clock, _HeldClock):
        clock.held_s += held_s


class _HeldClock:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.held_s = 0.0

    def __call__(self) -> float:
        return self._clock() - self.held_s
