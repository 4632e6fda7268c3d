"""The code under test: an ASGI application, and commands beside it, each in a process of its own."""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from plumbline.processes import is_running, signal_all
from plumbline.services.address import Address
from plumbline.services.base import LOG_TAIL_BYTES, LocalService, not_ready
from plumbline.services.clients import BadStatus, NotYet, probe_http
from plumbline.services.errors import NotReady
from plumbline.services.run import ServiceRun
from plumbline.settings import AppSettings, ProcessSettings

HOST = "127.0.0.1"
TERM_LIMIT_S = 5.0
KILL_LIMIT_S = 3.0
LOG_LIMIT_BYTES = 8 << 20
PORT_TRIES = 5
# Longer than any run, so that no client finds its idle connection closed between two benchmarks.
KEEP_ALIVE_S = 3600
NO_ADDRESS = Address("", "", 0)  # of a process that serves nothing


class Process(LocalService):
    """A command beside the application, such as a worker. It is ready once its output says so, or else once started.

    `environment` changes our own; None removes a variable. `scrub` hides passwords in its output.
    """

    _in_root = False

    def __init__(
        self,
        name: str,
        settings: ProcessSettings | AppSettings,
        root: Path,
        environment: Mapping[str, str | None],
        run: ServiceRun,
        scrub: Callable[[str], str] = str,
    ) -> None:
        super().__init__(name, "process", "named in settings.toml", NO_ADDRESS, run)
        table = "app" if isinstance(settings, AppSettings) else f"processes.{name}"
        self.advice_at_limit = f"read its last output above, or raise ready_limit_s of [{table}] in settings.toml"
        self._settings = settings
        self._directory = root / settings.directory
        self._works_in = root if self._in_root else self._directory
        self._scrub = scrub
        changed = {**os.environ, **environment}
        self._environ = {name: value for name, value in changed.items() if value is not None}
        # Not left to the current folder, which `-P` and PYTHONSAFEPATH leave out.
        python_path = filter(None, [str(self._directory), str(root), self._environ.get("PYTHONPATH")])
        self._environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(python_path))
        path = [str(Path(sys.executable).parent), self._environ.get("PATH", os.defpath)]
        self._environ["PATH"] = os.pathsep.join(path)
        # Its output goes to a file: Python would keep the line that says it is ready in a buffer.
        self._environ.setdefault("PYTHONUNBUFFERED", "1")
        self._started_s = 0.0
        self._seen: list[psutil.Process] = []

    def start(self) -> None:
        if not self._directory.is_dir():
            advice = "correct `directory` in settings.toml: it starts at the repository's root"
            raise not_ready(self, f"there is no folder {self._settings.directory!r}", None, advice)
        command = self._command()
        self._log.unlink(missing_ok=True)
        self._started_s = time.monotonic()
        try:
            self.spawn(command, environ=self.run.child_environ(self.name, command, self._environ), cwd=self._works_in)
        except OSError as error:
            advice = "check the command in settings.toml"
            raise not_ready(self, f"{command[0]} can't be started", error, advice) from None

    def restart(self) -> None:
        self.stop()
        self.start()

    def wait_ready(self, limit_s: float) -> None:
        try:
            super().wait_ready(limit_s)
        except NotReady as error:
            raise error if self.running() else self._exited() from None

    def run_to_end(self, limit_s: float) -> None:
        """Start it and wait until it ends by itself. Raises NotReady if it fails or takes longer than the limit."""
        self.start()
        assert self._child is not None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self._child.wait(limit_s) == 0:
                    return
            if self.running():
                raise not_ready(self, f"still running after {limit_s:g} s", None, "read its last output above")
            raise self._exited()
        finally:
            self.stop()

    def probe(self, limit_s: float) -> str:
        del limit_s
        assert isinstance(self._settings, ProcessSettings)
        if self._settings.ready_output not in self._output(LOG_LIMIT_BYTES):
            raise NotYet(f"no line of its output contains {self._settings.ready_output!r}")
        return ""

    def running(self) -> bool:
        # Keep only the end of a log that has grown too long. The process appends to it at the new end.
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > LOG_LIMIT_BYTES:
                tail = self._log.read_bytes()[-LOG_TAIL_BYTES:]
                with self._log.open("r+b") as log:
                    log.write(tail)
                    log.truncate()
        return super().running()

    def log_tail(self, lines: int = 40) -> str:
        return super().log_tail(lines)

    def kill(self) -> None:
        self._end(signal.SIGKILL, KILL_LIMIT_S)

    def stop(self) -> None:
        if self._child is None:
            return
        self._end(signal.SIGTERM, TERM_LIMIT_S)
        self._end(signal.SIGKILL, KILL_LIMIT_S)
        self.run.forget(f"process {self._child.pid}")

    def _processes(self) -> list[psutil.Process]:
        """Return its processes, with descendants that left the group or lost their parent once they have been seen."""
        if self._child is None:
            return []
        found = {process.pid: process for process in [*super()._processes(), *self._seen]}
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getpgid(pid) == self._child.pid:
                    found.setdefault(pid, psutil.Process(pid))
        self._seen = [process for process in found.values() if is_running(process)]
        return self._seen

    def _end(self, number: signal.Signals, limit_s: float) -> None:
        """Signal the whole tree, paused or not, and wait until all of it has ended."""
        deadline_s = time.monotonic() + limit_s
        signalled: list[psutil.Process] = []
        # Listed again and again: one may have been just about to start another.
        while (processes := self._processes()) and time.monotonic() < deadline_s:
            new = [process for process in processes if process not in signalled]
            signal_all(new, number)
            signal_all(new, signal.SIGCONT)
            signalled += new
            time.sleep(0.01)

    def _command(self) -> list[str]:
        assert isinstance(self._settings, ProcessSettings)
        first, *rest = self._settings.command
        return [sys.executable if first == "python" else first, *rest]

    def _exited(self, advice: str = "") -> NotReady:
        headline = f"{self.state()}, {time.monotonic() - self._started_s:.1f} s after its start"
        by_hand = f"read its last output above, or run it by hand: {shlex.join(self._command())}"
        return not_ready(self, headline, None, advice or by_hand)

    def _output(self, limit_bytes: int) -> str:
        return self._scrub(super()._output(limit_bytes))


