"""The reference of the documentation is complete: each setting and each command is on it, with a text."""

import importlib.util
from types import ModuleType

import msgspec
import pytest

from plumbline import cli
from plumbline.measuring import fixtures
from plumbline.settings import Settings
from plumbline.settings_file import TABLES
from tests.support.documentation import DOCS


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    """The extension of Sphinx that makes the reference."""
    spec = importlib.util.spec_from_file_location("generated", DOCS / "_ext" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("table", [Settings, *TABLES.values()], ids=lambda table: table.__name__)
def test_each_setting_has_a_text(generated: ModuleType, table: type[msgspec.Struct]) -> None:
    """Each setting has a text above it in the code, and each table has a docstring."""
    texts = generated.texts_of(table)

    assert table.__doc__
    assert [field.name for field in generated.settings_of(table) if not texts.get(field.name)] == []


def test_settings_show_types_defaults_and_variables(generated: ModuleType) -> None:
    """A setting shows its type and its default as in TOML, and the variable that overrides it."""
    text = generated.settings_part()

    assert ":::{confval} gate.tolerance\n:type: number between 0 and 1\n:default: `0.02`\n" in text
    assert ":::{confval} gate.confirm_processes\n:type: integer from 2 to 20\n:default: `5`\n" in text
    assert ":::{confval} processes.NAME.command\n:type: list of strings\n:default: required\n" in text
    assert "`PERF_PIN`" in text
    assert "external_urls" not in text


def test_commands_and_fixtures_are_complete(generated: ModuleType) -> None:
    """Each command shows its help, and each fixture has a text."""
    commands, rows = generated.commands_part(), generated.fixtures_part().splitlines()[2:]

    assert [name for name in cli.COMMANDS if f"usage: plumbline {name} " not in commands] == []
    assert len(rows) == len(fixtures.NAMES)
    assert all(len(row.split("|")[2].split()) > 2 for row in rows)


def test_marks_name_parts(generated: ModuleType) -> None:
    """Each mark in a page is the name of a part, and each part is on a page."""
    pages = [page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md")]

    assert {found[1] for page in pages for found in generated.MARK.finditer(page)} == set(generated.PARTS)
