"""The application with time added on purpose, in its own process: how the self-check slows down code under test.

uvicorn serves it in place of the application, which it wraps. Before each HTTP response it does as much work as the
test process wants, which says so in memory that both share, and only while a block is timed. Just then nobody else has
anything to do: done when the request arrives, 10 % change how the processes take turns on their core, and cost more.

Work, not time by a clock: on a machine whose speed changes, what is added has to change with it, as slower code does.
"""

import mmap
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

    from plumbline.settings import Settings

ASGI, IS_FACTORY, SHARED = "PERF_SLOWED_ASGI", "PERF_SLOWED_IS_FACTORY", "PERF_SLOWED_SHARED"
STEPS, REQUESTS = 0, 1
"""Of the two shared numbers: steps of work for each request, OFF between timed blocks; requests answered in these."""
OFF = -1.0


def work(steps: float) -> None:
    """Python at work: a step takes some tenths of a microsecond, and leaves the garbage collector nothing to do."""
    for step in range(int(steps)):
        str(step)


def instead_of_application(settings: "Settings") -> "Settings":
    """The settings with this module in place of the application, which it finds in the environment."""
    from msgspec.structs import replace

    assert settings.app is not None
    os.environ[ASGI], os.environ[IS_FACTORY] = settings.app.asgi, str(settings.app.factory)
    return replace(settings, app=replace(settings.app, asgi=f"{__name__}:make", factory=True))


def shared_numbers() -> "memoryview[float]":
    """Of the file named in the environment, which is made by whichever process comes first."""
    file_number = os.open(os.environ[SHARED], os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(file_number, 16)
        return memoryview(mmap.mmap(file_number, 16)).cast("d")
    finally:
        os.close(file_number)


def make() -> "ASGI3Application":
    """The application that uvicorn is to serve."""
    from uvicorn.config import Config

    config = Config(os.environ[ASGI], factory=os.environ[IS_FACTORY] == "True", proxy_headers=False, log_config=None)
    config.load()
    served, shared = config.loaded_app, shared_numbers()

    async def slowed(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await served(scope, receive, send)
            return

        async def send_later(message: Any) -> None:
            if message["type"] == "http.response.start" and shared[STEPS] != OFF:
                shared[REQUESTS] += 1
                work(shared[STEPS])
            await send(message)

        await served(scope, receive, send_later)

    return slowed
