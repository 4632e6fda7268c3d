"""What got slower: base and head once more under a profiler, outside the comparison.

In the process of the test the profiler runs while a block is timed, and in that of the application while it answers
requests of such a block. Times are greater than without a profiler, in both sides. Threads beside the main one, workers
and servers are not looked into, but what waits for them is seen to wait. By turns several profilers run, of which the
median is told: a stall of the machine in one of them is none of a function's time.
"""

import contextlib
import cProfile
import itertools
import mmap
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from plumbline.cache import digest
from plumbline.comparing.workers.protocol import PROFILE
from plumbline.measuring.loop import Timer
from plumbline.results.schema import FunctionTime
from plumbline.settings import Settings

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

ASGI, IS_FACTORY = "PERF_PROFILE_ASGI", "PERF_PROFILE_IS_FACTORY"
TIMED, APPLICATION_PID = "timed", "app.pid"
APPLICATION_LIMIT_S, POLL_S = 2.0, 0.005
PARTS = 5
MOST_TOLD = 12
LEAST_SHARE = 0.05
"""Of what the worst of them got slower by: less is not told."""
WAITING = ("'poll'", "'select'", "'control'")
"""In names of what a loop waits in: told last, as it got slower because something else did."""
OURS = "plumbline"
LIBRARIES = ("/site-packages/", "/dist-packages/", "/lib/python3.")
"""Folders that differ between environments; below the last one there is another for the minor version."""


class Seen(Struct):
    """One function in one process, over a part of its profile."""

    name: str
    file: str
    line: int
    calls: int
    own_s: float
    total_s: float
    """With what it calls."""


class Profile(Struct):
    """One process."""

    parts: list[list[Seen]]
    operations: list[int] = []
    """That were timed in each part; known to the process of the test alone."""


class ProfilingTimer(Timer):
    """Profiles each block, and lets the application know that it is timed."""

    __slots__ = ("_key", "_operations", "_profilers", "_samples")

    def __init__(self, key: str, samples_s: list[float], operations: int) -> None:
        """`key`: of the benchmark; `operations`: of each sample."""
        super().__init__(samples_s)
        self._key = key
        self._operations = operations
        self._samples = 0
        self._profilers = profilers = [cProfile.Profile() for _ in range(PARTS)]
        timed = _timed()
        enter_block, leave_block = self.__enter__, self.__exit__

        def enter() -> None:
            timed[0] = 1
            enter_block()
            profilers[self._samples % PARTS].enable()

        def leave(kind: object, error: object, traceback: object) -> None:
            profilers[self._samples % PARTS].disable()
            leave_block(kind, error, traceback)
            timed[0] = 0
            self._samples += 1

        self.__enter__ = enter  # type: ignore[method-assign]
        self.__exit__ = leave  # type: ignore[method-assign]

    def end(self) -> None:
        """Write what was seen in this process, and have the application write what was seen there."""
        folder = Path(os.environ[PROFILE])
        own = folder / digest(self._key)
        own.mkdir()
        _write(
            own / "test.json",
            self._profilers,
            [len(range(part, self._samples, PARTS)) * self._operations for part in range(PARTS)],
        )
        try:
            os.kill(int((folder / APPLICATION_PID).read_text()), signal.SIGUSR1)
        except (FileNotFoundError, ProcessLookupError):
            return
        deadline_s = time.monotonic() + APPLICATION_LIMIT_S
        while not (folder / "app.json").exists() and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        with contextlib.suppress(FileNotFoundError):
            (folder / "app.json").replace(own / "app.json")


def instead_of_application(settings: Settings) -> Settings:
    """The settings with this module in place of the application, which it finds in the environment."""
    if settings.app is None:
        return settings
    os.environ[ASGI], os.environ[IS_FACTORY] = settings.app.asgi, str(settings.app.factory)
    return msgspec.structs.replace(
        settings, app=msgspec.structs.replace(settings.app, asgi=f"{__name__}:make", factory=True)
    )


def make() -> "ASGI3Application":
    """The application that uvicorn is to serve: profiled while it answers a request of a timed block."""
    from uvicorn.config import Config

    config = Config(os.environ[ASGI], factory=os.environ[IS_FACTORY] == "True", proxy_headers=False, log_config=None)
    config.load()
    served, timed = config.loaded_app, _timed()
    profilers = [cProfile.Profile() for _ in range(PARTS)]
    folder = Path(os.environ[PROFILE])
    answering = bursts = 0

    async def profiled(scope: Any, receive: Any, send: Any) -> None:
        nonlocal answering, bursts
        if scope["type"] != "http" or not timed[0]:
            await served(scope, receive, send)
            return
        answering += 1
        if answering == 1:
            profilers[bursts % PARTS].enable()
        try:
            await served(scope, receive, send)
        finally:
            answering -= 1
            if answering == 0:
                profilers[bursts % PARTS].disable()
                bursts += 1

    def write(*_: object) -> None:
        _write(folder / "app.json", profilers)
        for profiler in profilers:  # for the next benchmark
            profiler.clear()

    signal.signal(signal.SIGUSR1, write)
    (folder / APPLICATION_PID).write_text(str(os.getpid()))
    return profiled


