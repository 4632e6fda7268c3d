"""Plan a load test: the rates over time for each side, and the cores. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.load_settings import LoadSettings

RATE_OF_PROCESS = 200  # arrivals per second that one Locust process can start on time


@dataclass(frozen=True)
class Window:
    """A time in which one side gets arrivals at one rate."""

    side: str
    stage: int
    number: int  # within the stage; base and head have a window of each number
    begin_s: float
    end_s: float
    rate_per_s: float
    seed: int  # of the arrivals; windows with the same number have the same arrivals
    measured_from_s: float


def plan_windows(settings: LoadSettings, sides: Sequence[str], chance: random.Random) -> list[Window]:
    """Return the windows of all stages, one after another.

    One side gets each stage as a whole. Two sides get windows of equal length in turn, in random order, and the same
    arrivals in both windows of a number.
    """
    windows, now_s = list[Window](), 0.0
    for number, stage in enumerate(settings.all_stages):
        count = max(1, int(stage.duration_s / settings.window_s)) if len(sides) > 1 else 1
        length_s = stage.duration_s / count
        for index in range(count):
            seed = chance.getrandbits(32)
            for side in chance.sample(sides, len(sides)):
                begins = (now_s, now_s + length_s, stage.rate_per_s, seed, now_s + settings.leave_out_s)
                windows.append(Window(side, number, index, *begins))
                now_s += length_s
    return windows


def number_of_processes(settings: LoadSettings, cores: int) -> int:
    """Return how many Locust processes put load on a side."""
    wanted = -(-int(settings.all_stages[-1].rate_per_s) // RATE_OF_PROCESS)
    return settings.processes or max(1, min(wanted, cores - 1))


def split_cores(cores: Sequence[int], processes: int) -> tuple[Sequence[int], Sequence[int]]:
    """Return the cores for Locust's processes and those for everything else; none if there are too few.

    Base and head take turns, so their Locust processes share cores.
    """
    return (cores[:processes], cores[processes:]) if processes < len(cores) else ([], [])
