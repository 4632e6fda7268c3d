"""The folders that a side imports from, and the modules that a change is in."""

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from plumbline.comparing.trees.copies import CODE, Copy, is_in, module_path
from plumbline.comparing.trees.environment import local_packages
from plumbline.comparing.trees.git import Git
from plumbline.results.environment import origins

USUAL = (".", "src")


def import_folders(git: Git, root: Path, head: Copy, directories: Sequence[str]) -> list[str]:
    """Return the folders to import from, below the project's root: the usual, the given, and those of this process."""
    top, environment = os.path.realpath(git.top), os.path.realpath(sys.prefix)
    used = [os.path.realpath(entry) for entry in sys.path]
    ours = [path for path in used if is_in(path, top) and not is_in(path, environment)]
    wanted = [*USUAL, *directories, *(os.path.relpath(path, os.path.realpath(root)) for path in ours)]
    folders = dict.fromkeys(os.path.normpath(folder) for folder in wanted)
    return [folder for folder in folders if (head.tree / git.prefix / folder).is_dir()]


def modules_with_changes(git: Git, files: Sequence[str], base: Copy, head: Copy, import_from: list[str]) -> list[str]:
    """Return the top-level modules in both copies that contain one of these files.

    If one is installed from a folder of the repository that is not in `import_from`, the folder is added there.
    """
    found: set[str] = set()
    for path in {module_path(name, head.files) for name in files}:
        name = path.name.partition(".")[0]
        marker = str(path if path.suffix in CODE else path / "__init__.py")
        if not name.isidentifier() or marker not in base.files or marker not in head.files:
            continue
        folder = os.path.relpath(path.parent, git.prefix or ".")
        if folder not in import_from and _is_installed_from(git, name):
            import_from.append(folder)
        if folder in import_from:
            found.add(name)
    return sorted(found)


def _is_installed_from(git: Git, module: str) -> bool:
    """Return whether this process imports a module from the repository, or from an installed copy of a folder."""
    origin = origins([module])[module]
    if is_in(origin, os.path.realpath(git.top)) and not is_in(origin, os.path.realpath(sys.prefix)):
        return True
    owners = importlib.metadata.packages_distributions().get(module, [])
    return not local_packages().isdisjoint(canonicalize_name(owner) for owner in owners)
