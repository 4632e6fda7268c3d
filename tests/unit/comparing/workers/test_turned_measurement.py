"""`measure` in a worker."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence

import pytest

from plumbline.comparing.workers.protocol import Begins, Block, End, FromCoordinator, FromWorker, LineClosed, Turn
from plumbline.comparing.workers.turned_measurement import TurnedMeasurement, hold_clock
from plumbline.measuring.loop import MeasureError
from plumbline.settings import Profile
from tests.unit.comparing.workers.ends import LIMIT_S, Ends

KEY = "test_suite.py::test_it"
PROFILE = Profile(samples=7, warmup=0, timed_limit_s=1.0)


class Coordinator(threading.Thread):
    """Sends its messages one after another, each after one from the worker, and keeps those."""

    def __init__(self, ends: Ends, messages: Sequence[FromCoordinator], hold_s: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.heard: list[FromWorker] = []
        self._line = ends.coordinator
        self._messages = messages
        self._hold_s = hold_s
        self.start()

    def run(self) -> None:
        with contextlib.suppress(LineClosed, OSError):  # the test is over
            for message in self._messages:
                self.heard.append(self._line.receive(LIMIT_S))
                time.sleep(self._hold_s)
                self._line.send(message)


TWO_TURNS: list[FromCoordinator] = [Turn(3), Turn(1), End()]


def test_a_worker_measures_as_many_samples_as_each_turn_asks_for(ends: Ends) -> None:
    """Three, then one; each block is reported per operation, and the test goes on."""
    coordinator = Coordinator(ends, TWO_TURNS)
    measurement = TurnedMeasurement(PROFILE, ends.worker, KEY)(operations=2)
    rounds = 0
    for timer in measurement:
        rounds += 1
        with timer:
            pass
    coordinator.join(LIMIT_S)
    at, first, second = coordinator.heard
    assert rounds == 3 + 1
    assert at == Begins(KEY)
    assert isinstance(first, Block)
    assert isinstance(second, Block)
    assert [len(block.samples_s) for block in (first, second)] == [3, 1]
    assert list(measurement) == []  # a second loop has no turns
    assert measurement.summary is not None
    assert sorted(measurement.summary.samples_s) == sorted(first.samples_s + second.samples_s)


async def test_a_coroutine_test_measures_in_turns_as_well(ends: Ends) -> None:
    """`async for` with an await in the timed block."""
    coordinator = Coordinator(ends, TWO_TURNS)
    measurement = TurnedMeasurement(PROFILE, ends.worker, KEY)(operations=1)
    async for timer in measurement:
        with timer:
            await asyncio.sleep(0)
    coordinator.join(LIMIT_S)
    assert [len(block.samples_s) for block in coordinator.heard[1:] if isinstance(block, Block)] == [3, 1]


async def test_deadlines_of_the_loop_move_by_the_wait(ends: Ends) -> None:
    """A timer of 0.5 s that was set before two waits of 0.4 s has not fired after them."""
    Coordinator(ends, [Turn(1), End()], hold_s=0.4)
    fired: list[str] = []
    asyncio.get_running_loop().call_later(0.5, fired.append, "too early")
    async for timer in TurnedMeasurement(PROFILE, ends.worker, KEY)(operations=1):
        with timer:
            pass
        await asyncio.sleep(0)
    assert not fired


async def test_a_held_clock_goes_on_from_where_it_stood() -> None:
    """Held for 5 s and for 3 s, it shows 8 s less than before, and runs."""
    loop = asyncio.get_running_loop()
    before_s = loop.time()
    hold_clock(loop, 5.0)
    hold_clock(loop, 3.0)
    assert -8.0 <= loop.time() - before_s < -7.0
    await asyncio.sleep(0.001)


def test_a_loop_that_is_left_gives_the_collector_back(ends: Ends) -> None:
    """A round without a timed block is refused in a worker, too."""
    Coordinator(ends, TWO_TURNS)
    with pytest.raises(MeasureError, match="never"):
        for _timer in TurnedMeasurement(PROFILE, ends.worker, KEY)(operations=1):
            pass


def test_a_worker_whose_coordinator_has_gone_does_not_wait(ends: Ends) -> None:
    """It raises LineClosed rather than blocking for ever."""
    ends.coordinator.close()
    measurement = TurnedMeasurement(PROFILE, ends.worker, KEY)(operations=1)
    with contextlib.closing(measurement), pytest.raises(LineClosed):
        next(measurement)
