"""Writes settings into the text of `settings.toml`. Its comments and its own settings stay as they are."""

import copy
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from plumbline.adopting.proposal import Proposed

INSTALL = ("install",)  # new tables are written above this one and its comment
OPEN: tuple[Any, ...] = (None, "", [], "auto")  # values that leave a setting open
COMMENT = re.compile(r"""=\s*(?:""|''|\[\s*\]|"auto"|'auto')(\s*\#.*)$""")  # after such a value
Path = tuple[str, ...]  # the names of a table and of the tables around it


class Statement(Struct, frozen=True):
    """A header or a setting of a file, which may have several lines."""

    begin: int
    end: int
    path: Path
    is_header: bool


def with_settings(text: str, proposed: Iterable[Proposed], *, replace: bool = False) -> str:
    """Return the text with the proposed settings, except those that it sets already.

    `replace`: also replace those, and write new tables at the end. Raises ValueError if the text is too unusual to be
    edited.
    """
    before = text.removesuffix("\n").split("\n")
    lines, by_hand = before, list[str]()
    for one in proposed:
        document = _parsed(lines)
        if value_of(document, one) not in (*OPEN, *one.replaces) and not replace:
            continue
        edited = [*lines]
        _set(edited, one, () if replace else INSTALL)
        if _parsed(edited) == _with_value(document, one):
            lines = edited
        else:
            by_hand.append(f"{_line(one)}, in [{one.table}]" if one.table else _line(one))
    if by_hand:
        raise ValueError("settings.toml can't be edited as it is written: add to it " + "; ".join(by_hand))
    return "\n".join(lines) + "\n" if lines != before else text


def _parsed(lines: Iterable[str]) -> dict[str, Any] | None:
    """Return the settings, None if an edit has made them invalid."""
    try:
        return tomllib.loads("\n".join(lines) + "\n")
    except tomllib.TOMLDecodeError:
        return None


def _path(one: Proposed) -> Path:
    return _first_path(tomllib.loads(f"[{one.table}]")) if one.table else ()


def value_of(document: Any, one: Proposed) -> Any:
    for part in (*_path(one), one.key):
        document = document.get(part) if isinstance(document, dict) else None
    return document


def _with_value(document: Any, one: Proposed) -> Any:
    table = document = copy.deepcopy(document)
    for part in _path(one):
        table = table.setdefault(part, {})
    table[one.key] = one.value
    return document


def _line(one: Proposed) -> str:
    key = one.key if re.fullmatch(r"[\w-]+", one.key, re.ASCII) else json.dumps(one.key)
    return f"{key} = {json.dumps(one.value, ensure_ascii=False)}"


def _set(lines: list[str], one: Proposed, above: Path) -> None:
    table = _path(one)
    statements = [*_statements(lines)]
    for each in statements:
        if not each.is_header and each.path == (*table, one.key):
            comment = COMMENT.search(lines[each.begin])
            # A comment with this value lists the values to choose from.
            kept = comment[1] if comment and json.dumps(one.value) not in comment[1] else ""
            lines[each.begin : each.end] = [_line(one) + kept]
            return
    headers = [each for each in statements if each.is_header]
    if table and table not in [each.path for each in headers]:
        at = _before_comment(lines, next((each.begin for each in headers if each.path == above), -1))
        new = [f"[{one.table}]", _line(one)]
        lines[at:at] = ["", *new] if at == len(lines) else [*new, ""]
        return
    begin = next((each.end for each in headers if each.path == table), 0)
    end = next((each.begin for each in headers if each.begin >= begin), len(lines))
    inside = [each for each in statements if begin <= each.begin < end]
    example = re.compile(rf"\s*#\s*{re.escape(one.key)}\s*=")
    for number in range(begin, end):
        if example.match(lines[number]) and not any(each.begin <= number < each.end for each in inside):
            lines[number] = _line(one)
            return
    lines.insert(inside[-1].end if inside else begin, _line(one))


def _statements(lines: list[str]) -> Iterator[Statement]:
    table: Path = ()
    begin = 0
    for number, line in enumerate(lines):
        if begin == number and (not line.strip() or line.lstrip().startswith("#")):
            begin += 1
            continue
        if (found := _parsed(lines[begin : number + 1])) is None:
            continue  # the value ends at a later line
        path, is_header = _first_path(found), lines[begin].lstrip().startswith("[")
        table = path if is_header else table
        yield Statement(begin, number + 1, table if is_header else (*table, *path), is_header)
        begin = number + 1


def _first_path(found: Any) -> Path:
    """Return the names of the only setting or table. An array of tables has a name that no other has."""
    path = []
    while isinstance(found, dict) and len(found) == 1:
        [(name, found)] = found.items()
        path.append(name)
    return (*path, "") if found == [{}] else tuple(path)


def _before_comment(lines: list[str], header: int) -> int:
    """Return the number of the line at which a comment above a header begins; the end if there is no header."""
    if header < 0:
        return len(lines)
    while header > 0 and lines[header - 1].startswith("#"):
        header -= 1
    return header
