"""The reference of the documentation is complete: each setting and each command is on it, with a text."""

import msgspec
import pytest

from plumbline import cli
from plumbline.measuring import fixtures
from plumbline.settings import Settings
from plumbline.settings_file import TABLES
from scripts import reference


@pytest.mark.parametrize("table", [Settings, *TABLES.values()], ids=lambda table: table.__name__)
def test_each_setting_has_a_text(table: type[msgspec.Struct]) -> None:
    """Each setting has a text above it in the code, and each table has a docstring."""
    texts = reference.texts_of(table)

    assert table.__doc__
    assert [field.name for field in reference.settings_of(table) if not texts.get(field.name)] == []


def test_settings_show_types_defaults_and_variables() -> None:
    """A setting shows its type and its default as in TOML, and the variable that overrides it."""
    text = reference.settings_part()

    assert "| `tolerance` | number between 0 and 1 | `0.02` |" in text
    assert "| `confirm_processes` | integer from 2 to 20 | `5` |" in text
    assert "| `command` | list of strings | required |" in text
    assert "`PERF_PIN`" in text
    assert "external_urls" not in text


def test_commands_and_fixtures_are_complete() -> None:
    """Each command shows its help, and each fixture has a text."""
    commands, rows = reference.commands_part(), reference.fixtures_part().splitlines()[2:]

    assert [name for name in cli.COMMANDS if f"usage: plumbline {name} " not in commands] == []
    assert len(rows) == len(fixtures.NAMES)
    assert all(len(row.split("|")[2].split()) > 2 for row in rows)


def test_pages_are_as_new() -> None:
    """Each part that is made from the code is on a page, and as the code is now."""
    pages = [page.read_text(encoding="utf-8") for page in reference.FOLDER.glob("*.md")]

    assert {found[1] for page in pages for found in reference.PART.finditer(page)} == set(reference.PARTS)
    assert [page for page in pages if reference.renewed(page) != page] == [], "run `python -m scripts.reference`"
