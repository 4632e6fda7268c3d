"""Finds the routes of an application, by its OpenAPI document or its framework."""

import importlib
import re
import traceback
from collections.abc import Iterator
from typing import Any

INSIDE = ("app", "wsgi_application", "asgi_app", "wsgi_app", "other_asgi_app", "_app", "application")
PARAMETER = re.compile(r"<(?:[^:<>]*:)?(\w+)>|\{(\w+)(?::[^{}]*)?\}")
NAMED_GROUP = re.compile(r"\(\?P<(\w+)>[^()]*\)")
# Views for people, which need a login or a browser.
FOREIGN = {"admin", "djdt", "debug_toolbar", "silk"}
TOOLBAR = ("debugtoolbar.", "_debug_toolbar.")  # of Flask-DebugToolbar
METHODS = ("get", "post", "put", "patch", "delete")
MOST_WRAPPED = 8

Route = dict[str, Any]
Found = tuple[list[dict[str, Any]], list[Route]]


def routes_of(application: Any, prefix: str = "") -> Found:
    """Return OpenAPI documents with the prefix of their paths, and the routes that the framework lists."""
    for _ in range(MOST_WRAPPED):
        kind = _kind(application)
        if kind:
            return READERS[kind](application, prefix)
        inside = (getattr(application, name, None) for name in INSIDE)
        application = next((one for one in inside if one is not None and not isinstance(one, str)), None)
        if application is None:
            break
    return [], []


def _kind(application: Any) -> str:
    names = {f"{one.__module__}.{one.__name__}" for one in type(application).__mro__}
    if names & {"django.core.handlers.asgi.ASGIHandler", "django.core.handlers.wsgi.WSGIHandler"}:
        return "django"
    found = {name.partition(".")[0] for name in names} & READERS.keys()
    wanted = {"starlette": "routes", "litestar": "route_handler_method_map", "flask": "url_map"}
    return next((name for name in sorted(found) if hasattr(application, wanted[name])), "")


def _starlette(application: Any, prefix: str) -> Found:
    documents: list[dict[str, Any]] = []
    if hasattr(application, "openapi"):
        own = {getattr(application, name, None) for name in ("docs_url", "redoc_url", "openapi_url")}
        own.add(getattr(application, "swagger_ui_oauth2_redirect_url", None))
        try:
            documents = [{"prefix": prefix, "document": application.openapi()}]
        except Exception:
            traceback.print_exc()
    else:
        own = set()
    routes: list[Route] = []
    for one in _flat(application.routes):
        path = str(getattr(one, "path", ""))
        if hasattr(one, "methods") and path not in own:
            routes += [_route(method, prefix + path, str(one.name)) for method in sorted(one.methods or {"GET"})]
        elif hasattr(one, "app") and hasattr(one, "routes") and not hasattr(one, "host"):  # a mount
            inner = routes_of(one.app, prefix + path)
            inner = inner if any(inner) or not one.routes else _starlette(one, prefix + path)
            documents, routes = documents + inner[0], routes + inner[1]
    return documents, routes


def _flat(routes: Any) -> Iterator[Any]:
    """Yield the routes, also those of included routers, which FastAPI 0.163 keeps together."""
    for one in routes:
        for inner in one.effective_route_contexts() if hasattr(one, "effective_route_contexts") else [one]:
            yield inner if getattr(inner, "methods", None) else getattr(inner, "starlette_route", None) or inner


def _litestar(application: Any, prefix: str) -> Found:
    documents = []
    if application.openapi_config is not None:
        document = application.openapi_schema.to_schema()
        documents = [{"prefix": prefix, "document": document}]
    own = str(getattr(application.openapi_config, "path", None) or "/schema")
    routes: list[Route] = []
    for one in application.routes:
        path = str(one.path_format)
        if hasattr(one, "methods") and path.partition(own)[0] != "":
            routes += [_route(str(getattr(method, "value", method)), prefix + path, "") for method in one.methods]
    return documents, routes


def _flask(application: Any, prefix: str) -> Found:
    every = application.url_map.iter_rules()
    rules = [one for one in every if not one.endpoint.endswith("static") and not one.endpoint.startswith(TOOLBAR)]
    return [], [_route(method, prefix + one.rule, one.endpoint) for one in rules for method in sorted(one.methods)]


def _django(_application: Any, prefix: str) -> Found:
    resolver = importlib.import_module("django.urls").get_resolver()
    return [], list(_patterns(resolver.url_patterns, prefix + "/"))


def _patterns(patterns: Any, before: str) -> Iterator[Route]:
    for one in patterns:
        text = getattr(one.pattern, "_route", None)
        text = str(one.pattern) if text is None else str(text)
        if hasattr(one.pattern, "_regex"):
            text = NAMED_GROUP.sub(r"<\1>", text.removeprefix("^")).removesuffix("$").replace("\\Z", "")
            text = re.sub(r"\\([./-])", r"\1", text).removesuffix("/?")
        path = before + text.removeprefix("/")
        if hasattr(one, "url_patterns"):
            if FOREIGN.isdisjoint({one.app_name, one.namespace}):
                yield from _patterns(one.url_patterns, path)
        else:
            yield from (_route(method, path, one.name or "") for method in _methods(one.callback))


def _methods(view: Any) -> list[str]:
    """Return the methods of a Django view; GET if it does not say which it takes."""
    if actions := getattr(view, "actions", None):  # Django REST framework
        return [name.upper() for name in actions]
    cls = getattr(view, "view_class", None) or getattr(view, "cls", None)
    if cls is None:
        return ["GET"]
    allowed = getattr(cls, "http_method_names", METHODS)
    return [name.upper() for name in METHODS if name in allowed and hasattr(cls, name)]


def _route(method: str, path: str, name: str) -> Route:
    shown = PARAMETER.sub(lambda found: "{%s}" % (found[1] or found[2]), path)
    has_parameters = bool(PARAMETER.search(path)) or any(letter in path for letter in "()[]*+?\\<")
    return {"method": method, "path": shown, "has_parameters": has_parameters, "name": name}


READERS = {"starlette": _starlette, "litestar": _litestar, "flask": _flask, "django": _django}
