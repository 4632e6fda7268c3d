"""Parses statements from PostgreSQL's log and normalises them. Pure functions.

The log must be in English, and come from a server with `log_min_duration_statement = 0`.
"""

import functools
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from plumbline.counting.families import CannotCount

EMPTY = "(empty statement)"  # with which pools check a connection
MAX_LABEL_CHARACTERS = 300
PREFIX = "%m [%p] %q<%d> "  # a `log_line_prefix` that names the database

_ENTRY = re.compile(r"(?!\t).*?\b(LOG|ERROR|FATAL|PANIC|DETAIL|STATEMENT|HINT|CONTEXT|QUERY|WARNING|NOTICE):  (.*)")
_DATABASE = re.compile(r"[^\t].*? \[\d+\] <([^>]*)> ")
_DURATION = re.compile(r"duration: [\d.]+ ms  (statement|parse|bind|execute)\b[^:]*: (.*)", re.DOTALL)
_PARAMETER = re.compile(r"\$\d+ = ('(?:[^']|'')*'|NULL)")

_TOKEN = re.compile(
    r"""
    (?P<blank> \s+ | --[^\n]* | /\*.*?\*/ )
    | (?P<literal> [eE]'(?:[^'\\]|\\.|'')*' | (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*' | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
        | \d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)? )
    | (?P<other> "(?:[^"]|"")*" | \$\d+ | [^\W\d][\w$]* | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_VALUE = r"(?:\?|\$\d+)(?:::\w+)?"
_IN_LIST = re.compile(rf"\b(IN|ARRAY) ?([(\[]) ?{_VALUE}(?: ?, ?{_VALUE})* ?([)\]])", re.IGNORECASE)
_ROWS = re.compile(r"\b(VALUES ?\([^()]*\))(?: ?, ?\([^()]*\))+", re.IGNORECASE)
_COLUMNS = re.compile(r"\b(SELECT) [^()]*?,[^()]*? (FROM)\b", re.IGNORECASE)
_OWN_NAME = re.compile(
    r"^(SAVEPOINT|RELEASE SAVEPOINT|RELEASE|ROLLBACK TO SAVEPOINT|ROLLBACK TO|DEALLOCATE|PREPARE|EXECUTE|DECLARE|CLOSE"
    r"|(?:FETCH|MOVE) .*(?:FROM|IN)) (?!ALL\b)(\"[^\"]*\"|\w+)",
    re.IGNORECASE,
)
_READS = re.compile(r"^(UPDATE|DELETE|MERGE)\b|\bFROM\b", re.IGNORECASE)
_EXPLAINABLE = re.compile(r"\(*(SELECT|WITH|INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)
_RUNS_OTHERS = re.compile(r"(CALL|DO|REFRESH MATERIALIZED VIEW)\b", re.IGNORECASE)
_NAME = r"(?:\"[^\"]*\"|\w+)"
_PREPARE, _EXECUTE = (re.compile(rf"\s*{word}\s+{_NAME}", re.IGNORECASE) for word in ("PREPARE", "EXECUTE"))
_AS = re.compile(r"\bAS\b", re.IGNORECASE)
_COPY_TABLE = re.compile(
    rf"\s*COPY\s+(?P<table>{_NAME}(?:\.{_NAME})?)\s*(?:\((?P<columns>[^()]*)\)\s*)?TO\b", re.IGNORECASE
)
_COPY_QUERY = re.compile(r"\s*COPY\s*\((?P<query>.*)\)\s*TO\b", re.IGNORECASE | re.DOTALL)
_CURSOR = re.compile(r"\s*DECLARE\b.*?\bCURSOR\b.*?\bFOR\b(?P<query>.*)", re.IGNORECASE | re.DOTALL)
_SELECT = re.compile(r"SELECT (?!.*\bFROM\b)", re.IGNORECASE)
_CALLED = re.compile(r"(?!pg_)\b(\w+) ?\(", re.IGNORECASE)


@dataclass(frozen=True)
class Executed:
    """An entry of the log: a statement that was parsed or executed, successfully or not."""

    kind: Literal["statement", "parse"]
    text: str
    parameters: tuple[str, ...] = ()  # SQL literals
    prepared: str = ""  # the PREPARE that an EXECUTE belongs to


def executed(log: str) -> Iterator[Executed]:
    """Yield the parsed and executed statements of a log in order."""
    last: Executed | None = None
    for level, message in _entries(log):
        if level == "DETAIL":
            if last is not None and "arameters: " in message:
                last = replace(last, parameters=tuple(_PARAMETER.findall(message)))
            elif last is not None and message.startswith("prepare: "):
                last = replace(last, prepared=message.removeprefix("prepare: "))
            continue
        if last is not None:
            yield last
            last = None
        found = _DURATION.fullmatch(message) if level == "LOG" else None
        if found and found[1] != "bind":
            last = Executed("parse" if found[1] == "parse" else "statement", found[2])
        elif level == "STATEMENT":
            last = Executed("statement", message)
    if last is not None:
        yield last


def _entries(log: str) -> Iterator[tuple[str, str]]:
    """Yield the level and the message of each entry. Continuation lines begin with a tab."""
    level, lines = "", [""]
    for line in log.split("\n"):  # splitlines() would also split at other characters
        if line.startswith("\t"):
            lines.append(line[1:])
        elif found := _ENTRY.match(line):
            yield level, "\n".join(lines)
            level, lines = found[1], [found[2]]
    yield level, "\n".join(lines)


@functools.lru_cache(maxsize=4096)
def normalised(text: str) -> str:
    """Return the statement on one line without comments, literals and generated names.

    `SELECT id, name FROM item WHERE id IN (1, 2)` becomes `SELECT … FROM item WHERE id IN (…)`.
    """
    parts = (" " if token["blank"] else "?" if token["literal"] else token["other"] for token in _TOKEN.finditer(text))
    line = " ".join("".join(parts).split()).rstrip("; ")
    line = _IN_LIST.sub(lambda found: f"{found[1]} {found[2]}…{found[3]}", line)
    line = _ROWS.sub(r"\1, …", line)
    line = _COLUMNS.sub(r"\1 … \2", line)
    line = _OWN_NAME.sub(r"\1 ?", line)
    # Renumber the parameters: the length of a shortened list had shifted those after it.
    numbers: dict[str, str] = {}
    line = re.sub(r"\$\d+", lambda found: numbers.setdefault(found[0], f"${len(numbers) + 1}"), line)
    line = line or EMPTY
    return line if len(line) <= MAX_LABEL_CHARACTERS else line[: MAX_LABEL_CHARACTERS - 1] + "…"


def reads_tables(one: Executed) -> bool:
    """Return whether a statement may read rows of tables, by itself or in the statements that it runs."""
    label = normalised(_AS.split(one.prepared, maxsplit=1)[-1] if one.prepared else _query(one.text))
    if _EXECUTE.match(one.text) and not one.prepared:
        return True
    return bool(_RUNS_OTHERS.match(label) or (_EXPLAINABLE.match(label) and _READS.search(label)))


def again(one: Executed) -> tuple[str, str]:
    """Return the statements that prepare and execute a statement again; only the second for one of a procedure.

    A COPY to the client and a cursor are the query that they run. Each is a single statement if PostgreSQL's extended
    protocol takes it. Raises CannotCount if a prepared statement is not known.
    """
    if _RUNS_OTHERS.match(normalised(one.text)):
        return "", _with_parameters(one)
    execute = "EXECUTE counted"
    if found := _EXECUTE.match(one.text):
        if not one.prepared:
            raise CannotCount("PostgreSQL's log does not show what was prepared")
        return _PREPARE.sub("PREPARE counted", one.prepared), execute + one.text[found.end() :]
    if one.parameters:
        execute += f"({', '.join(one.parameters)})"
    return f"PREPARE counted AS {_query(one.text)}", execute


def _query(text: str) -> str:
    """Return the query of a COPY to the client or of a cursor, or the statement itself."""
    if found := _COPY_TABLE.match(text):
        return f"SELECT {found['columns'] or '*'} FROM {found['table']}"  # noqa: S608 - the user's own statement
    found = _COPY_QUERY.match(text) or _CURSOR.match(text)
    return found["query"] if found else text


def _with_parameters(one: Executed) -> str:
    """Return a statement with its parameters in their places."""

    def replaced(token: re.Match[str]) -> str:
        is_parameter = token[0][0] == "$" and token[0][1:].isdecimal()
        return one.parameters[int(token[0][1:]) - 1] if is_parameter and one.parameters else token[0]

    return "".join(map(replaced, _TOKEN.finditer(one.text)))


def functions_in(text: str) -> set[str]:
    """Return the names of the functions that a SELECT calls which names no table, in lower case."""
    label = normalised(text)
    return {name.lower() for name in _CALLED.findall(label)} if _SELECT.match(label) else set()


def of_database(log: str, database: str) -> str:
    """Leave out the entries of other databases, if the log names them as PREFIX does."""
    kept, keep = [], True
    for line in log.split("\n"):
        if not line.startswith("\t"):
            found = _DATABASE.match(line)
            keep = found is None or found[1] == database
        if keep:
            kept.append(line)
    return "\n".join(kept)


def between(log: str, marks: Collection[str]) -> list[list[Executed]]:
    """Split the log's statements at the marks, which are statements. Return [] if a mark is missing."""
    parts: list[list[Executed]] = []
    left = list(marks)
    for one in executed(log):
        if left and one.text == left[0]:
            left.pop(0)
            parts.append([])
        elif parts:
            parts[-1].append(one)
    return parts if not left else []
