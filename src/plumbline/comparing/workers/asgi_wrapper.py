"""Serve a wrapper in place of the application: to slow it down (slowed.py) or to profile it (profiler.py).

Worker and application share three numbers in memory, by which the wrapper knows when a block is timed.
"""

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from plumbline.settings import Settings

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

ASGI, IS_FACTORY, FOLDER = "PERF_WRAPPED_ASGI", "PERF_WRAPPED_IS_FACTORY", "PERF_WRAPPED_FOLDER"
# The shared numbers: 1 while a block is timed; steps of work for each request; requests answered in timed blocks.
TIMED, STEPS, REQUESTS = range(3)
SIZE_BYTES = 3 * 8


def wrapped(settings: Settings, make: "Callable[[], ASGI3Application]", folder: str) -> Settings:
    """Return the settings with the application that `make` returns, in its process; `folder`: for what that shares."""
    if settings.app is None:
        return settings
    environ = {ASGI: settings.app.asgi, IS_FACTORY: str(settings.app.factory), FOLDER: folder}
    escaped = {name: text.replace("{", "{{").replace("}", "}}") for name, text in environ.items()}
    asgi = f"{make.__module__}:{make.__name__}"
    return replace(settings, app=replace(settings.app, asgi=asgi, factory=True, env={**settings.app.env, **escaped}))


def load() -> "tuple[ASGI3Application, memoryview[float], Path]":
    """Return the wrapped application, the shared numbers, and the shared folder. In the application's process."""
    from uvicorn.config import Config

    config = Config(os.environ[ASGI], factory=os.environ[IS_FACTORY] == "True", proxy_headers=False, log_config=None)
    config.load()
    folder = Path(os.environ[FOLDER])
    return config.loaded_app, shared_numbers(folder), folder


def shared_numbers(folder: Path) -> "memoryview[float]":
    """Map the file of the shared numbers, which the first of both processes makes: all are 0 at first."""
    file_number = os.open(folder / "shared", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(file_number, SIZE_BYTES)
        return memoryview(mmap.mmap(file_number, SIZE_BYTES)).cast("d")
    finally:
        os.close(file_number)
