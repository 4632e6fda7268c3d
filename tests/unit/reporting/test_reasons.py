"""The pages on codes: one for each code that a report can have, and nothing in them that does not exist."""

import re
from typing import get_args

import pytest

from plumbline.cli import COMMANDS
from plumbline.reporting.content import EXIT_CODES
from plumbline.reporting.reasons import Page, code_of, pages, wrapped
from plumbline.results.schema import Kind, ProblemVerdict, UnjudgedCause, Verdict
from plumbline.settings import Settings
from plumbline.settings_file import TABLES
from tests.support.project import sessions

VERDICTS = {*get_args(Verdict), *(code_of(verdict) for verdict in get_args(ProblemVerdict))}
CODES = {*get_args(Kind), *get_args(UnjudgedCause), *VERDICTS, *map(str, EXIT_CODES)}


def test_each_code_has_a_page_and_no_page_lacks_a_code() -> None:
    assert set(pages()) == CODES


@pytest.mark.parametrize("page", pages().values(), ids=lambda page: page.code)
def test_a_page_begins_with_a_sentence_for_the_list(page: Page) -> None:
    """It fits on one line of the file, and no encoding of a terminal lacks a character of it."""
    assert page.summary.endswith(".")
    assert "\n" not in page.summary
    assert page.text.isascii()


@pytest.mark.parametrize("page", pages().values(), ids=lambda page: page.code)
def test_a_page_names_what_exists(page: Page) -> None:
    """Sessions, commands, settings with their table, and other codes."""
    text = " ".join(page.text.split())
    assert set(re.findall(r"nox -s (\w+)", text)) <= sessions().keys()
    assert set(re.findall(r"`plumbline (\w+)", text)) <= COMMANDS.keys()
    assert set(re.findall(r"[Ss]ee `(\w+)`", text)) <= CODES
    for key, table in re.findall(r"`(\w+)[^`]*`(?: for it)? under `\[(\w+)\]`", text):
        fields = next(fields for name, fields in TABLES.items() if name.partition(".")[0] == table)
        assert key in fields.__struct_fields__, f"[{table}] has no {key}"
    for table in re.findall(r"`\[(\w+)\]`", text):
        assert table in Settings.__struct_fields__


@pytest.mark.parametrize("name", ["count_grown", "count-grown", " Count grown "])
def test_a_code_in_other_spellings(name: str) -> None:
    assert code_of(name) == "count_grown"


def test_lines_break_at_no_space_of_a_command() -> None:
    assert wrapped("If it is intended, run `nox -s baseline`.", 30) == "If it is intended, run\n`nox -s baseline`."
