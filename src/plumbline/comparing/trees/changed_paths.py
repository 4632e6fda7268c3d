"""Where in each side lies what differs from the other: files, packages, and functions if nothing else differs."""

import importlib.metadata
import sys
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

from plumbline.comparing.trees.changed_functions import EVERY, Changed, changed_functions
from plumbline.comparing.trees.copies import COMPILED_FOLDER
from plumbline.comparing.trees.installer import package_folders
from plumbline.comparing.trees.sides import Sides

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
            files = [source_of(Path(file)) for file in distribution.files if ".." not in file.parts]
            tops = {file.parts[0] for file in files}
            if any(top.endswith(".pth") for top in tops):
                return None
            functions = None if any(file.suffix in MACHINE_CODE for file in files) else EVERY
            placed = [Path(str(distribution.locate_file(top))) for top in tops if not top.endswith(".dist-info")]
            found |= {form: functions for path in placed for form in (path.absolute(), path.resolve())}
    return found


def source_of(path: Path) -> Path:
    """Return the source of a compiled file; any other path as it is."""
    if path.parent.name != COMPILED_FOLDER:
        return path
    return path.parent.parent / (path.name.partition(".")[0] + ".py")
