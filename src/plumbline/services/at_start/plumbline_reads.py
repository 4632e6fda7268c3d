"""Notes the variables that the project's own code reads, the hosts that a process looks up, and SQLite's files.

It refuses to open the SQLite files that the trial protects. `sitecustomize` imports this module in a trial of an
application, never in a measurement.
"""

import contextlib
import json
import os
import socket
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Modules that read a variable for their caller.
READERS = {"dotenv", "environ", "environs", "dynaconf", "decouple", "envparse", "prettyconf"}
READERS |= {"flask.config", "starlette.config"}
# Environment variable: the SQLite files to protect, as a JSON list of paths.
PROTECTED = "PLUMBLINE_PROTECTED"
STEPS = {"os", "collections.abc", "_collections_abc"}  # of `os.getenv` and the like
PACKAGES = {"site-packages", "dist-packages"}
PLUMBLINE = Path(__file__).resolve().parents[2]
STANDARD = Path(sysconfig.get_path("stdlib"))


def is_own(file: str, folders: Iterable[str]) -> bool:
    """Return whether a file is the project's code: in one of its folders, and neither a library's nor Plumbline's."""
    path = Path(os.path.realpath(file))
    return not file.startswith("<") and (
        any(path.is_relative_to(os.path.realpath(folder)) for folder in folders)
        and PACKAGES.isdisjoint(path.parts)
        and not any(path.is_relative_to(folder) for folder in (PLUMBLINE, STANDARD, STANDARD.resolve()))
    )


class Reads:
    """Notes each read once per line of code."""

    def __init__(self, file: str, folders: Iterable[str]) -> None:
        self._file = file
        self._folders = list(folders)
        self._get = type(os.environ).__getitem__
        self._resolve = socket.getaddrinfo
        self._own: dict[str, bool] = {}
        self._protected = set(json.loads(os.environ.get(PROTECTED, "[]")))
        self._noted: set[object] = set()

    def get(self, environ: Any, name: Any) -> Any:
        """Replacement for `os.environ[name]`, which `os.getenv` and `in` use too."""
        if environ is os.environ and (found := self._reader(sys._getframe(2))):
            is_set = True
            try:
                return self._get(environ, name)
            except KeyError:
                is_set = False
                raise
            finally:
                self._note({"name": name, "set": is_set, **found})
        return self._get(environ, name)

    def resolve(self, host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        """Replacement for `socket.getaddrinfo`."""
        if host:
            self._note({"host": os.fsdecode(host), "port": str(port or "")})
        return self._resolve(host, port, *rest, **more)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "sqlite3.connect" and isinstance(arguments[0], str | bytes | os.PathLike):
            name = os.fsdecode(arguments[0])
            name = name.removeprefix("file:").partition("?")[0] if name.startswith("file:") else name
            is_refused = os.path.realpath(name) in self._protected
            self._note({"sqlite": os.path.abspath(name), "refused": is_refused})  # noqa: PTH100
            if is_refused:
                raise PermissionError(f"Plumbline refuses to open {name}: you may work with this file")

    def _reader(self, frame: Any) -> dict[str, Any] | None:
        """Return the line of the project that reads a variable, itself or by one of READERS; None for a library."""
        by, needed = "", False
        while frame is not None:
            module = str(frame.f_globals.get("__name__"))
            if module == "os" and frame.f_code.co_name == "setdefault":
                return None
            if module in STEPS:
                by = by or frame.f_code.co_name
            elif module in READERS or module.partition(".")[0] in READERS:
                by, needed = module, needed or _is_undefined(frame.f_locals.get("default"))
            else:
                break
            frame = frame.f_back
        if frame is None:
            return None
        file = frame.f_code.co_filename
        if file not in self._own:
            self._own[file] = is_own(file, self._folders)
        return {"file": file, "line": frame.f_lineno, "by": by, "needed": needed or not by} if self._own[file] else None

    def _note(self, note: dict[str, Any]) -> None:
        key = tuple(note.values())
        if key not in self._noted:
            self._noted.add(key)
            with contextlib.suppress(OSError, TypeError), Path(self._file).open("a", encoding="utf-8") as notes:
                notes.write(json.dumps(note) + "\n")


def _is_undefined(default: object) -> bool:
    """Return whether this is what a package has for a default that is not given."""
    kind = default if isinstance(default, type) else type(default)
    return kind.__name__.strip("_").lower() in {"undefined", "novalue", "missing", "missingtype", "ellipsis"}


def begin(file: str, folders: Iterable[str]) -> None:
    """Note the reads of this process in a file."""
    reads = Reads(file, folders)
    type(os.environ).__getitem__ = lambda environ, name: reads.get(environ, name)  # type: ignore[method-assign]
    socket.getaddrinfo = reads.resolve
    sys.addaudithook(reads.audit)
