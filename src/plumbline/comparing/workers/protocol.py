"""Messages between the coordinator of a paired comparison and its workers, over a socket.

Each line is a JSON object; `is` names the kind of message. A worker waits for its turn by blocking its thread, so that
it uses no CPU time while the other worker measures.

| coordinator → worker | worker → coordinator |
| --- | --- |
| `Start` | `Imported`: the tests are collected |
| | `Collected`: the application has started |
| `Order` | `Begins`: a benchmark calls `measure` and waits for its first turn |
| `Turn` | `Block` |
| `Turn(0)` | `Over`: the test has ended |

In a pair that counts, one `Turn` lets a benchmark run all rounds of its counting pass:

| coordinator → worker | worker → coordinator |
| --- | --- |
| `Turn`: rounds to run first, not counted | `Alive` after each round |
| `LogText` | `LogAsked`: the counts need the log of a server |
| `Turn(0)` | `Counted` |
"""

import socket
from typing import TypeVar

import msgspec
from msgspec import Struct

from plumbline.comparing.statistics.plan import Where
from plumbline.processes import last_lines
from plumbline.results.schema import Counts
from plumbline.services.address import Address

OUTPUT_LINES = 2

Kind = TypeVar("Kind", bound=Struct)


class _Message(Struct, frozen=True, tag_field="is", tag=str.lower):
    """Unknown fields are ignored, so that workers of another version can report their version."""


class Start(_Message, frozen=True):
    """The first message: it describes the pair, and the worker starts its application."""

    keys: list[str]  # benchmarks that `Order` may name
    servers: dict[str, Address] = {}  # by name, without external servers
    prefix: str = ""  # the prefix of each Redis key; "" if the worker chooses it
    core: int | None = None
    prepare: bool = True  # False if the database is a copy of a prepared one
    rehearses: bool = False  # whether benchmarks run untimed and without turns
    app_python: str = ""  # the Python of the application, if it has a separate environment
    modules: list[str] = []  # importable names that differ between the sides
    # By key: the share by which a benchmark is slowed down (0 in base), the place, and the share of its calls.
    slow_down: dict[str, tuple[float, Where, float]] = {}
    folder: str = ""  # for files that the worker shares with its application
    profiles: bool = False  # whether a profiler runs and writes into `folder`
    counts: bool = False  # whether benchmarks are counted, not timed


class Order(_Message, frozen=True):
    keys: list[str]  # of the benchmarks to run, first to last


class Turn(_Message, frozen=True):
    samples: int  # of one block; 0: leave the loop over `measure`


class Imported(_Message, frozen=True):
    version: str  # of Plumbline


class Collected(_Message, frozen=True):
    keys: list[str]
    served: list[str] = []  # keys of benchmarks that use the application or one of `[processes]`
    errors: dict[str, str] = {}  # by file: why it could not be collected
    origins: dict[str, str] = {}  # by module of `Start`: the file or folder that it is imported from

    def why_missing(self, key: str) -> str:
        """Return in one line why a benchmark was not collected, "" if it was."""
        file = key.partition("::")[0]
        errors = [f"{path} can't be collected: {error}" for path, error in self.errors.items() if file in path]
        return "" if key in self.keys else " ".join(" ".join(errors[:1] or ["it is not there"]).split())


class Begins(_Message, frozen=True):
    key: str


class Block(_Message, frozen=True):
    samples_s: list[float]  # per operation


class Alive(_Message, frozen=True):
    pass


class LogAsked(_Message, frozen=True):
    service: str
    lines: int  # the number of last lines


class LogText(_Message, frozen=True):
    text: str


class Counted(_Message, frozen=True):
    counts: Counts
    notes: list[str] = []  # what cannot be counted, and why


class Over(_Message, frozen=True):
    outcome: str
    message: str = ""
    output: str = ""  # if the test failed: the last output of the application and the processes

    def why_not_passed(self) -> str:
        """Return the outcome, the error and the last output in one line, "" if the test passed."""
        if self.outcome == "passed":
            return ""
        lines = [line for line in self.message.splitlines() if line.strip()]
        errors = [line[1:].strip() for line in lines if line.startswith("E ")]  # how pytest marks an exception
        worded = "\n".join(line for line in self.output.splitlines() if any(map(str.isalnum, line)))  # not "^^^^"
        output = f"; last output: {last_lines(worded, OUTPUT_LINES)}" if worded else ""
        return f"{self.outcome}: {(errors[:1] or lines[-1:] or [''])[0]}{output}"


Message = Start | Order | Turn | Imported | Collected | Begins | Block | Alive | LogAsked | LogText | Counted | Over
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
        """Return the next message. Raises ConnectionError, TimeoutError, or ValueError if it is not a message."""
        self._socket.settimeout(limit_s)
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the other end has gone")
        try:
            return _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{line[:80]!r}: {error}") from None

    def expect(self, kind: type[Kind]) -> Kind:
        """Return the next message, which must be of this kind. Raises the same errors as `receive`."""
        message = self.receive()
        if not isinstance(message, kind):
            raise ValueError(f"{message!r} in place of {kind.__name__}")
        return message

    def close(self) -> None:
        self._file.close()
        self._socket.close()
