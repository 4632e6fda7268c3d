"""The base class of all services, and the base class of those that are child processes."""

import contextlib
import errno
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from plumbline.processes import end_all, identity, is_running, printable, set_affinity, signal_all, tree
from plumbline.services.address import Address
from plumbline.services.clients import advice, probe
from plumbline.services.docker_engine import Engine
from plumbline.services.errors import NotReady, ServiceError, describe
from plumbline.services.run import ServiceRun
from plumbline.settings import Settings

FIRST_DELAY_S = 0.004
MAX_DELAY_S = 0.5
DELAY_GROWTH = 1.5
ATTEMPT_LIMIT_S = 3.0
STOP_LIMIT_S = 5.0
HOST = "127.0.0.1"
PORT_TRIES = 5
LOG_TAIL_BYTES = 64 * 1024
LINE_BYTES = 256  # the length of a line of a log, roughly
PAUSED = "stopped by a signal (paused)"  # a result of `Service.state`
SHOWN_LINES = 40  # of a log, in a message
OUTPUT = "    | "  # begins such a line
# The advice for a server that has exited, by the system error in its output.
CAUSES_OF_EXIT = {
    os.strerror(errno.ENOSPC): "make room on the disk",
    os.strerror(errno.EACCES): "give the server's user access to the path, or set TMPDIR to another folder",
    os.strerror(errno.EROFS): "set TMPDIR to a folder that can be written to",
    os.strerror(errno.ENOMEM): "give the server more memory, or lower its options",
    os.strerror(errno.EMFILE): "raise the limit of open files (ulimit -n)",
}

Ids = tuple[int, int] | None  # user id and group id; None: those of this process


@dataclass(frozen=True)
class Context:
    """The settings and the state that the servers of one run share."""

    settings: Settings
    run: ServiceRun
    engine: Engine
    preferred: Mapping[str, str]
    environ: Mapping[str, str]


