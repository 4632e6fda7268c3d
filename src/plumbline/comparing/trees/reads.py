"""Which files the processes of a side read, and so which benchmarks what differs between the sides can reach.

In a rehearsal each benchmark runs, and each Python process notes what it opens (at_start/sitecustomize.py). What reads
nothing of that which differs is not compared: it runs the same in both sides. Of a file in which functions alone differ,
and of a package of Python code alone, each process notes as well while which benchmark those functions run.
"""

import contextlib
import functools
import importlib.metadata
import json
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Literal

READS = "PERF_READS"
"""Variable that names the file into which a process notes what it reads; its name is that of the process."""
TESTS, APP, PREPARE = "tests", "app", "prepare"
"""The process of the tests with its children, that of the application, and the command that prepares the databases."""
AT_START = Path(__file__).with_name("at_start")
"""Folder for PYTHONPATH: Python imports its sitecustomize.py first."""
PROGRAM, WATCHED, CALL = "$ ", "% ", "@ "
"""Begin a line that names not just a file that was read but a program that was run, a file whose functions say that
they are called, or a call."""
DIFFERING, STAGE, STAGES = ".differing", ".stage", ".stages"
"""Files beside the notes: what calls are noted of, the number of what runs now, and what has run, by number."""
NUMBER_BYTES = 4
CACHE = "__pycache__"
LINE_BYTES = 1000
COMPILED = (".so", ".pyd", ".dylib", ".dll")

ANY = "*"
EVERY = frozenset({ANY})
Changed = Mapping[Path, Set[str] | None]
"""What differs, with what below it: the functions that do, where nothing else does; EVERY of a package of Python code;
None where not only a call can make it act."""
Stage = Literal["first", "again", "fixture"]
"""A benchmark's first run or its second, or a fixture that outlives a test."""


