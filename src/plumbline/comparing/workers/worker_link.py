"""A worker's end of the line to its coordinator."""

import functools
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from plumbline import __version__
from plumbline.comparing.trees.trace import child_environ
from plumbline.comparing.workers import profiler, slowed
from plumbline.comparing.workers.asgi_wrapper import wrapped
from plumbline.comparing.workers.protocol import Collected, FromCoordinator, Imported, Line, Order, Over, Start
from plumbline.comparing.workers.timers import ProfilingTimer, SlowedApplicationTimer, SlowedTimer, WorkerTimer
from plumbline.comparing.workers.turned_measurement import TurnedMeasurement
from plumbline.results.environment import origins
from plumbline.services import Services
from plumbline.settings import Profile, Settings


class WorkerLink:
    """Sends what a worker reports, and turns what its coordinator asks for into services and measurements."""

    def __init__(self, line: Line[FromCoordinator]) -> None:
        """Wait for the coordinator's first message; raises LineClosed, ValueError."""
        self._line = line
        self.start = line.expect(Start)

    @classmethod
    def of(cls, file_number: int) -> Self:
        """Make the link over the socket of this file number."""
        return cls(Line(socket.socket(fileno=file_number), FromCoordinator))

    def services(self, settings: Settings, root: Path, preferred: Mapping[str, str] = {}) -> Services:
        """Return this worker's services, not begun: servers are the coordinator's, the application is its own.

        The application takes a free port, as its usual one may be in use on the other side.
        """
        start = self.start
        if settings.app:
            settings = replace(settings, app=replace(settings.app, port=0))
        if start.profiles:
            settings = wrapped(settings, profiler.make, start.folder)
        elif any(process == "application" for _, process in start.slow_down.values()):
            settings = wrapped(settings, slowed.make, start.folder)
        return Services(
            settings,
            root,
            preferred=preferred,
            shared=start.servers,
            key_prefix=start.prefix,
            prepare=start.prepare,
            child_environ=child_environ,
        )

    def send_imported(self) -> None:
        """Report that the tests are collected, and by which version of Plumbline."""
        self._line.send(Imported(__version__))

    def send_collected(self, keys: Sequence[str], served: Sequence[str], errors: Sequence[str]) -> list[str]:
        """Report that the worker is ready, see `Collected`; return the keys of the benchmarks to run, in order."""
        self._line.send(Collected([*keys], [*served], [*errors], origins(self.start.modules)))
        return self._line.expect(Order).keys

    def send_over(self, key: str, outcome: str, message: str) -> None:
        """Report the end of a test."""
        self._line.send(Over(key, outcome, message))

    def measurement(self, profile: Profile, key: str) -> TurnedMeasurement:
        """Return the `measure` of one benchmark."""
        return TurnedMeasurement(profile, self._line, key, functools.partial(self._timer, key))

    def _timer(self, key: str, samples_s: list[float], operations: int) -> WorkerTimer:
        folder = Path(self.start.folder)
        if self.start.profiles:
            return ProfilingTimer(key, samples_s, operations, folder)
        share, process = self.start.slow_down.get(key, (0.0, "block"))
        if process == "application":
            return SlowedApplicationTimer(samples_s, share, folder)
        return SlowedTimer(samples_s, share) if process == "block" and share else WorkerTimer(samples_s)
