"""The functions that take more time in head than in base, from profiles of the workers and their applications.

PARTS profilers take turns while blocks are timed. The time of a function is the median over these parts, so that a
stall of the machine during one part has no influence. Time in other processes and servers appears as waiting. Times are
longer than without a profiler, on both sides.
"""

import contextlib
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from plumbline.cache import digest
from plumbline.comparing.workers.in_application.plumbline_profiling import ASKING, PARTS, PROFILE
from plumbline.project import SUITE
from plumbline.results.schema import FunctionTime

APPLICATION_LIMIT_S, POLL_S = 2.0, 0.005
MOST_SHOWN = 12
LEAST_SHARE = 0.1  # of the slow-down, or of that of the slowest function: functions below this are not shown
EXPLAINED = 0.5  # of the slow-down: if one function explains this share, waiting functions are not shown
MORE_CALLS = 1.5  # times the calls in base: a function that awaits may explain the waiting
# In the names of functions in which an event loop, a client or a thread waits. They come last.
WAITING = ("'poll'", "'select'", "'control'", "'recv'", "'recv_into'", "'acquire'")
OURS = "plumbline"
HARNESS = {OURS, "_pytest", "pluggy", "pytest_asyncio"}  # packages that only run the test
PROFILER = "_lsprof"  # in the names of its own functions
LIBRARIES = re.compile(r".*(?:/site-packages/|/dist-packages/|/lib/python3\.[^/]*/)")  # differs between environments


class Seen(Struct, frozen=True):
    """One function in one part of a profile."""

    name: str
    file: str
    line: int
    calls: int
    own_s: float
    total_s: float  # including the functions that it calls
    resumes: bool = False  # whether it is a coroutine or a generator


class _Function(NamedTuple):
    """The time and calls of one function in a process."""

    time_s: float  # per operation
    calls: float  # per operation
    line: int
    own: bool  # whether it is a function of the repository
    resumes: bool


_NOT_CALLED = _Function(0.0, 0.0, 0, own=False, resumes=False)
_Functions = dict[tuple[str, str], _Function]  # by file and name


class Profile(Struct, frozen=True):
    """The profile of one process."""

    parts: list[list[Seen]]
    operations: list[int] = []  # timed operations in each part; only in the worker's profile
    timed_s: list[float] = []  # their total time in each part

    def operation_s(self) -> float:
        """Return the time of one operation in seconds, 0 if it is not known."""
        parts = [timed_s / count for timed_s, count in zip(self.timed_s, self.operations, strict=False) if count]
        return statistics.median(parts) if parts else 0.0


def profile_of_application(folder: Path) -> bytes:
    """Ask each process of the application for its profile. Return them as one, b"" if no process has one."""
    asked = []
    for pipe in folder.glob(ASKING.format("*")):
        with contextlib.suppress(OSError):  # that process has ended
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            asked.append(pipe.with_name(PROFILE.format(pipe.name.split(".")[1])))
    deadline_s = time.monotonic() + APPLICATION_LIMIT_S
    while not all(one.exists() for one in asked) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    profiles = [_read(one) for one in asked]
    for one in asked:
        one.unlink(missing_ok=True)
    parts = [[seen for profile in profiles for seen in _part(profile, number)] for number in range(PARTS)]
    return msgspec.json.encode(Profile(parts)) if any(parts) else b""


def _part(profile: Profile, number: int) -> list[Seen]:
    return profile.parts[number] if profile.parts else []


