"""`measure` in a worker, and its timers."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio.to_thread
import msgspec
import pytest

from plumbline import settings
from plumbline.cache import digest
from plumbline.comparing.workers import timers
from plumbline.comparing.workers.in_application.plumbline_profiling import (
    ASKING,
    REQUESTS,
    STEPS,
    TIMED,
    shared_numbers,
)
from plumbline.comparing.workers.profiles import Profile
from plumbline.comparing.workers.protocol import Begins, Block, Message, Start, Turn
from plumbline.comparing.workers.timers import ProfilingTimer, SlowedApplicationTimer, step_now_s
from plumbline.comparing.workers.worker import TurnedMeasurement, hold_clock
from plumbline.measuring.loop import MeasureError
from tests.unit.comparing.workers.ends import LIMIT_S, Ends

KEY = "test_suite.py::test_it"
START = Start([KEY])
PROFILE = settings.Profile(samples=7, warmup=0, timed_limit_s=1.0)


class Coordinator(threading.Thread):
    """Sends each of its messages after one from the worker, and keeps the worker's messages."""

    def __init__(self, ends: Ends, messages: Sequence[Turn], hold_s: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.heard: list[Message] = []
        self._line = ends.coordinator
        self._messages = messages
        self._hold_s = hold_s
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):  # the test is over
            for message in self._messages:
                self.heard.append(self._line.receive(LIMIT_S))
                time.sleep(self._hold_s)
                self._line.send(message)


TWO_TURNS: list[Turn] = [Turn(3), Turn(1), Turn(0)]


def test_a_worker_measures_as_many_samples_as_each_turn_asks_for(ends: Ends) -> None:
    """Three, then one. Each block is reported in seconds per operation."""
    coordinator = Coordinator(ends, TWO_TURNS)
    measurement = TurnedMeasurement(PROFILE, ends.worker, START, KEY)(operations=2)
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
    """The timed block has an await."""
    coordinator = Coordinator(ends, TWO_TURNS)
    measurement = TurnedMeasurement(PROFILE, ends.worker, START, KEY)(operations=1)
    async for timer in measurement:
        with timer:
            await asyncio.sleep(0)
    coordinator.join(LIMIT_S)
    assert [len(block.samples_s) for block in coordinator.heard[1:] if isinstance(block, Block)] == [3, 1]


async def test_deadlines_of_the_loop_move_by_the_wait(ends: Ends) -> None:
    """A timer of 0.5 s has not fired after two waits of 0.4 s."""
    Coordinator(ends, [Turn(1), Turn(0)], hold_s=0.4)
    fired: list[str] = []
    asyncio.get_running_loop().call_later(0.5, fired.append, "too early")
    async for timer in TurnedMeasurement(PROFILE, ends.worker, START, KEY)(operations=1):
        with timer:
            pass
        await asyncio.sleep(0)
    assert not fired


async def test_a_held_clock_goes_on_from_where_it_stood() -> None:
    """After waits of 5 s and 3 s it is 8 s behind, and runs."""
    loop = asyncio.get_running_loop()
    before_s = loop.time()
    hold_clock(loop, 5.0)
    hold_clock(loop, 3.0)
    assert -8.0 <= loop.time() - before_s < -7.0
    await asyncio.sleep(0.001)


