"""Python imports this before anything else in the processes of a rehearsal: it notes which files each of them reads.

See reads.py. A module of this name that the user has is imported after it.
"""

import contextlib
import os
import sys
from pathlib import Path


def _note_reads(into: str) -> None:
    known = {into}

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str | bytes):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100, which follows no link
        if path not in known:
            known.add(path)
            with contextlib.suppress(OSError), Path(into).open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(path + "\n")

    for module in list(sys.modules.values()):
        note("open", (getattr(module, "__file__", None),))
    sys.addaudithook(note)


if into := os.environ.get("PERF_READS"):
    _note_reads(into)
    sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).parent)]
    del sys.modules["sitecustomize"]
    with contextlib.suppress(ModuleNotFoundError):
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
