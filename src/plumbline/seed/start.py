"""Starts an application, which makes its tables itself, for as long as they are filled."""

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator, Callable
from typing import Any

Application = Callable[..., Any]


class NotStarted(Exception):
    """The application can't be imported, or its start has failed."""


def application_at(target: str) -> Application:
    """Import an application, such as "shop.main:app", or "shop.main:make_app()" for a factory. Raises NotStarted."""
    module, _, path = target.removesuffix("()").partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
        return found() if target.endswith("()") else found  # type: ignore[no-any-return]
    except (Exception, SystemExit) as error:
        raise NotStarted(f"{type(error).__name__}: {error}") from error


@contextlib.asynccontextmanager
async def started(application: Application | None) -> AsyncIterator[None]:
    """Keep an ASGI application between its start and its end. Any other one has started with its import.

    Raises NotStarted.
    """
    if application is None or not _is_asgi(application):
        yield
        return
    to_it, from_it = asyncio.Queue[dict[str, Any]](), asyncio.Queue[dict[str, Any]]()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    running: asyncio.Future[Any] = asyncio.ensure_future(application(scope, to_it.get, from_it.put))
    await to_it.put({"type": "lifespan.startup"})
    answer = asyncio.ensure_future(from_it.get())
    await asyncio.wait([running, answer], return_when=asyncio.FIRST_COMPLETED)
    try:
        if answer.done() and answer.result()["type"] == "lifespan.startup.failed":
            lines = str(answer.result().get("message", "")).strip().splitlines()
            raise NotStarted(lines[-1] if lines else "its start failed")
        yield  # an application that has ended knows no start, which servers allow
    finally:
        answer.cancel()
        await to_it.put({"type": "lifespan.shutdown"})
        with contextlib.suppress(Exception):  # its rows are written
            await running


def _is_asgi(application: Application) -> bool:
    call = getattr(application, "__call__", None)  # noqa: B004
    return asyncio.iscoroutinefunction(application) or asyncio.iscoroutinefunction(call)
