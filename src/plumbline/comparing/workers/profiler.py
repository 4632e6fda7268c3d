"""What a profiler sees of one worker and of its application, while blocks are timed.

Several profilers run in turn; slower_functions.py takes the median, so that a stall of the machine during one of them
counts for no function. Only main threads are profiled: other threads, processes and servers appear as waiting.
"""

import cProfile
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from plumbline.comparing.workers.asgi_wrapper import TIMED, load

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

# In the shared folder: what the application writes on SIGUSR1, and its process id.
APPLICATION, APPLICATION_PID = "app.json", "app.pid"
PARTS = 5


class Seen(Struct, frozen=True):
    """One function in one process, during one part of its profile."""

    name: str
    file: str
    line: int
    calls: int
    own_s: float
    total_s: float
    """With what it calls."""


class Profile(Struct, frozen=True):
    """One process."""

    parts: list[list[Seen]]
    operations: list[int] = []
    """Timed in each part; the worker alone knows them."""


def make() -> "ASGI3Application":
    """Return the application for uvicorn to serve, profiled while it answers requests of a timed block."""
    served, shared, folder = load()
    profilers = [cProfile.Profile() for _ in range(PARTS)]
    answering = bursts = 0

    async def profiled(scope: Any, receive: Any, send: Any) -> None:
        nonlocal answering, bursts
        if scope["type"] != "http" or not shared[TIMED]:
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
        write_profile(folder / APPLICATION, profilers)
        for profiler in profilers:  # for the next benchmark
            profiler.clear()

    signal.signal(signal.SIGUSR1, write)
    (folder / APPLICATION_PID).write_text(str(os.getpid()))
    return profiled


def write_profile(path: Path, profilers: Sequence[cProfile.Profile], operations: Sequence[int] = ()) -> None:
    """Write a Profile, whole or not at all."""
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