def noted_as(name: str, command: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child that notes its reads under a name of its own, where ours are noted.

    What isn't run by Python notes nothing, nor do its children: what it reads itself stays unknown.
    """
    if READS not in environ:
        return dict(environ)
    changed = {**environ, READS: str(Path(environ[READS]).with_name(name))}
    if not _is_run_by_python(command[0], environ.get("PATH")):
        del changed[READS]
    return changed


def _is_run_by_python(program: str, path: str | None = None) -> bool:
    found = Path(shutil.which(program, path=path) or "")
    if found.name.startswith("python"):
        return True
    try:
        with found.open("rb") as file:
            line = file.readline(LINE_BYTES)
    except OSError:
        return False
    return line.startswith(b"#!") and b"python" in line


def open_notes(folder: Path, changed: Changed) -> None:
    """Make a folder for the notes of one side, of which this has changed."""
    folder.mkdir()
    noted = {str(path): None if names == EVERY else [*names] for path, names in changed.items() if names is not None}
    if noted:
        (folder / DIFFERING).write_text(json.dumps(noted), encoding="utf-8", errors="surrogateescape")
        (folder / STAGE).write_bytes(bytes(NUMBER_BYTES))


class Stages:
    """Tells all processes of a rehearsal for which benchmarks they run; nothing where no calls are noted."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        folder = Path(environ.get(READS, os.devnull)).parent
        self._stage, self._stages = folder / STAGE, folder / STAGES
        self.noted = self._stage.is_file()
        self._count = self._now = 0
        self.keys: set[str] = set()
        """The benchmark that runs."""

    def begin(self, stage: Stage, keys: Iterable[str]) -> None:
        """From now on what runs does so for these benchmarks."""
        keys = [*keys]
        if self.noted:
            self.keys = self.keys if stage == "fixture" else {*keys}
            self._count += 1
            with self._stages.open("a", encoding="utf-8") as file:
                file.write(json.dumps([stage, *keys]) + "\n")
            self._show(self._count)

    @contextlib.contextmanager
    def within(self, stage: Stage, keys: Iterable[str]) -> Iterator[None]:
        """Meanwhile what runs does so for these."""
        before = self._now
        self.begin(stage, keys)
        try:
            yield
        finally:
            if self.noted:
                self._show(before)

    def _show(self, number: int) -> None:
        self._now = number
        with self._stage.open("r+b") as file:
            file.write(number.to_bytes(NUMBER_BYTES, "little"))


def affected(names: Iterable[str], folder: Path, changed: Changed) -> set[str] | None:
    """The benchmarks for which one of these processes, which noted into `folder`, has run what differs; None for all.

    For all, where it has read what differs other than by functions, or otherwise than by importing it; where it ran
    those before the first benchmark, or in a benchmark's first run alone and so made what others may use; where it is
    neither the tests nor the application, and so may do its work later; and where it has noted nothing, or has run what
    isn't run by Python, as it isn't known.
    """
    found: set[str] = set()
    for name in names:
        lines = _lines(folder / name)
        if lines is None:
            return None
        calls: dict[tuple[str, str, str], set[int]] = defaultdict(set)
        for line in lines:
            if line.startswith(CALL):
                number, process, function, path = line.removeprefix(CALL).split(" ", 3)
                calls[process, function, path].add(int(number))
            elif line.startswith(PROGRAM):
                if not _is_run_by_python(line.removeprefix(PROGRAM)):
                    return None
            elif any(names is None or not line.startswith(WATCHED) for names in _changed_in(line, changed)):
                return None
        if calls and name not in (TESTS, APP):
            return None
        stages = _stages(folder)
        for (_, function, _), numbers in calls.items():
            by_kind: dict[str, set[str]] = defaultdict(set)
            for kind, *keys in (stages[number] for number in numbers if number):
                by_kind[kind].update(keys)
            if 0 in numbers or (function != ANY and not by_kind["first"] <= by_kind["again"]):
                return None
            found |= set().union(*by_kind.values())
    return found


def may_make(names: Iterable[str], folder: Path, changed: Changed) -> bool:
    """Whether one of these processes has read a file of which functions differ, or it isn't known.

    Those may make something that stays. What a package has made acts through functions of its own.
    """
    noted = [_lines(folder / name) for name in names]
    return any(
        lines is None or any(names is None or names - EVERY for line in lines for names in _changed_in(line, changed))
        for lines in noted
    )


def _lines(file: Path) -> list[str] | None:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return None


def _changed_in(line: str, changed: Changed) -> list[Set[str] | None]:
    """What differs in a file that was read."""
    return [changed[path] for path in _itself_and_above(line.removeprefix(WATCHED)) if path in changed]


@functools.cache  # most files are read by each process of both sides, and looked up after each step of a rehearsal
def _itself_and_above(name: str) -> set[Path]:
    """A file and the folders that it lies in, as it is named and where that is a link."""
    paths = [_source(Path(name)), _source(Path(os.path.realpath(name)))]
    return {one for path in paths for one in (path, *path.parents)}


def _stages(folder: Path) -> list[list[str]]:
    """By number, of which 0 is before all: what it was and for which benchmarks."""
    lines = (folder / STAGES).read_text(encoding="utf-8").splitlines() if (folder / STAGES).is_file() else []
    return [[], *map(json.loads, lines)]


def _source(path: Path) -> Path:
    """Of what Python has compiled of a file, that file."""
    return path.parent.parent / (path.name.partition(".")[0] + ".py") if path.parent.name == CACHE else path


def paths_of_packages(names: Iterable[str], environment: Sequence[str] | None = None) -> Changed | None:
    """The files and folders that these packages have put beside all others, of those that are there.

    `environment`: its folders of packages; by default our own. None where it isn't known, or one of them can change
    what Python does before it notes anything.
    """
    found: dict[Path, Set[str] | None] = {}
    folders = sys.path if environment is None else list(environment)
    for name in names:
        for distribution in importlib.metadata.distributions(name=name, path=folders):
            if distribution.files is None:
                return None
            files = [_source(Path(file)) for file in distribution.files if ".." not in file.parts]
            tops = {file.parts[0] for file in files}
            if any(top.endswith(".pth") for top in tops):
                return None
            functions = None if any(file.suffix in COMPILED for file in files) else EVERY
            placed = [Path(str(distribution.locate_file(top))) for top in tops if not top.endswith(".dist-info")]
            found |= {form: functions for path in placed for form in (path.absolute(), path.resolve())}
    return found
