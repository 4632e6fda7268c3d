"""The code under test: the application with its HTTP server, and the commands beside it, each in its own process."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from plumbline.processes import printable
from plumbline.project import SETTINGS, SUITE
from plumbline.services.address import Address
from plumbline.services.base import HOST, LOG_TAIL_BYTES, LocalService, not_ready
from plumbline.services.clients import BadStatus, NotYet, probe_http
from plumbline.services.errors import NotReady
from plumbline.services.guard import Guard
from plumbline.services.run import ServiceRun
from plumbline.services.serving import advice_at_exit, command_of, last_own_line, listening_on, says_port_taken
from plumbline.settings import AppSettings, ProcessSettings

LOG_LIMIT_BYTES = 8 << 20
POLL_S = 0.003
PREPARE = "prepare"  # the name of its processes


class Process(LocalService):
    """A command beside the application, such as a worker. It is ready when its output contains `ready_output`.

    `environment` changes this process's environment; None removes a variable. `scrub` hides passwords in the
    output. `guard` checks the servers that the command connects to.
    """

    stops_children = False

    def __init__(
        self,
        name: str,
        settings: ProcessSettings | AppSettings,
        root: Path,
        environment: Mapping[str, str | None],
        run: ServiceRun,
        scrub: Callable[[str], str] = str,
        guard: Guard | None = None,
        python: Path | None = None,
    ) -> None:
        super().__init__(name, "process", "named in settings.toml", Address("", "", 0), run)
        is_app = isinstance(settings, AppSettings)
        table = "app" if is_app else f"processes.{name}"
        self.advice_at_limit = f"read its last output above, or raise ready_limit_s of [{table}] in settings.toml"
        self._place = "`prepare`" if name == PREPARE else f"[{table}]"  # of its settings
        self._settings = settings
        self._python = python or Path(sys.executable)
        self._root = root
        self._directory = root / settings.directory
        # Users start the application in the repository's root: it finds its .env and its templates there.
        self._works_in = root if is_app else self._directory
        self._scrub = scrub
        self._guard = guard
        self._set_environment(environment)
        self._started_s = 0.0

    def _set_environment(self, environment: Mapping[str, str | None]) -> None:
        self._kept = {key: text for key, text in environment.items() if text is not None and key != "PYTHONPATH"}
        changed = {**os.environ, **environment}
        self._environ = {name: value for name, value in changed.items() if value is not None}
        # Explicitly: with `-P` or PYTHONSAFEPATH, Python does not import from the current folder.
        python_path = filter(None, [str(self._directory), str(self._root), self._environ.get("PYTHONPATH")])
        self._environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(python_path))
        path = [str(self._python.parent), self._environ.get("PATH", os.defpath)]
        self._environ["PATH"] = os.pathsep.join(path)
        # Output to a file is buffered by default, and the line that means "ready" would come late.
        self._environ.setdefault("PYTHONUNBUFFERED", "1")

    def start(self) -> None:
        if not self._directory.is_dir():
            advice = "correct `directory` in settings.toml: it is relative to the repository's root"
            raise not_ready(self, f"there is no folder {self._settings.directory!r}", None, advice)
        program, *arguments = self._command()
        found = shutil.which(program, path=self._environ["PATH"])
        command = [found or program, *arguments]  # whole: a trace of this process names the program
        environ = self._guard.environ(self.name, self._environ, self._kept) if self._guard else self._environ
        self._started_s = time.monotonic()
        try:
            self.spawn(command, environ=self.run.child_environ(self.name, command, environ), cwd=self._works_in)
        except OSError as error:
            advice = f"correct {self._place} in {SUITE}/{SETTINGS}"
            advice += "" if found else f": there is no program {program} beside {self._python}, nor on PATH"
            raise not_ready(self, f"{program} can't be started", error, advice) from None

    def wait_ready(self, limit_s: float) -> None:
        try:
            super().wait_ready(limit_s)
        except NotReady as error:
            raise error if self.running() else self._exited() from None

    def run_to_end(self, limit_s: float) -> set[str]:
        """Run the command to its end and return the names of the run's servers that it connected to.

        Raises NotReady if it fails, takes longer than the limit, or connects to another Redis or PostgreSQL.
        """
        if self._guard:
            self._guard.check_program(self.name, self._command(), self._environ)
        self.start()
        assert self._child is not None
        touched, deadline_s = set[str](), self._started_s + limit_s
        try:
            while self.running() and (began_s := time.monotonic()) < deadline_s:
                touched |= self.check_connections()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._child.wait(max(POLL_S, time.monotonic() - began_s))
            touched |= self.check_connections()
            if self.running():
                headline = f"still running after {limit_s:g} s: {shlex.join(self._command())}"
                advice = "read its last output above, or raise prepare_limit_s in settings.toml"
                raise not_ready(self, headline, None, advice)
            if self._child.returncode:
                raise self._exited()
            return touched
        finally:
            self.stop()

    def check_connections(self) -> set[str]:
        """Return the names of the run's servers that it connected to. Raises NotReady for any other server."""
        return self._guard.check(self.name, self.pids()) if self._guard else set()

    def record_connections(self, pids: Sequence[int]) -> None:
        """Record the open connections of these processes for `check_connections`."""
        if self._guard:
            self._guard.record(self.name, pids)

    def answer(self, limit_s: float) -> None:
        """Do nothing: the port of a command is unknown. `liveness_error` checks its state."""

    def output_end(self) -> int:
        """Return how many bytes it has written since its last start."""
        with contextlib.suppress(OSError):
            return self._log.stat().st_size
        return 0

    def output_after(self, begin: int, most_bytes: int = LOG_TAIL_BYTES) -> str:
        """Return the last lines of the output after its first `begin` bytes, without passwords."""
        written = self.output_end() - begin
        if written < 0:  # restarted, with a new log
            written += begin
        text = self._output(min(written, most_bytes))
        return self.redact(text if written <= most_bytes else text.partition("\n")[2])

    def probe(self, limit_s: float) -> str:
        del limit_s
        assert isinstance(self._settings, ProcessSettings)
        if self._settings.ready_output not in printable(self._output(LOG_LIMIT_BYTES)):
            raise NotYet(f"no line of its output contains {self._settings.ready_output!r}")
        return ""

    def running(self) -> bool:
        # Keep the end of a log that has grown too long. The process appends at the new end.
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > LOG_LIMIT_BYTES:
                tail = self._log.read_bytes()[-LOG_TAIL_BYTES:]
                with self._log.open("r+b") as log:
                    log.write(tail)
                    log.truncate()
        return super().running()

    def _command(self) -> list[str]:
        assert isinstance(self._settings, ProcessSettings)
        first, *rest = self._settings.command
        is_ours = " ".join(rest).startswith("-m plumbline.")  # the application's Python may lack it
        python = sys.executable if is_ours else str(self._python)
        return [python if first == "python" else first, *rest]

    def _exited(self, advice: str = "") -> NotReady:
        headline = f"{self.state()}, {time.monotonic() - self._started_s:.1f} s after its start"
        return not_ready(self, headline, None, advice or self._correction())

    def _correction(self) -> str:
        """Return what to change in which file, and how to repeat this start."""
        line = last_own_line(self._output(LOG_TAIL_BYTES), self._root)
        places = f"{self._place} or [env] in {SUITE}/{SETTINGS}"
        return f"correct {f'{line}, or ' if line else ''}{places}; or run it by hand {self._by_hand()}"

    def _by_hand(self) -> str:
        """Return the folder, the variables and the command that a user needs to repeat this start."""
        variables = " with the variables of [env]" if self._kept else ""
        return f"in {self._works_in}{variables}: {shlex.join(self._command())}"

    def redact(self, text: str) -> str:
        return self._scrub(text)


