"""Pins the services and the test process to one CPU core while latency is measured.

Client and server of a request take turns, so sharing a core costs nothing, and latencies do not jump because a second
core has to wake up. Linux only: other systems are not pinned, and the report says so.
"""

import contextlib
import importlib
import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Self

import psutil

from plumbline import held
from plumbline.cache import state_folder
from plumbline.processes import pinned_core, set_affinity, threads
from plumbline.services.base import Service

LOAD_WINDOW_S = 0.05
LOAD_PERCENT = 40  # smaller differences within the window do not predict the load of the next second
# The share of its time that a real-time process leaves to other processes. Otherwise the kernel takes 5 % of each
# second at once (sched_rt_runtime_us).
REST = 0.07
SIBLINGS = "/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"


def not_allowed(wanted_core: int | Literal["auto", "off"]) -> str:
    """Return why this process cannot use the core of the setting `pin`, or ""."""
    allowed = sorted(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else [wanted_core]
    if not isinstance(wanted_core, int) or wanted_core in allowed:
        return ""
    return f"pin: this process may not use core {wanted_core}; it may use {', '.join(map(str, allowed))}"


class CoreLock:
    """A core that no other run of the same user may use, and the processes pinned to it."""

    def __init__(self, core: int | None, why: str = "", lock: int | None = None) -> None:
        self.core = core  # None if nothing can be pinned
        self.why = why  # why nothing can be pinned
        self.pinned: int | None = None  # the core of the test process and all services, read back from the kernel
        self._lock = lock
        self._is_free = True
        self._free_cores = set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()

    @classmethod
    def acquire(cls, wanted_core: int | Literal["auto", "off"]) -> Self:
        """Lock the wanted core, or with "auto" the idlest core that no other run has locked."""
        if wanted_core == "off":
            return cls(None, "pinning is off")
        if not sys.platform.startswith("linux"):
            return cls(None, f"pinning is not possible on {sys.platform}")
        cores = _idlest_first(sorted(os.sched_getaffinity(0))) if wanted_core == "auto" else [wanted_core]
        try:
            folder = state_folder() / "cores"
            folder.mkdir(exist_ok=True)
            for core in cores:
                if (lock := held.lock(folder / f"{core}.lock")) is not None:
                    return cls(core, "", lock)
        except OSError as error:
            return cls(None, f"no core can be locked: {error}")
        return cls(None, f"another run has locked core {', '.join(map(str, sorted(cores)))}")

    def move(self, services: Sequence[Service], *, free: bool = False) -> None:
        """Pin this process and the services to the core, or let them use all cores if `free`."""
        if self.core is None or free == self._is_free:
            return
        self._is_free = free
        cores = self._free_cores if free else {self.core}
        for service in services:
            if service.own:
                service.pin(cores)
        set_affinity([os.getpid()], cores)
        pids = [service.pids() for service in services]
        # An external server has no process here, so its core is unknown.
        self.pinned = pinned_core([os.getpid(), *itertools.chain(*pids)]) if all(pids) else None

    def release(self) -> None:
        """Unlock the core and let this process use all its cores again. May be called again."""
        if self._lock is not None:
            held.unlock(self._lock)
            self._lock = None
        if not self._is_free:
            set_affinity([os.getpid()], self._free_cores)


def set_precedence(pids: Iterable[int], *, ahead: bool) -> None:
    """Give all threads of these processes real-time priority if `ahead`, or normal priority.

    Child processes inherit it. A busy neighbour then cannot take every other time slice of the core. Does nothing
    without the privilege, or on a machine with one core, where other parts of this run would wait. See `rest_s`.
    """
    if sys.platform.startswith("linux") and (os.cpu_count() or 1) > 1:
        policy = os.SCHED_RR if ahead else os.SCHED_OTHER
        for thread in threads(pids):
            with contextlib.suppress(OSError):
                os.sched_setscheduler(thread, policy, os.sched_param(os.sched_get_priority_min(policy)))


def rest_s(after_s: float) -> float:
    """Return how many seconds this process should sleep after `after_s` of work; 0 without real-time priority."""
    ahead = sys.platform.startswith("linux") and os.sched_getscheduler(0) == os.SCHED_RR
    return after_s * REST if ahead else 0.0


def start_children_normally() -> None:
    """Give the processes that `multiprocessing` starts from now on normal priority, and all later threads of this one.

    A thread of `multiprocessing.Pool` polls until another one has read a result. With real-time priority on one core,
    it does so for 100 ms each time.
    """
    if rest_s(1.0):
        process = importlib.import_module("multiprocessing.process").BaseProcess
        start, parameters = process.start, os.sched_getparam(0)

        def start_normally(child: object) -> None:
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, parameters)
            start(child)

        process.start = start_normally


def _idlest_first(cores: list[int]) -> list[int]:
    """Sort the cores by load over a short window. The load of sibling hardware threads counts too."""
    percents = dict(enumerate(psutil.cpu_percent(LOAD_WINDOW_S, percpu=True)))
    loads = {}
    for core in cores:
        siblings = {core}  # the hardware threads of a physical core: the file contains "0,4" or "0-1"
        with contextlib.suppress(OSError, ValueError):
            for part in Path(SIBLINGS.format(core=core)).read_text(encoding="ascii").strip().split(","):
                first, _, last = part.partition("-")
                siblings |= set(range(int(first), int(last or first) + 1))
        loads[core] = sum(percents.get(one, 0.0) for one in siblings) // LOAD_PERCENT
    # Prefer the highest idle core: interrupts and daemons mostly use the lowest.
    return sorted(cores, key=lambda core: (loads[core], -core))
