"""Reads parts of OpenAPI documents. A malformed part is read as one that is missing."""

from typing import Any

MOST_NESTED = 5  # levels of a schema
PARTS = ("allOf", "anyOf", "oneOf")  # of an OpenAPI schema


def get(part: Any, name: str) -> Any:
    """Return a value of a table; None if there is none, or no table."""
    return part.get(name) if isinstance(part, dict) else None


def items(part: Any) -> list[tuple[str, Any]]:
    """Return the names and values of a table."""
    return [(str(name), one) for name, one in part.items()] if isinstance(part, dict) else []


def elements(part: Any) -> list[Any]:
    """Return a list; an empty one if the part is none."""
    return part if isinstance(part, list) else []


def resolved(document: Any, part: Any) -> Any:
    """Follow a `$ref` within the document."""
    for _ in range(MOST_NESTED):
        reference = get(part, "$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        part = document
        for name in reference[2:].split("/"):
            part = get(part, name.replace("~1", "/").replace("~0", "~"))
    return part


def example_in(document: Any, holder: Any) -> Any:
    """Return `example`, or the first of `examples`, which is a list in a schema and a table in a media type."""
    if (example := get(holder, "example")) is not None:
        return example
    examples = get(holder, "examples")
    if isinstance(examples, dict):
        return next((get(resolved(document, one), "value") for one in examples.values()), None)
    return examples[0] if isinstance(examples, list) and examples else None


def properties_of(document: Any, schema: Any, levels: int = MOST_NESTED) -> tuple[dict[str, Any], set[str]]:
    """Return the properties of an object and the names of the required ones, with those of its `allOf`."""
    schema = resolved(document, schema)
    properties = dict(items(get(schema, "properties")))
    required = {str(one) for one in elements(get(schema, "required"))}
    for part in elements(get(schema, "allOf")) if levels else ():
        more = properties_of(document, part, levels - 1)
        properties, required = {**more[0], **properties}, required | more[1]
    return properties, required
