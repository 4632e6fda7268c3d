"""The folder that a project's imports start from."""

import ast
import functools
from collections import Counter
from pathlib import PurePosixPath

from plumbline.adopting.files.tree import Module, Tree

MAX_NEIGHBOURS = 60  # modules of the same package whose imports are looked at


def module_name(file: str, folder: str) -> str:
    """Return the name of the module in a file, from the folder that imports start from."""
    path = PurePosixPath(file).relative_to(folder).with_suffix("")
    return ".".join(path.parts[:-1] if path.name == "__init__" else path.parts)


def import_folder(tree: Tree, module: Module) -> str:
    """Return the folder from which the absolute imports of a module and of its neighbours can be found.

    If they have none, it is the folder above the outermost package, as for pytest and the FastAPI command. Django's
    imports start from the folder of `manage.py`.
    """
    folders = [str(folder) for folder in PurePosixPath(module.path).parents]
    for folder in folders:
        if "DJANGO_SETTINGS_MODULE" in tree.text(f"{folder}/manage.py".removeprefix("./")):
            return folder
    package = _package_folder(tree, folders)
    neighbours = [module, *_neighbours(tree, folders[0])]
    found: Counter[str] = Counter()
    for one in neighbours[:MAX_NEIGHBOURS]:
        for name in _absolute(one):
            fits = [folder for folder in folders if _is_in(tree, folder, name)]
            for folder in fits:
                found[folder] += 3 if one is module else 1
    depth = max((_depth(one, folders) for one in neighbours[:MAX_NEIGHBOURS]), default=0)
    possible = [folder for folder in folders if _levels(module.path, folder) >= depth] or ["."]
    if not any(found[folder] for folder in possible):
        return package if package in possible else possible[0]
    return max(possible, key=lambda folder: (found[folder], folder == package, -possible.index(folder)))


def fits(tree: Tree, module: Module, folder: str) -> bool:
    """Return whether a module finds in a folder what it imports of the project."""
    other = import_folder(tree, module)
    names = [name for name in _absolute(module) if _is_in(tree, other, name)]
    return all(_is_in(tree, folder, name) for name in names)


def _package_folder(tree: Tree, folders: list[str]) -> str:
    """Return the first folder without `__init__.py`."""
    for folder in folders:
        if f"{folder}/__init__.py".removeprefix("./") not in tree.known:
            return folder
    return "."


@functools.lru_cache(maxsize=64)
def _neighbours(tree: Tree, folder: str) -> list[Module]:
    """Return the other modules below the outermost folder of this one that is not the root."""
    top = folder.split("/")[0]
    files = [module for module in tree.modules.values() if module.path.startswith(f"{top}/") or top == "."]
    near = [module for module in files if module.path.startswith(f"{folder}/")]
    return near + [module for module in files if module not in near]


def _absolute(module: Module) -> set[str]:
    return {one.module.split(".")[0] for one in module.imports.values() if not one.module.startswith(".")}


def _is_in(tree: Tree, folder: str, name: str) -> bool:
    """Return whether a package or module can be imported from a folder."""
    base = f"{folder}/{name}".removeprefix("./")
    return f"{base}.py" in tree.known or base in tree.folders


def _depth(module: Module, folders: list[str]) -> int:
    """Return how many packages a module needs around it for its relative imports."""
    levels = [node.level for node in module.nodes if isinstance(node, ast.ImportFrom) and node.level]
    own = PurePosixPath(module.path).parent
    shared = sum(1 for folder in folders if own.is_relative_to(folder))
    return max(levels, default=0) - (len(own.parts) + 1 - shared)


def _levels(file: str, folder: str) -> int:
    """Return the number of packages around a module if imports start from a folder."""
    return len(PurePosixPath(file).relative_to(folder).parts) - 1
