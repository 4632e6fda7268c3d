"""The modules that an application imports, directly or through others, without importing anything."""

import ast
import functools
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import PurePosixPath

from plumbline.adopting.files.tree import Module, Tree

DOTTED = re.compile(r"[A-Za-z_]\w*(\.\w+)+(:\w+)?")


def reachable(tree: Tree, files: Iterable[str], folder: str, hidden: Collection[str] = ()) -> set[str]:
    """Return the files of the modules that these files import, and of those that they name in strings.

    Strings count because Django names its settings and applications in them, except for the modules in `hidden`.
    `folder` is where imports start from.
    """
    found: set[str] = set()
    left = [file for file in files if file in tree.modules]
    while left:
        file = left.pop()
        if file not in found:
            found.add(file)
            left += [one for one in _imported(tree, file, folder) if one in tree.modules]
            left += [one for one in _named(tree, file, folder) if one in tree.modules and one not in hidden]
    return found


def file_of(tree: Tree, module: Module, dotted: str, folder: str) -> str:
    """Return the file of a module that another one imports by this name, "" if the project has none."""
    level = len(dotted) - len(dotted.lstrip("."))
    name = dotted.lstrip(".")
    if not level:
        return tree.module_at(name, folder) or tree.module_at(name)  # the root may be on Python's path, too
    parents = PurePosixPath(module.path).parents
    start = str(parents[min(level, len(parents)) - 1])
    return tree.module_at(name, start) if name else tree.module_at("__init__", start)


@functools.lru_cache(maxsize=8192)
def _imported(tree: Tree, file: str, folder: str) -> tuple[str, ...]:
    module = tree.modules[file]
    names: list[str] = []
    for node in module.nodes:
        if isinstance(node, ast.Import):
            names += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names += [f"{base}.{one.name}" if node.module else base + one.name for one in node.names]
    return tuple(dict.fromkeys(one for name in names for one in _packages(tree, module, name, folder)))


@functools.lru_cache(maxsize=8192)
def _named(tree: Tree, file: str, folder: str) -> tuple[str, ...]:
    module = tree.modules[file]
    found: list[str] = []
    for node in module.strings:
        text = str(node.value)
        if text.endswith(".py"):  # django-split-settings
            found.append(str(PurePosixPath(module.path).parent / text))
        elif DOTTED.fullmatch(text):
            found += _packages(tree, module, text.partition(":")[0], folder)
    return tuple(dict.fromkeys(found))


def _packages(tree: Tree, module: Module, dotted: str, folder: str) -> Iterator[str]:
    """Return the files of a module and of the packages around it."""
    start = len(dotted) - len(dotted.lstrip("."))
    parts = dotted[start:].split(".")
    for length in range(1, len(parts) + 1):
        if file := file_of(tree, module, dotted[:start] + ".".join(parts[:length]), folder):
            yield file
