"""The history of the default branch: one line of JSON for each run.

Each run has a file of its own, which gzip makes a third as large. No file is ever changed, so two runs never write the
same file. A file may also hold many lines, and may be plain text, for example after `zcat`.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from plumbline.results.files import ResultsError, SchemaOnly, write_whole

HISTORY_SCHEMA = 1
SUFFIXES = (".jsonl", ".jsonl.gz")
_ZIPPED = b"\x1f\x8b"  # begins the content of gzip
_Median = Annotated[float, msgspec.Meta(ge=0, le=1e18)]
_Count = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
_Commit = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]*$")]  # reports show it in commands to copy
_CONFLICT = re.compile(rb"(<{7}|={7}|>{7}|\|{7})( |$)")
_NOT_IN_NAMES = re.compile(r"[^0-9TZ-]")


COUNTS = ("statements", "commands", "messages", "allocations")  # of an entry


# Numbers alone form no reference cycles. Without garbage collection, long histories are read a third faster.
class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One benchmark of a run, as a list without the unknown figures at its end. Counts are per operation."""

    median_ns: _Median | None = None
    messages: _Count | None = None
    commands: _Count | None = None  # of Redis
    statements: _Count | None = None  # of SQL
    allocations: _Count | None = None
    # The change since the base in ten-thousandths of a logarithm, and its standard error. None if it was not compared.
    # Both are 0 if the benchmark executes nothing that differs from the base.
    change_e4: Annotated[float, msgspec.Meta(ge=-1e5, le=1e5)] | None = None
    error_e4: Annotated[float, msgspec.Meta(ge=0, le=1e5)] | None = None


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run on the default branch."""

    schema: int
    commit: _Commit
    date: str  # ISO 8601, UTC
    machine: str  # the kind of machine
    verdict: str
    benchmarks: Mapping[str, Mapping[str, Entry]]  # by file, and by the rest of the key
    base: _Commit = ""  # the first 10 digits of the commit that it was compared with; "" if it was not

    def entry(self, key: str) -> Entry | None:
        file, _, name = key.partition("::")
        return self.benchmarks.get(file, {}).get(name)

    @property
    def keys(self) -> list[str]:
        return [f"{file}::{name}" for file, entries in self.benchmarks.items() for name in entries]


class History(NamedTuple):
    """The runs that could be read, the oldest first, and one line for each problem."""

    runs: list[Run]
    problems: list[str]


_RUNS, _SCHEMAS = msgspec.json.Decoder(Run), msgspec.json.Decoder(SchemaOnly)


def line_of(run: Run) -> bytes:
    """Return a run as one line of JSON."""
    fields = msgspec.to_builtins(run)
    for entries in fields["benchmarks"].values():
        for values in entries.values():
            while values and values[-1] is None:
                values.pop()
            values[:] = map(_short, values)
    return msgspec.json.encode(fields) + b"\n"


def _short(value: float | None) -> float | None:
    """Return a number with four significant digits, as an integer if it is one."""
    if value is None:
        return None
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded.is_integer() else rounded


def file_of(run: Run) -> tuple[str, bytes]:
    """Return the name and the content of the file of a run. The name sorts by time, and no other run has it.

    2026-11/2026-11-30T040552Z-0123456789-1a2b3c.jsonl.gz
    """
    line = line_of(run)
    time = _NOT_IN_NAMES.sub("", run.date.replace("+00:00", "Z")) or "none"
    name = f"{time}-{run.commit[:10]}-{hashlib.sha256(line).hexdigest()[:6]}{SUFFIXES[-1]}"
    return f"{time[:7]}/{name}", gzip.compress(line, mtime=0)


def write_line(folder: Path, run: Run) -> Path:
    """Add a run to a folder, and return its file. Raises ResultsError."""
    name, content = file_of(run)
    write_whole(folder / name, content)
    return folder / name


def read_folder(folder: Path, most: int | None = None) -> Iterable[tuple[str, bytes | ResultsError]]:
    """Yield the newest files of a folder and their contents, by name."""
    found = (path for path in folder.rglob("*.jsonl*") if path.name.endswith(SUFFIXES))
    for path in sorted(found, key=str)[-most if most else 0 :]:
        name = path.relative_to(folder).as_posix()
        try:
            yield name, path.read_bytes()
        except OSError as error:
            yield name, ResultsError(error.strerror)


def read_lines(files: Iterable[tuple[str, bytes | ResultsError]]) -> History:
    """Read the lines of files, given with their names.

    A line that cannot be used is a problem, which names file and line. All other lines are used. Merge conflicts leave
    the lines of both sides, and repeated lines count once.
    """
    found: dict[bytes, Run] = {}
    problems = []
    for name, content in files:
        try:
            lines = _lines(content)
        except (ResultsError, EOFError, OSError, zlib.error) as error:
            problems.append(f"{name}: can't be read: {error}")
            continue
        for number, line in enumerate(lines, 1):
            if line in found or not line.strip():
                continue
            try:
                run = _RUNS.decode(line)
                if run.schema == HISTORY_SCHEMA:
                    found[line] = run
                    continue
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
            problems.append(f"{name}:{number}: {_problem(line)}")
    return History(sorted(found.values(), key=lambda run: run.date), problems)


def _lines(content: bytes | ResultsError) -> list[bytes]:
    if isinstance(content, ResultsError):
        raise content
    return (gzip.decompress(content) if content.startswith(_ZIPPED) else content).splitlines()


def _problem(line: bytes) -> str:
    if _CONFLICT.match(line):
        return "the mark of a merge conflict (the lines of both sides are used)"
    try:
        schema = _SCHEMAS.decode(line).schema
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "not a line of the history, or damaged"
    if schema == HISTORY_SCHEMA:
        return "damaged or edited by hand"
    advice = ": update Plumbline" if schema > HISTORY_SCHEMA else ""
    return f"has schema {schema}, but this version of Plumbline reads {HISTORY_SCHEMA}{advice}"
