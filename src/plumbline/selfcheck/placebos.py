"""Placebo changes: changes of head that do nothing, to see what a comparison reads for them.

Two copies of the same code never differ. A real change also moves code and objects in memory, which makes some
benchmarks a little faster or slower, in every pair alike. More pairs cannot average this out.
"""

import ast
import builtins
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

Placebo = Literal["edit", "imports", "order", "environment"]
PLACEBOS: dict[Placebo, str] = {
    "edit": "a function that nobody calls",
    "imports": "imports of modules that nobody uses",
    "order": "functions in another order",
    "environment": "another environment with the same packages",
}
UNUSED_FUNCTION = (
    '\n\ndef plumbline_placebo(number: int) -> str:\n    """Is never called."""\n    return str(number * 2)\n'
)
UNUSED_MODULES = "colorsys, fractions, mailbox, plistlib, statistics, wave"


@contextlib.contextmanager
def copied_environment() -> Iterator[Path | None]:
    """Copy the virtual environment of this process. Yield the copy's Python; None if there is no such environment."""
    if sys.prefix == sys.base_prefix:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="plumbline-") as folder:
        copy = Path(folder) / "environment"
        shutil.copytree(sys.prefix, copy, symlinks=True)
        yield copy / Path(sys.executable).relative_to(sys.prefix)


@contextlib.contextmanager
def applied(placebo: Placebo, files: Iterable[Path]) -> Iterator[int]:
    """Change files of Python code during the `with` block. Yield how many files differ."""
    before: dict[Path, bytes] = {}
    try:
        for file in files:
            text = file.read_bytes()
            with contextlib.suppress(SyntaxError, UnicodeDecodeError):  # Python cannot import this file
                if (changed := changed_by(placebo, text.decode())) != text.decode():
                    before[file] = text
                    file.write_bytes(changed.encode())
        yield len(before)
    finally:
        for file, text in before.items():
            file.write_bytes(text)


def changed_by(placebo: Placebo, text: str) -> str:
    """Return the text of a module that does the same. Raises SyntaxError."""
    tree = ast.parse(text)
    lines = text.splitlines(keepends=True)
    if placebo == "edit":
        return f"{text}{UNUSED_FUNCTION}"
    # Behind the docstring and the imports, which have to come first.
    places = [node.end_lineno or 0 for node in tree.body[:1] if isinstance(node, ast.Expr)]
    places += [node.end_lineno or 0 for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    place = max(places, default=0)
    if placebo == "imports":
        return "".join([*lines[:place], f"import {UNUSED_MODULES}\n", *lines[place:]])
    behind = [node for node in tree.body if node.lineno > place]
    moved = next((node for node in reversed(behind[1:]) if _may_move(node, tree.body)), None)
    if moved is None or moved.end_lineno is None:
        return text
    begin, end = moved.lineno - 1, moved.end_lineno
    function = ["\n\n", *lines[begin : end - 1], lines[end - 1].rstrip("\n"), "\n\n\n"]
    return "".join([*lines[:place], *function, *lines[place:begin], *lines[end:]])


def _may_move(node: ast.stmt, body: Sequence[ast.stmt]) -> bool:
    """Return whether a function may be defined right behind the imports.

    Its head must need nothing else, and nothing else may have its name.
    """
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.decorator_list:
        return False
    imports = [one for one in body if isinstance(one, ast.Import | ast.ImportFrom)]
    known = {(one.asname or one.name).partition(".")[0] for statement in imports for one in statement.names}
    head = [node.args, *([node.returns] if node.returns else [])]
    needed = {one.id for part in head for one in ast.walk(part) if isinstance(one, ast.Name)}
    named = [one.id for part in body for one in ast.walk(part) if isinstance(one, ast.Name) and _assigns(one)]
    named += [getattr(one, "name", "") for one in body]
    return needed <= known | set(dir(builtins)) and named.count(node.name) == 1


def _assigns(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store | ast.Del)
