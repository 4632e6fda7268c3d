"""Python imports this module first in the processes of a rehearsal. It writes their trace, see `_plumbline_trace.py`.

It imports the user's own module of this name afterwards. Events and their arguments:
https://docs.python.org/3/library/audit_events.html
"""

import ast
import builtins
import contextlib
import json
import mmap
import os
import sys
from collections.abc import Mapping, Set
from importlib.machinery import SourceFileLoader
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType

import _plumbline_trace as trace  # type: ignore[import-not-found]

# Events, and which of their arguments is the path of a file.
READ = {"open": 0, "import": 1, "ctypes.dlopen": 0, "sqlite3.connect": 0}
# Events whose first argument is a program.
RUN = {"os.exec", "os.posix_spawn", "os.system", "subprocess.Popen"}


class _Trace:
    """A file of lines, each of which is written once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known = {path}

    def add(self, line: str) -> None:
        if line not in self._known:
            file = Path(self._path)
            with contextlib.suppress(OSError), file.open("a", encoding="utf-8", errors="surrogateescape") as opened:
                opened.write(line + "\n")
                self._known.add(line)


def _record_reads(lines: _Trace, importing: Set[str]) -> None:
    """Record what is read and run, but not the files in `importing`: their calls are recorded instead."""

    def record(event: str, arguments: tuple[object, ...]) -> None:
        if event not in READ and event not in RUN:
            return
        named = arguments[READ.get(event, 0)]
        if isinstance(named, str | bytes | os.PathLike):
            name = os.fsdecode(named)
            path = os.path.abspath(name)  # noqa: PTH100, which follows no link
            if event in RUN:
                lines.add(trace.PROGRAM + (name if _is_traced(arguments) else "?"))
            elif path not in importing:
                lines.add(path)

    for module in list(sys.modules.values()):
        record("open", (getattr(module, "__file__", None),))
    sys.addaudithook(record)


def _is_traced(arguments: tuple[object, ...]) -> bool:
    """Return whether a child that is started with these arguments writes a trace, if it is Python."""
    environ = next((one for one in arguments[2:] if isinstance(one, Mapping)), None)
    return environ is None or trace.TRACE in map(os.fsdecode, environ)


class _Calls:
    """Records the calls of changed functions, by a statement that each of them gets when its file is imported.

    `differing` has the functions by file; None for a package, in which all have changed. A file is in `importing`
    while it is read for that.
    """

    def __init__(self, lines: _Trace, importing: set[str], folder: Path, in_tests: bool) -> None:
        self._lines, self._importing, self._in_tests = lines, importing, in_tests
        self._differing: dict[str, list[str] | None] = json.loads(
            (folder / trace.DIFFERING).read_text(encoding="utf-8", errors="surrogateescape")
        )
        with (folder / trace.STAGE).open("rb") as file:
            self._stage = mmap.mmap(file.fileno(), trace.NUMBER_BYTES, access=mmap.ACCESS_READ)

    def begin(self) -> None:
        compiled = SourceFileLoader.get_code

        def get_code(loader: SourceFileLoader, fullname: str) -> CodeType | None:
            return self._watched_code(loader, loader.get_filename(fullname)) or compiled(loader, fullname)

        SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
        builtins._perf_called = self._called  # type: ignore[attr-defined]

    def _watched_code(self, loader: SourceFileLoader, file: str) -> CodeType | None:
        """Return the code of a file that differs, with its calls recorded; None for any other file."""
        path = os.path.abspath(file)  # noqa: PTH100
        if not (found := self._place(path)):
            return None
        self._importing.add(path)
        try:
            module = ast.parse(loader.get_data(path))
            self._watch(module, "", found)
            code = compile(module, file, "exec", dont_inherit=True)
        except (OSError, SyntaxError, ValueError, RecursionError):
            return None  # Python itself reports it
        finally:
            self._importing.discard(path)
        self._lines.add(trace.WATCHED + path)
        return code

    def _watch(self, node: ast.AST, prefix: str, found: str) -> None:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                self._watch(child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix, found)
                continue
            names = self._differing[found]
            name = trace.ANY if names is None else prefix + child.name
            if names is None or name in names:
                added = ast.parse(f"_perf_called({name!r}, {found!r})").body
                for part in ast.walk(added[0]):
                    ast.copy_location(part, child.body[0])
                first = int(ast.get_docstring(child, clean=False) is not None)
                child.body[first:first] = added
            if names is None:
                self._watch(child, "", found)

    def _called(self, name: str, found: str) -> None:
        now = int.from_bytes(self._stage[: trace.NUMBER_BYTES], "little")
        if name != trace.ANY or now or not self._is_at_home(sys._getframe(1), found):
            self._lines.add(f"{trace.CALL}{now} {os.getpid()} {name} {found}")

    def _is_at_home(self, frame: FrameType | None, package: str) -> bool:
        """Return whether the package calls itself while it is imported, or Plumbline calls it."""
        while frame is not None:
            code = frame.f_code
            # The body of a module or a class. The body of `__main__` lasts as long as the process.
            is_body = not code.co_flags & CO_OPTIMIZED and frame.f_globals.get("__name__") != "__main__"
            if is_body and self._place(code.co_filename) == package:
                return True
            if self._in_tests and str(frame.f_globals.get("__name__")).partition(".")[0] == "plumbline":
                return True
            frame = frame.f_back
        return False

    def _place(self, file: str) -> str:
        path = Path(os.path.abspath(file))  # noqa: PTH100
        return next((str(one) for one in (path, *path.parents) if str(one) in self._differing), "")


def _begin(into: Path) -> None:
    lines = _Trace(str(into))
    importing: set[str] = set()
    _record_reads(lines, importing)
    with contextlib.suppress(OSError):
        _Calls(lines, importing, into.parent, into.name == trace.TESTS).begin()


if into := os.environ.get(trace.TRACE):
    _begin(Path(into))
    sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).parent)]
    ours = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError:
        sys.modules["sitecustomize"] = ours
