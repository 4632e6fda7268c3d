"""Serve a wrapper in place of the application, in its own process: to slow it down on purpose, or to profile it.

The application may run in an environment without Plumbline, which imports this module alone, from its folder.
Worker and application share three numbers in memory, by which the wrapper knows when a block is timed.
"""

import cProfile
import json
import mmap
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plumbline.settings import AppSettings

ASGI, IS_FACTORY, FOLDER = "PERF_WRAPPED_ASGI", "PERF_WRAPPED_IS_FACTORY", "PERF_WRAPPED_FOLDER"
PARTS = 5  # profilers that run in turn
TIMED, STEPS, REQUESTS = range(3)  # 1 while a block is timed; work for each request; requests in timed blocks
SIZE_BYTES = 3 * 8
APP_PROFILE, APP_PID = "app.json", "app.pid"  # what a profiled application writes on SIGUSR1, and its process id

Application = Callable[[Any, Any, Any], Awaitable[None]]  # by ASGI 3


def wrapped(app: "AppSettings", make: Callable[[], Application], folder: str) -> "AppSettings":
    """Return the settings of what `make` returns in the application's process; `folder`: for what that shares."""
    from msgspec.structs import replace

    from plumbline.services.application import IMPORT_FROM

    environ = {ASGI: app.asgi, IS_FACTORY: str(app.factory), FOLDER: folder, IMPORT_FROM: str(Path(__file__).parent)}
    escaped = {name: text.replace("{", "{{").replace("}", "}}") for name, text in environ.items()}
    return replace(app, asgi=f"{Path(__file__).stem}:{make.__name__}", factory=True, env={**app.env, **escaped})


def shared_numbers(folder: Path) -> "memoryview[float]":
    """Map the file of the shared numbers, which the first of both processes makes: all are 0 at first."""
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
    """Run Python code; a step takes some tenths of a microsecond and leaves the garbage collector nothing to do."""
    for step in range(int(steps)):
        str(step)


def slowed() -> Application:
    """Return the application, which works as much as the worker asks for before each HTTP response of a timed block.

    Done when the request arrives, the work would change how the processes alternate on their core. A wait by the clock
    would not follow the machine speed.
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
    """Return the application, profiled while it answers requests of a timed block."""
    served, shared, folder = _load()
    profilers = [cProfile.Profile() for _ in range(PARTS)]
    answering = bursts = 0

    async def profiled_while_answering(scope: Any, receive: Any, send: Any) -> None:
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
        write_profile(folder / APP_PROFILE, profilers)
        for profiler in profilers:  # for the next benchmark
            profiler.clear()

    signal.signal(signal.SIGUSR1, write)
    (folder / APP_PID).write_text(str(os.getpid()))
    return profiled_while_answering


def write_profile(path: Path, profilers: Sequence[cProfile.Profile], operations: Sequence[int] = ()) -> None:
    """Write a `profiles.Profile`."""
    parts: list[list[dict[str, object]]] = [[] for _ in profilers]
    for part, profiler in zip(parts, profilers, strict=True):
        for entry in profiler.getstats():
            code = entry.code
            name, file, line = (
                (getattr(code, "co_qualname", code.co_name), code.co_filename, code.co_firstlineno)
                if isinstance(code, CodeType)
                else (str(code).strip("<>").removeprefix("built-in method ").removeprefix("builtins."), "", 0)
            )
            own_s, total_s = max(entry.inlinetime, 0.0), max(entry.totaltime, 0.0)
            seen = {"name": name, "file": file, "line": line, "calls": entry.callcount}
            part.append({**seen, "own_s": own_s, "total_s": total_s})
    written = path.with_name(f".{path.name}.{os.getpid()}")
    written.write_text(json.dumps({"parts": parts, "operations": [*operations]}), encoding="utf-8")
    written.replace(path)
