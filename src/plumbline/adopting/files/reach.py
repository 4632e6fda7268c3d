"""The modules that an application imports, directly or through others, without importing anything."""

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from plumbline.adopting.files.tree import Module, Tree

DOTTED = re.compile(r"[A-Za-z_]\w*(\.\w+)+(:\w+)?")


def reachable(tree: Tree, files: Iterable[str], folder: str) -> set[str]:
    """Return the files of the modules that these files import, and of those that they name in strings.

    Strings count because Django names its settings and applications in them. `folder` is where imports start from.
    """
    found: set[str] = set()
    left = [file for file in files if file in tree.modules]
    while left:
        file = left.pop()
        if file not in found:
            found.add(file)
            left += [one for one in _imported(tree, file, folder) if one not in found and one in tree.modules]
    return found


@functools.lru_cache(maxsize=8192)
def _imported(tree: Tree, file: str, folder: str) -> tuple[str, ...]:
    module = tree.modules[file]
    return tuple(dict.fromkeys(_targets(tree, module, folder)))


def _targets(tree: Tree, module: Module, folder: str) -> Iterator[str]:
    for node in ast.walk(module.body):
        if isinstance(node, ast.Import):
            for one in node.names:
                yield from _files(tree, one.name, folder)
        elif isinstance(node, ast.ImportFrom):
            base, start = node.module or "", folder
            if node.level:
                parents = PurePosixPath(module.path).parents
                start = str(parents[min(node.level, len(parents)) - 1])
            for one in node.names:
                yield from _files(tree, f"{base}.{one.name}".lstrip("."), start)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 200:
            if node.value.endswith(".py"):  # django-split-settings
                yield str(PurePosixPath(module.path).parent / node.value)
            elif DOTTED.fullmatch(node.value):
                yield from _files(tree, node.value.partition(":")[0], folder)


def _files(tree: Tree, dotted: str, folder: str) -> Iterator[str]:
    """Return the files of a module and of the packages around it."""
    parts = dotted.split(".")
    for length in range(1, len(parts) + 1):
        if file := tree.module_at(".".join(parts[:length]), folder):
            yield file
