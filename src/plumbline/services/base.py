"""What every service offers, and what those that are child processes of the run share."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psutil

from plumbline.processes import set_affinity
from plumbline.services.address import Address, ServiceError
from plumbline.services.readiness import advice, not_ready, probe, wait_until_ready
from plumbline.services.reaper import wait_gone
from plumbline.services.service_run import Run
from plumbline.settings import Settings

if TYPE_CHECKING:
    from plumbline.services.docker import Engine

STOP_LIMIT_S = 3.0
LOG_TAIL_BYTES = 64 * 1024
LINE_BYTES = 256
"""What a line of a log takes, roughly."""


@dataclass(frozen=True)
class Context:
    """What the servers of one run share."""

    settings: Settings
    run: Run
    engine: "Engine"

    @property
    def key_prefix(self) -> str:
        """What each Redis key of this run begins with."""
        return f"perf:{self.run.id}:"


class Service:
    """One running or external server, or one process of code under test."""

    own = True
    """False for external ones: they can't be paused, killed or pinned."""
    key_prefix = ""
    """What the keys begin with that a probe of Redis writes."""

    def __init__(self, name: str, backend: str, why: str, address: Address) -> None:
        self.name = name
        self.backend = backend
        self.why = why
        self.address = address
        """Known after `start`; a restart may change it."""
        self.version = ""
        """As the server tells it, known after `wait_ready`."""
        self.product = ""
        """What answers: "Redis", "Valkey", "PostgreSQL"."""
        self.ready_s: float | None = None
        """How long the last `wait_ready` took."""

    def start(self) -> None:
        """Start it and return as soon as its address is known; raises NotReady where that can't be."""

    def wait_ready(self, limit_s: float) -> None:
        """Probe until it does real work; raises NotReady. Blocks: from a coroutine, call it in a thread."""
        started = time.monotonic()
        self.product, _, self.version = wait_until_ready(self, limit_s).rpartition(" ")
        self.ready_s = time.monotonic() - started

    def stop(self) -> None:
        """Stop it and remove what it left; harmless when called again or on a dead service."""

    def probe(self, limit_s: float) -> str:
        """One attempt at real work within the limit; returns product and version, such as "Valkey 9.1.2"."""
        return probe(self.address, limit_s, self.key_prefix)

    def advice(self, error: BaseException) -> str:
        """What to do next where this error is final; "" where it is worth retrying."""
        return advice(self.address.scheme, error)

    def advice_at_limit(self) -> str:
        """What to do next where it isn't ready in time."""
        return "read its last output above, or raise ready_limit_s in settings.toml"

    def running(self) -> bool:
        """False once its process or container has exited; True where that can't be known."""
        return True

    def alive(self) -> bool:
        """As `running`, but cheap enough to ask before each test."""
        return self.running()

    def obituary(self) -> str:
        """What is to be told when it has died: where it came from, its state, its last output."""
        return str(not_ready(self, "it has died", None, "read its last output; run the test before this one alone"))

    def state(self) -> str:
        """The state of its process or container, in words."""
        return "not ours to look at"

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its output, without passwords."""
        del lines
        return ""

    def log_since(self, first: str, last: str, limit_s: float) -> str:
        """Its last output with both texts in it, as soon as they are; "" where they aren't within the limit."""
        lines, deadline = 120, time.monotonic() + limit_s
        while time.monotonic() < deadline:
            text = self.log_tail(lines)
            if first in text and last in text:
                return text
            if last in text:
                lines *= 16
        return ""

    def pids(self) -> list[int]:
        """The server's processes, its children included, when on this kernel and ours; else none."""
        return []

    def pin(self, cores: Collection[int]) -> None:
        """Let it run on these cores alone, where that is up to us; read it back through `pids`."""
        set_affinity(self.pids(), cores)

    def pause(self) -> None:
        """Stop it in its tracks, connections and all, until `resume`."""
        raise self._not_ours()

    def resume(self) -> None:
        """Let it go on after `pause`."""
        raise self._not_ours()

    def kill(self) -> None:
        """End it at once, without a chance to clean up."""
        raise self._not_ours()

    def restart(self) -> None:
        """Start it again, after `kill` or in place of a running one; address and data stay where the backend can."""
        raise self._not_ours()

    def _not_ours(self) -> ServiceError:
        return ServiceError(f"{self.name} is {self.backend}: it isn't ours to pause, kill or restart")


class LocalService(Service):
    """A service that is a child process of this run. Its output goes to a file in the run's directory."""

    stop_signal = signal.SIGTERM

    def __init__(self, name: str, backend: str, why: str, address: Address, run: Run) -> None:
        super().__init__(name, backend, why, address)
        self.run = run
        self._child: subprocess.Popen[bytes] | None = None
        self._log = run.directory / f"{name}.log"

    def spawn(
        self,
        command: Sequence[str | Path],
        *,
        environ: Mapping[str, str],
        cwd: Path,
        stdin: bytes | None = None,
        ids: tuple[int, int] | None = None,
    ) -> None:
        """Start the process; `ids` are the user and the group to run as. Raises OSError."""
        log: IO[bytes]
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [str(part) for part in command],
                env={**environ, **self.run.environ},
                cwd=cwd,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for the run, which then stops its services in order.
                process_group=0,
                **({"user": ids[0], "group": ids[1], "extra_groups": []} if ids else {}),  # type: ignore[call-overload]
            )
        self.run.add_process(self._child.pid)
        if self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self._child.stdin as pipe:
                pipe.write(stdin or b"")

    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def state(self) -> str:
        if self._child is None:
            return "not started"
        code = self._child.poll()
        if code is None:
            with contextlib.suppress(psutil.Error):
                if psutil.Process(self._child.pid).status() == psutil.STATUS_STOPPED:
                    return "stopped by a signal (paused)"
            return "running"
        return f"exited with code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self._output(max(LOG_TAIL_BYTES, lines * LINE_BYTES)).rstrip().splitlines()[-lines:])

    def _output(self, limit_bytes: int) -> str:
        """The end of its output, without passwords."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - limit_bytes))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return self.address.redact(text)

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes()]

    def pause(self) -> None:
        # The children too: connections are served by them.
        processes = self._processes()
        signal_all(processes, signal.SIGSTOP)
        deadline = time.monotonic() + STOP_LIMIT_S
        while not all(map(_is_stopped, processes)) and time.monotonic() < deadline:
            time.sleep(0.001)

    def resume(self) -> None:
        signal_all(self._processes(), signal.SIGCONT)

    def kill(self) -> None:
        processes = self._processes()
        signal_all(processes, signal.SIGKILL)
        if self._child is not None:
            self._child.wait(STOP_LIMIT_S)
            # A new PostgreSQL refuses to start while one of the old one's processes is still there.
            wait_gone(processes, STOP_LIMIT_S)
            self.run.forget_process(self._child.pid)

    def stop(self) -> None:
        if self._child is None:
            return
        processes = self._processes()
        signal_all(processes, signal.SIGCONT)
        if self.running():
            self._child.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_LIMIT_S)
        signal_all(processes, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(STOP_LIMIT_S)
        wait_gone(processes, STOP_LIMIT_S)
        self.run.forget_process(self._child.pid)

    def _processes(self) -> list[psutil.Process]:
        if self._child is None or not self.running():
            return []
        return tree(self._child.pid)


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants; none where it has gone."""
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    return []


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    except psutil.Error:
        return True


def signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        # psutil makes sure that the pid hasn't gone to another process meanwhile.
        with contextlib.suppress(psutil.Error, OSError):
            process.send_signal(number)
