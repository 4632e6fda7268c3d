"""One process of a paired comparison, as its coordinator sees it: started, told what to measure, listened to, ended."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.trees.sides import Side
from plumbline.comparing.workers.protocol import Line, LineClosed
from plumbline.processes import set_affinity
from plumbline.services.base import signal_all, tree

ANSWER_LIMIT_S = LEAVE_LIMIT_S = 20.0
END_LIMIT_S = 5.0
"""Together below 30 with a side to end that does not hang: so long may one that hangs keep the run."""
CAME_TO_ITS_END = {0, 1, 5}
"""Exit codes of pytest: all passed, some failed or could not be collected, there was nothing to run."""
LOG_LINES = 40
LOG_TAIL_BYTES = 64 * 1024
MOST_TOLD = 200


class WorkerProcess:
    """One fresh process of one side."""

    def __init__(
        self,
        side: Side,
        command: Sequence[str],
        environ: Mapping[str, str],
        scrub: Callable[[str], str],
        start_limit_s: float,
    ) -> None:
        self.side = side
        self._scrub = scrub
        self._start_limit_s = max(ANSWER_LIMIT_S, start_limit_s)
        self.collected: list[str] = []
        self.served: list[str] = []
        """Of those collected, which use the application or a process beside it."""
        self.errors: list[str] = []
        """Why files could not be collected."""
        self.origins: dict[str, str] = {}
        self._over: dict[str, str] = {}
        self._begun = ""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [str(side.python), *command, f"--perf-worker={theirs.fileno()}"],
                cwd=side.root,
                env=dict(environ),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        self._line = Line(ours)

    def tell(self, **message: object) -> None:
        """Send it a message; raises ComparisonInvalid where it has ended."""
        try:
            self._line.send(**message)
        except LineClosed:
            raise self._ended() from None

    def listen(self) -> None:
        """Wait until it has imported its tests, and for as long as it may take until what they need has started."""
        message = self._receive()
        if not message.imported:
            raise self._unexpected(message)
        message = self._receive(self._start_limit_s)
        if message.collected is None:
            raise self._unexpected(message)
        self.collected, self.served = message.collected, message.served
        self.errors, self.origins = message.errors, message.origins

    def why_not_there(self, key: str) -> str:
        """Why a test is not among those collected; "" where it is."""
        if key in self.collected:
            return ""
        file = key.partition("::")[0]
        error = next((error for error in self.errors if file in error.partition("\n")[0]), "it is not there")
        return f"in {self.side.name}: {' '.join(error.split())}"

    def begins(self, key: str) -> bool:
        """Wait until it begins to measure; False where the test has ended without."""
        message = self._receive()
        if message.over:
            self._over[message.over] = _outcome(message)
        elif message.at != key:
            raise self._unexpected(message)
        self._begun = message.at
        return bool(self._begun)

    def block(self, samples: int) -> list[float] | None:
        """One turn: what each sample took, in seconds per operation; None where the test has ended instead."""
        self.tell(samples=samples)
        message = self._receive()
        if message.over:
            self._over[message.over], self._begun = _outcome(message), ""
        elif message.block_s is None:
            raise self._unexpected(message)
        return message.block_s

    def end(self, key: str) -> str:
        """Let the test come to its end; returns why it did not pass."""
        if self._begun:
            self.tell(end=True)
            self._begun = ""
        while key not in self._over:
            message = self._receive()
            if not message.over:
                raise self._unexpected(message)
            self._over[message.over] = _outcome(message)
        return self._over.pop(key)

    def leave(self, limit_s: float) -> None:
        """Wait until it has ended, having stopped what it started; raises ComparisonInvalid where it does not, or dies."""
        try:
            code = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise self._invalid(f"it has not ended for {limit_s:g} s, with nothing left to do") from None
        if code not in CAME_TO_ITS_END:
            raise self._invalid(f"it ended with exit code {code}")

    def pin(self, cores: Collection[int]) -> None:
        """Let it and what it has started run on these cores, until it has been told what to measure."""
        set_affinity([process.pid for process in tree(self._process.pid)], cores)

    def dismiss(self) -> None:
        """Tell it to end, whatever it does, without waiting for that."""
        self._line.close()
        if self._process.poll() is None:
            self._process.terminate()

    def close(self) -> None:
        """End it with all its children."""
        self.dismiss()
        if self._process.poll() is None:
            processes = tree(self._process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_LIMIT_S)
            signal_all(processes, signal.SIGKILL)
            self._process.wait()
        self._log.close()

    def _receive(self, limit_s: float | None = None) -> "_Message":
        limit_s = limit_s or ANSWER_LIMIT_S
        try:
            return msgspec.convert(self._line.receive(limit_s), _Message)
        except LineClosed:
            raise self._ended() from None
        except TimeoutError:
            raise self._invalid(f"it has not answered for {limit_s:g} s") from None
        except (ValueError, msgspec.ValidationError) as error:
            raise self._invalid(f"it sent what is no message: {error}") from None

    def _ended(self) -> ComparisonInvalid:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_LIMIT_S)
        code = self._process.poll()
        return self._invalid("it closed the line to us" if code is None else f"it ended with exit code {code}")

    def _unexpected(self, message: "_Message") -> ComparisonInvalid:
        said = {name: value for name, value in msgspec.structs.asdict(message).items() if value}
        return self._invalid(f"it was not its turn to say {str(said)[:MOST_TOLD]}")

    def _invalid(self, what: str) -> ComparisonInvalid:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        lines = self._scrub(self._log.read().decode(errors="replace")).rstrip().splitlines()[-LOG_LINES:]
        told = "\n".join([f"the side {self.side.name} failed: {what}; its last output:", *lines])
        return ComparisonInvalid(told, side=self.side.name)


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    """What a side says: turns.py has the table."""

    imported: bool = False
    collected: list[str] | None = None
    served: list[str] = []
    errors: list[str] = []
    origins: dict[str, str] = {}
    at: str = ""
    block_s: list[float] | None = None
    over: str = ""
    outcome: str = ""
    message: str = ""


def _outcome(message: _Message) -> str:
    """Why a test did not pass, in a line; "" where it did."""
    if message.outcome == "passed":
        return ""
    lines = [line for line in message.message.splitlines() if line.strip()]
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]  # as pytest shows what was raised
    return f"{message.outcome}: {(errors[:1] or lines[-1:] or [''])[0]}"