def slower_functions(key: str, folder: Path, trees: Mapping[str, Path], project: str = ".") -> list[FunctionTime]:
    """Return the functions that take more time in head, the most telling first. None if a profile is missing.

    `trees`: the copies of the repository by side. `project`: the project's folder in them, which files are relative to.
    """
    profiles = {side: folder / side / digest(key) for side in ("base", "head")}
    timed = {side: _read(at / "test.json") for side, at in profiles.items()}
    operations = {side: profile.operations for side, profile in timed.items()}
    if not all(map(sum, operations.values())):
        return []
    change_s = timed["head"].operation_s() - timed["base"].operation_s()
    served = {side: _read(at / "app.json") for side, at in profiles.items()}
    is_served = any(part for profile in served.values() for part in profile.parts)
    slower = []
    for process, where, waits in (timed, "", is_served), (served, "app", False):
        base, head = (
            _of_process(profile, trees[side], project, operations[side], waits=waits)
            for side, profile in process.items()
        )
        for (file, name), now in head.items():
            then = base.get((file, name), _NOT_CALLED)
            if now.time_s > then.time_s:
                figures = then.time_s, now.time_s, then.calls, now.calls
                slower.append(FunctionTime(name, file, now.line, *figures, where, now.own, now.resumes))
    slower.sort(key=lambda one: one.base_s - one.head_s)
    waiting = [one for one in slower if any(word in one.name for word in WAITING)]
    working = [one for one in slower if one not in waiting]
    worst_s = working[0].head_s - working[0].base_s if working else 0.0
    if worst_s >= EXPLAINED * change_s > 0:
        waiting = []
    elif is_served:  # the test waits for the application
        waiting = [one for one in waiting if one.where]
    least_s = LEAST_SHARE * max(worst_s, change_s)
    shown = [
        one for one in [*sorted(working, key=_telling, reverse=True), *waiting] if one.head_s - one.base_s >= least_s
    ]
    if any(one in waiting for one in shown) and not any(one.own for one in shown):
        # The time of a coroutine is without its waiting. So show those that are called or continued more often.
        shown = [
            one for one in working if one.own and one.where and one.head_calls > MORE_CALLS * one.base_calls
        ] + shown
    return shown[:MOST_SHOWN]


def _telling(function: FunctionTime) -> float:
    """Return how well a function explains a slow-down: by its growth, and by the growth's share of its time.

    The times of functions include what they call. So a new function comes before those that call it.
    """
    return (function.head_s - function.base_s) ** 2 / function.head_s


def _of_process(profile: Profile, tree: Path, project: str, operations: Sequence[int], *, waits: bool) -> _Functions:
    """Return the times of each function. `waits`: whether this process waits while the application works."""
    together = sum(operations)
    # Assume that the worker's operations are spread evenly over the application's parts.
    each: Sequence[float] = profile.operations or [together / PARTS] * PARTS
    parts = [(part, count) for part, count in zip(profile.parts, each, strict=False) if count]
    times_s: dict[tuple[str, str], list[float]] = {}
    calls: Counter[tuple[str, str]] = Counter()
    places: dict[tuple[str, str], tuple[int, bool, bool]] = {}
    for number, (part, count) in enumerate(parts):
        for seen in part:
            path = Path(seen.file)
            in_tree = path.is_relative_to(tree)
            file = os.path.relpath(path, tree / project) if in_tree else LIBRARIES.sub("", seen.file)
            packages = {OURS} if in_tree else HARNESS
            if PROFILER in seen.name or not packages.isdisjoint(Path(file).parts):
                continue
            key = file, seen.name
            calls[key] += seen.calls
            places[key] = seen.line, in_tree, seen.resumes
            # The times of the repository's functions include the functions that they call. Those of libraries do not,
            # nor those of the suite's functions that wait for the application.
            whole = in_tree and not (waits and file.startswith(f"{SUITE}/"))
            parts_s = times_s.setdefault(key, [0.0] * len(parts))
            parts_s[number] += (seen.total_s if whole else seen.own_s) / count
    return {key: _Function(statistics.median(times_s[key]), calls[key] / together, *places[key]) for key in calls}


def _read(path: Path) -> Profile:
    """Return the profile in a file, an empty one if the file is missing or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Profile)
    except (OSError, msgspec.DecodeError):
        return Profile([])
