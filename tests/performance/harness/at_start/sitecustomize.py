"""Python imports this before anything else in the processes of a rehearsal: it notes which files each of them reads.

See reads.py. A module of this name that the user has is imported after it. What an event is raised with:
https://docs.python.org/3/library/audit_events.html
"""

import contextlib
import os
import sys
from pathlib import Path

READ = {"open": 0, "import": 1, "ctypes.dlopen": 0, "sqlite3.connect": 0}
"""Events, and which of their arguments is the path of a file."""
RUN = {"os.exec", "os.posix_spawn", "os.system", "subprocess.Popen"}
"""Events whose first argument is a program."""
PROGRAM = "$ "


def _note_reads(into: str) -> None:
    known = {into}

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event not in READ and event not in RUN:
            return
        named = arguments[READ.get(event, 0)]
        if not isinstance(named, str | bytes | os.PathLike):
            return
        name = os.fsdecode(named)
        line = PROGRAM + name if event in RUN else os.path.abspath(name)  # noqa: PTH100, which follows no link
        if line not in known:
            known.add(line)
            with contextlib.suppress(OSError), Path(into).open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(line + "\n")

    for module in list(sys.modules.values()):
        note("open", (getattr(module, "__file__", None),))
    sys.addaudithook(note)


if into := os.environ.get("PERF_READS"):
    _note_reads(into)
    sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).parent)]
    del sys.modules["sitecustomize"]
    with contextlib.suppress(ModuleNotFoundError):
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
