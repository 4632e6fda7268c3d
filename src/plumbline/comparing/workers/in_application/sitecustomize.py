"""Python imports this module at the start of each process of an application that is slowed down or profiled.

It finds the requests in whatever server serves them: it wraps the functions that frameworks answer requests with, when
the application imports them. Other processes of a comparison do not have it.
"""

import functools
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

MODE, FOLDER = "PERF_IN_APPLICATION", "PERF_IN_APPLICATION_FOLDER"  # environment variables
PROFILED = "profiled"  # a value of MODE
# By module: the class and the method that answers a request.
ENTRIES = {
    "django.core.handlers.wsgi": ("WSGIHandler", "__call__"),
    "django.core.handlers.asgi": ("ASGIHandler", "__call__"),
    "flask.app": ("Flask", "__call__"),
    "starlette.applications": ("Starlette", "__call__"),
    "litestar.app": ("Litestar", "__call__"),
}
# By module: the class and the method of a server that loads the application, of any framework. `load` of uvicorn keeps
# it as an attribute.
LOADERS = {"uvicorn.config": ("Config", "load"), "gunicorn.app.wsgiapp": ("WSGIApplication", "load")}
LOADED = "loaded_app"

# Whether a function further out has found this request.
_found: ContextVar[bool] = ContextVar("plumbline_found", default=False)


def is_asgi(application: Any) -> bool:
    """Return whether an application, or a method that answers requests, is of ASGI. Otherwise it is of WSGI."""
    call = application if inspect.isroutine(application) else type(application).__call__
    return inspect.iscoroutinefunction(call)


def wrapped(application: Any, requests: Any) -> Callable[..., Any]:
    """Return the application, which reports to `requests` the begin and the end of each request.

    The arguments have names, because servers try whether an application needs them.
    """
    if is_asgi(application):

        async def asgi(scope: Any, receive: Any, send: Any) -> None:
            await _answer_asgi(requests, application, scope, receive, send)

        return asgi
    return lambda environ, start_response: _answer_wsgi(requests, application, environ, start_response)


def wrapped_method(method: Any, requests: Any) -> Callable[..., Any]:
    """Return a method of an application that answers requests, as `wrapped` does."""
    if is_asgi(method):

        async def asgi(self: Any, scope: Any, receive: Any, send: Any) -> None:
            await _answer_asgi(requests, functools.partial(method, self), scope, receive, send)

        return asgi
    return lambda self, environ, start_response: _answer_wsgi(
        requests, functools.partial(method, self), environ, start_response
    )


def _answer_wsgi(requests: Any, answer: Callable[..., Any], environ: Any, start_response: Any) -> Any:
    if _found.get() or not requests.begin():
        return answer(environ, start_response)
    token = _found.set(True)
    try:
        response = answer(environ, start_response)
        requests.respond()
        return response
    finally:
        _found.reset(token)
        requests.end()


async def _answer_asgi(requests: Any, answer: Callable[..., Any], scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http" or _found.get() or not requests.begin():
        await answer(scope, receive, send)
        return

    async def send_later(message: Any) -> None:
        if message["type"] == "http.response.start":
            requests.respond()
        await send(message)

    token = _found.set(True)
    try:
        await answer(scope, receive, send_later)
    finally:
        _found.reset(token)
        requests.end()


class Finder:
    """Wraps the functions of ENTRIES and LOADERS when their modules are imported."""

    def __init__(self, requests: Any) -> None:
        self._requests = requests
        self._left = {**ENTRIES, **LOADERS}

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        del path, target
        if name not in self._left:
            return None
        owner, method = self._left.pop(name)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if found := getattr(module, owner, None):
                before = getattr(found, method)
                wrap = self._loading(before) if name in LOADERS else wrapped_method(before, self._requests)
                setattr(found, method, wrap)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _loading(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def load(server: Any) -> Any:
            application = method(server)
            if application is not None:
                return wrapped(application, self._requests)
            setattr(server, LOADED, wrapped(getattr(server, LOADED), self._requests))
            return None

        return load


# Plumbline imports this module under its full name.
if __name__ == "sitecustomize":
    if os.environ.get(FOLDER):
        from plumbline_profiling import Profiling, SlowDown  # type: ignore[import-not-found]

        kind = Profiling if os.environ.get(MODE) == PROFILED else SlowDown
        sys.meta_path.insert(0, Finder(kind(Path(os.environ[FOLDER]))))
    sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).parent)]
    ours = sys.modules.pop("sitecustomize")
    try:  # the next module of this name: the user's own
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError:
        sys.modules["sitecustomize"] = ours
