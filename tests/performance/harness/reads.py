"""Which files the processes of an arm read, and so which benchmarks what differs between the arms can reach.

In a rehearsal each benchmark runs once, and each Python process notes what it opens (at_start/sitecustomize.py). What
reads nothing of that which differs is not compared: it runs the same in both arms.
"""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

READS = "PERF_READS"
"""Variable that names the file into which a process notes what it reads; its name is that of the process."""
TESTS, PREPARE = "tests", "prepare"
"""The process of the tests with its children, and the command that prepares the databases."""
AT_START = "tests/performance/harness/at_start"
"""Folder below a project's root, for PYTHONPATH."""
PROGRAM = "$ "
"""Begins a line that names not a file but a program that was run."""
CACHE = "__pycache__"
LINE_BYTES = 1000


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


def reaches(names: Iterable[str], folder: Path, changed: Set[Path]) -> bool:
    """Whether one of these processes, which noted into `folder`, has read one of these paths or what is below it.

    True also where one has noted nothing, or has run what isn't run by Python: what that reads isn't known.
    """
    for name in names:
        try:
            lines = (folder / name).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except FileNotFoundError:
            return True
        for line in lines:
            if line.startswith(PROGRAM):
                if not _is_run_by_python(line.removeprefix(PROGRAM)):
                    return True
                continue
            for path in {_source(Path(line)), _source(Path(os.path.realpath(line)))}:
                if not changed.isdisjoint([path, *path.parents]):
                    return True
    return False


def _source(path: Path) -> Path:
    """Of what Python has compiled of a file, that file."""
    return path.parent.parent / (path.name.partition(".")[0] + ".py") if path.parent.name == CACHE else path


def paths_of_packages(names: Iterable[str], environment: Sequence[str] | None = None) -> set[Path] | None:
    """The files and folders that these packages have put beside all others, of those that are there.

    `environment`: its folders of packages; by default our own. None where it isn't known, or one of them can change
    what Python does before it notes anything.
    """
    found: set[Path] = set()
    folders = sys.path if environment is None else list(environment)
    for name in names:
        for distribution in importlib.metadata.distributions(name=name, path=folders):
            if distribution.files is None:
                return None
            tops = {_source(Path(file)).parts[0] for file in distribution.files if ".." not in file.parts}
            if any(top.endswith(".pth") for top in tops):
                return None
            placed = [Path(str(distribution.locate_file(top))) for top in tops if not top.endswith(".dist-info")]
            found |= {form for path in placed for form in (path.absolute(), path.resolve())}
    return found
