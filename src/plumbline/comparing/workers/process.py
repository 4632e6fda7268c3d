"""One worker process as its coordinator sees it: started, asked to measure, listened to, ended."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from msgspec import Struct

from plumbline import __version__
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.trees.sides import Side
from plumbline.comparing.workers import protocol
from plumbline.comparing.workers.protocol import Collected, FromWorker, Line, LineClosed, Over
from plumbline.processes import set_affinity, signal_all, tree

# A worker that hangs is waited for, then asked to end, then killed: together within 30 s, the other worker included.
ANSWER_LIMIT_S = LEAVE_LIMIT_S = 20.0
END_LIMIT_S = 5.0
# Exit codes of pytest: all passed, some failed or could not be collected, there was nothing to run.
CAME_TO_ITS_END = {0, 1, 5}
LOG_LINES = 40
LOG_TAIL_BYTES = 64 * 1024
MOST_SHOWN = 200

Answer = TypeVar("Answer", bound=Struct)


class WorkerProcess:
    """One fresh pytest process of one side. Its methods raise ComparisonInvalid if it dies, hangs or sends nonsense."""

    def __init__(
        self,
        side: Side,
        command: Sequence[str],
        environ: Mapping[str, str],
        scrub: Callable[[str], str],
        start_limit_s: float,
    ) -> None:
        """`start_limit_s`: how long it may take to start its application, if that is more than any answer may take."""
        self.side = side
        self.start_limit_s = max(ANSWER_LIMIT_S, start_limit_s)
        self._scrub = scrub
        self.collected = Collected([])
        self._over: dict[str, Over] = {}
        self._measures = False
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
        self._line: Line[FromWorker] = Line(ours, FromWorker)

    def send(self, message: Struct) -> None:
        """Send a message."""
        try:
            self._line.send(message)
        except LineClosed:
            raise self._ended() from None

    def listen(self) -> None:
        """Wait until it is ready to measure; also raises ComparisonInvalid if it runs another version of Plumbline."""
        version = self._expect(protocol.Imported).version
        if version != __version__:
            raise ComparisonInvalid(
                f"the worker of {self.side.name} runs Plumbline {version}, and its coordinator {__version__}:"
                " install the same version for both"
            )
        self.collected = self._expect(Collected, self.start_limit_s)

    def begins(self, key: str) -> bool:
        """Wait until this benchmark begins to measure; False if the test has ended without."""
        begins = self._in_test(protocol.Begins)
        if begins is not None and begins.key != key:
            raise self._invalid(f"it began {begins.key} out of turn")
        self._measures = begins is not None
        return self._measures

    def block(self, samples: int) -> list[float]:
        """Ask for one block; return its samples, in seconds per operation, none if the test has ended instead."""
        self.send(protocol.Turn(samples))
        block = self._in_test(protocol.Block)
        return block.samples_s if block is not None else []

    def end(self, key: str) -> str:
        """Let the test come to its end; return why it did not pass, "" if it did."""
        if self._measures:
            self.send(protocol.End())
            self._measures = False
        while key not in self._over:
            over = self._expect(Over)
            self._over[over.key] = over
        return self._over.pop(key).why_not_passed()

    def leave(self, limit_s: float) -> None:
        """Wait until it has stopped what it started and ended by itself."""
        try:
            code = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise self._invalid(f"it has not ended for {limit_s:g} s, with nothing left to do") from None
        if code not in CAME_TO_ITS_END:
            raise self._invalid(f"it ended with exit code {code}")

    def pin(self, cores: Collection[int]) -> None:
        """Let it, and what it has started, run on these cores alone until it begins to measure."""
        set_affinity([process.pid for process in tree(self._process.pid)], cores)

    def dismiss(self) -> None:
        """Ask it to end, whatever it does, without waiting for that."""
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

    def _in_test(self, kind: type[Answer]) -> Answer | None:
        """Return the next message, which has to be of this kind; None if the test has ended instead."""
        message = self._receive(ANSWER_LIMIT_S)
        if isinstance(message, Over):
            self._over[message.key], self._measures = message, False
            return None
        return self._checked(message, kind)

    def _expect(self, kind: type[Answer], limit_s: float | None = None) -> Answer:
        return self._checked(self._receive(limit_s or ANSWER_LIMIT_S), kind)

    def _checked(self, message: FromWorker, kind: type[Answer]) -> Answer:
        if isinstance(message, kind):
            return message
        raise self._invalid(f"it sent a message out of turn: {repr(message)[:MOST_SHOWN]}")

    def _receive(self, limit_s: float) -> FromWorker:
        try:
            return self._line.receive(limit_s)
        except LineClosed:
            raise self._ended() from None
        except TimeoutError:
            raise self._invalid(f"it has not answered for {limit_s:g} s") from None
        except ValueError as error:
            raise self._invalid(f"it sent something that is not a message: {error}") from None

    def _ended(self) -> ComparisonInvalid:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_LIMIT_S)
        code = self._process.poll()
        return self._invalid("it closed its connection" if code is None else f"it ended with exit code {code}")

    def _invalid(self, problem: str) -> ComparisonInvalid:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        lines = self._scrub(self._log.read().decode(errors="replace")).rstrip().splitlines()[-LOG_LINES:]
        text = "\n".join([f"the worker of {self.side.name} failed: {problem}; its last output:", *lines])
        return ComparisonInvalid(text, side=self.side.name)
