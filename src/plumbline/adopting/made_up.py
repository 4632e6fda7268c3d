"""Made-up bodies for the sign-up and the login of a user, from the schemas of OpenAPI documents."""

import re
from typing import Any, Literal

from msgspec import Struct

from plumbline.adopting.documents import MOST_NESTED, PARTS, elements, example_in, get, items, properties_of, resolved

NAME, EMAIL, PASSWORD = "plumbline", "plumbline@example.com", "Plumbline-1-benchmark"
JSON = re.compile(r"application/([\w.-]+\+)?json")
FORM = re.compile(r"application/x-www-form-urlencoded|multipart/form-data")
USER_NAME = re.compile(r"(user_?name|login|identifier|user|account|handle|nick_?name)", re.IGNORECASE)
TOKEN = re.compile(r"(access|auth|id)?_?(token|jwt|key)|access", re.IGNORECASE)
FORMATS = {
    "email": EMAIL,
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "uri": "https://example.com/",
}


class MadeUp(Struct, frozen=True):
    """The body of a request: its required fields, and those of a user."""

    how: Literal["json", "data"]  # the argument of httpx: JSON, or a form
    values: dict[str, Any]


def is_password(name: str) -> bool:
    return "password" in name.lower()


def is_email(name: str) -> bool:
    return "mail" in name.lower()


def is_user_name(name: str) -> bool:
    return USER_NAME.fullmatch(name) is not None


def made_up(document: Any, operation: Any) -> MadeUp | None:
    """Return a body for an operation; None if its schema names no password, or needs what can't be made up."""
    content = get(resolved(document, get(operation, "requestBody")), "content")
    for kind, media in items(content):
        if not (JSON.match(kind) or FORM.match(kind)):
            continue
        properties, required = properties_of(document, get(media, "schema"))
        wanted = [name for name in properties if name in required]
        for is_wanted in (lambda name: is_email(name) or is_user_name(name), is_password):
            if not any(map(is_wanted, wanted)):
                wanted += [name for name in properties if is_wanted(name)][:1]
        values = {name: _value(document, name, properties[name], MOST_NESTED) for name in wanted}
        if any(map(is_password, values)) and None not in values.values():
            return MadeUp("json" if JSON.match(kind) else "data", values)
    return None


def token_in(document: Any, operation: Any) -> tuple[str, ...] | None:
    """Return the names under which an answer has its token, () if it has none, None if this is not documented."""
    answers = [one for status, one in items(get(operation, "responses")) if status.startswith("2")]
    for answer in answers:
        content = get(resolved(document, answer), "content")
        schema = next((get(media, "schema") for kind, media in items(content) if JSON.match(kind)), None)
        for part in [schema, *(one for name in PARTS for one in elements(get(resolved(document, schema), name)))]:
            properties, _ = properties_of(document, part)
            places: list[tuple[str, ...]] = [(name,) for name in properties]
            places += [(name, inner) for name in properties for inner in properties_of(document, properties[name])[0]]
            if properties:
                return next((place for place in places if TOKEN.fullmatch(place[-1])), ())
        if content is None and "204" in dict(items(get(operation, "responses"))):
            return ()
    return None


def _value(document: Any, name: str, schema: Any, levels: int) -> Any:
    """Return the first fitting value: that for the name of the field, an example, the default, that for the type."""
    schema = resolved(document, schema)
    each = [_usual(name), example_in(document, schema), get(schema, "default"), get(schema, "const")]
    each += elements(get(schema, "enum"))[:1]
    if (fitting := next((one for one in each if one is not None and _fits(one, schema)), None)) is not None:
        return fitting
    for part in (one for kind in PARTS for one in elements(get(schema, kind)) if levels):
        if (found := _value(document, name, part, levels - 1)) is not None:
            return found
    return _of_type(document, name, schema, levels)


def _usual(name: str) -> str | None:
    if name == "grant_type":  # of OAuth2
        return "password"
    return PASSWORD if is_password(name) else EMAIL if is_email(name) else NAME if is_user_name(name) else None


def _of_type(document: Any, name: str, schema: Any, levels: int) -> Any:
    match get(schema, "type"):
        case "string":
            least, most = get(schema, "minLength") or 0, get(schema, "maxLength") or len(PASSWORD)
            text = FORMATS.get(str(get(schema, "format"))) or (PASSWORD if is_password(name) else NAME)[:most]
            text = text.ljust(least, "x")
            return text if _fits(text, schema) else None
        case "integer" | "number":
            return get(schema, "minimum") or 1
        case "boolean":
            return True
        case "array":
            return []
        case "object" if levels:
            properties, required = properties_of(document, schema)
            values = {one: _value(document, one, properties.get(one), levels - 1) for one in required}
            return None if None in values.values() else values
    return None


def _fits(value: Any, schema: Any) -> bool:
    if not isinstance(value, str):
        return True
    least, most, pattern = (get(schema, name) for name in ("minLength", "maxLength", "pattern"))
    try:
        has_pattern = not isinstance(pattern, str) or re.search(pattern, value) is not None
    except re.error:  # it is written in the dialect of another language
        has_pattern = True
    kind = get(schema, "type")
    fits_type = kind is None or kind == "string" or (isinstance(kind, list) and "string" in kind)
    return (least or 0) <= len(value) <= (most or len(value)) and has_pattern and fits_type
