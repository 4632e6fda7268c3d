"""The routes of an application: those of its OpenAPI documents, then further ones that its framework lists."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from plumbline.adopting.tried import Route

METHODS = ("get", "post", "put", "patch", "delete")
JSON = re.compile(r"application/([\w.-]+\+)?json")
MOST_NESTED = 5  # levels of a schema
# Words in the path of a GET route that may change something.
CHANGES = re.compile(
    r"(logout|signout|delete|remove|reset|unsubscribe|cancel|revoke|purge|destroy)\w*|subscribe|drop|clear|flush"
    r"|restart|shutdown|stop|kill|disable|enable|activate|deactivate|confirm|approve|reject|send|trigger|sync|import"
    r"|migrate|seed|create|update|insert|refund|pay|checkout|invite|accept"
)
# Pages about the routes, which no framework lists in its document.
PAGES = re.compile(r".*/(docs|redoc|openapi(\.\w+)?|swagger([-_]ui)?|scalar|rapidoc|elements)/?", re.IGNORECASE)
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")

PARTS = ("allOf", "anyOf", "oneOf")  # of an OpenAPI schema


def merge(documents: Iterable[Mapping[str, Any]], listed: Iterable[Mapping[str, Any]]) -> tuple[Route, ...]:
    """Return the routes of OpenAPI documents, each with a `prefix`, and those that only the framework lists."""
    names = {(one["method"], one["path"]): str(one["name"]) for one in listed}
    found: dict[tuple[str, str], Route] = {}
    for one in documents:
        for route in routes_in(one["document"], one["prefix"], names):
            found.setdefault((route.method, route.path), route)
    for one in listed:
        if one["method"].lower() in METHODS and not (found and PAGES.fullmatch(one["path"])):
            route = Route(one["method"], one["path"], one["has_parameters"], name=str(one["name"]))
            found.setdefault((route.method, route.path), route)
    return tuple(found.values())


def routes_in(document: Any, prefix: str = "", names: Mapping[tuple[str, str], str] = {}) -> Iterator[Route]:
    """Yield the routes of an OpenAPI document. A malformed part is skipped."""
    for path, operations in _items(_get(document, "paths")):
        for method, operation in _items(operations):
            if method not in METHODS or not isinstance(operation, dict):
                continue
            given = [*_list(_get(operations, "parameters")), *_list(_get(operation, "parameters"))]
            parameters = [_resolved(document, one) for one in given]
            required = any(_get(one, "required") is True for one in parameters)
            key = method.upper(), prefix + path
            name = names.get(key) or str(operation.get("operationId") or "")
            yield Route(*key, "{" in path or required, _body(document, operation), name)


def may_change_something(route: Route) -> bool:
    """Return whether the path of a GET route has a word such as "logout" or "delete"."""
    parts = [re.sub("[^a-z]", "", part.lower()) for part in route.path.split("/")]
    return any(CHANGES.fullmatch(word) for word in [*parts, *map(str.lower, WORD.findall(route.path))])


def _body(document: Any, operation: Mapping[str, Any]) -> Any:
    """Return an example of the JSON body that an operation takes; None if the schema has none."""
    content = _get(_resolved(document, _get(operation, "requestBody")), "content")
    media = next((one for kind, one in _items(content) if JSON.match(kind)), None)
    if (example := _example(document, media)) is not None:
        return example
    schema = _get(media, "schema")
    # Defaults alone are no example: nobody has said that this request makes sense.
    return _of_schema(document, schema, MOST_NESTED) if _has_example(document, schema, MOST_NESTED) else None


def _has_example(document: Any, schema: Any, levels: int) -> bool:
    schema = _resolved(document, schema)
    if levels == 0 or _example(document, schema) is not None:
        return levels > 0
    parts = [one for name in PARTS for one in _list(_get(schema, name))]
    properties = [one for _, one in _items(_get(schema, "properties"))]
    return any(_has_example(document, one, levels - 1) for one in [*parts, *properties])


def _example(document: Any, holder: Any) -> Any:
    """Return `example`, or the first of `examples`, which is a list in a schema and a table in a media type."""
    if (example := _get(holder, "example")) is not None:
        return example
    examples = _get(holder, "examples")
    if isinstance(examples, dict):
        return next((_get(_resolved(document, one), "value") for one in examples.values()), None)
    return examples[0] if isinstance(examples, list) and examples else None


def _of_schema(document: Any, schema: Any, levels: int) -> Any:
    """Return the example or default of a schema, or an object of those of its properties."""
    schema = _resolved(document, schema)
    if (example := _example(document, schema)) is not None:
        return example
    if (default := _get(schema, "default")) is not None or levels == 0:
        return default
    properties = _get(schema, "properties")
    if not isinstance(properties, dict):
        parts = [one for name in PARTS for one in _list(_get(schema, name))]
        return next((one for part in parts if (one := _of_schema(document, part, levels - 1)) is not None), None)
    values = {name: _of_schema(document, one, levels - 1) for name, one in properties.items()}
    required = _list(_get(schema, "required"))
    if not properties or any(values.get(name) is None for name in required):
        return None
    return {name: value for name, value in values.items() if value is not None}


def _resolved(document: Any, part: Any) -> Any:
    """Follow a `$ref` within the document."""
    for _ in range(MOST_NESTED):
        reference = _get(part, "$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        part = document
        for name in reference[2:].split("/"):
            part = _get(part, name.replace("~1", "/").replace("~0", "~"))
    return part


def _get(part: Any, name: str) -> Any:
    return part.get(name) if isinstance(part, dict) else None


def _items(part: Any) -> list[tuple[str, Any]]:
    return [(str(name), one) for name, one in part.items()] if isinstance(part, dict) else []


def _list(part: Any) -> list[Any]:
    return part if isinstance(part, list) else []
