"""Finds the event loops that run in this process. Probes import this module."""

import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

ANSWER_LIMIT_S = 2.0

_known: dict[int, list[Any]] = {}  # by the id of the process, which may have been forked from one with other loops


def running_loops() -> list[Any]:
    """Return the running event loops of asyncio's interface, such as uvloop's: that of this thread, or all others."""
    asyncio = sys.modules.get("asyncio.events")
    if asyncio is None:
        return []
    if (running := asyncio._get_running_loop()) is not None:
        return [running]
    known = _known.get(os.getpid())
    if known is None or not all(loop.is_running() for loop in known):
        # By type: `isinstance` could run code of the application.
        loops = [one for one in gc.get_objects() if issubclass(type(one), asyncio.AbstractEventLoop)]
        # After a fork, the loops of the parent process still say that they run.
        of_parents = {id(loop) for pid, loops in _known.items() if pid != os.getpid() for loop in loops}
        known = _known[os.getpid()] = [loop for loop in loops if id(loop) not in of_parents and loop.is_running()]
    return known


class Tasks:
    """A check whether tasks that have begun since `note` still run, as those of a request with background tasks do."""

    def __init__(self) -> None:
        self._before: weakref.WeakSet[Any] = weakref.WeakSet()

    def note(self) -> None:
        self._before = weakref.WeakSet(_running_tasks())

    def are_running(self) -> bool:
        return any(one not in self._before for one in _running_tasks())


def _running_tasks() -> list[Any]:
    return [one for loop in running_loops() for one in sys.modules["asyncio"].all_tasks(loop)]


def in_thread_of(loop: Any, function: Callable[[], object]) -> None:
    """Call a function in the thread of a running loop. Raises RuntimeError if the loop does not get to it in time."""
    if loop is sys.modules["asyncio.events"]._get_running_loop():
        function()
        return
    done = threading.Event()

    def call() -> None:
        function()
        done.set()

    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # it has been closed
        return
    if not done.wait(ANSWER_LIMIT_S):
        raise RuntimeError(f"an event loop was busy for more than {ANSWER_LIMIT_S:g} s")
