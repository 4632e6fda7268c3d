"""Record in a rehearsal which files the processes of a side read, and during which benchmark changed functions run.

In a rehearsal each benchmark runs once or twice. Each Python process writes a trace: at_start/sitecustomize.py.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from plumbline.comparing.trees.at_start._plumbline_trace import DIFFERING, NUMBER_BYTES, STAGE, STAGES, TRACE
from plumbline.comparing.trees.changed_functions import EVERY, Changed

# Folder for PYTHONPATH: Python imports its sitecustomize.py first.
AT_START = Path(__file__).with_name("at_start")
LINE_BYTES = 1000

# A benchmark's first run or its second, or a fixture that outlives a test.
Stage = Literal["first", "again", "fixture"]


def open_traces(folder: Path, changed: Changed) -> None:
    """Make a folder for the traces of one side, in which this has changed."""
    folder.mkdir()
    known = {str(path): None if names == EVERY else [*names] for path, names in changed.items() if names is not None}
    if known:
        (folder / DIFFERING).write_text(json.dumps(known), encoding="utf-8", errors="surrogateescape")
        (folder / STAGE).write_bytes(bytes(NUMBER_BYTES))


def child_environ(name: str, command: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child that writes a trace under its own name, if this process writes one.

    A program that Python does not run writes none, nor do its children: nobody knows what it reads itself.
    """
    changed = dict(environ)
    trace = changed.pop(TRACE, "")
    if trace and is_run_by_python(command[0], environ.get("PATH")):
        changed[TRACE] = str(Path(trace).with_name(name))
    return changed


def is_run_by_python(program: str, path: str | None = None) -> bool:
    """Return whether a program is Python, or a script that Python runs."""
    found = Path(shutil.which(program, path=path) or "")
    if found.name.startswith("python"):
        return True
    try:
        with found.open("rb") as file:
            line = file.readline(LINE_BYTES)
    except OSError:
        return False
    return line.startswith(b"#!") and b"python" in line


class Stages:
    """Announces to the processes of a rehearsal which benchmarks they run for; idle if no calls are recorded."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        folder = Path(environ.get(TRACE, os.devnull)).parent
        self._stage, self._stages = folder / STAGE, folder / STAGES
        self.recorded = self._stage.is_file()
        self._count = self._now = 0
        self.keys: set[str] = set()
        """The benchmark that runs now."""

    def begin(self, stage: Stage, keys: Iterable[str]) -> None:
        """Begin to run for these benchmarks."""
        keys = [*keys]
        if self.recorded:
            self.keys = self.keys if stage == "fixture" else {*keys}
            self._count += 1
            with self._stages.open("a", encoding="utf-8") as file:
                file.write(json.dumps([stage, *keys]) + "\n")
            self._announce(self._count)

    @contextlib.contextmanager
    def within(self, stage: Stage, keys: Iterable[str]) -> Iterator[None]:
        """Run for these benchmarks meanwhile."""
        before = self._now
        self.begin(stage, keys)
        try:
            yield
        finally:
            if self.recorded:
                self._announce(before)

    def _announce(self, number: int) -> None:
        self._now = number
        with self._stage.open("r+b") as file:
            file.write(number.to_bytes(NUMBER_BYTES, "little"))
