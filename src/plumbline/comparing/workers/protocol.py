"""The messages between the coordinator of a paired comparison and its workers, and the line that carries them.

One JSON object a line; `is` names its kind. A worker waits for its turn by blocking its whole thread, so that it takes
no CPU time while the other one measures.

| coordinator → worker | worker → coordinator |
| --- | --- |
| `Start` | `Imported`, as soon as the tests are collected |
| | `Collected`, as soon as the application has started |
| `Order` | `Begins`: a benchmark calls `measure` and waits for its first turn |
| `Turn` | `Block` |
| `Turn(0)` | `Over`: the test has ended |
"""

import socket
from typing import TypeVar

import msgspec
from msgspec import Struct

from plumbline.comparing.statistics.plan import Where
from plumbline.processes import last_lines
from plumbline.services.address import Address

OUTPUT_LINES = 2

Kind = TypeVar("Kind", bound=Struct)


class _Message(Struct, frozen=True, tag_field="is", tag=str.lower):
    """Fields that this version does not know are ignored, so that the version can be read and compared."""


class Start(_Message, frozen=True):
    """Describes the pair; a worker starts nothing before it."""

    keys: list[str]  # benchmarks that may be ordered: the worker starts the services that they need
    servers: dict[str, Address] = {}  # by name; the worker finds external servers for itself
    prefix: str = ""  # begins each Redis key; "" if the worker chooses it
    core: int | None = None
    prepare: bool = True  # False if the database is a copy of a prepared one
    rehearses: bool = False  # whether benchmarks run untimed and without turns
    app_python: str = ""  # the Python of the application, if it has an environment of its own
    modules: list[str] = []  # importable names that differ between the sides
    # By key, by which share a benchmark is slowed down on purpose, and in which process; for base the share is 0.
    slow_down: dict[str, tuple[float, Where]] = {}
    folder: str = ""  # for files that the worker shares with its application
    profiles: bool = False  # whether a profiler runs and writes into `folder`


class Order(_Message, frozen=True):
    keys: list[str]  # of the benchmarks to run, first to last


class Turn(_Message, frozen=True):
    samples: int  # of one block; 0: leave the loop over `measure`


class Imported(_Message, frozen=True):
    version: str  # of Plumbline


class Collected(_Message, frozen=True):
    keys: list[str]
    served: list[str] = []  # those of the benchmarks that use the application or a process beside it
    errors: dict[str, str] = {}  # by file, why it could not be collected
    origins: dict[str, str] = {}  # from which file or folder the modules of `Start` are imported

    def why_missing(self, key: str) -> str:
        """Return why a benchmark was not collected, in one line; "" if it was."""
        file = key.partition("::")[0]
        errors = [f"{path} can't be collected: {error}" for path, error in self.errors.items() if file in path]
        return "" if key in self.keys else " ".join(" ".join(errors[:1] or ["it is not there"]).split())


class Begins(_Message, frozen=True):
    key: str


class Block(_Message, frozen=True):
    samples_s: list[float]  # per operation


class Over(_Message, frozen=True):
    outcome: str
    message: str = ""
    output: str = ""  # the last one of the application and of the processes, if the test failed

    def why_not_passed(self) -> str:
        """Return the outcome, the error and the end of the output, in one line; "" if the test passed."""
        if self.outcome == "passed":
            return ""
        lines = [line for line in self.message.splitlines() if line.strip()]
        errors = [line[1:].strip() for line in lines if line.startswith("E ")]  # how pytest marks an exception
        worded = "\n".join(line for line in self.output.splitlines() if any(map(str.isalnum, line)))  # not "^^^^"
        output = f"; last output: {last_lines(worded, OUTPUT_LINES)}" if worded else ""
        return f"{self.outcome}: {(errors[:1] or lines[-1:] or [''])[0]}{output}"


Message = Start | Order | Turn | Imported | Collected | Begins | Block | Over
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class Line:
    """One end of a connected socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rb")

    def send(self, message: Message) -> None:
        """Raises ConnectionError."""
        self._socket.sendall(msgspec.json.encode(message) + b"\n")

    def receive(self, limit_s: float | None = None) -> Message:
        """Return the next message; raises ConnectionError, TimeoutError, or ValueError if it is not a message."""
        self._socket.settimeout(limit_s)
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the other end has gone")
        try:
            return _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{line[:80]!r}: {error}") from None

    def expect(self, kind: type[Kind]) -> Kind:
        """Wait for the next message, which has to be of this kind; raises as `receive`."""
        message = self.receive()
        if not isinstance(message, kind):
            raise ValueError(f"{message!r} in place of {kind.__name__}")
        return message

    def close(self) -> None:
        self._file.close()
        self._socket.close()