class Application(Process):
    """The application and its HTTP server, on a loopback port."""

    _settings: AppSettings

    def __init__(
        self,
        name: str,
        settings: AppSettings,
        root: Path,
        environment: Mapping[str, str | None],
        run: ServiceRun,
        *others: Any,
    ) -> None:
        super().__init__(name, settings, root, environment, run, *others)
        #: Returns variables that may name its own address, which is known at its start only.
        self.env_at: Callable[[Address], Mapping[str, str | None]] = lambda _: {}
        self._common = environment

    def start(self) -> None:
        self.address = Address("http", HOST, self.address.port or self._settings.port)
        try:
            self.take_port()
        except OSError:
            raise self._port_taken() from None
        if self._settings.command:  # perhaps without SO_REUSEADDR
            self.release_port()
        self._set_environment({**self._common, **self.env_at(self.address)})
        super().start()

    def lost_port(self) -> bool:
        return says_port_taken(self._output(LOG_TAIL_BYTES), self.address.port)

    def probe(self, limit_s: float) -> str:
        try:
            probe_http(f"{self.address.url}/{self._settings.health_path.removeprefix('/')}", limit_s)
        except Exception:
            self._check_port()
            raise
        try:
            ours = self.address.port in self._ports()
        except psutil.Error as error:
            ours = isinstance(error, psutil.AccessDenied)  # this user may not look: assume so
        if not ours:
            raise NotYet(f"another process answers on port {self.address.port}")
        return ""

    def _check_port(self) -> None:
        """Raise NotYet if its command listens on other ports only."""
        ports = set[int]()
        with contextlib.suppress(psutil.Error):
            ports = self._ports()
        if self._settings.command and ports and self.address.port not in ports:
            found = ", ".join(map(str, sorted(ports)))
            raise NotYet(f"it listens on port {found}, not on {self.address.port}: give `command` of [app] {{port}}")

    def _ports(self) -> set[int]:
        """Return the ports on which its processes listen. Raises psutil.Error."""
        found = [one for process in self._processes() for one in process.net_connections("tcp")]
        return {one.laddr[1] for one in found if one.status == psutil.CONN_LISTEN}

    def answer(self, limit_s: float) -> None:
        self.probe(limit_s)

    def advice(self, error: BaseException) -> str:
        path = self._settings.health_path
        if isinstance(error, BadStatus) and error.status == 404:
            return f"there is no route {path}: correct health_path of [app] in settings.toml"
        if isinstance(error, BadStatus) and error.status == 400:
            return f"GET {path} must answer 200, also for the host {HOST}: for Django, add it to ALLOWED_HOSTS"
        return super().advice(error)

    def _command(self) -> list[str]:
        return command_of(self._settings, self._python, self._directory, self.address)

    def _port_taken(self) -> NotReady:
        owner = "another process"
        with contextlib.suppress(psutil.Error):
            for connection in listening_on(self.address.port):
                if connection.pid:
                    owner = f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
        headline = f"port {self.address.port} is taken by {owner}"
        advice = "end that process, or set port = 0 in [app] of settings.toml for a free port"
        return not_ready(self, headline, None, advice)

    def _exited(self, advice: str = "") -> NotReady:
        if self.lost_port():
            return self._port_taken()
        found = advice_at_exit(self._settings, self._output(LOG_TAIL_BYTES), self._advice_to_add)
        if not found and self._child is not None and self._child.returncode == 0:
            found = "it ended without an error: run the server in the foreground, without an option such as --daemon"
        return super()._exited(found or advice)

    def _advice_to_add(self, package: str) -> str:
        if self._settings.environment == "own":
            return f"add {package} to the dependencies of your project"
        if self._python != Path(sys.executable):
            return f"install {package} for {self._python}"
        return f"add {package} to tests/performance/requirements.txt"