async def test_a_clock_that_the_test_has_replaced_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait does not replace a frozen clock."""
    loop = asyncio.get_running_loop()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "time", lambda: 7.0)
        hold_clock(loop, 5.0)
        assert loop.time() == 7.0


def test_a_loop_that_is_left_gives_the_collector_back(ends: Ends) -> None:
    """A round without a timed block is an error in a worker, too."""
    Coordinator(ends, TWO_TURNS)
    with pytest.raises(MeasureError, match="never"):
        for _timer in TurnedMeasurement(PROFILE, ends.worker, START, KEY)(operations=1):
            pass


def test_a_worker_whose_coordinator_has_gone_does_not_wait(ends: Ends) -> None:
    """It raises ConnectionError."""
    ends.coordinator.close()
    measurement = TurnedMeasurement(PROFILE, ends.worker, START, KEY)(operations=1)
    with contextlib.closing(measurement), pytest.raises(ConnectionError):
        next(measurement)


def test_a_share_of_what_blocks_take_without_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two rounds, three requests each, that take 9, 10 and 11 ms without; each step takes a microsecond.

    Where the machine is slower by half while a block runs, and the steps are as well, it counts as much.
    """
    shared = shared_numbers(tmp_path)
    timer = SlowedApplicationTimer([], 0.1, tmp_path)
    steps = []
    for without_s, machine_speed in ((0.009, 1.0), (0.010, 1.5), (0.011, 1.0)):
        with timer:
            assert shared[TIMED] == 1
            steps.append(shared[STEPS])
        assert shared[TIMED] == 0
        shared[REQUESTS] = 6
        step_s = machine_speed * 1e-6
        monkeypatch.setattr(timers, "step_now_s", lambda step_s=step_s: step_s)
        timer.end_block([machine_speed * (without_s + 3e-6 * steps[-1])] * 2)
    with timer:
        steps.append(shared[STEPS])
    assert steps == pytest.approx([0.0, 900 / 3, 950 / 3, 1000 / 3])


def test_a_step_takes_its_time() -> None:
    """The steps of work are not optimized away."""
    assert 1e-8 < step_now_s() < 1e-4


def test_without_a_request_nothing_can_be_added(tmp_path: Path) -> None:
    """Otherwise the benchmark would count as slowed down."""
    with pytest.raises(MeasureError, match="no request while a block was timed"):
        SlowedApplicationTimer([], 0.1, tmp_path).end_block([0.01])


def spin(rounds: int) -> int:
    return sum(range(rounds))


def test_what_runs_in_timed_blocks_is_profiled(tmp_path: Path) -> None:
    """Code between the blocks is not, and samples are timed as usual."""
    samples_s: list[float] = []
    timer = ProfilingTimer(KEY, samples_s, 4, tmp_path)
    for _ in range(7):
        with timer:
            spin(1000)
        sorted([2, 1])
    timer.end()
    found = msgspec.json.decode((tmp_path / digest(KEY) / "test.json").read_bytes(), type=Profile)
    calls = [{seen.name: seen.calls for seen in part} for part in found.parts]
    assert found.operations == [8, 8, 4, 4, 4]
    assert len(samples_s) == 7
    assert [part["spin"] for part in calls] == [part["sum"] for part in calls] == [2, 2, 1, 1, 1]
    assert not any("sorted" in part for part in calls)


async def test_jobs_of_other_threads_are_profiled(tmp_path: Path) -> None:
    """Jobs of executors, of anyio and of single threads."""
    timer = ProfilingTimer(KEY, [], 1, tmp_path)
    with ThreadPoolExecutor(max_workers=1) as pool:
        for _ in range(2):
            with timer:
                pool.submit(spin, 1000).result()
                await asyncio.to_thread(spin, 1000)
                await anyio.to_thread.run_sync(spin, 1000)
                thread = threading.Thread(target=spin, args=[1000])
                thread.start()
                thread.join()
            pool.submit(sorted, [2, 1]).result()
    timer.end()
    found = msgspec.json.decode((tmp_path / digest(KEY) / "test.json").read_bytes(), type=Profile)
    calls = [sum(seen.calls for seen in part if seen.name == "spin") for part in found.parts]
    assert calls == [4, 4, 0, 0, 0]
    assert not any(seen.name == "sorted" for part in found.parts for seen in part)


def test_an_application_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    """Its pipe is left, but the process has ended."""
    os.mkfifo(tmp_path / ASKING.format(1))
    ProfilingTimer(KEY, [], 1, tmp_path).end()
    assert [path.name for path in (tmp_path / digest(KEY)).iterdir()] == ["test.json"]
