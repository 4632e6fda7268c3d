"""Variables that a trial found: who sets each, and which are missing, from notes and the output of a failure."""

from pathlib import Path
from typing import Any

import pytest

from plumbline.adopting.tried import ReadVariable
from plumbline.adopting.variables import Sources, missing_variables, read_variables

NOTE = {"set": True, "line": 1, "by": "", "needed": True}


def note(root: Path, name: str, **changes: Any) -> dict[str, Any]:
    return {**NOTE, "name": name, "file": str(root / "shop.py"), **changes}


def field(name: str, **changes: Any) -> dict[str, Any]:
    place = {"class": "Settings", "place": [name.lower()], "seen": f"shop.Settings.{name.lower()}", "file": ""}
    return {"name": name, "set_by": "default", "required": False, **place, **changes}


def found(root: Path, fields: list[dict[str, Any]], notes: list[dict[str, Any]], *missing: str) -> list[ReadVariable]:
    sources = Sources({"IN_ENV"}, {"IN_SHELL": "1", "HOME": "/root"}, [str(root)], root)
    return list(read_variables(fields, notes, sources, missing))


def test_who_sets_a_variable(tmp_path: Path) -> None:
    """A file that is an example sets nothing. A value that is nowhere was set by the code itself."""
    (tmp_path / ".env").write_text("IN_FILE=1\nFOR_DECOUPLE=1\n")
    (tmp_path / ".env.example").write_text("BY_CODE=1\n")
    notes = [note(tmp_path, name) for name in ("IN_ENV", "IN_SHELL", "IN_FILE", "BY_CODE", "HOME")]
    notes += [note(tmp_path, "FOR_DECOUPLE", set=False, by="decouple"), note(tmp_path, "NOWHERE", set=False)]
    assert {
        (one.name, one.set_by, one.file) for one in found(tmp_path, [], notes, "NOWHERE", "ONLY_IN_THE_OUTPUT")
    } == {
        ("IN_ENV", "env", ""),
        ("IN_SHELL", "environment", ""),
        ("IN_FILE", ".env", ".env"),
        ("BY_CODE", "default", ""),
        ("FOR_DECOUPLE", ".env", ".env"),
        ("NOWHERE", "", ""),
        ("ONLY_IN_THE_OUTPUT", "", ""),
    }


def test_a_line_that_copies_the_environment_reads_no_variable(tmp_path: Path) -> None:
    notes = [note(tmp_path, name, line=7) for name in ("IN_SHELL", "PLUMBLINE_RULES")] + [note(tmp_path, "IN_ENV")]
    assert [one.name for one in found(tmp_path, [], notes)] == ["IN_ENV"]


def test_a_variable_that_two_places_read_is_listed_once(tmp_path: Path) -> None:
    """By the place that needs it: here the field has the value of a line above it as its default."""
    (tmp_path / ".env").write_text("KEY=1\n")
    notes = [note(tmp_path, "KEY", set=False, by="starlette.config")]
    [one] = found(tmp_path, [field("KEY")], notes)
    assert (one.set_by, one.required, one.seen, one.file) == (".env", True, "shop.py:1", ".env")


PYDANTIC = """
pydantic_core._pydantic_core.ValidationError: 2 validation errors for Settings
key
  Field required [type=missing, input_value={}, input_type=dict]
    For further information visit https://errors.pydantic.dev/2.11/v/missing
size
  Input should be a valid integer [type=int_parsing, input_value='x', input_type=str]
    For further information visit https://errors.pydantic.dev/2.11/v/int_parsing
"""


@pytest.mark.parametrize(
    ("output", "fields", "missing"),
    [
        (PYDANTIC, [field("SHOP_KEY", place=["key"])], ("SHOP_KEY",)),
        (PYDANTIC, [], ("KEY",)),
        (PYDANTIC.replace("Settings", "Item"), [], ()),
        ('environs.exceptions.EnvError: Environment variable "KEY" not set', [], ("KEY",)),
        ("dynaconf.validator.ValidationError: KEY is required in env main", [], ("DYNACONF_KEY",)),
        ("KeyError: 'KEY'", [], ()),
        ("", [field("KEY", set_by="", required=True)], ()),
    ],
    ids=["pydantic", "unknown class", "another model", "environs", "dynaconf", "a dict", "no failure"],
)
def test_missing_variables(output: str, fields: list[dict[str, Any]], missing: tuple[str, ...]) -> None:
    assert missing_variables(output, fields, []) == missing
