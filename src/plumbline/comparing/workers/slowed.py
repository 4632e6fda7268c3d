"""The application slowed down on purpose, in its own process: for the self-check.

Before each HTTP response of a timed block it does as much work as the worker asks for. Done when the request arrives,
the work would change how the processes alternate on their core. A wait by the clock would not follow the machine speed.
"""

from typing import TYPE_CHECKING, Any

from plumbline.comparing.workers.asgi_wrapper import REQUESTS, STEPS, TIMED, load

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application


def work(steps: float) -> None:
    """Run Python code; a step takes some tenths of a microsecond and leaves the garbage collector nothing to do."""
    for step in range(int(steps)):
        str(step)


def make() -> "ASGI3Application":
    """Return the application for uvicorn to serve."""
    served, shared, _ = load()

    async def slowed(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await served(scope, receive, send)
            return

        async def send_later(message: Any) -> None:
            if message["type"] == "http.response.start" and shared[TIMED]:
                shared[REQUESTS] += 1
                work(shared[STEPS])
            await send(message)

        await served(scope, receive, send_later)

    return slowed
