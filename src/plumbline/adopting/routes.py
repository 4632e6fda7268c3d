"""The routes of an application: those of its OpenAPI documents, then further ones that its framework lists."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from plumbline.adopting.documents import MOST_NESTED, PARTS, elements, example_in, get, items, resolved
from plumbline.adopting.made_up import JSON, made_up, token_in
from plumbline.adopting.tried import Route, Wants

METHODS = ("get", "post", "put", "patch", "delete")
# Words in the path of a GET route that may change something.
CHANGES = re.compile(
    r"(logout|signout|delete|remove|erase|wipe|trash|truncate|reset|unsubscribe|cancel|revoke|purge|destroy)\w*"
)
# Those that a POST request does if the path takes one: GET gets the form.
BY_FORMS = re.compile(
    r"subscribe|drop|clear|flush|restart|shutdown|stop|kill|disable|enable|activate|deactivate|confirm|approve|reject"
    r"|send|trigger|sync|import|migrate|seed|create|update|insert|refund|pay|checkout|invite|accept"
)
# Pages about the routes, which no framework lists in its document.
PAGES = re.compile(
    r".*/(docs|redoc|(openapi|apispec)(\.\w+)?|swagger([-_]ui)?|scalar|rapidoc|elements)/?", re.IGNORECASE
)
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def merge(documents: Iterable[Mapping[str, Any]], listed: Iterable[Mapping[str, Any]]) -> tuple[Route, ...]:
    """Return the routes of OpenAPI documents, each with a `prefix`, and those that only the framework lists."""
    names = {(one["method"], one["path"]): str(one["name"]) for one in listed}
    found: dict[tuple[str, str], Route] = {}
    for one in documents:
        for route in routes_in(one["document"], one["prefix"], names):
            found.setdefault((route.method, route.path), route)
    has_document = bool(found)
    for one in listed:
        if one["method"].lower() in METHODS and not (has_document and PAGES.fullmatch(one["path"])):
            route = Route(one["method"], one["path"], one["has_parameters"], name=str(one["name"]))
            found.setdefault((route.method, route.path), route)
    return tuple(found.values())


def routes_in(document: Any, prefix: str = "", names: Mapping[tuple[str, str], str] = {}) -> Iterator[Route]:
    """Yield the routes of an OpenAPI document. A malformed part is skipped."""
    token_urls = [*_token_urls(document)]
    for path, operations in items(get(document, "paths")):
        for method, operation in items(operations):
            if method not in METHODS or not isinstance(operation, dict):
                continue
            given = [*elements(get(operations, "parameters")), *elements(get(operation, "parameters"))]
            parameters = [resolved(document, one) for one in given]
            required = any(get(one, "required") is True for one in parameters)
            key = method.upper(), prefix + path
            name = names.get(key) or str(operation.get("operationId") or "")
            yield Route(
                *key,
                has_parameters="{" in path or required,
                body=_body(document, operation),
                name=name,
                made_up=made_up(document, operation) if method == "post" else None,
                wants=_wants(document, operation),
                token=token_in(document, operation) if method == "post" else None,
                is_token_url=method == "post" and any(key[1].endswith(one) for one in token_urls),
                is_documented=True,
            )


def may_change_something(route: Route, posts: Collection[str] = ()) -> bool:
    """Return whether the path of a GET route has a word such as "logout" or "send". `posts`: paths of POST routes."""
    parts = [re.sub("[^a-z]", "", part.lower()) for part in route.path.split("/")]
    words = [*parts, *map(str.lower, WORD.findall(route.path))]
    is_form = route.path in posts
    return any(CHANGES.fullmatch(word) or (not is_form and BY_FORMS.fullmatch(word)) for word in words)


def _wants(document: Any, operation: Any) -> Wants:
    """Return which login an operation wants. `perhaps`: only the whole document says that its routes want one."""
    own = get(operation, "security")
    asked = own if isinstance(own, list) else elements(get(document, "security"))
    if {} in asked or not asked:
        return ""
    schemes = get(get(document, "components"), "securitySchemes")
    found = [resolved(document, get(schemes, name)) for one in asked for name, _ in items(one)]
    if any(str(get(one, "scheme")).lower() == "basic" for one in found):
        return "basic"
    return "login" if asked is own else "perhaps"


def _token_urls(document: Any) -> Iterator[str]:
    """Yield the ends of the paths at which OAuth2 gives a token for a password."""
    for _, scheme in items(get(get(document, "components"), "securitySchemes")):
        flow = get(get(resolved(document, scheme), "flows"), "password")
        if isinstance(url := get(flow, "tokenUrl"), str) and (path := urlsplit(url).path.strip("./")):
            yield f"/{path}"


def _body(document: Any, operation: Any) -> Any:
    """Return an example of the JSON body that an operation takes; None if the schema has none."""
    content = get(resolved(document, get(operation, "requestBody")), "content")
    media = next((one for kind, one in items(content) if JSON.match(kind)), None)
    if (example := example_in(document, media)) is not None:
        return example
    schema = get(media, "schema")
    # Defaults alone are no example: nobody has said that this request makes sense.
    return _of_schema(document, schema, MOST_NESTED) if _has_example(document, schema, MOST_NESTED) else None


def _has_example(document: Any, schema: Any, levels: int) -> bool:
    schema = resolved(document, schema)
    if levels == 0 or example_in(document, schema) is not None:
        return levels > 0
    parts = [one for name in PARTS for one in elements(get(schema, name))]
    properties = [one for _, one in items(get(schema, "properties"))]
    return any(_has_example(document, one, levels - 1) for one in [*parts, *properties])


def _of_schema(document: Any, schema: Any, levels: int) -> Any:
    """Return the example or default of a schema, or an object of those of its properties."""
    schema = resolved(document, schema)
    if (example := example_in(document, schema)) is not None:
        return example
    if (default := get(schema, "default")) is not None or levels == 0:
        return default
    properties = get(schema, "properties")
    if not isinstance(properties, dict):
        parts = [one for name in PARTS for one in elements(get(schema, name))]
        return next((one for part in parts if (one := _of_schema(document, part, levels - 1)) is not None), None)
    values = {name: _of_schema(document, one, levels - 1) for name, one in properties.items()}
    required = elements(get(schema, "required"))
    if not properties or any(values.get(name) is None for name in required):
        return None
    return {name: value for name, value in values.items() if value is not None}
