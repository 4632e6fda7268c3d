"""The timers of a worker."""

import os
from pathlib import Path

import msgspec
import pytest

from plumbline.cache import digest
from plumbline.comparing.workers.asgi_wrapper import REQUESTS, STEPS, TIMED, shared_numbers
from plumbline.comparing.workers.profiler import APPLICATION_PID, Profile
from plumbline.comparing.workers.timers import ProfilingTimer, SlowedApplicationTimer, step_now_s
from plumbline.measuring.loop import MeasureError

KEY = "test_shop.py::test_total"


def test_a_share_of_what_blocks_take_without_is_added(tmp_path: Path) -> None:
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
        timer.learn([machine_speed * (without_s + 3e-6 * steps[-1])] * 2, step_s=machine_speed * 1e-6)
    with timer:
        steps.append(shared[STEPS])
    assert steps == pytest.approx([0.0, 900 / 3, 950 / 3, 1000 / 3])


def test_a_step_takes_its_time() -> None:
    """As many as are added to a request of some milliseconds are done, and not optimized away."""
    assert 1e-8 < step_now_s() < 1e-4


def test_without_a_request_nothing_can_be_added(tmp_path: Path) -> None:
    """Else it would pass for slowed down."""
    with pytest.raises(MeasureError, match="no request while a block was timed"):
        SlowedApplicationTimer([], 0.1, tmp_path).learn([0.01], step_s=1e-6)


def spin(rounds: int) -> int:
    return sum(range(rounds))


def test_what_runs_in_timed_blocks_is_profiled(tmp_path: Path) -> None:
    """And nothing between them; the samples are timed as ever."""
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


def test_an_application_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    """Its id is on file, and no process has it any more."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    (tmp_path / APPLICATION_PID).write_text(str(child))
    ProfilingTimer(KEY, [], 1, tmp_path).end()
    assert [path.name for path in (tmp_path / digest(KEY)).iterdir()] == ["test.json"]