class Application(Process):
    """An ASGI application with its lifespan, served by uvicorn on a port of loopback."""

    _settings: AppSettings
    _in_root = True  # as when started by hand, so that it finds its .env and its templates
    _tries_left = PORT_TRIES

    def start(self) -> None:
        self.address = Address("http", HOST, self.address.port or self._settings.port)
        port = _free_port(self.address.port)
        if not port:
            raise self._port_taken()
        self.address = replace(self.address, port=port)
        super().start()

    def wait_ready(self, limit_s: float) -> None:
        deadline_s = time.monotonic() + limit_s
        while True:
            try:
                super().wait_ready(max(0.0, deadline_s - time.monotonic()))
            except NotReady:
                # Another process took the port after we had found it free.
                fixed = self._settings.port or not self._tries_left
                if fixed or self.running() or not self._could_not_bind():
                    raise
                self._tries_left -= 1
                self.stop()
                self.address = NO_ADDRESS
                self.start()
            else:
                self._tries_left = 0  # from now on others know the address, and it stays
                return

    def probe(self, limit_s: float) -> str:
        probe_http(f"{self.address.url}/{self._settings.health_path.removeprefix('/')}", limit_s)
        try:
            found = [one for process in self._processes() for one in process.net_connections("tcp")]
            ours = any(_listens_on(self.address.port, one) for one in found)
        except psutil.Error as error:
            ours = isinstance(error, psutil.AccessDenied)  # then it cannot be seen
        if not ours:
            raise NotYet(f"another process answers on port {self.address.port}")
        return ""

    def advice(self, error: BaseException) -> str:
        if isinstance(error, BadStatus) and error.status == 404:
            return f"there is no route {self._settings.health_path}: set health_path of [app] in settings.toml to one"
        return super().advice(error)

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "uvicorn", self._settings.asgi, "--app-dir", str(self._directory)]
        command += ["--host", HOST, "--port", str(self.address.port)]
        # One worker, whatever WEB_CONCURRENCY says.
        command += ["--workers", "1", "--timeout-keep-alive", str(KEEP_ALIVE_S), "--log-level", "warning"]
        return [*command, "--factory"] if self._settings.factory else command

    def _could_not_bind(self) -> bool:
        return f"attempting to bind on address {(HOST, self.address.port)}" in self._output(LOG_TAIL_BYTES)

    def _port_taken(self) -> NotReady:
        owner = "another process"
        with contextlib.suppress(psutil.Error):
            for connection in psutil.net_connections("tcp"):
                if connection.pid and _listens_on(self.address.port, connection):
                    owner = f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
        headline = f"port {self.address.port} is taken by {owner}"
        advice = "end that process, or set port = 0 in [app] of settings.toml for a free port"
        return not_ready(self, headline, None, advice)

    def _exited(self, advice: str = "") -> NotReady:
        if self._could_not_bind():
            return self._port_taken()
        causes = {
            "No module named uvicorn": "add uvicorn to tests/performance/requirements.txt",
            "Error loading ASGI app": "check `asgi` and `directory` of [app] in settings.toml: "
            f"asgi is {self._settings.asgi!r}",
            "Application startup failed": "its lifespan failed: read its last output above",
        }
        output = self._output(LOG_TAIL_BYTES)
        return super()._exited(next((causes[text] for text in causes if text in output), advice))


def _free_port(wanted: int) -> int:
    """Return the port if it is free, any free one for 0, or else 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
        try:
            probe.bind((HOST, wanted))
        except OSError:
            return 0
        return int(probe.getsockname()[1])


def _listens_on(port: int, connection: Any) -> bool:
    return bool(connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,))
