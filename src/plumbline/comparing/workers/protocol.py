"""The messages between the coordinator of a paired comparison and its workers, and the line that carries them.

One JSON object a line; `is` names its kind. A worker waits for its turn by blocking its whole thread, so that it takes
no CPU time while the other one measures.

| coordinator → worker | worker → coordinator |
| --- | --- |
| `Start` | `Imported`, as soon as the tests are collected |
| | `Collected`, as soon as the application has started |
| `Order` | `Begins`: a benchmark calls `measure` |
| `Turn` | `Block` |
| `End`: leave the loop | `Over`: the test has ended |
"""

import socket
import time
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from plumbline.comparing.statistics.plan import Where
from plumbline.services.address import Address

Received = TypeVar("Received", bound=Struct)
Kind = TypeVar("Kind", bound=Struct)


class LineClosed(Exception):
    """The other end has gone."""


class _Message(Struct, frozen=True, tag_field="is", tag=str.lower):
    """Fields that this version does not know are ignored, so that the version can be read and compared."""


class Start(_Message, frozen=True):
    """Describes the pair; a worker starts nothing before it."""

    keys: list[str]
    """Benchmarks that may be ordered: the worker starts the services that they need."""
    servers: dict[str, Address] = {}
    """By name; the worker finds external servers for itself."""
    prefix: str = ""
    """Begins each Redis key; "" if the worker chooses it."""
    core: int | None = None
    prepare: bool = True
    """Whether to run `prepare`; False if the database is a copy of a prepared one."""
    rehearses: bool = False
    """Whether benchmarks run untimed and without turns."""
    modules: list[str] = []
    """Importable names that differ between the sides."""
    slow_down: dict[str, tuple[float, Where]] = {}
    """By key, by which share a benchmark is slowed down on purpose, and in which process; for base the share is 0."""
    folder: str = ""
    """For files that the worker shares with its application."""
    profiles: bool = False
    """Whether a profiler runs and writes into `folder`."""


class Order(_Message, frozen=True):
    """Names the benchmarks to run, first to last."""

    keys: list[str]


class Turn(_Message, frozen=True):
    """Asks for one block."""

    samples: int


class End(_Message, frozen=True):
    """Ends the loop over `measure`."""


class Imported(_Message, frozen=True):
    """Says that the tests are collected, and by which version of Plumbline."""

    version: str


class Collected(_Message, frozen=True):
    """Says that the worker is ready to measure."""

    keys: list[str]
    served: list[str] = []
    """Keys of the benchmarks that use the application or a process beside it."""
    errors: list[str] = []
    """Why files could not be collected."""
    origins: dict[str, str] = {}
    """From which file or folder the modules of `Start` are imported."""

    def why_missing(self, key: str) -> str:
        """Return why a benchmark was not collected, in one line; "" if it was."""
        if key in self.keys:
            return ""
        file = key.partition("::")[0]
        error = next((error for error in self.errors if file in error.partition("\n")[0]), "it is not there")
        return " ".join(error.split())


class Begins(_Message, frozen=True):
    """Says that a benchmark waits for its first turn."""

    key: str


class Block(_Message, frozen=True):
    """Reports the samples of one turn, in seconds per operation."""

    samples_s: list[float]


class Over(_Message, frozen=True):
    """Says that a test has ended."""

    key: str
    outcome: str
    message: str = ""

    def why_not_passed(self) -> str:
        """Return the outcome and the error, in one line; "" if the test passed."""
        if self.outcome == "passed":
            return ""
        lines = [line for line in self.message.splitlines() if line.strip()]
        errors = [line[1:].strip() for line in lines if line.startswith("E ")]  # how pytest marks an exception
        return f"{self.outcome}: {(errors[:1] or lines[-1:] or [''])[0]}"


FromCoordinator = Start | Order | Turn | End
FromWorker = Imported | Collected | Begins | Block | Over


class Line(Generic[Received]):
    """One end of a connected socket."""

    def __init__(self, connection: socket.socket, receives: object) -> None:
        """`receives`: the union of the messages that the other end sends."""
        self._socket = connection
        self._buffer = b""
        self._decoder: msgspec.json.Decoder[Received] = msgspec.json.Decoder(receives)

    def send(self, message: Struct) -> None:
        """Raises LineClosed."""
        try:
            self._socket.sendall(msgspec.json.encode(message) + b"\n")
        except OSError:
            raise LineClosed from None

    def receive(self, limit_s: float | None = None) -> Received:
        """Return the next message; raises LineClosed, TimeoutError, or ValueError if it is not a message."""
        deadline_s = None if limit_s is None else time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            self._socket.settimeout(None if deadline_s is None else max(deadline_s - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                raise
            except OSError:
                data = b""
            if not data:
                raise LineClosed
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{line[:80]!r}: {error}") from None

    def expect(self, kind: type[Kind]) -> Kind:
        """Wait for the next message, which has to be of this kind; raises as `receive`."""
        message = self.receive()
        if not isinstance(message, kind):
            raise ValueError(f"{message!r} in place of {kind.__name__}")
        return message

    def close(self) -> None:
        """Harmless when called again."""
        self._socket.close()
