"""One core for the test process and the services of a run: taken, left for tests marked `unpinned`, and given back."""

import itertools
import os
from collections.abc import Collection, Generator

import pytest

from plumbline.measuring.context import RunContext
from plumbline.measuring.cpu_affinity import CoreLock
from plumbline.measuring.items import key_of
from plumbline.processes import pinned_core, set_affinity


class Pinning:
    """Moves the test process and the services that this run has started. A pytest plugin."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._free_cores = set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()
        self._lock = CoreLock(None, "")
        context.at_stop.callback(self._release)  # after the services have stopped
        self.core: int | None = None
        """The one core of the test process and of all services, as the kernel says; None if there is none."""

    def pin(self, lock: CoreLock) -> None:
        """Move everything to the core of this lock, if it has one."""
        self._lock = lock
        self._move({lock.core} if lock.core is not None else ())

    def free(self) -> None:
        """Let everything run on all cores that this process had at its start."""
        if self._lock.core is not None:
            self._move(self._free_cores)

    def _release(self) -> None:
        self._lock.release()
        set_affinity([os.getpid()], self._free_cores)

    def _move(self, cores: Collection[int]) -> None:
        if not cores:
            return
        services = self._context.services.running()
        for service in services:
            if service.own:
                service.pin(cores)
        set_affinity([os.getpid()], cores)
        pids = [service.pids() for service in services]
        # An external server has no process here, and may run anywhere.
        is_known = self._lock.core is not None and all(pids)
        self.core = pinned_core([os.getpid(), *itertools.chain(*pids)]) if is_known else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self._is_unpinned(item):
            self.free()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            if self._is_unpinned(item) and self._lock.core is not None:
                self._move({self._lock.core})

    def _is_unpinned(self, item: pytest.Item) -> bool:
        is_full = self._context.profile_name == "full"
        return is_full and bool(key_of(item)) and item.get_closest_marker("unpinned") is not None
