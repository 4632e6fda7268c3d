"""Slows down or profiles the application in its own processes, while a block is timed.

The application may run in an environment without Plumbline, so this module imports only the standard library. The
worker and all processes of the application share a few numbers in memory.
"""

import contextlib
import cProfile
import functools
import inspect
import itertools
import json
import mmap
import os
import re
import sys
import threading
import time
from _thread import start_new_thread  # before gevent replaces it
from collections.abc import Callable, Sequence
from concurrent.futures import thread as executor
from pathlib import Path
from types import CodeType
from typing import Any

PARTS = 5  # profilers that take turns
RESUMES = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
TIMED, STEPS, REQUESTS = range(3)  # 1 while a block is timed; steps of work per request; requests in timed blocks
SIZE_BYTES = 3 * 8
ASKING, PROFILE = "app.{}.asking", "app.{}.json"  # of a process: the pipe that asks for its profile, and the profile
FINISH_LIMIT_S, POLL_S = 1.0, 0.002
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # in names of built-in functions; differs between processes
# Since Python 3.12, a profiler sees all threads, and only one can run at a time.
SEES_ALL_THREADS = sys.version_info >= (3, 12)


def shared_numbers(folder: Path) -> "memoryview[float]":
    """Map the file of the shared numbers. The first process creates it, with zeros."""
    with (folder / "shared").open("a+b") as file:
        file.truncate(SIZE_BYTES)
        return memoryview(mmap.mmap(file.fileno(), SIZE_BYTES)).cast("d")


def work(steps: float) -> None:
    """Run Python code. A step takes some tenths of a microsecond and makes no garbage for the collector."""
    for step in range(int(steps)):
        str(step)


class SlowDown:
    """Additional work before each response to a request of a timed block.

    The work is done before the response, because work at the request would change how the processes alternate on their
    core. It is work and not a wait, so that it depends on the machine speed as other code does.
    """

    def __init__(self, folder: Path) -> None:
        self._shared = shared_numbers(folder)

    def begin(self) -> bool:
        return bool(self._shared[TIMED])

    def respond(self) -> None:
        self._shared[REQUESTS] += 1
        work(self._shared[STEPS])

    def end(self) -> None:
        pass


class Profiling:
    """Profiles each process of the application while it answers requests of a timed block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shared = shared_numbers(folder)
        self._lock = threading.Lock()
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._profilers: Profilers | None = None
        self._answering: Any = _Count() if SEES_ALL_THREADS else _CountOfThread()
        self._bursts = 0
        self._lock = threading.Lock()

    def begin(self) -> bool:
        """Begin a request. Return whether it is in a timed block; then `end` has to be called."""
        if not self._shared[TIMED]:
            return False
        with self._lock:
            if self._profilers is None:
                self._profilers = Profilers()
                start_new_thread(self._wait_for_questions, (self._profilers, os.getpid()))
            self._answering.requests += 1
            if self._answering.requests == 1:
                self._profilers.start(self._bursts % PARTS)
        return True

    def respond(self) -> None:
        pass

    def end(self) -> None:
        with self._lock:
            self._answering.requests -= 1
            if self._answering.requests == 0 and self._profilers is not None:
                self._profilers.stop()
                self._bursts += 1

    def _wait_for_questions(self, profilers: "Profilers", pid: int) -> None:
        """Write the profile whenever somebody opens the pipe."""
        asking = self._folder / ASKING.format(pid)
        with contextlib.suppress(OSError):
            os.mkfifo(asking)
            while self._folder.is_dir():
                pipe = os.open(asking, os.O_RDONLY)  # returns when the pipe is opened for writing
                os.read(pipe, 1)  # returns when it is closed again
                os.close(pipe)
                deadline_s = time.monotonic() + FINISH_LIMIT_S
                while profilers.running and time.monotonic() < deadline_s:
                    time.sleep(POLL_S)
                write_profile(self._folder / PROFILE.format(pid), profilers)


class _Count:
    """The number of requests that this process answers now."""

    requests = 0


class _CountOfThread(threading.local):
    """The number of requests that this thread answers now."""

    requests = 0


class Profilers:
    """Profiles the code between `start` and `stop`, in this thread and in other threads.

    Since Python 3.12 a profiler of cProfile sees all threads. In older versions it sees only its own thread, so each
    job of another thread runs under a profiler of that thread.

    SQLAlchemy's async engine and gevent run code in greenlets. A profiler has one stack of calls, and would mix up the
    calls of greenlets that take turns. So it pauses while other greenlets run, and counts their time as that of the
    function that switched to them.
    """

    def __init__(self) -> None:
        self._part: int | None = None  # the current part
        self._active: cProfile.Profile | None = None  # since Python 3.12
        self._all: list[list[cProfile.Profile]] = []
        self._own = threading.local()
        self._greenlets = threading.local()  # of each thread: the greenlet that is profiled
        if not SEES_ALL_THREADS:
            self._watch_threads()

    @property
    def running(self) -> bool:
        return self._part is not None

    def start(self, part: int) -> None:
        self._watch_greenlets()
        self._part = part
        active = self._of_thread()[part]
        self._active = self._own.active = active
        active.enable()

    def stop(self) -> None:
        """End what `start` has begun: in this thread, or since Python 3.12 in any thread."""
        active = self._active if SEES_ALL_THREADS else getattr(self._own, "active", None)
        if active is not None:
            active.disable()
        self._part = self._active = self._own.active = None

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

    def _watch_greenlets(self) -> None:
        """Pause the profiler of this thread while another greenlet than the current one runs."""
        greenlet = sys.modules.get("greenlet")
        if greenlet is None:
            return
        watched = hasattr(self._greenlets, "profiled")
        self._greenlets.profiled = greenlet.getcurrent()
        if watched:
            return
        paused: list[tuple[cProfile.Profile, Callable[[], object]]] = []

        def switched(event: str, greenlets: tuple[object, object]) -> None:
            origin, target = greenlets
            active = getattr(self._own, "active", None)
            if origin is self._greenlets.profiled and active is not None:
                paused[:] = [(active, _pause(active))]
            elif target is self._greenlets.profiled and paused:
                profiler, resume = paused.pop()
                if profiler is active:  # it was not stopped meanwhile
                    resume()
            if before is not None:
                before(event, greenlets)

        before = greenlet.settrace(switched)

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


def _pause(profiler: cProfile.Profile) -> Callable[[], object]:
    """Stop the profiler without ending its calls. Return a function that lets it go on."""
    if not SEES_ALL_THREADS:
        sys.setprofile(None)
        return profiler.enable
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    set_callback = functools.partial(monitoring.register_callback, monitoring.PROFILER_ID)
    events = [event for name, event in vars(monitoring.events).items() if name.isupper() and event]
    callbacks = [(event, set_callback(event, None)) for event in events]
    return lambda: [set_callback(*one) for one in callbacks]


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
            resumes = isinstance(code, CodeType) and bool(code.co_flags & RESUMES)
            seen = {"name": name, "file": file, "line": line, "calls": entry.callcount, "resumes": resumes}
            parts[-1].append({**seen, "own_s": own_s, "total_s": total_s})
    written = path.with_name(f".{path.name}.{os.getpid()}")
    written.write_text(
        json.dumps({"parts": parts, "operations": [*operations], "timed_s": [*timed_s]}), encoding="utf-8"
    )
    written.replace(path)
