"""One core for the services and the test process while latency is measured.

A request and its response take turns, so sharing a core costs nothing, and no second core has to wake up, which
makes latencies jump. Linux only: on other systems nothing is pinned, and the output says so.
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Self

import filelock
import psutil

from plumbline.cache import state_folder
from plumbline.processes import pinned_core, set_affinity, threads
from plumbline.services.base import Service

LOAD_WINDOW_S = 0.05
LOAD_PERCENT = 40  # loads that differ by less than this within the window predict nothing about the next second
# The share of its time that a process which goes before others must leave to them: the kernel keeps 5 % of each second
# (sched_rt_runtime_us), and takes them at once at its end.
REST = 0.07
SIBLINGS = "/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"


def not_allowed(wanted_core: int | Literal["auto", "off"]) -> str:
    """Return why this process must not use a core that was named by number; "" if it may."""
    allowed = sorted(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else [wanted_core]
    if not isinstance(wanted_core, int) or wanted_core in allowed:
        return ""
    return f"pin: core {wanted_core} is not among those allowed to this process: {', '.join(map(str, allowed))}"


class CoreLock:
    """One core, locked against other runs of the same user, and everything that has moved to it."""

    def __init__(self, core: int | None, why: str = "", lock: filelock.BaseFileLock | None = None) -> None:
        self.core = core  # None if nothing can be pinned
        self.why = why  # the reason for that
        self.pinned: int | None = None  # the one core of the test process and all services, as the kernel says
        self._lock = lock
        self._is_free = True
        self._free_cores = set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()

    @classmethod
    def acquire(cls, wanted_core: int | Literal["auto", "off"]) -> Self:
        """Lock the core that is named by number, or the idlest of those that this process may use and no run holds."""
        if wanted_core == "off":
            return cls(None, "the pin is off")
        if not sys.platform.startswith("linux"):
            return cls(None, f"no pinning on {sys.platform}")
        cores = _idlest_first(sorted(os.sched_getaffinity(0))) if wanted_core == "auto" else [wanted_core]
        try:
            folder = state_folder() / "cores"
            folder.mkdir(exist_ok=True)
            for core in cores:
                lock = filelock.FileLock(folder / f"{core}.lock")
                with contextlib.suppress(filelock.Timeout):
                    lock.acquire(timeout=0)
                    return cls(core, "", lock)
        except OSError as error:
            return cls(None, f"no core can be locked: {error}")
        return cls(None, f"another run holds core {', '.join(map(str, sorted(cores)))}")

    def move(self, services: Sequence[Service], *, free: bool = False) -> None:
        """Let this process and these services run on this core alone, or on all that this process had before."""
        if self.core is None or free == self._is_free:
            return
        self._is_free = free
        cores = self._free_cores if free else {self.core}
        for service in services:
            if service.own:
                service.pin(cores)
        set_affinity([os.getpid()], cores)
        pids = [service.pids() for service in services]
        # An external server has no process here, and may run anywhere.
        self.pinned = pinned_core([os.getpid(), *itertools.chain(*pids)]) if all(pids) else None

    def release(self) -> None:
        """Let other runs have the core, and this process all that it had; harmless if called again."""
        if self._lock is not None:
            self._lock.release()
        if not self._is_free:
            set_affinity([os.getpid()], self._free_cores)


def set_precedence(pids: Iterable[int], *, ahead: bool) -> None:
    """Let all threads of these processes, and the processes that they start later, run before all others, or no longer.

    A busy neighbour then waits, instead of taking every other slice of their core. Skipped without privileges, mostly
    those of root, and on a machine with one core, where parts of this run would wait, too. See `rest_s`.
    """
    if sys.platform.startswith("linux") and (os.cpu_count() or 1) > 1:
        policy = os.SCHED_RR if ahead else os.SCHED_OTHER
        for thread in threads(pids):
            with contextlib.suppress(OSError):
                os.sched_setscheduler(thread, policy, os.sched_param(os.sched_get_priority_min(policy)))


def rest_s(after_s: float) -> float:
    """Return how long this process should rest after so much work, in seconds; 0 if it does not go before others."""
    ahead = sys.platform.startswith("linux") and os.sched_getscheduler(0) == os.SCHED_RR
    return after_s * REST if ahead else 0.0


def _idlest_first(cores: list[int]) -> list[int]:
    """Return the cores by their load over a short window; the load of a sibling thread counts like a core's own."""
    percents = dict(enumerate(psutil.cpu_percent(LOAD_WINDOW_S, percpu=True)))
    loads = {}
    for core in cores:
        siblings = {core}  # the hardware threads of one physical core: the file says "0,4" or "0-1"
        with contextlib.suppress(OSError, ValueError):
            for part in Path(SIBLINGS.format(core=core)).read_text(encoding="ascii").strip().split(","):
                first, _, last = part.partition("-")
                siblings |= set(range(int(first), int(last or first) + 1))
        loads[core] = sum(percents.get(one, 0.0) for one in siblings) // LOAD_PERCENT
    # Of several idle cores the highest: interrupts and daemons mostly use the lowest.
    return sorted(cores, key=lambda core: (loads[core], -core))
