"""A thread that looks at the connections of processes all the time, as some last for a moment only."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from plumbline.services.application import Process

PAUSE = 3  # times what a look takes: the code under test is to get on meanwhile
LOOK_S, LIST_S = 0.001, 0.25  # how often to look at connections, and to list processes, which takes far longer


@contextlib.contextmanager
def watched(services: Callable[[], Sequence[Process]]) -> Iterator[None]:
    """Look at the connections of all processes of these services, which may become more meanwhile."""
    ended = threading.Event()

    def look() -> None:
        processes: list[tuple[Process, list[int]]] = []
        listed_s = took_s = 0.0
        while not ended.wait(max(LOOK_S, PAUSE * took_s)):
            began_s = time.monotonic()
            if not processes or began_s - listed_s > LIST_S:
                processes, listed_s = [(one, one.pids()) for one in services()], began_s
            for one, pids in processes:
                one.look_at_connections(pids)
            took_s = time.monotonic() - began_s

    thread = threading.Thread(target=look, name="plumbline-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
