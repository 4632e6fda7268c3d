"""A wrapper around the application, in the application's process, that slows it down deliberately or profiles it.

The application may run in an environment without Plumbline. It imports only this module, from this folder. The worker
and the application share three numbers in memory; one of them tells the wrapper when a block is timed.
"""

import contextlib
import cProfile
import functools
import itertools
import json
import mmap
import os
import re
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import thread as executor
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plumbline.settings import AppSettings

ASGI, IS_FACTORY, FOLDER = "PERF_WRAPPED_ASGI", "PERF_WRAPPED_IS_FACTORY", "PERF_WRAPPED_FOLDER"
PARTS = 5  # profilers that take turns
TIMED, STEPS, REQUESTS = range(3)  # 1 while a block is timed; steps of work per request; requests in timed blocks
SIZE_BYTES = 3 * 8
APP_PROFILE, APP_PID = "app.json", "app.pid"  # the profile that the application writes on SIGUSR1, and its process id
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # in names of built-in functions; differs between processes

Application = Callable[[Any, Any, Any], Awaitable[None]]  # ASGI 3


def wrapped(app: "AppSettings", make: Callable[[], Application], folder: str) -> "AppSettings":
    """Return settings that serve the application that `make` returns. `folder`: for files shared with the worker."""
    from msgspec.structs import replace

    from plumbline.services.application import IMPORT_FROM

    environ = {ASGI: app.asgi, IS_FACTORY: str(app.factory), FOLDER: folder, IMPORT_FROM: str(Path(__file__).parent)}
    escaped = {name: text.replace("{", "{{").replace("}", "}}") for name, text in environ.items()}
    return replace(app, asgi=f"{Path(__file__).stem}:{make.__name__}", factory=True, env={**app.env, **escaped})


def shared_numbers(folder: Path) -> "memoryview[float]":
    """Map the file of the shared numbers. The first process creates it, with zeros."""
    with (folder / "shared").open("a+b") as file:
        file.truncate(SIZE_BYTES)
        return memoryview(mmap.mmap(file.fileno(), SIZE_BYTES)).cast("d")


def _load() -> "tuple[Application, memoryview[float], Path]":
    from uvicorn.config import Config

    config = Config(os.environ[ASGI], factory=os.environ[IS_FACTORY] == "True", proxy_headers=False, log_config=None)
    config.load()
    folder = Path(os.environ[FOLDER])
    return config.loaded_app, shared_numbers(folder), folder


def work(steps: float) -> None:
    """Run Python code. A step takes some tenths of a microsecond and makes no garbage for the collector."""
    for step in range(int(steps)):
        str(step)


def slowed() -> Application:
    """Return the application with additional work before each HTTP response of a timed block.

    The work is done before the response, because work at the request would change how the processes alternate on their
    core. It is work and not a wait, so that it depends on the machine speed as other code does.
    """
    served, shared, _ = _load()

    async def slowed_down(scope: Any, receive: Any, send: Any) -> None:
        async def send_later(message: Any) -> None:
            if message["type"] == "http.response.start" and shared[TIMED]:
                shared[REQUESTS] += 1
                work(shared[STEPS])
            await send(message)

        await served(scope, receive, send_later)

    return slowed_down


def profiled() -> Application:
    """Return the application with a profiler that runs while it answers requests of a timed block."""
    served, shared, folder = _load()
    profilers = Profilers()
    answering = bursts = 0

    async def profiled_while_answering(scope: Any, receive: Any, send: Any) -> None:
        nonlocal answering, bursts
        if scope["type"] != "http" or not shared[TIMED]:
            await served(scope, receive, send)
            return
        answering += 1
        if answering == 1:
            profilers.start(bursts % PARTS)
        try:
            await served(scope, receive, send)
        finally:
            answering -= 1
            if answering == 0:
                profilers.stop()
                bursts += 1

    def write(*_: object) -> None:
        write_profile(folder / APP_PROFILE, profilers)

    signal.signal(signal.SIGUSR1, write)
    (folder / APP_PID).write_text(str(os.getpid()))
    return profiled_while_answering


