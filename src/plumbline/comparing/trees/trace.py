"""Traces of the processes of a rehearsal: environment variables, reading, and the stages of the rehearsal."""

import contextlib
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from plumbline.comparing.trees.at_start.sitecustomize import (
    CALL,
    LISTED,
    MISSED,
    NUMBER_BYTES,
    PROGRAM,
    STAGE,
    STAGES,
    TRACE,
    WATCHED,
    imports_this,
)
from plumbline.processes import SHELLS, is_run_by_python

AT_START = Path(__file__).with_name("at_start")  # folder for PYTHONPATH; Python imports its sitecustomize.py at start
PREPARE = "prepare"  # the command that prepares the databases
COMPILED_FOLDER = "__pycache__"
SEPARATORS = {";", "&&", "||", "|"}  # of commands
HARMLESS = {"cd", "echo", "exit", "export", "mkdir", "rm", "set", "touch", "true"}  # they run nothing, and read no file
SHEBANG = re.compile(rf"#!\s*[\w/]*[/ ]({'|'.join(sorted(SHELLS))})\s*$".encode(), re.MULTILINE)
# In a script whose commands are not all known, or that may change which Python runs.
EXPANDED = re.compile(r"[$`<>*?\[\]{}~#\\!]|\bPATH=|\bPYTHON\w*=")


def child_environ(name: str, command: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a child process that writes its own trace, if this process writes one.

    Programs other than Python write no trace, and neither do their children, except those of simple shell scripts.
    The trace then says that they ran.
    """
    changed = dict(environ)
    if trace := changed.pop(TRACE, ""):
        file = Path(trace).with_name(name)
        script = _script_of(command) if name == PREPARE else None  # whose folder is that of this process
        if _is_traced(["sh", "-c", _text_of(script)] if script else command, environ.get("PATH")):
            changed[TRACE] = str(file)
            if script or Path(command[0]).name in SHELLS:  # perhaps it runs no Python, which would write the trace
                with file.open("a", encoding="utf-8", errors="surrogateescape") as lines:
                    lines.write(f"{script.absolute()}\n" if script else "")
        else:
            with file.open("a", encoding="utf-8") as lines:
                lines.write(f"{PROGRAM}? {command[0]}\n")
    return changed


def _script_of(command: Sequence[str]) -> Path | None:
    """Return the file of a shell script that a command runs without arguments, None if it runs none."""
    is_shell = Path(command[0]).name in SHELLS
    words = command[1:] if is_shell else command
    if not words or not all(re.fullmatch("-[eux]+", one) for one in words[:-1]) or not Path(words[-1]).is_file():
        return None
    file = Path(words[-1])
    return file if is_shell or SHEBANG.match(file.read_bytes()) else None


def _text_of(script: Path) -> str:
    """Return a script without the lines that are comments."""
    lines = script.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def _is_traced(command: Sequence[str], path: str | None) -> bool:
    if Path(command[0]).name in SHELLS and len(command) > 2 and re.fullmatch("-[eux]*c", command[1]):
        return all(words[0] in HARMLESS or _is_traced(words, path) for words in _commands_in(command[2]))
    return is_run_by_python(command[0], path) and imports_this(command[1:])


def _commands_in(script: str) -> list[list[str]]:
    """Return the commands of a shell script. If it is not a simple one, return a command that is no program."""
    unknown = [["?"]]
    if EXPANDED.search(script):
        return unknown
    lexer = shlex.shlex(re.sub(r"\s*\n\s*", ";", script), posix=True, punctuation_chars=True)
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:  # a quotation without an end
        return unknown
    found: list[list[str]] = [[]]
    for word in words:
        if word in SEPARATORS:
            found.append([])
        elif word and set(word) <= set(lexer.punctuation_chars):
            return unknown
        else:
            found[-1].append(word)
    return [words for words in found if words]


def paths_read(folder: Path) -> set[Path]:
    """Return the paths that the processes with traces in `folder` read or tried to read.

    A compiled module is replaced by its source.
    """
    files = [file for file in folder.iterdir() if not file.name.startswith(".")]
    lines = {line for file in files for line in file.read_text("utf-8", errors="surrogateescape").splitlines()}
    return {
        source_of(Path(line.removeprefix(WATCHED)))
        for line in lines
        if not line.startswith((CALL, PROGRAM, MISSED, LISTED))
    }


def mark_unread(paths: Iterable[Path]) -> dict[Path, int]:
    """Set the access times of these data files to a time long ago. Return these times in ns by path.

    This finds files that C extensions open, which Python does not see. It finds none if the file system does not
    record access times.
    """
    found = dict[Path, int]()
    for path in paths:
        with contextlib.suppress(OSError):
            if path.suffix != ".py" and path.is_file() and not path.is_symlink():
                os.utime(path, ns=(0, path.stat().st_mtime_ns))
                found[path] = path.stat().st_atime_ns
    return found


def read_since(marked: Mapping[Path, int]) -> list[Path]:
    """Return the files that were read since `mark_unread`."""
    return [path for path, time_ns in marked.items() if path.is_file() and path.stat().st_atime_ns != time_ns]


def source_of(path: Path) -> Path:
    """Return the source of a compiled module, and any other path as it is."""
    if path.parent.name != COMPILED_FOLDER:
        return path
    return path.parent.parent / (path.name.partition(".")[0] + ".py")


class Stages:
    """Announce to the processes of a rehearsal which benchmarks they run for. Do nothing if no calls are recorded."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._folder = Path(environ.get(TRACE, os.devnull)).parent
        self.recorded = (self._folder / STAGE).is_file()
        self.keys: set[str] = set()  # the benchmark that runs now
        self._count = self._now = 0

    def begin(self, stage: Literal["first", "again", "fixture"], keys: Sequence[str]) -> None:
        """Begin a benchmark's first run or its second, or a fixture with a wider scope."""
        if self.recorded:
            self.keys = self.keys if stage == "fixture" else {*keys}
            self._count += 1
            with (self._folder / STAGES).open("a", encoding="utf-8") as file:
                file.write(json.dumps([stage, *keys]) + "\n")
            self._announce(self._count)

    @contextlib.contextmanager
    def fixture(self, keys: Sequence[str]) -> Iterator[None]:
        """Run a fixture for all benchmarks that use it. Call this only if calls are recorded."""
        before = self._now
        self.begin("fixture", keys)
        try:
            yield
        finally:
            self._announce(before)

    def _announce(self, number: int) -> None:
        self._now = number
        with (self._folder / STAGE).open("r+b") as file:
            file.write(number.to_bytes(NUMBER_BYTES, "little"))