def slower_functions(key: str, base: Path, head: Path, trees: tuple[Path, Path]) -> list[FunctionTime]:
    """What takes more time in head, the worst first, out of the folders that both sides wrote; empty where one did not.

    `key`: of the benchmark; `trees`: the copies that they ran in, base's and head's.
    """
    folders = {"base": base / digest(key), "head": head / digest(key)}
    operations = {side: test.operations for side, folder in folders.items() if (test := _read(folder / "test.json"))}
    if operations.keys() != folders.keys() or not all(map(sum, operations.values())):
        return []
    found: dict[tuple[str, str, str], FunctionTime] = {}
    for process, (side, tree) in itertools.product(("test", "app"), zip(folders, trees, strict=True)):
        seen = _of_process(folders[side] / f"{process}.json", tree, operations[side])
        for (file, name), (time_s, calls, line) in seen.items():
            where = "" if process == "test" else process
            one = found.setdefault((where, file, name), FunctionTime(name, file, 0, 0, 0, 0, 0, where))
            one.line = line
            if side == "base":
                one.base_s, one.base_calls = time_s, calls
            else:
                one.head_s, one.head_calls = time_s, calls
    return _worst(found.values())


def _of_process(path: Path, tree: Path, operations: Sequence[int]) -> dict[tuple[str, str], tuple[float, float, int]]:
    """By file and name, an operation's time in seconds, its calls, and the line; empty where there is no profile.

    `operations`: of the test's parts. Which of them were the application's in one of its own isn't known: as many.
    """
    profile = _read(path)
    together = sum(operations)
    each: list[float] = list(profile.operations if profile else []) or [together / PARTS] * PARTS
    times_s: dict[tuple[str, str], list[float]] = {}
    calls: Counter[tuple[str, str]] = Counter()
    lines: dict[tuple[str, str], int] = {}
    parts = [part for part, count in zip(profile.parts if profile else [], each, strict=False) if count]
    each = [count for count in each if count]
    for number, part in enumerate(parts):
        for seen in part:
            file = _below(seen.file, tree)
            key = file, seen.name
            calls[key] += seen.calls
            lines[key] = seen.line
            # What the repository's own functions call is theirs; of libraries each is told by itself.
            is_own = Path(seen.file).is_relative_to(tree) and OURS not in Path(file).parts
            parts_s = times_s.setdefault(key, [0.0] * len(parts))
            parts_s[number] += (seen.total_s if is_own else seen.own_s) / each[number]
    return {key: (statistics.median(times_s[key]), calls[key] / together, lines[key]) for key in calls}


def _worst(functions: Collection[FunctionTime]) -> list[FunctionTime]:
    slower = sorted((one for one in functions if one.head_s > one.base_s), key=lambda one: one.base_s - one.head_s)
    waiting = [one for one in slower if any(word in one.name for word in WAITING)]
    working = [one for one in slower if one not in waiting]
    least_s = LEAST_SHARE * (working[0].head_s - working[0].base_s) if working else 0.0
    return [one for one in [*working, *waiting] if one.head_s - one.base_s >= least_s][:MOST_TOLD]


def _below(file: str, tree: Path) -> str:
    """As both sides name it: below the tree, or below the folder of packages."""
    if Path(file).is_relative_to(tree):
        return Path(file).relative_to(tree).as_posix()
    for folder in LIBRARIES:
        if (at := file.rfind(folder)) >= 0:
            rest = file[at + len(folder) :]
            return rest.partition("/")[2] if folder.endswith("python3.") else rest
    return file


def _timed() -> "memoryview[int]":
    """One byte that test and application share: whether a block is being timed."""
    path = Path(os.environ[PROFILE]) / TIMED
    file_number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(file_number, 1)
        return memoryview(mmap.mmap(file_number, 1))
    finally:
        os.close(file_number)


def _write(path: Path, profilers: Sequence[cProfile.Profile], operations: Sequence[int] = ()) -> None:
    temporary = path.with_suffix(".writing")
    temporary.write_bytes(msgspec.json.encode(Profile([_seen(one) for one in profilers], list(operations))))
    temporary.replace(path)


def _seen(profiler: cProfile.Profile) -> list[Seen]:
    found = []
    for entry in profiler.getstats():
        code = entry.code
        name, file, line = (
            (code.co_qualname, code.co_filename, code.co_firstlineno)
            if isinstance(code, CodeType)
            else (str(code).strip("<>").removeprefix("built-in method ").removeprefix("builtins."), "", 0)
        )
        own_s, total_s = max(entry.inlinetime, 0.0), max(entry.totaltime, 0.0)
        found.append(Seen(name, file, line, entry.callcount, own_s, total_s))
    return found


def _read(path: Path) -> Profile | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Profile)
    except (OSError, msgspec.DecodeError):
        return None
