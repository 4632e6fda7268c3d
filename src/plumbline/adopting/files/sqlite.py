"""Variables that name a file of SQLite: a run gets a file of its own instead of the one that the user works with."""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from plumbline.adopting.files.reads import Read
from plumbline.adopting.files.tree import SKIPPED
from plumbline.project import SUITE
from plumbline.services.variables import ROOT

URL = re.compile(r"(sqlite3?(?:\+\w+)?:///?)([^?]*)(\?.*)?", re.DOTALL)
FILE = re.compile(r"[^\s:]*\.(db3?|sqlite3?)", re.IGNORECASE)
ABOUT_DATABASE = re.compile(r"(^|_)(DB|DATABASE|SQLITE)(_|$)")
OF_TESTS = re.compile(r"(^|_)TEST")
MAGIC = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat.html
IN_MEMORY = ("", ":memory:")
FOLDER = f"{{{ROOT}}}/{SUITE}"  # git ignores *.sqlite there


def template_of(read: Read, values: Iterable[str]) -> str:
    """Return the template of a file for the runs, "" if the variable names no file of SQLite.

    `values`: its default and its examples.
    """
    for value in () if OF_TESTS.search(read.name) else values:
        if url := URL.fullmatch(value):
            beginning, name, options = url[1], url[2], (url[3] or "").replace("{", "{{").replace("}", "}}")
            return "" if name in IN_MEMORY else f"{beginning}{_own(name)}{options}"
        if FILE.fullmatch(value) and ABOUT_DATABASE.search(read.name):
            return _own(value)
    return ""


def _own(file: str) -> str:
    stem = re.sub(r"[^\w-]", "-", PurePosixPath(file).stem)
    return f"{FOLDER}/{stem or 'perf'}.sqlite"


def existing_files(root: Path) -> list[str]:
    """Return the SQLite files of a project, also those that git ignores, as paths from its root."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED]
        for file in (Path(folder, name) for name in files):
            with contextlib.suppress(OSError):
                # Its size is a multiple of that of a page, at least 512 bytes.
                if file.stat().st_size % 512 == 0 and file.is_file() and _begin(file) == MAGIC:
                    found.append(file.relative_to(root).as_posix())
    return sorted(found)


def _begin(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(len(MAGIC))


def own_files(templates: Iterable[str]) -> list[str]:
    """Return the files of the runs that templates name, as paths from the root of the project."""
    pattern = re.compile(rf"{re.escape(FOLDER)}/[\w-]+\.sqlite")
    found = [name.removeprefix(f"{{{ROOT}}}/") for one in templates for name in pattern.findall(one)]
    return list(dict.fromkeys(found))
