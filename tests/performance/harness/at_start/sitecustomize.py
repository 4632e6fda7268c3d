"""Python imports this before anything else in the processes of a rehearsal: it notes which files each of them reads,
and where the functions that differ run.

See reads.py. A module of this name that the user has is imported after it. What an event is raised with:
https://docs.python.org/3/library/audit_events.html
"""

import contextlib
import json
import mmap
import os
import sys
import threading
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import FrameType

READ = {"open": 0, "import": 1, "ctypes.dlopen": 0, "sqlite3.connect": 0}
"""Events, and which of their arguments is the path of a file."""
RUN = {"os.exec", "os.posix_spawn", "os.system", "subprocess.Popen"}
"""Events whose first argument is a program."""
PROGRAM, CALL, UNKNOWN = "$ ", "@ ", "?"
HARNESS = str(Path(__file__).parents[1]) + os.sep
NUMBER_BYTES = 4


class _Notes:
    """A file of lines, each of which is written once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known = {path}

    def add(self, line: str) -> None:
        if line not in self._known:
            self._known.add(line)
            file = Path(self._path)
            with contextlib.suppress(OSError), file.open("a", encoding="utf-8", errors="surrogateescape") as opened:
                opened.write(line + "\n")


def _note_reads(notes: _Notes) -> None:
    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "sys.setprofile" and sys._getframe(1).f_globals.get("__name__") != "threading":
            notes.add(UNKNOWN)  # another profiler takes the place of ours
        if event not in READ and event not in RUN:
            return
        named = arguments[READ.get(event, 0)]
        if isinstance(named, str | bytes | os.PathLike):
            name = os.fsdecode(named)
            notes.add(PROGRAM + name if event in RUN else os.path.abspath(name))  # noqa: PTH100, which follows no link

    for module in list(sys.modules.values()):
        note("open", (getattr(module, "__file__", None),))
    sys.addaudithook(note)


def _note_calls(notes: _Notes, differing: dict[str, list[str] | None], stage: mmap.mmap, in_tests: bool) -> None:
    """`differing`: functions that have changed by the file that they are in; None for a package, of which all have."""
    places: dict[str, str] = {}

    def place(file: str) -> str:
        if file not in places:
            path = Path(os.path.abspath(file))  # noqa: PTH100
            places[file] = next((str(one) for one in (path, *path.parents) if str(one) in differing), "")
        return places[file]

    def is_at_home(frame: FrameType | None, package: str) -> bool:
        """Whether it is the package that calls itself while it is imported, or the harness that uses it."""
        while frame is not None:
            code = frame.f_code
            if not code.co_flags & CO_OPTIMIZED and place(code.co_filename) == package:
                return True
            if in_tests and code.co_filename.startswith(HARNESS):
                return True
            frame = frame.f_back
        return False

    def called(frame: FrameType, event: str, _: object) -> None:
        if event != "call":
            return
        code = frame.f_code
        if not (found := places.get(code.co_filename)) and (found == "" or not (found := place(code.co_filename))):
            return
        if not code.co_flags & CO_OPTIMIZED:
            return  # the body of a module or a class
        now = int.from_bytes(stage[:NUMBER_BYTES], "little")
        names = differing[found]
        name = code.co_qualname.partition(".<locals>")[0]
        if name in names if names is not None else now or not is_at_home(frame, found):
            notes.add(f"{CALL}{now} {name if names is not None else '*'} {found}")

    sys.setprofile(called)
    threading.setprofile(called)


def _begin(into: str) -> None:
    notes = _Notes(into)
    folder = Path(into).parent
    with contextlib.suppress(FileNotFoundError):
        differing = json.loads((folder / "differing").read_text(encoding="utf-8", errors="surrogateescape"))
        with (folder / "stage").open("rb") as file:
            stage = mmap.mmap(file.fileno(), NUMBER_BYTES, access=mmap.ACCESS_READ)
        _note_calls(notes, differing, stage, Path(into).name == "tests")
    _note_reads(notes)


if into := os.environ.get("PERF_READS"):
    _begin(into)
    sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).parent)]
    ours = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError:
        sys.modules["sitecustomize"] = ours
