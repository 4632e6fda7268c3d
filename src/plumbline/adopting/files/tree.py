"""The files of a project that findings come from: those that git knows, without tests, builds and environments."""

import ast
import functools
import os
import re
import subprocess
import time
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from plumbline.project import SUITE
from plumbline.repository import git_command

GIT_LIMIT_S = 20.0
READ_LIMIT_S = 15.0  # for all Python files together
MAX_FILES = 20_000
MAX_MODULES = 4_000
MAX_BYTES = 400_000  # of one file

SKIPPED = {
    *(".git", ".hg", ".nox", ".tox", ".venv", "venv", "env", "node_modules", "site-packages", "__pycache__", "build"),
    *("dist", ".mypy_cache", ".ruff_cache", ".pytest_cache", "htmlcov", "__pypackages__", ".eggs", "vendor"),
}
TESTS = re.compile(r"tests?|testing|test_.*\.py|.*_tests?\.py|tests\.py|conftest\.py|e2e|benchmarks?")
ASIDE = {
    "docs",
    "doc",
    "docs_src",
    "example",
    "examples",
    "sample",
    "samples",
    "demo",
    "demos",
    "tutorial",
    "tutorials",
}
# Files of the folders above a project that may be about it too.
ABOVE = re.compile(
    r"(docker-)?compose[\w.-]*\.ya?ml|(.+\.)?Dockerfile(\..+)?|Procfile|Makefile|justfile|fly\.toml|render\.yaml"
    r"|\.?env\..+|.*\.env|\.env|\.python-version|\.tool-versions|runtime\.txt"
)


class Import(NamedTuple):
    """A name that a module imports."""

    module: str  # with leading dots if it is relative
    name: str  # in that module; "" for the module itself


