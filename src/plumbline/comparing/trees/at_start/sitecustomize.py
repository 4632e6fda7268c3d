"""Write the trace of a process of a rehearsal. Python imports this module at start; the process may lack Plumbline.

A trace is a text file with the name of its process. A line is the path of a file that was read, unless it begins with
one of the marks below. Events and their arguments: https://docs.python.org/3/library/audit_events.html
"""

import ast
import builtins
import contextlib
import functools
import json
import mmap
import os
import re
import sys
from _thread import get_ident
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, ModuleType

TRACE = "PERF_READS"  # environment variable with the path of the trace
TESTS = "tests"
PROGRAM = "$ "  # a program that was run
WATCHED = "% "  # an imported file in which calls of changed functions are recorded
MISSED = "? "  # a path that was looked for and does not exist
LISTED = "> "  # a folder that was listed
CALL = "@ "  # a call: number of the stage, process id, function, and changed file or package
ANY = "*"  # stands for each function of a changed package
# Files beside the traces: the functions whose calls are recorded, the number of the current stage, and all stages.
DIFFERING, STAGE, STAGES = ".differing", ".stage", ".stages"
NUMBER_BYTES = 4
READ = {"open": 0, "import": 1, "ctypes.dlopen": 0, "sqlite3.connect": 0}  # events, and the index of the path argument
RUN = {"os.exec", "os.posix_spawn", "os.system", "subprocess.Popen"}  # events whose first argument is a program
LIST = {"os.listdir", "os.scandir"}
# Modules of which the programs do not count: they ask about the machine, or have a trace of their own.
RUNNERS = {"platform", "ctypes.util", "uuid", "plumbline.services.base"}
# Programs that only ask about the machine, whoever runs them.
ASKING = {"lscpu", "uname", "nproc", "hostname", "getconf", "sysctl", "sw_vers", "df", "free", "id", "whoami", "locale"}
# Modules that list folders to find modules and tests. They read what they find, so listing does not count.
FINDERS = ("importlib", "pkgutil", "_pytest", "_frozen_importlib")
# Modules that read the source of a function only to name its line in error messages.
NAMES_LINES = {"fastapi.routing"}
NEAR = 12  # frames between such a module and the open file


def _is_traced(arguments: Sequence[object]) -> bool:
    """Return whether a program writes a trace if it is Python. `arguments`: those of the audit event."""
    environ = next((one for one in arguments[2:] if isinstance(one, Mapping)), os.environ)
    given = {os.fsdecode(name): os.fsdecode(value) for name, value in environ.items()}
    folders = given.get("PYTHONPATH", "").split(os.pathsep)
    command = arguments[1] if len(arguments) > 1 and isinstance(arguments[1], list | tuple) else ()
    words = [os.fsdecode(word) for word in command[1:]]
    if "plumbline.services.reaper" in words:  # it runs no code of the project
        return True
    return imports_this(words) and TRACE in given and str(Path(__file__).parent) in folders


def imports_this(words: Sequence[str]) -> bool:
    """Return whether Python imports this module at start if these are the words after its name."""
    for word in words:
        options = re.match(r"-(?!-)([^cmWX]*)", word)  # the rest is the value of the last option
        if not options:
            break
        if not {"E", "I", "S"}.isdisjoint(options[1]):
            return False
        if word[-1:] in "cm":
            break
    return True


def _only_writes(flags: object) -> bool:
    """Return whether a file is opened without being read, as a log is."""
    return isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) == os.O_WRONLY


def _caller_of_subprocess(frame: FrameType | None) -> object:
    while frame is not None and frame.f_globals.get("__name__") in {"subprocess", "os"}:
        frame = frame.f_back
    return frame and frame.f_globals.get("__name__")


def _names_lines(frame: FrameType | None) -> bool:
    """Return whether the frame or one of those that called it belongs to NAMES_LINES."""
    for _ in range(NEAR):
        if frame is None:
            break
        if frame.f_globals.get("__name__") in NAMES_LINES:
            return True
        frame = frame.f_back
    return False


