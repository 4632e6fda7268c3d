"""Waits after a block until the code under test rests: it may work on after its answer, as in a background task."""

import time
from collections.abc import Callable, Mapping

from plumbline.counting.sockets import Peer, SocketWatch

QUIET_S = 0.005  # without any traffic: then it rests
LIMIT_S = 0.5
MOST_LIMITS = 3  # after that, it is not waited for any more
RESTLESS = (
    f"what the application does later than {LIMIT_S:g} s after its answer, as in a background task, is not counted"
    " with the benchmark"
)


class Rest:
    """A check whether the code under test works, by its tasks and by its traffic with all services."""

    def __init__(self, watch: SocketWatch | None, note: Callable[[str], None]) -> None:
        """`watch` is None if the kernel does not report traffic: then only tasks are waited for."""
        self.names: Mapping[Peer, str] = {}  # of the services; none if no code under test runs
        self._watch = watch
        self._note = note
        self._limits = 0  # how often LIMIT_S was too short

    def wait(self, is_working: Callable[[], bool]) -> None:
        """Wait until no task of the code under test runs, and nothing is sent for QUIET_S."""
        if not self.names or self._limits == MOST_LIMITS:
            return
        deadline_s = time.monotonic() + LIMIT_S
        before = None
        while True:
            works, traffic = is_working(), self._traffic()
            if not works and traffic == before:
                return
            if time.monotonic() > deadline_s:
                self._limits += 1
                self._note(RESTLESS)
                return
            before = traffic
            time.sleep(QUIET_S)

    def _traffic(self) -> object:
        try:
            return self._watch.open(self.names) if self._watch is not None else {}
        except OSError:  # the source of traffic notes it as well
            self._watch = None
            return {}
