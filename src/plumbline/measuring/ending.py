"""Ends a pytest process that has finished but is kept alive by a thread or an exit handler."""

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

PATIENCE_S = 3.0
MAX_LINES = 3
LIBRARY = Path(os.__file__).parent  # of Python: its lines are not shown


def end_within_seconds(exit_code: int, report: Callable[[str], object]) -> None:
    """End the process after PATIENCE_S if the interpreter has not ended it, and call `report` with the reason.

    At its end, Python waits for non-daemon threads, jobs of executors and child processes.
    """
    with contextlib.suppress(RuntimeError):  # no more threads, as under `ulimit -u`: the command has a limit of its own
        threading.Thread(target=_watch, args=(exit_code, report), name="plumbline-end", daemon=True).start()


def _watch(exit_code: int, report: Callable[[str], object]) -> None:
    while True:
        threading.Event().wait(PATIENCE_S)
        frames = sys._current_frames()
        main = [*_chain(frames.get(threading.main_thread().ident or 0))]
        if not any(frame.f_code.co_name == "<module>" for frame in main):  # pytest itself has returned
            break
    try:
        report("\n".join(_holding(frames, main)))
        sys.stdout.flush()
    finally:
        os._exit(exit_code)


def _holding(frames: dict[int, FrameType], main: list[FrameType]) -> Iterator[str]:
    """Describe the threads that the interpreter waits for, or else the main thread."""
    threads = [one for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]
    held = {f"the thread {thread.name!r}": [*_chain(frames.get(thread.ident or 0))] for thread in threads}
    for name, chain in (held or {"an exit handler": main}).items():
        yield f"{name} was still running after the last test, and pytest ended without it:"
        own = [frame for frame in chain if not Path(frame.f_code.co_filename).is_relative_to(LIBRARY)] or chain
        for line in traceback.StackSummary.extract((frame, frame.f_lineno) for frame in own[:MAX_LINES]):
            yield f"  {line.filename}:{line.lineno} {line.name}: {line.line}"


def _chain(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back
