"""Find the benchmarks that a change can affect, from the traces of a rehearsal."""

import ast
import contextlib
import functools
import importlib.metadata
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Set
from pathlib import Path

from plumbline.comparing.trees.at_start import sitecustomize as marks
from plumbline.comparing.trees.environment import package_folders
from plumbline.comparing.trees.sides import Side, Sides
from plumbline.comparing.trees.trace import source_of
from plumbline.processes import is_run_by_python
from plumbline.results.schema import UnjudgedCause

APP = "app"  # the process of the application
MACHINE_CODE = (".so", ".pyd", ".dylib", ".dll")
# Names of decorators that keep the function's code from running at each call, such as caches and compilers.
NOT_CALLED = re.compile(r"cach|memo|jit|compile", re.IGNORECASE)
EVERY = frozenset({marks.ANY})
# Names of constants that cannot make a benchmark slower.
ABOUT_CODE = {"__version__", "version", "__version_tuple__", "version_tuple", "VERSION", "__author__", "__date__"}
# Causes that may concern every benchmark, because nobody knows which benchmarks would use the package.
OF_ALL_PROCESSES: Collection[UnjudgedCause] = {"unknown_format", "no_base_lock", "not_installed", "other_python"}
# Changed files and folders. By path: the names of the changed functions if nothing else has changed, EVERY for a
# package of Python code, None if the change can have an effect without a call.
Changed = Mapping[Path, Set[str] | None]


def changed_paths(sides: Sides) -> dict[str, Changed | None]:
    """Return the changed files and packages of each side, by its name; None for a side if they are not known."""
    functions = {name: changed_functions(sides.base.tree / name, sides.head.tree / name) for name in sides.files}
    found: dict[str, Changed | None] = {}
    upgraded = [name for name, base, head in sides.packages if base and head]
    values = files_of_other_values(upgraded, _folders(sides.base), _folders(sides.head))
    for side in (sides.base, sides.head):
        packages = paths_of_packages([name for name, _, _ in sides.packages], _folders(side))
        if packages is not None:  # a package that only one side has can have an effect by being installed
            alone = [name for name, base, head in sides.packages if not (base and head)]
            packages = {**packages, **dict.fromkeys(paths_of_packages(alone, _folders(side)) or {})}
            packages |= dict.fromkeys(Path(folder, file) for folder in _folders(side) for file in values)
        files = {side.tree / name: changed for name, changed in functions.items()}
        found[side.name] = None if packages is None else {**packages, **files}
    return found


def unjudged_paths(sides: Sides) -> dict[str, dict[str, Changed | None]]:
    """Return the paths of the unjudged packages: by package, then as `changed_paths` does."""
    return {
        one.name: {
            side.name: None if one.cause in OF_ALL_PROCESSES else paths_of_packages([one.name], _folders(side))
            for side in (sides.base, sides.head)
        }
        for one in sides.unjudged
    }


def _folders(side: Side) -> list[str]:
    """Return the package folders of a side: those of the application, if it has a separate environment."""
    if side.app:
        return [*side.app.folders]
    return sys.path if side.python == Path(sys.executable) else package_folders(side.python)


def paths_of_packages(names: Iterable[str], folders: list[str]) -> Changed | None:
    """Return the top-level files and folders of these packages in `folders`.

    Return None if a package does not list its files, or if it has a .pth file, which runs before a trace begins.
    """
    found: dict[Path, Set[str] | None] = {}
    for distribution in (one for name in names for one in importlib.metadata.distributions(name=name, path=folders)):
        if distribution.files is None:
            return None
        files = [source_of(Path(file)) for file in distribution.files if ".." not in file.parts]
        tops = {file.parts[0] for file in files}
        if any(top.endswith(".pth") for top in tops):
            return None
        functions = None if any(file.suffix in MACHINE_CODE for file in files) else EVERY
        placed = [Path(str(distribution.locate_file(top))) for top in tops if not top.endswith(".dist-info")]
        found |= {form: functions for path in placed for form in (path.absolute(), path.resolve())}
    return found


