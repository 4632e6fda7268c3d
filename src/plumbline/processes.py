"""Processes of this machine: their threads and the cores that these may run on."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def threads(pids: Iterable[int]) -> Iterator[int]:
    """Yield the thread ids of these processes; skip processes that have ended. Linux only."""
    for pid in pids:
        with contextlib.suppress(OSError):
            yield from [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]


def set_affinity(pids: Iterable[int], cores: Iterable[int]) -> None:
    """Move all threads of these processes to these cores; skip those that have ended or belong to another user."""
    allowed = set(cores)
    for thread in threads(pids):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(thread, allowed)


def pinned_core(pids: Iterable[int]) -> int | None:
    """Return the one core that all threads of these processes may run on, as the kernel says; else None."""
    cores: set[int] = set()
    for thread in threads(pids):
        with contextlib.suppress(OSError):
            cores |= os.sched_getaffinity(thread)
    return cores.pop() if len(cores) == 1 else None
