"""Write the JSON Schema of `results.json` and of baselines from their types: `python -m scripts.results_schema`.

Descriptions are the docstrings of the types and the comments beside their fields.
"""

import argparse
import ast
import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from plumbline.results import schema

PATH = Path(__file__).parents[1] / "docs" / "reference" / "results.schema.json"
DESCRIPTION = """\
`perf-results/results.json` holds one run of Plumbline, and a baseline has the same form. Within one `schema` number,
later versions add optional fields and codes, and change nothing else: ignore the fields that you do not know."""


def document() -> dict[str, Any]:
    """Return the schema with a description of each type and of its fields."""
    made = msgspec.json.schema(schema.Results)
    for name, definition in made["$defs"].items():
        struct = getattr(schema, name)
        comments = comments_of(struct)
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])  # msgspec 0.22 leaves it indented
        for field in msgspec.structs.fields(struct):
            if comment := comments.get(field.name):
                definition["properties"][field.encode_name]["description"] = comment
    made["$defs"]["Results"]["properties"]["schema"]["const"] = schema.SCHEMA
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Results of Plumbline",
        "description": " ".join(DESCRIPTION.split()),
        **made,
    }


def comments_of(struct: type) -> dict[str, str]:
    """Return the comments at the end of the lines of a class's fields, by the name of the field."""
    source = inspect.getsource(struct)
    [body] = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    fields = [one for one in body.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
    lines = source.splitlines()
    return {ast.unparse(one.target): lines[(one.end_lineno or 0) - 1].partition("  # ")[2] for one in fields}


def text() -> str:
    return json.dumps(document(), indent=2) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.results_schema",
        description="Write the JSON Schema of results.json and of baselines.",
        epilog="example: python -m scripts.results_schema",
    )
    parser.parse_args()
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(text(), encoding="utf-8")
    print(f"written: {PATH}")
