"""Write the parts of the reference that are made from the code: `python -m scripts.reference`.

In a page of docs/reference, such a part stands between `<!-- made from the code: settings -->` and `<!-- end -->`.
"""

import argparse
import contextlib
import inspect
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from sphinx.pycode import ModuleAnalyzer

from plumbline import cli, settings
from plumbline.measuring import fixtures
from plumbline.pytest_plugin import MARKERS
from plumbline.reporting.content import EXIT_CODES
from plumbline.services.variables import PLACEHOLDERS
from plumbline.settings_file import TABLES

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
NO_LIMIT = 1e9  # an upper bound that no user reaches
PART = re.compile(r"(?<=<!-- made from the code: )([\w ]+) -->\n(.*?)(?=<!-- end -->)", re.DOTALL)


def renewed(page: str) -> str:
    """Return the text of a page with new parts."""
    return PART.sub(lambda found: f"{found[1]} -->\n\n{PARTS[found[1]]().strip()}\n\n", page)


def settings_part() -> str:
    """Return all settings, by table."""
    tables: list[tuple[str, Any]] = [("", settings.Settings), *sorted(TABLES.items())]
    return "\n".join(line for name, table in tables for line in table_lines(name, table))


def table_lines(name: str, table: type[msgspec.Struct]) -> Iterator[str]:
    """Yield the heading of a table of settings.toml, its text, and its settings."""
    yield f"## `[{name}]`" if name else "## Top level"
    yield f"\n{(inspect.getdoc(table) or '').split('Example::')[0].strip()}\n"
    texts, types = texts_of(table), get_type_hints(table, include_extras=True)
    variables = {key: variable for variable, key in settings.OVERRIDES.items()} if not name else {}
    rows = []
    for field in settings_of(table):
        also = f" The variable `{variables[field.name]}` overrides this setting." if field.name in variables else ""
        rows.append([f"`{field.name}`", type_text(types[field.name]), default_text(field), texts[field.name] + also])
    yield markdown_table(["setting", "type", "default", "meaning"], rows) + "\n"


def settings_of(table: type[msgspec.Struct]) -> list[msgspec.structs.FieldInfo]:
    """Return the settings of a table, without those that are tables of their own or come from the environment."""
    own = {name.partition(".")[0] for name in TABLES} | {"external_urls"}
    return [field for field in msgspec.structs.fields(table) if table is not settings.Settings or field.name not in own]


def texts_of(table: type[msgspec.Struct]) -> dict[str, str]:
    """Return the text of each setting of a table, from the comment `#:` above it."""
    found: dict[tuple[str, str], list[str]] = ModuleAnalyzer.for_module(table.__module__).find_attr_docs()
    return {key: " ".join(lines).strip() for (owner, key), lines in found.items() if owner == table.__name__}


def type_text(annotation: Any) -> str:
    """Return a type in words: `list of strings`, `integer from 2 to 20`."""
    if get_origin(annotation) is Annotated:
        inner, meta = get_args(annotation)
        return type_text(inner) + bounds_text(meta, is_share=meta.lt == 1)
    if get_origin(annotation) in (Union, UnionType):
        parts = [type_text(part) for part in get_args(annotation) if part is not NoneType]
        return ", ".join(parts[:-1]) + (" or " if len(parts) > 1 else "") + parts[-1]
    if get_origin(annotation) is Literal:
        values = [f"`{json.dumps(value)}`" for value in get_args(annotation)]
        return ", ".join(values[:-1]) + (" or " if len(values) > 1 else "") + values[-1]
    if get_origin(annotation) in (list, tuple):
        return f"list of {plural(type_text(get_args(annotation)[0]))}"
    if get_origin(annotation) is dict:
        return f"table of {plural(type_text(get_args(annotation)[1]))}"
    if issubclass(annotation, msgspec.Struct):
        return "table"
    return {str: "string", int: "integer", float: "number", bool: "boolean"}[annotation]


def plural(text: str) -> str:
    return re.sub(r"\b(string|integer|number|boolean|list|table)\b", r"\1s", text)


def bounds_text(meta: msgspec.Meta, *, is_share: bool) -> str:
    if is_share:
        return " between 0 and 1"
    if meta.gt == 0:
        return " above 0"
    if meta.le is not None and meta.le < NO_LIMIT:
        return f" from {meta.ge} to {meta.le}"
    return f", at least {meta.ge}" if meta.ge else ""


def default_text(field: msgspec.structs.FieldInfo) -> str:
    """Return the default of a setting as in TOML, or nothing."""
    if field.required:
        return "required"
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if value is None or isinstance(value, msgspec.Struct):
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{json.dumps(value)}`"


def profiles_part() -> str:
    """Return the built-in profiles as a table."""
    keys = [field.name for field in msgspec.structs.fields(settings.Profile)]
    rows = [
        [f"`{name}`", *(f"{getattr(profile, key):g}" for key in keys)] for name, profile in settings.PROFILES.items()
    ]
    return markdown_table(["profile", *(f"`{key}`" for key in keys)], rows)


def commands_part() -> str:
    """Return the help of each command."""
    return "\n".join(f"## {name}\n\n```text\n{help_of(name)}```\n" for name in cli.COMMANDS)


def help_of(name: str) -> str:
    """Return what `plumbline NAME --help` prints."""
    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "78"
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
            cli.main([name, "--help"])
        return printed.getvalue()
    finally:
        os.environ.pop("COLUMNS")
        os.environ.update({"COLUMNS": before} if before else {})


def exit_codes_part() -> str:
    return markdown_table(["code", "meaning"], [[str(code), meaning] for code, meaning in EXIT_CODES.items()])


def fixtures_part() -> str:
    rows = []
    for name in sorted(fixtures.NAMES):
        function = inspect.unwrap(getattr(fixtures, name))
        rows.append([f"`{name}`", " ".join((inspect.getdoc(function) or "").split())])
    return markdown_table(["fixture", "gives"], rows)


def markers_part() -> str:
    return markdown_table(["marker", "meaning"], [[f"`{name}`", meaning] for name, meaning in MARKERS.items()])


def placeholders_part() -> str:
    return ", ".join(f"`{{{name}}}`" for name in sorted(PLACEHOLDERS)) + "."


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_part,
    "profiles": profiles_part,
    "commands": commands_part,
    "exit codes": exit_codes_part,
    "fixtures": fixtures_part,
    "markers": markers_part,
    "placeholders": placeholders_part,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.reference",
        description="Write the parts of the reference that are made from the code.",
        epilog="example: python -m scripts.reference",
    )
    parser.parse_args()
    for path in FOLDER.glob("*.md"):
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
