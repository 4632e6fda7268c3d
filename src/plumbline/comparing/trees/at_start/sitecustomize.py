"""Python imports this before anything else in the processes of a rehearsal: it notes which files each of them reads,
and where the functions that differ run.

See reads.py. A module of this name that the user has is imported after it. What an event is raised with:
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

READ = {"open": 0, "import": 1, "ctypes.dlopen": 0, "sqlite3.connect": 0}
"""Events, and which of their arguments is the path of a file."""
RUN = {"os.exec", "os.posix_spawn", "os.system", "subprocess.Popen"}
"""Events whose first argument is a program."""
PROGRAM, WATCHED, CALL = "$ ", "% ", "@ "
NUMBER_BYTES = 4


class _Notes:
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


def _note_reads(notes: _Notes, importing: Set[str]) -> None:
    """`importing`: files whose calls are noted instead, while they are imported."""

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event not in READ and event not in RUN:
            return
        named = arguments[READ.get(event, 0)]
        if isinstance(named, str | bytes | os.PathLike):
            name = os.fsdecode(named)
            path = os.path.abspath(name)  # noqa: PTH100, which follows no link
            if event in RUN:
                notes.add(PROGRAM + (name if _hands_on(arguments) else "?"))
            elif path not in importing:
                notes.add(path)

    for module in list(sys.modules.values()):
        note("open", (getattr(module, "__file__", None),))
    sys.addaudithook(note)


def _hands_on(arguments: tuple[object, ...]) -> bool:
    """Whether a child that is started with these will note what it reads, if it is Python."""
    environ = next((one for one in arguments[2:] if isinstance(one, Mapping)), None)
    return environ is None or "PERF_READS" in map(os.fsdecode, environ)


def _note_calls(
    notes: _Notes, importing: set[str], differing: dict[str, list[str] | None], stage: mmap.mmap, in_tests: bool
) -> None:
    """Let each function that has changed say when it is called, by a statement that it gets as its file is imported.

    `differing`: the functions by the file that they are in; None for a package, of which all have changed. Such a file
    is in `importing` while it is read for that.
    """

    def place(file: str) -> str:
        path = Path(os.path.abspath(file))  # noqa: PTH100
        return next((str(one) for one in (path, *path.parents) if str(one) in differing), "")

    def is_at_home(frame: FrameType | None, package: str) -> bool:
        """Whether it is the package that calls itself while it is imported, or the harness that uses it."""
        while frame is not None:
            code = frame.f_code
            # The body of a module or a class; that of one which is run by its name goes on for as long as the process.
            is_body = not code.co_flags & CO_OPTIMIZED and frame.f_globals.get("__name__") != "__main__"
            if is_body and place(code.co_filename) == package:
                return True
            if in_tests and str(frame.f_globals.get("__name__")).partition(".")[0] == "plumbline":
                return True
            frame = frame.f_back
        return False

    def called(name: str, found: str) -> None:
        now = int.from_bytes(stage[:NUMBER_BYTES], "little")
        if name != "*" or now or not is_at_home(sys._getframe(1), found):
            notes.add(f"{CALL}{now} {os.getpid()} {name} {found}")

    def watch(node: ast.AST, prefix: str, found: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                names = differing[found]
                name = "*" if names is None else prefix + child.name
                if names is None or name in names:
                    says = ast.parse(f"_perf_called({name!r}, {found!r})").body
                    for part in ast.walk(says[0]):
                        ast.copy_location(part, child.body[0])
                    first = int(ast.get_docstring(child, clean=False) is not None)
                    child.body[first:first] = says
                if names is None:
                    watch(child, "", found)
            else:
                watch(child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix, found)

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        path = os.path.abspath(self.get_filename(fullname))  # noqa: PTH100
        if found := place(path):
            importing.add(path)
            try:
                module = ast.parse(self.get_data(path))
                watch(module, "", found)
                code = compile(module, self.get_filename(fullname), "exec", dont_inherit=True)
                notes.add(WATCHED + path)
                return code
            except (OSError, SyntaxError, ValueError, RecursionError):
                pass  # that is for Python itself to tell
            finally:
                importing.discard(path)
        return compiled(self, fullname)

    compiled = SourceFileLoader.get_code
    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
    builtins._perf_called = called  # type: ignore[attr-defined]


def _begin(into: str) -> None:
    notes = _Notes(into)
    folder = Path(into).parent
    importing: set[str] = set()
    _note_reads(notes, importing)
    with contextlib.suppress(OSError):
        differing = json.loads((folder / ".differing").read_text(encoding="utf-8", errors="surrogateescape"))
        with (folder / ".stage").open("rb") as file:
            stage = mmap.mmap(file.fileno(), NUMBER_BYTES, access=mmap.ACCESS_READ)
        _note_calls(notes, importing, differing, stage, Path(into).name == "tests")


if into := os.environ.get("PERF_READS"):
    _begin(into)
    sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).parent)]
    ours = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError:
        sys.modules["sitecustomize"] = ours
