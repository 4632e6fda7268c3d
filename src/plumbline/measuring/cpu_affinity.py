"""One core for the services and the test process while latency is measured.

A request and its response take turns, so sharing a core costs nothing, and no second core has to wake up, which
makes latencies jump. Linux only: on other systems nothing is pinned, and the output says so.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Self

import filelock
import psutil

from plumbline.cache import state_folder
from plumbline.processes import threads

LOAD_WINDOW_S = 0.05
# Loads that differ by less than this within the window predict nothing about the next second.
BUSY_S = 0.02
# The share of its time that a process which goes before others must leave to them: the kernel keeps 5 %.
REST = 0.07
CPU_STAT_FILES = ("/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat")
SIBLINGS = "/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"


def not_allowed(wanted_core: int | Literal["auto", "off"]) -> str:
    """Return why this process must not use a core that was named by number; "" if it may."""
    if not isinstance(wanted_core, int) or not sys.platform.startswith("linux"):
        return ""
    allowed = os.sched_getaffinity(0)
    listed = _listed(sorted(allowed))
    return (
        ""
        if wanted_core in allowed
        else f"pin: core {wanted_core} is not among those allowed to this process: {listed}"
    )


class CoreLock:
    """One core, locked against other runs of the same user until `release`.

    `core` is None if nothing can be pinned; then `why` is the reason.
    """

    def __init__(self, core: int | None, why: str, lock: filelock.BaseFileLock | None = None) -> None:
        self.core = core
        self.why = why
        self._lock = lock

    @classmethod
    def acquire(cls, wanted_core: int | Literal["auto", "off"]) -> Self:
        """Lock the idlest core that is allowed to this process and that no other run holds.

        A core that is named by number is locked even if it is busy; call `not_allowed` before.
        """
        if wanted_core == "off":
            return cls(None, "the pin is off")
        if not sys.platform.startswith("linux"):
            return cls(None, f"no pinning on {sys.platform}")
        allowed = sorted(os.sched_getaffinity(0))
        try:
            folder = state_folder() / "cores"
            folder.mkdir(exist_ok=True)
        except OSError as error:
            return cls(None, f"no core can be locked: {error}")
        for core in _idlest_first(allowed) if wanted_core == "auto" else [wanted_core]:
            lock = filelock.FileLock(folder / f"{core}.lock")
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                continue
            except OSError as error:
                return cls(None, f"{lock.lock_file} can't be locked: {error.strerror}")
            return cls(core, "", lock)
        return cls(None, f"another run holds core {_listed(allowed) if wanted_core == 'auto' else wanted_core}")

    def release(self) -> None:
        """Let other runs have the core; harmless if called again."""
        if self._lock is not None:
            self._lock.release()


def take_precedence(pids: Iterable[int]) -> None:
    """Let all threads of these processes, and the processes that they start later, run before all others.

    This needs privileges, mostly those of root, and is skipped without them. A busy neighbour then waits, instead of
    taking every other slice of their core. Skipped on a machine with one core, where parts of this run would wait, too.
    The processes must rest: see `rest_s`.
    """
    if sys.platform.startswith("linux") and (os.cpu_count() or 1) > 1:
        _schedule(pids, os.SCHED_RR, os.sched_get_priority_min(os.SCHED_RR))


def rest_s(after_s: float) -> float:
    """Return how long this process should rest after so much work, in seconds; 0 if it does not go before others.

    The kernel keeps 50 ms of each second for other processes (sched_rt_runtime_us), and takes them at once at its end.
    """
    ahead = sys.platform.startswith("linux") and os.sched_getscheduler(0) == os.SCHED_RR
    return after_s * REST if ahead else 0.0


def give_way(pids: Iterable[int]) -> None:
    """Undo `take_precedence`."""
    if sys.platform.startswith("linux"):
        _schedule(pids, os.SCHED_OTHER, 0)


def _schedule(pids: Iterable[int], policy: int, priority: int) -> None:
    for thread in threads(pids):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(thread, policy, os.sched_param(priority))


def throttled_periods() -> int:
    """Return how often the CPU quota of the cgroup has stopped this process so far; 0 if no quota can be read."""
    for name in CPU_STAT_FILES:
        with contextlib.suppress(OSError, ValueError, KeyError):
            fields = dict(line.split() for line in Path(name).read_text(encoding="ascii").splitlines())
            return int(fields["nr_throttled"])
    return 0


def _idlest_first(cores: list[int]) -> list[int]:
    """Return the cores by their load over a short window; the load of a sibling thread counts like a core's own."""
    before = psutil.cpu_times(percpu=True)
    time.sleep(LOAD_WINDOW_S)
    after = psutil.cpu_times(percpu=True)
    busy_s = {core: _busy_s(after[core]) - _busy_s(before[core]) for core in range(len(after))}
    # Of several idle cores the highest: interrupts and daemons mostly use the lowest.
    return sorted(cores, key=lambda core: (sum(busy_s.get(one, 0.0) for one in _siblings(core)) // BUSY_S, -core))


def _busy_s(times: object) -> float:
    fields: Mapping[str, float] = times._asdict()  # type: ignore[attr-defined]
    return sum(fields.values()) - fields["idle"] - fields.get("iowait", 0.0)


def _siblings(core: int) -> set[int]:
    """Return the hardware threads of one physical core, itself included: the file says "0,4" or "0-1"."""
    siblings = {core}
    with contextlib.suppress(OSError, ValueError):
        for part in Path(SIBLINGS.format(core=core)).read_text(encoding="ascii").strip().split(","):
            first, _, last = part.partition("-")
            siblings |= set(range(int(first), int(last or first) + 1))
    return siblings


def _listed(cores: list[int]) -> str:
    return ", ".join(map(str, cores))
