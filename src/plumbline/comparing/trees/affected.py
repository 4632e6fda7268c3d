"""Which benchmarks a change can affect, from the traces of a rehearsal.

A benchmark whose processes read nothing that differs runs the same in both sides, so it is not compared.
"""

import functools
import importlib.metadata
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

from plumbline.comparing.trees.at_start._plumbline_trace import ANY, CALL, PROGRAM, STAGES, TESTS, WATCHED
from plumbline.comparing.trees.changed_functions import EVERY, Changed, changed_functions
from plumbline.comparing.trees.environment import package_folders
from plumbline.comparing.trees.sides import COMPILED_FOLDER, Sides
from plumbline.comparing.trees.trace import is_run_by_python

# The process of the application, and the command that prepares the databases.
APP, PREPARE = "app", "prepare"
MACHINE_CODE = (".so", ".pyd", ".dylib", ".dll")


def changed_paths(sides: Sides) -> dict[str, Changed | None]:
    """Return what differs, by the name of the side in which it lies; None for a side of which that is not known."""
    functions = {name: _changed_functions_of(name, sides) for name in sides.files}
    found: dict[str, Changed | None] = {}
    for side in (sides.base, sides.head):
        environment = None if side.python == Path(sys.executable) else package_folders(side.python)
        packages = paths_of_packages([name for name, _, _ in sides.packages], environment)
        trees = (side.tree, side.tree.resolve())
        files = {tree / name: changed for name, changed in functions.items() for tree in trees}
        found[side.name] = None if packages is None else {**packages, **files}
    return found


def _changed_functions_of(name: str, sides: Sides) -> set[str] | None:
    base, head = sides.base.tree / name, sides.head.tree / name
    if not name.endswith(".py") or base.is_symlink() or head.is_symlink():
        return None
    try:
        sources = base.read_text(encoding="utf-8"), head.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return None if sources[0] == sources[1] else changed_functions(*sources)


def paths_of_packages(names: Iterable[str], environment: Sequence[str] | None = None) -> Changed | None:
    """Return the top-level files and folders of these packages, as far as they are installed.

    `environment` is the list of its package folders, by default those of this one. Returns None if a package does not
    list its files, or if it can change what Python does before a trace begins.
    """
    found: dict[Path, Set[str] | None] = {}
    folders = sys.path if environment is None else list(environment)
    for name in names:
        for distribution in importlib.metadata.distributions(name=name, path=folders):
            if distribution.files is None:
                return None
            files = [_source_of(Path(file)) for file in distribution.files if ".." not in file.parts]
            tops = {file.parts[0] for file in files}
            if any(top.endswith(".pth") for top in tops):
                return None
            functions = None if any(file.suffix in MACHINE_CODE for file in files) else EVERY
            placed = [Path(str(distribution.locate_file(top))) for top in tops if not top.endswith(".dist-info")]
            found |= {form: functions for path in placed for form in (path.absolute(), path.resolve())}
    return found


def _source_of(path: Path) -> Path:
    """Return the source of a compiled file; any other path as it is."""
    if path.parent.name != COMPILED_FOLDER:
        return path
    return path.parent.parent / (path.name.partition(".")[0] + ".py")


def affected(names: Iterable[str], folder: Path, changed: Changed) -> set[str] | None:
    """Return the benchmarks for which one of these processes, with traces in `folder`, ran what differs; None for all.

    All are affected if a process read what differs other than by importing it and calling its functions; if it called
    them before the first benchmark, or only in a benchmark's first run and so may have made what others use; if it is
    neither the tests nor the application, and so may work later; and if there is no trace, or it ran a program that
    Python does not run.
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
                if not is_run_by_python(line.removeprefix(PROGRAM)):
                    return None
            elif any(names is None or not line.startswith(WATCHED) for names in _changed_in(line, changed)):
                return None
        if calls and name not in (TESTS, APP):
            return None
        stages = [[], *map(json.loads, _lines(folder / STAGES) or [])]  # 0 is before all of them
        for (_, function, _), numbers in calls.items():
            by_kind: dict[str, set[str]] = defaultdict(set)
            for kind, *keys in (stages[number] for number in numbers if number):
                by_kind[kind].update(keys)
            if 0 in numbers or (function != ANY and not by_kind["first"] <= by_kind["again"]):
                return None
            found |= set().union(*by_kind.values())
    return found


def may_make(names: Iterable[str], folder: Path, changed: Changed) -> bool:
    """Return whether one of these processes read a file of which functions differ, or has no trace.

    Its functions may make something that stays. What a package has made acts through functions of its own.
    """
    traces = [_lines(folder / name) for name in names]
    return any(
        lines is None or any(names is None or names - EVERY for line in lines for names in _changed_in(line, changed))
        for lines in traces
    )


def _lines(file: Path) -> list[str] | None:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return None


def _changed_in(line: str, changed: Changed) -> list[Set[str] | None]:
    """Return what differs in a file that was read."""
    return [changed[path] for path in _with_parents(line.removeprefix(WATCHED)) if path in changed]


@functools.cache  # each process of both sides reads most of these files
def _with_parents(name: str) -> set[Path]:
    """Return a file and the folders around it, by the given path and by that without links."""
    paths = [_source_of(Path(name)), _source_of(Path(os.path.realpath(name)))]
    return {one for path in paths for one in (path, *path.parents)}