class _Trace:
    """Records the files that this process reads, the programs that it runs, and its calls of changed functions."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = {str(file)}  # each line is written once
        self._importing: set[str] = set()  # files that this class itself reads
        # Changed functions by file; None for a changed package.
        self._differing: dict[str, list[str] | None] = {}
        self._places: dict[str, str] = {}
        # By thread and package: the number of its modules that are being imported.
        self._executing: dict[tuple[int, str], int] = {}
        for module in list(sys.modules.values()):
            self._record("open", (getattr(module, "__file__", None),))
        sys.addaudithook(self._record)
        self._watch_looks()
        with contextlib.suppress(OSError):
            differing = (file.parent / DIFFERING).read_text(encoding="utf-8", errors="surrogateescape")
            with (file.parent / STAGE).open("rb") as stage:
                self._stage = mmap.mmap(stage.fileno(), NUMBER_BYTES, access=mmap.ACCESS_READ)
            self._differing = json.loads(differing)
            self._watch_imports()

    def _add(self, line: str) -> None:
        if line not in self._known:
            with contextlib.suppress(OSError), self._file.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(line + "\n")
                self._known.add(line)

    def _record(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in READ and event not in RUN and event not in LIST:
            return
        if event in LIST and str(sys._getframe(1).f_globals.get("__name__")).startswith(FINDERS):
            return
        if event == "open" and len(arguments) > 2 and _only_writes(arguments[2]):
            return
        named = arguments[READ.get(event, 0)]
        if isinstance(named, str | bytes | os.PathLike):
            name = os.fsdecode(named)
            path = os.path.abspath(name)  # noqa: PTH100, which follows no link
            if event in RUN:
                # The child writes its own trace if it is Python and has the environment variable.
                if name not in ASKING and _caller_of_subprocess(sys._getframe(1)) not in RUNNERS:
                    self._add(PROGRAM + (name if _is_traced(arguments) else f"? {name}"))
            elif event in LIST:
                self._add(LISTED + path)
            elif path not in self._importing and not (self._place(path) and _names_lines(sys._getframe(1))):
                self._add(path)

    def _watch_looks(self) -> None:
        """Record paths that are looked for and do not exist. There is no audit event for this."""
        for name in ("stat", "lstat"):
            setattr(os, name, self._noting(getattr(os, name)))

    def _noting(self, look: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(look)
        def noting(path: object, *arguments: object, **options: object) -> object:
            try:
                return look(path, *arguments, **options)
            except (FileNotFoundError, NotADirectoryError):
                if isinstance(path, str | bytes | os.PathLike) and options.get("dir_fd") is None:
                    self._add(MISSED + os.path.abspath(os.fsdecode(path)))  # noqa: PTH100
                raise

        return noting

    def _watch_imports(self) -> None:
        compiled, execute = SourceFileLoader.get_code, SourceFileLoader.exec_module

        def get_code(loader: SourceFileLoader, fullname: str) -> CodeType | None:
            file = loader.get_filename(fullname)
            path = os.path.abspath(file)  # noqa: PTH100
            if found := self._place(path):
                self._importing.add(path)
                try:
                    module = ast.parse(loader.get_data(path))
                    self._watch(module, "", found)
                    code = compile(module, file, "exec", dont_inherit=True)
                    self._add(WATCHED + path)
                    return code
                except (OSError, SyntaxError, ValueError, RecursionError):
                    pass  # Python reports the error when it imports the file
                finally:
                    self._importing.discard(path)
            return compiled(loader, fullname)

        def exec_module(loader: SourceFileLoader, module: ModuleType) -> None:
            key = get_ident(), self._place(loader.path)
            self._executing[key] = self._executing.get(key, 0) + 1
            try:
                execute(loader, module)
            finally:
                self._executing[key] -= 1

        SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
        SourceFileLoader.exec_module = exec_module  # type: ignore[method-assign, assignment]
        builtins._perf_called = self._called  # type: ignore[attr-defined]

    def _watch(self, node: ast.AST, prefix: str, found: str) -> None:
        """Add a statement that records the call to each changed function."""
        names = self._differing[found]
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                self._watch(child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix, found)
                continue
            name = ANY if names is None else prefix + child.name
            if names is None or name in names:
                added = ast.parse(f"_perf_called({name!r}, {found!r})").body
                for part in ast.walk(added[0]):
                    ast.copy_location(part, child.body[0])
                first = int(ast.get_docstring(child, clean=False) is not None)
                child.body[first:first] = added
            if names is None:
                self._watch(child, "", found)

    def _called(self, name: str, found: str) -> None:
        now = int.from_bytes(self._stage[:NUMBER_BYTES], "little")
        line = f"{CALL}{now} {os.getpid()} {name} {found}"
        if line not in self._known and (name != ANY or now or not self._is_at_home(found)):
            self._add(line)

    def _is_at_home(self, package: str) -> bool:
        """Return whether a package calls itself during its import, or Plumbline calls it."""
        if self._executing.get((get_ident(), package)):
            return True
        frame: FrameType | None = sys._getframe(2) if self._file.name == TESTS else None
        while frame is not None:
            if str(frame.f_globals.get("__name__")).partition(".")[0] == "plumbline":
                return True
            frame = frame.f_back
        return False

    def _place(self, file: str) -> str:
        """Return the changed file or package that a file belongs to, or ""."""
        if file not in self._places:
            path = Path(os.path.abspath(file))  # noqa: PTH100
            self._places[file] = next((str(one) for one in (path, *path.parents) if str(one) in self._differing), "")
        return self._places[file]


# Plumbline imports the marks from this module under its full name.
if __name__ == "sitecustomize" and (into := os.environ.get(TRACE)):
    _Trace(Path(into))
    sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).parent)]
    ours = sys.modules.pop("sitecustomize")
    try:  # the user's own sitecustomize
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError:
        sys.modules["sitecustomize"] = ours