def files_of_other_values(names: Iterable[str], base: list[str], head: list[str]) -> set[str]:
    """Return the Python files of packages in which more than functions has changed.

    Changed constants, for example, have an effect without a call. `base` and `head` are the package folders of the two
    sides. Paths are relative to these folders.
    """
    found = set[str]()
    for name in names:
        before, now = (_sources(name, folders) for folders in (base, head))
        # Parse changed files only, because parsing is slow and most upgrades change few files.
        for file in before.keys() | now.keys():
            if before.get(file) != now.get(file):
                texts = before.get(file, ""), now.get(file, "")
                found |= {file} if _without_functions(texts[0]) != _without_functions(texts[1]) else set()
    return found


def _sources(name: str, folders: list[str]) -> dict[str, str]:
    """Return the text of each Python file of a package."""
    found = dict[str, str]()
    for distribution in importlib.metadata.distributions(name=name, path=folders):
        for file in distribution.files or []:
            if file.suffix == ".py" and ".." not in file.parts:
                with contextlib.suppress(OSError):
                    path = Path(str(distribution.locate_file(file)))
                    found[str(file)] = path.read_text("utf-8", errors="replace")
    return found


def _without_functions(source: str) -> str:
    """Return the statements of a Python file without functions, docstrings, comments and other descriptions."""
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return source
    for node in ast.walk(module):
        for name in ("body", "orelse", "finalbody"):
            if isinstance(body := getattr(node, name, None), list):
                setattr(node, name, [part for part in body if not _is_about_code(part)])
    return "".join(map(ast.dump, module.body))


def _is_about_code(part: ast.stmt) -> bool:
    """Return whether a statement is a function, whose calls are recorded, or only describes the code."""
    if isinstance(part, ast.Assign | ast.AnnAssign):
        targets = part.targets if isinstance(part, ast.Assign) else [part.target]
        return all(isinstance(one, ast.Name) and one.id in ABOUT_CODE for one in targets)
    if isinstance(part, ast.ImportFrom):
        return part.module in ("__future__", "typing", "collections.abc", "typing_extensions")
    is_text = isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
    return is_text or isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)


def changed_functions(base: Path, head: Path) -> set[str] | None:
    """Return the qualified names of new and changed functions and methods of a Python file.

    Return None if the change can have an effect without a call of these functions: if other code has changed, which
    runs at import; if a cached or compiled function has changed; or if this is not a Python file.
    """
    if head.suffix != ".py" or base.is_symlink() or head.is_symlink():
        return None
    try:
        sources = base.read_text(encoding="utf-8"), head.read_text(encoding="utf-8")
        (before, base_bodies), (after, head_bodies) = map(_without_bodies, sources)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    known = set(re.findall(r"\w+", sources[0]))
    for node in ast.walk(after):
        if isinstance(node, ast.Module | ast.ClassDef):
            node.body = [part for part in node.body if not _only_adds(part, known)]
    if sources[0] == sources[1] or ast.dump(before) != ast.dump(after):
        return None
    changed = {name for name, bodies in head_bodies.items() if bodies != base_bodies.get(name)}
    decorators = [decorators for name in changed for decorators, _ in head_bodies[name]]
    return None if any(map(NOT_CALLED.search, decorators)) else changed