class Profilers:
    """Profiles the code between `start` and `stop`, in this thread and in other threads.

    Since Python 3.12 a profiler of cProfile sees all threads. In older versions it sees only its own thread, so each
    job of another thread runs under a profiler of that thread.
    """

    def __init__(self) -> None:
        self._part: int | None = None  # the current part
        self._all: list[list[cProfile.Profile]] = []
        self._own = threading.local()
        if sys.version_info < (3, 12):
            self._watch_threads()

    def start(self, part: int) -> None:
        self._part = part
        self._of_thread()[part].enable()

    def stop(self) -> None:
        if self._part is not None:
            self._of_thread()[self._part].disable()
        self._part = None

    def take(self) -> list[list[cProfile.Profile]]:
        """Return the profilers of each part, and begin with new ones."""
        taken, self._all, self._own = self._all, [], threading.local()
        return [[profilers[part] for profilers in taken] for part in range(PARTS)]

    def _of_thread(self) -> list[cProfile.Profile]:
        found: list[cProfile.Profile] | None = getattr(self._own, "profilers", None)
        if found is None:
            found = self._own.profilers = [cProfile.Profile() for _ in range(PARTS)]
            self._all.append(found)
        return found

    def _job(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a job of another thread that is profiled if it begins between `start` and `stop`."""

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            if self._part is None:
                return function(*args, **kwargs)
            return self._of_thread()[self._part].runcall(function, *args, **kwargs)

        return run

    def _watch_threads(self) -> None:
        """Profile the jobs of executors (asyncio, Django), of anyio (FastAPI, Starlette), and of single threads."""
        executor._WorkItem.run = self._job(executor._WorkItem.run)  # type: ignore[method-assign]
        with contextlib.suppress(ImportError, AttributeError):
            from anyio._backends._asyncio import AsyncIOBackend

            run_in_thread = AsyncIOBackend.run_sync_in_worker_thread

            def run_job(_: object, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
                return run_in_thread(self._job(function), *args, **kwargs)

            AsyncIOBackend.run_sync_in_worker_thread = classmethod(run_job)  # type: ignore[assignment]
        start = threading.Thread.start

        def start_job(thread: Any) -> None:
            pools = thread._target is executor._worker or type(thread).__module__.startswith("anyio.")
            if self._part is not None and not pools:  # the jobs of pools are profiled one by one
                thread.run = self._job(thread.run)
            start(thread)

        threading.Thread.start = start_job  # type: ignore[method-assign, assignment]


def write_profile(
    path: Path, profilers: Profilers, operations: Sequence[int] = (), timed_s: Sequence[float] = ()
) -> None:
    """Write the profile as a `profiles.Profile`, and begin a new one."""
    parts: list[list[dict[str, object]]] = []
    for threads in profilers.take():
        parts.append([])
        for entry in itertools.chain.from_iterable(profiler.getstats() for profiler in threads):
            code = entry.code
            name, file, line = (
                (getattr(code, "co_qualname", code.co_name), code.co_filename, code.co_firstlineno)
                if isinstance(code, CodeType)
                else (
                    ADDRESS.sub("", str(code)).strip("<>").removeprefix("built-in method ").removeprefix("builtins."),
                    "",
                    0,
                )
            )
            own_s, total_s = max(entry.inlinetime, 0.0), max(entry.totaltime, 0.0)
            seen = {"name": name, "file": file, "line": line, "calls": entry.callcount}
            parts[-1].append({**seen, "own_s": own_s, "total_s": total_s})
    written = path.with_name(f".{path.name}.{os.getpid()}")
    written.write_text(
        json.dumps({"parts": parts, "operations": [*operations], "timed_s": [*timed_s]}), encoding="utf-8"
    )
    written.replace(path)
