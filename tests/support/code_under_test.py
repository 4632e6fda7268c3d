"""Helpers for tests of the code under test: a small application, and waiting for its output."""

import time
from collections.abc import Callable

import pytest

from plumbline.services.application import Process
from plumbline.services.errors import NotReady
from plumbline.services.services import Services

# A time limit that a slow machine meets.
LIMIT_S = 30.0

HEALTHY = """
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def health(request):
        return PlainTextResponse("well")

    app = Starlette(routes=[Route("/health", health)])
"""


def until(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.01)


def failure(app: Process, limit_s: float = LIMIT_S) -> str:
    """Return the message about an application that does not become ready."""
    with pytest.raises(NotReady) as caught:
        app.wait_ready(limit_s)
    return str(caught.value)


def start(services: Services) -> None:
    services.begin()
    services.wait_ready()
    services.start_application()