def _without_bodies(source: str) -> tuple[ast.Module, dict[str, list[tuple[str, str]]]]:
    """Return a module without the bodies of its functions, and the decorators and bodies of each function by name."""
    module = ast.parse(source)
    bodies: dict[str, list[tuple[str, str]]] = defaultdict(list)

    def take_bodies(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                body = "".join(ast.dump(statement) for statement in child.body)
                bodies[prefix + child.name].append(("".join(map(ast.unparse, child.decorator_list)), body))
                child.body = []
            else:
                take_bodies(child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix)

    take_bodies(module, "")
    parts: list[ast.stmt] = []
    for part in module.body:  # split `from … import`, so that a further name is a further statement
        if isinstance(part, ast.ImportFrom):
            parts += [ast.ImportFrom(part.module, [name], part.level) for name in part.names]
        else:
            parts.append(part)
    return ast.Module(parts, []), bodies


def _only_adds(part: ast.stmt, known: set[str]) -> bool:
    """Return whether a new statement only defines names that the file did not use before."""
    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
        evaluates = [*part.decorator_list, *(node for node in ast.walk(part.args) if isinstance(node, ast.Call))]
        return not evaluates and part.name not in known and not part.name.startswith("__")
    if isinstance(part, ast.Import):
        modules = [name.name for name in part.names]
    elif isinstance(part, ast.ImportFrom) and not part.level:
        modules = [part.module or ""]
    else:
        return False
    names = [name.asname or name.name.partition(".")[0] for name in part.names]
    standard = all(module.partition(".")[0] in sys.stdlib_module_names for module in modules)
    return standard and "__future__" not in modules and "*" not in names and known.isdisjoint(names)


def open_traces(folder: Path, changed: Changed) -> None:
    """Make a folder for the traces of one side, with the changes to watch."""
    folder.mkdir()
    known = {str(path): None if names == EVERY else [*names] for path, names in changed.items() if names is not None}
    if known:
        (folder / marks.DIFFERING).write_text(json.dumps(known), encoding="utf-8", errors="surrogateescape")
        (folder / marks.STAGE).write_bytes(bytes(marks.NUMBER_BYTES))


def affected(names: Iterable[str], folder: Path, changed: Changed) -> set[str] | None:
    """Return the benchmarks for which one of these processes ran changed code, or None if all may be affected.

    `folder` has the traces of the processes. All benchmarks may be affected:

    - if changed code was used otherwise than by import and call;
    - if it was called before the first benchmark;
    - if it was called only in a benchmark's first run, because it may have created something that others use;
    - if it was called by a process that works in the background;
    - if a trace is missing, or if a process ran a program other than Python.
    """
    found: set[str] = set()
    stages = [[], *map(json.loads, _lines(folder / marks.STAGES) or [])]  # stage 0 is before the first benchmark
    absent = _absent(changed)
    for name in names:
        lines = _lines(folder / name)
        if lines is None:
            return None
        calls: dict[tuple[str, str, str], set[int]] = defaultdict(set)
        for line in lines:
            if line.startswith(marks.CALL):
                number, process, function, path = line.removeprefix(marks.CALL).split(" ", 3)
                if Path(path) in changed:
                    calls[process, function, path].add(int(number))
            elif line.startswith(marks.PROGRAM):
                if _is_other(line):
                    return None
            elif line.startswith((marks.MISSED, marks.LISTED)):
                if line in absent:
                    return None
            elif any(names is None or not line.startswith(marks.WATCHED) for names in _changed_in(line, changed)):
                return None
        if calls and name not in (marks.TESTS, APP):
            return None
        for (_, function, _), numbers in calls.items():
            by_kind: dict[str, set[str]] = defaultdict(set)
            for kind, *keys in (stages[number] for number in numbers if number):
                by_kind[kind].update(keys)
            if 0 in numbers or (function != marks.ANY and not by_kind["first"] <= by_kind["again"]):
                return None
            found |= set().union(*by_kind.values())
    return found


def other_programs(file: Path) -> list[str]:
    """Return the programs that wrote no trace and that the process with this trace ran, or was."""
    lines = _lines(file)
    if lines is None:
        return ["an unknown program"]
    return [Path(line.removeprefix(marks.PROGRAM).removeprefix("? ")).name for line in lines if _is_other(line)]


def _is_other(line: str) -> bool:
    return line.startswith(marks.PROGRAM) and not is_run_by_python(line.removeprefix(marks.PROGRAM))


def may_make(names: Iterable[str], folder: Path, changed: Changed) -> bool:
    """Return whether one of these processes read a file with changed functions, or has no trace.

    These functions may create something that lasts. Whatever a package has created has an effect through functions of
    the package, which are watched.
    """
    traces = [_lines(folder / name) for name in names]
    return any(
        lines is None or any(names is None or names - EVERY for line in lines for names in _changed_in(line, changed))
        for lines in traces
    )


def _lines(file: Path) -> list[str] | None:
    return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if file.is_file() else None


def _changed_in(line: str, changed: Changed) -> list[Set[str] | None]:
    return [changed[path] for path in _with_parents(line.removeprefix(marks.WATCHED)) if path in changed]


def _absent(changed: Changed) -> Set[str]:
    """Return the lines of a trace if a process looked for a path that only the other side has, or listed its folder."""
    found = set[str]()
    for path in changed:
        for one in (path, *path.parents):
            if marks.MISSED + str(one) in found or os.path.lexists(one):
                break
            found |= {marks.MISSED + str(one), marks.LISTED + str(one.parent)}
    return found


@functools.cache  # each process of both sides reads most of these files
def _with_parents(name: str) -> set[Path]:
    """Return a file and its parent folders, by the given path and by its real path."""
    paths = [source_of(Path(name)), source_of(Path(os.path.realpath(name)))]
    return {one for path in paths for one in (path, *path.parents)}