class Service:
    """A server of a run, the application, or a process beside it."""

    own = False  #: Whether this run started it. Only such a service can be paused, killed and restarted.
    advice_at_limit = "read its last output above, or raise ready_limit_s in settings.toml"
    advice_if_silent = "read its last output above; let each test resume what it has paused; run the last test alone"

    def __init__(self, name: str, backend: str, why: str, address: Address) -> None:
        self.name = name  #: `redis`, `postgres`, `app`, or the name of a process in `settings.toml`.
        self.backend = backend  #: `docker`, `embedded` or `external` for a server.
        self.why = why  #: Why it has this backend.
        self.address = address  #: Its address. A restart may change it.
        self.product = ""  #: `Redis`, `Valkey` or `PostgreSQL`, once it is ready.
        self.version = ""  #: Its version, once it is ready.
        self.ready_s: float | None = None  #: The seconds until it was ready.

    def start(self) -> None:
        """Start it and return as soon as its address is known. Raises NotReady."""

    def wait_ready(self, limit_s: float) -> None:
        """Wait until the service does real work. The pauses between attempts grow, and are random.

        It blocks: in a coroutine, call it with `asyncio.to_thread`.

        Args:
            limit_s: The longest wait, in seconds.

        Raises:
            NotReady: If the time is up, the service has exited, or no retry can help.
        """
        started_s = time.monotonic()
        longest_delay_s = FIRST_DELAY_S
        attempts = 0
        last_error: BaseException | None = None
        while True:
            left_s = limit_s - (time.monotonic() - started_s)
            if not self.running():
                reason, advice = "it has exited", self.advice_at_exit()
                break
            if left_s <= 0:
                reason, advice = "gave up", self.advice_at_limit
                break
            attempts += 1
            try:
                self.product, _, self.version = self.probe(min(left_s, ATTEMPT_LIMIT_S)).rpartition(" ")
                self.ready_s = time.monotonic() - started_s
                return
            except Exception as error:
                last_error = error
                if advice := self.advice(error):
                    reason = "final error"
                    break
            left_s = limit_s - (time.monotonic() - started_s)
            time.sleep(min(random.uniform(0, longest_delay_s), max(left_s, 0)))
            longest_delay_s = min(longest_delay_s * DELAY_GROWTH, MAX_DELAY_S)
        tried = f"after {time.monotonic() - started_s:.1f} s and {attempts} attempt{'' if attempts == 1 else 's'}"
        raise not_ready(self, f"{reason} {tried}", last_error, advice)

    def stop(self) -> None:
        """Stop it and remove what it left. May be called again, and on a service that has died."""

    def probe(self, limit_s: float) -> str:
        """Do real work once within the limit and return product and version, such as "Valkey 9.1.2"."""
        return probe(self.address, limit_s)

    def advice(self, error: BaseException) -> str:
        """Return what to do next if this error is final; "" if a retry may help."""
        return advice(error)

    def advice_at_exit(self) -> str:
        """Return what to do next after an exit, judging by the last output."""
        output = self.raw_log(SHOWN_LINES)
        found = (f"{step}: see its last output above" for text, step in CAUSES_OF_EXIT.items() if text in output)
        return next(found, f"read its last output above; it has the options of [{self.name}.config] in settings.toml")

    def running(self) -> bool:
        """Return whether the process or container runs; True if that is unknown. Cheap once the service is ready."""
        return True

    def death_message(self, advice: str) -> str:
        """Return the message about its death, with its backend, state and last output, and what else to do."""
        return str(not_ready(self, "it has died", None, f"read its last output; {advice}"))

    def answer(self, limit_s: float) -> None:
        """Do real work once, as a healthy service can. Raises the client's errors."""
        self.probe(limit_s)

    def can_be_counted(self) -> bool:
        """Return whether its commands or statements can be counted: nobody else uses it, and its log can be read."""
        return self.own

    def was_restarted(self) -> bool:
        """Return whether somebody else has restarted it since it became ready; False if that is unknown."""
        return False

    def state(self) -> str:
        """Return the state of its process or container, in words."""
        return "unknown: it is external"

    def log_tail(self, lines: int = SHOWN_LINES) -> str:
        """Return the last lines of its output, at most `lines` of them, without passwords."""
        return self.redact(printable(self.raw_log(lines)))

    def raw_log(self, lines: int) -> str:
        """Return the last lines of its output. They may hold passwords: do not print them."""
        del lines
        return ""

    def redact(self, text: str) -> str:
        """Return the text without the passwords that this service knows."""
        return self.address.redact(text)

    def log_since(self, first: str, last: str, limit_s: float) -> str:
        """Return its last output as soon as that contains both texts; "" after the limit."""
        lines, deadline_s = 120, time.monotonic() + limit_s
        while time.monotonic() < deadline_s:
            text = self.raw_log(lines)
            if first in text and last in text:
                return text
            if last in text:
                lines *= 16
        return ""

    def pids(self) -> list[int]:
        """Return the ids of its processes and their children, if the run started them on this machine."""
        return []

    def pin(self, cores: Collection[int]) -> None:
        """Restrict it to these cores, if possible."""
        set_affinity(self.pids(), cores)

    def pause(self) -> None:
        """Suspend it until `resume`. Its connections stay open."""
        raise self._not_ours()

    def resume(self) -> None:
        """Continue after `pause`."""
        raise self._not_ours()

    def kill(self) -> None:
        """Kill it at once, without a chance to clean up."""
        raise self._not_ours()

    def restart(self) -> None:
        """Start it again, running or not. The address and the data stay if the backend can keep them."""
        raise self._not_ours()

    def _not_ours(self) -> ServiceError:
        return ServiceError(
            f"{self.name} is {self.backend}: this run did not start it, and can't pause, kill or restart it"
        )


def output_lines(output: str) -> list[str]:
    """Return the lines of a message that show the last output of a service, which must hold no passwords."""
    lines = output.splitlines()
    return ["  last output" + ("" if lines else " none"), *(f"{OUTPUT}{line}" for line in lines)]


def not_ready(service: Service, headline: str, error: BaseException | None, advice: str) -> NotReady:
    """Return the whole message about a service, without passwords. `headline` and `advice` must hold none."""
    output = service.raw_log(SHOWN_LINES)
    lines = [
        f"{service.name} is not ready: {headline}",
        f"  backend     {service.backend}" + (f" ({service.why})" if service.why else ""),
        f"  address     {service.address.shown}",
        *([f"  last error  {service.redact(describe(error))}"] if error else []),
        f"  state       {service.state()}",
        *output_lines(service.redact(printable(output))),
        f"  next        {advice}",
    ]
    return NotReady("\n".join(lines), output)


