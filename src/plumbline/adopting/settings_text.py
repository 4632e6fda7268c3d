"""Writes settings into the text of `settings.toml`. Its comments and its own settings stay as they are."""

import itertools
import json
import re
import tomllib
from collections.abc import Iterable
from typing import Any

from plumbline.adopting.proposal import Proposed

HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?")
INSTALL = "install"  # new tables are written above this one and its comment
OPEN: tuple[Any, ...] = (None, "", [], "auto")  # values that leave a setting open


def with_settings(text: str, proposed: Iterable[Proposed]) -> str:
    """Return the text with the proposed settings, except those that it sets already.

    Raises ValueError if the text is too unusual to be edited.
    """
    wanted = [one for one in proposed if _value(tomllib.loads(text), one) in OPEN]
    lines = text.splitlines()
    for one in wanted:
        _set(lines, one)
    edited = "\n".join(lines) + "\n"
    for one in wanted:
        if _value(_parsed(edited), one) != one.value:
            where = f"[{one.table}] of " if one.table else ""
            raise ValueError(f"settings.toml can't be edited as it is written: add to {where}it: {_line(one)}")
    return edited


def _parsed(text: str) -> dict[str, Any]:
    """Return the settings, {} if an edit has made them invalid."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def _value(document: Any, one: Proposed) -> Any:
    for part in filter(None, [*one.table.split("."), one.key]):
        document = document.get(part) if isinstance(document, dict) else None
    return document


def _line(one: Proposed) -> str:
    key = one.key if re.fullmatch(r"[\w-]+", one.key, re.ASCII) else json.dumps(one.key)
    return f"{key} = {json.dumps(one.value, ensure_ascii=False)}"


def _set(lines: list[str], one: Proposed) -> None:
    begin, end = _lines_of(lines, one.table)
    if begin < 0:
        at = _before_comment(lines, _lines_of(lines, INSTALL)[0])
        lines[at:at] = ["", f"[{one.table}]", _line(one)] if at == len(lines) else [f"[{one.table}]", _line(one), ""]
        return
    key = re.compile(rf"\s*[\"']?{re.escape(one.key)}[\"']?\s*=")
    example = re.compile(rf"\s*#\s*{re.escape(one.key)}\s*=")
    for number in range(begin, end):
        if key.match(lines[number]):
            comment = re.search(r"\s*#[^\"']*$", lines[number])
            lines[number] = _line(one) + (comment[0] if comment else "")
            return
    for number in range(begin, end):
        if example.match(lines[number]):
            lines[number] = _line(one)
            return
    last = max((number for number in range(begin, end) if _is_setting(lines[number])), default=begin - 1)
    lines.insert(last + 1, _line(one))


def _lines_of(lines: list[str], table: str) -> tuple[int, int]:
    """Return the numbers of the first line in a table and of the line after it; (-1, -1) if there is no such table."""
    headers = [(number, found[1]) for number, line in enumerate(lines) if (found := HEADER.fullmatch(line))]
    starts = [(-1, ""), *headers, (len(lines), None)]
    for (number, name), (after, _) in itertools.pairwise(starts):
        if name == table:
            return number + 1, after
    return -1, -1


def _before_comment(lines: list[str], first: int) -> int:
    """Return the number of the line at which a table's header begins, or its comment; the end if there is no table."""
    if first < 0:
        return len(lines)
    at = first - 1
    while at > 0 and lines[at - 1].startswith("#"):
        at -= 1
    return at


def _is_setting(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")
