"""The functions that a change of a Python file has changed, if it has changed nothing else."""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Set
from pathlib import Path

from plumbline.comparing.trees.at_start._plumbline_trace import ANY

# In the name of a decorator: the function, as it is written, does not run for all its callers, or never.
NOT_CALLED = re.compile(r"cach|memo|jit|compile", re.IGNORECASE)
EVERY = frozenset({ANY})
# By path, which stands for all below it: the functions that differ if nothing else does; EVERY for a package of Python
# code; None if it can act without a call.
Changed = Mapping[Path, Set[str] | None]


def changed_functions(base: str, head: str) -> set[str] | None:
    """Return the qualified names of the functions and methods that are new or whose bodies differ.

    Returns None if anything else differs that acts when the module is imported, because then it needs no call. New
    functions without decorators do not act, nor do new imports of the standard library, if the base does not use their
    names. Returns None as well if a cached or compiled function has changed, because it does not run for all its
    callers, and for text that is not Python.
    """
    try:
        base_parts, base_bodies = _parts(base)
        head_parts, head_bodies = _parts(head)
    except (SyntaxError, ValueError, RecursionError):
        return None
    known = set(re.findall(r"\w+", base))
    if [ast.dump(part) for part in base_parts] != [ast.dump(part) for part in _without_additions(head_parts, known)]:
        return None
    changed = {name for name, bodies in head_bodies.items() if bodies != base_bodies.get(name)}
    decorators = [decorators for name in changed for decorators, _ in head_bodies[name]]
    return None if any(map(NOT_CALLED.search, decorators)) else changed


def _parts(source: str) -> tuple[list[ast.stmt], dict[str, list[tuple[str, str]]]]:
    """Split a module into its statements without bodies of functions, and these with their decorators, by name.

    Each name of `from … import` becomes a statement of its own, so that one more is an addition.
    """
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
    for part in module.body:
        if isinstance(part, ast.ImportFrom):
            parts += [ast.ImportFrom(part.module, [name], part.level) for name in part.names]
        else:
            parts.append(part)
    return parts, bodies


def _without_additions(parts: list[ast.stmt], known: set[str]) -> list[ast.stmt]:
    kept = [part for part in parts if not _only_adds(part, known)]
    for part in kept:
        for node in ast.walk(part):
            if isinstance(node, ast.ClassDef):
                node.body = [inner for inner in node.body if not _only_adds(inner, known)]
    return kept


def _only_adds(part: ast.stmt, known: set[str]) -> bool:
    """Return whether a new statement only defines names that were not in use before."""
    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
        evaluates = [*part.decorator_list, *(node for node in ast.walk(part.args) if isinstance(node, ast.Call))]
        return not evaluates and part.name not in known and not part.name.startswith("__")
    if isinstance(part, ast.Import):
        modules = [name.name for name in part.names]
        names = [name.asname or name.name.partition(".")[0] for name in part.names]
    elif isinstance(part, ast.ImportFrom) and not part.level:
        modules = [part.module or ""]
        names = [name.asname or name.name for name in part.names]
    else:
        return False
    standard = all(module.partition(".")[0] in sys.stdlib_module_names for module in modules)
    return standard and "__future__" not in modules and "*" not in names and known.isdisjoint(names)