class LocalService(Service):
    """A service that is a child process of this run. Its output goes to a file in the run's directory."""

    own = True
    stop_signal = signal.SIGTERM
    stops_children = True  # on `stop_signal`, so the signal is sent to the first process only
    port_taken = "Address already in use"  # in its output if another process has its port

    def __init__(self, name: str, backend: str, why: str, address: Address, run: ServiceRun) -> None:
        super().__init__(name, backend, why, address)
        self.run = run
        self._child: subprocess.Popen[bytes] | None = None
        self._log = run.directory / f"{name}.log"
        self._seen: list[psutil.Process] = []
        self._reserved: socket.socket | None = None
        self._may_move = False

    def take_port(self) -> None:
        """Reserve the loopback port that the address names, or a free one. Raises OSError."""
        self._may_move = not self.address.port
        self._reserved = reserve_port(self.address.port)
        self.address = replace(self.address, port=self._reserved.getsockname()[1])
        # On Linux the server can listen on a reserved port, which is released when the server answers.
        if not sys.platform.startswith("linux"):
            self.release_port()

    def release_port(self) -> None:
        if self._reserved is not None:
            self._reserved.close()

    def lost_port(self) -> bool:
        """Return whether it could not listen because another process had its port."""
        return self.port_taken.format(port=self.address.port) in self._output(LOG_TAIL_BYTES)

    def spawn(
        self, command: Sequence[str | Path], environ: Mapping[str, str], cwd: Path, stdin: bytes = b"", ids: Ids = None
    ) -> None:
        """Start the process as the user and the group `ids`. Raises OSError."""
        self._log.unlink(missing_ok=True)
        self._log.touch(mode=0o600)  # it may show passwords
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [str(part) for part in command],
                env={**environ, **self.run.environ},
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal must reach only the run, which then stops its services in order.
                process_group=0,
                **({"user": ids[0], "group": ids[1], "extra_groups": []} if ids else {}),  # type: ignore[call-overload]
            )
        self.run.add(f"process {self._child.pid}", {"kind": "process", **identity(self._child.pid)})
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._child.stdin as pipe:
            pipe.write(stdin)

    def wait_ready(self, limit_s: float) -> None:
        for tries_left in reversed(range(PORT_TRIES)):
            try:
                super().wait_ready(limit_s)
                break
            except NotReady:
                if not self._may_move or self.running() or not self.lost_port() or not tries_left:
                    raise
                self.stop()
                self.address = replace(self.address, port=0)
                self.start()
            finally:
                self.release_port()

    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def state(self) -> str:
        if self._child is None:
            return "not started"
        code = self._child.poll()
        if code is None:
            paused = False
            with contextlib.suppress(psutil.Error):
                paused = psutil.Process(self._child.pid).status() == psutil.STATUS_STOPPED
            return PAUSED if paused else "running"
        return f"exited with code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    def raw_log(self, lines: int) -> str:
        return "\n".join(self._output(max(LOG_TAIL_BYTES, lines * LINE_BYTES)).rstrip().splitlines()[-lines:])

    def _output(self, limit_bytes: int) -> str:
        """Return the end of its output since its last start. It may hold passwords."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - limit_bytes))
            return log.read().decode(errors="replace")
        return ""

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes()]

    def pause(self) -> None:
        # The children too: they serve the connections.
        processes = self._processes()
        signal_all(processes, signal.SIGSTOP)
        deadline_s = time.monotonic() + STOP_LIMIT_S
        halted = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
        for process in processes:
            with contextlib.suppress(psutil.Error):
                while process.status() not in halted and time.monotonic() < deadline_s:
                    time.sleep(0.001)

    def resume(self) -> None:
        signal_all(self._processes(), signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        self._end(signal.SIGKILL)
        if self._child is not None:
            # It may be a zombie with threads that have not ended yet.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_LIMIT_S)
            self.run.forget(f"process {self._child.pid}")

    def stop(self) -> None:
        self.release_port()
        self._end(self.stop_signal)
        self.kill()

    def _end(self, number: signal.Signals) -> None:
        # All processes: PostgreSQL does not start again while one of them is left.
        only = self._child.pid if self._child and self.stops_children and number != signal.SIGKILL else 0
        end_all(self._processes, number, STOP_LIMIT_S, only)

    def _processes(self) -> list[psutil.Process]:
        """Return its processes, and descendants seen before that have left the group or lost their parent."""
        if self._child is None:
            return []
        found = {process.pid: process for process in [*(tree(self._child.pid) if self.running() else []), *self._seen]}
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getpgid(pid) == self._child.pid:
                    found.setdefault(pid, psutil.Process(pid))
        self._seen = [process for process in found.values() if is_running(process)]
        return self._seen


def reserve_port(port: int) -> socket.socket:
    """Return a socket that is bound to the port, or to a free one for 0, and not listening. Raises OSError."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
    try:
        reserved.bind((HOST, port))
    except OSError:
        reserved.close()
        raise
    return reserved