class Module:
    """A parsed Python module."""

    def __init__(self, path: str, text: str) -> None:
        """Raises SyntaxError, and ValueError for NUL characters."""
        self.path = path
        self.text = text
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the project's code, such as invalid escapes
            self.body = ast.parse(text)
        self.lines = text.splitlines()

    @functools.cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes of its syntax tree."""
        return list(ast.walk(self.body))

    @functools.cached_property
    def calls(self) -> list[ast.Call]:
        return [node for node in self.nodes if isinstance(node, ast.Call)]

    @functools.cached_property
    def strings(self) -> list[ast.Constant]:
        """Strings that may name a module or a file."""
        nodes = [node for node in self.nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        return [node for node in nodes if re.fullmatch(r"[\w.:/-]{3,200}", str(node.value))]

    @functools.cached_property
    def imports(self) -> dict[str, Import]:
        """The imported names, by the names that it uses for them."""
        found: dict[str, Import] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for one in node.names:
                    first = one.name.partition(".")[0]
                    found[one.asname or first] = Import(one.name if one.asname else first, "")
            elif isinstance(node, ast.ImportFrom):
                for one in node.names:
                    found[one.asname or one.name] = Import("." * node.level + (node.module or ""), one.name)
        return found

    def seen(self, node: ast.AST, text: str = "") -> str:
        """Return the place of a node, with this text or its source line."""
        line = getattr(node, "lineno", 1)
        return f"{self.path}:{line}: {text or self.lines[line - 1].strip()[:120]}"

    @property
    def is_aside(self) -> bool:
        """Return whether the file belongs to documentation or examples."""
        return not ASIDE.isdisjoint(self.path.split("/"))


class Tree:
    """The files of a project. Paths are relative to its root, and begin with `..` for files above it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        top = _git(self.root, "rev-parse", "--show-toplevel").strip("\n")
        self.top = Path(top).resolve() if top else self.root
        self.files = list(self._files())
        self.above = list(self._above())

    def path(self, file: str) -> Path:
        return self.root / file

    def exists(self, file: str) -> bool:
        return self.path(file).is_file()

    @functools.cached_property
    def known(self) -> frozenset[str]:
        return frozenset(self.files)

    @functools.cached_property
    def folders(self) -> frozenset[str]:
        """The folders that hold Python files, at any depth."""
        return frozenset(str(one) for file in self.files if file.endswith(".py") for one in PurePosixPath(file).parents)

    def named(self, pattern: str, *, above: bool = True) -> list[str]:
        """Return the files whose name matches a regular expression, those near the root first."""
        found = [file for file in self.files if re.fullmatch(pattern, file.rpartition("/")[2])]
        found.sort(key=lambda file: (file.count("/"), file))
        return found + [file for file in self.above if above and re.fullmatch(pattern, file.rpartition("/")[2])]

    @functools.cache  # noqa: B019, as a tree lives as long as one search
    def text(self, file: str) -> str:
        """Return the text of a file, "" if it cannot be read or is too large."""
        path = self.path(file)
        try:
            return path.read_text(encoding="utf-8", errors="replace") if path.stat().st_size <= MAX_BYTES else ""
        except OSError:
            return ""

    def lines(self, file: str) -> list[str]:
        return self.text(file).splitlines()

    @functools.cache  # noqa: B019
    def toml(self, file: str) -> dict[str, Any]:
        """Return the content of a TOML file, {} if it cannot be parsed."""
        try:
            return tomllib.loads(self.text(file))
        except tomllib.TOMLDecodeError:
            return {}

    def table(self, file: str, *keys: str) -> dict[str, Any]:
        """Return a table of a TOML file of the project, {} if it has none, or if it is no table."""
        found: Any = self.toml(file) if file in self.known else {}
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    @functools.cached_property
    def modules(self) -> dict[str, Module]:
        """The Python modules by path, those near the root first, without tests."""
        end = time.monotonic() + READ_LIMIT_S
        found: dict[str, Module] = {}
        files = [file for file in self.files if file.endswith(".py") and not is_test(file)]
        for file in sorted(files, key=lambda file: (file.count("/"), file))[:MAX_MODULES]:
            if time.monotonic() > end:
                break
            text = self.text(file)
            try:
                found[file] = Module(file, text)
            except (SyntaxError, ValueError, RecursionError):
                continue
        return found

    def module_at(self, dotted: str, folder: str = "") -> str:
        """Return the file of a module that is imported from a folder, "" if there is none."""
        base = "/".join(filter(None, [folder.removeprefix("."), *dotted.split(".")]))
        return next((file for file in (f"{base}.py", f"{base}/__init__.py") if file in self.known), "")

    def folders_of(self, dotted: str) -> list[str]:
        """Return the folders from which a module with this name can be imported, the nearest to the root first."""
        ends = [f"{dotted.replace('.', '/')}{end}" for end in (".py", "/__init__.py")]
        found = [
            file.removesuffix(end).rstrip("/") or "."
            for file in self.files
            for end in ends
            if file == end or file.endswith(f"/{end}")
        ]
        return sorted(set(found), key=lambda folder: (is_test(folder), folder != ".", folder.count("/"), folder))

    def _files(self) -> Iterator[str]:
        listed = _git(self.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for file in listed.split("\0")[:-1] if listed else self._walk():
            parts = file.split("/")
            if SKIPPED.isdisjoint(parts) and not file.startswith(f"{SUITE}/"):
                yield file

    def _walk(self) -> Iterator[str]:
        count = 0
        for folder, folders, files in os.walk(self.root):
            folders[:] = sorted(name for name in folders if name not in SKIPPED)
            for file in sorted(files):
                count += 1
                if count > MAX_FILES:
                    return
                yield os.path.relpath(os.path.join(folder, file), self.root)  # noqa: PTH118

    def _above(self) -> Iterator[str]:
        for depth, folder in enumerate(self.root.parents, 1):
            if not folder.is_relative_to(self.top) or self.root == self.top:
                return
            try:
                files = sorted(folder.iterdir())
            except OSError:  # a folder that may not be read
                return
            for file in files:
                if ABOVE.fullmatch(file.name) and file.is_file():
                    yield "../" * depth + file.name


def is_test(file: str) -> bool:
    return any(TESTS.fullmatch(part) for part in file.split("/"))


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Return the statements that run when a module is imported: also those below `if`, `try` and `with`."""
    for node in body:
        yield node
        for field in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With | ast.For):
                for child in getattr(node, field, []):
                    yield from statements(child.body if isinstance(child, ast.ExceptHandler) else [child])


def dotted(node: ast.AST | None) -> str:
    """Return a name such as `os.environ.get`, "" if the node is not one."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def constant(node: ast.AST | None) -> str | None:
    """Return a constant as the text that an environment variable would hold, None if the node is no constant."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool):
        return str(node.value)
    return None


def _git(folder: Path, *arguments: str) -> str:
    command, environ = git_command(folder, *arguments)
    try:
        done = subprocess.run(command, env=environ, capture_output=True, timeout=GIT_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""
