"""A thread that records the connections of processes continuously: some last only for a moment."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from plumbline.services.application import Process

PAUSE = 3  # times the duration of a check: the code under test needs the CPU
POLL_S, LIST_S = 0.001, 0.25  # intervals of checking connections, and of listing processes, which is slower


@contextlib.contextmanager
def watched(services: Callable[[], Sequence[Process]]) -> Iterator[None]:
    """Record the connections of these services, whose number may grow meanwhile."""
    ended = threading.Event()

    def record() -> None:
        processes: list[tuple[Process, list[int]]] = []
        listed_s = took_s = 0.0
        while not ended.wait(max(POLL_S, PAUSE * took_s)):
            began_s = time.monotonic()
            if not processes or began_s - listed_s > LIST_S:
                processes, listed_s = [(one, one.pids()) for one in services()], began_s
            for one, pids in processes:
                one.record_connections(pids)
            took_s = time.monotonic() - began_s

    thread = threading.Thread(target=record, name="plumbline-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
