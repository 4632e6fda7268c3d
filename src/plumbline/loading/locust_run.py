"""Locust's processes for one side of a load test.

Locust is never imported in this process, because gevent patches the standard library.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

from plumbline.load_settings import LoadSettings
from plumbline.loading.plan import Window
from plumbline.loading.rows import RequestRow, Rows, merged
from plumbline.processes import last_lines, printable, set_affinity, signal_all, tree
from plumbline.services.base import reserve_port

IN_LOCUST = Path(__file__).with_name("in_locust")
MODULES = [IN_LOCUST / f"plumbline_{name}.py" for name in ("conductor", "open_loop")]
FOLDER = "PLUMBLINE_LOAD"
CONNECT_LIMIT_S = 60.0  # for Locust's workers on other machines
START_LIMIT_S = 60.0
END_LIMIT_S = 30.0  # beyond the last arrival and the time for its answer
QUIT_LIMIT_S = 10.0
POLL_S = 0.05
LOG_LINES = 12
GAVE_UP = "Gave up waiting for workers"  # Locust's message


class LoadInvalid(Exception):
    """The load could not be put on the application as planned: nothing is known about it."""


class LocustRun:
    """Locust for one side. Methods raise LoadInvalid with Locust's last output if it ends early."""

    def __init__(
        self,
        side: str,
        url: str,
        settings: LoadSettings,
        windows: Sequence[Window],
        *,
        locustfile: Path,
        root: Path,
        folder: Path,
        environ: Mapping[str, str],
        processes: int,
        hosts: Sequence[str] = (),
        workers_at: tuple[str, int] | None = None,
        workers: int = 0,
        scrub: Callable[[str], str] = str,
    ) -> None:
        """Start Locust.

        `folder`: a new one for this side. `hosts`: those that the locustfile may use, besides this machine.
        `workers_at`: where `workers` from elsewhere connect, as host and port.
        """
        self._side, self._folder, self._settings, self._scrub = side, folder, settings, scrub
        self._end_s = max(window.end_s for window in windows)
        users = settings.number_of_users
        plan = {
            "users": users,
            "windows": [[one.begin_s, one.end_s, one.rate_per_s, one.seed] for one in windows if one.side == side],
            "answer_limit_s": settings.answer_limit_s,
            "hosts": hosts,
        }
        self._held = contextlib.ExitStack()
        (folder / "plan.json").write_text(json.dumps(plan), "utf-8")
        self._log = folder / "locust.log"
        # Locust splits the option at commas, which the path of the repository may have.
        files = ",".join(os.path.relpath(one, root) for one in (locustfile, *MODULES))
        command = [sys.executable, str(IN_LOCUST / "plumbline_start.py"), "-f", files, "--headless", "--only-summary"]
        command += ["-u", str(users), "-r", str(min(users, 100)), "--loglevel", "WARNING"]
        command += ["--exit-code-on-error", "0"]
        if workers_at:
            host, port = workers_at
            command += ["--master", "--master-bind-host", host, "--master-bind-port", str(port)]
            command += ["--expect-workers", str(workers), "--expect-workers-max-wait", f"{CONNECT_LIMIT_S:.0f}"]
        elif processes > 1:  # with a master for each side, which need two ports
            self._held.enter_context(reserved := reserve_port(0))
            host, number = reserved.getsockname()
            command += ["--processes", str(processes), "--master-bind-host", host, "--master-bind-port", str(number)]
            command += ["--master-host", host, "--master-port", str(number)]
        self._start_limit_s = START_LIMIT_S + (CONNECT_LIMIT_S if workers_at else 0)
        self._few = f"fewer than {workers} Locust workers connected within {CONNECT_LIMIT_S:.0f} s"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=root,
                # A command line is visible to all users, and the URL may hold a password. If a locustfile has no
                # users, Locust gives it to pytest, whose plugins do not expect that.
                env={
                    **environ,
                    FOLDER: str(folder),
                    "LOCUST_HOST": url,
                    "PYTHONUNBUFFERED": "1",
                    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()
        if self._process.poll() is None:
            self._process.terminate()
            processes = tree(self._process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(QUIT_LIMIT_S)
            signal_all(processes, signal.SIGKILL)
            self._process.wait()

    def wait_ready(self) -> None:
        """Wait until all users have started."""
        self._wait("ready", self._start_limit_s, "its users did not become ready")

    def pin(self, cores: Sequence[int]) -> None:
        """Run on these cores only."""
        set_affinity([process.pid for process in tree(self._process.pid)], cores)

    def begin(self, at_s: float) -> None:
        """Begin at this time of `time.time`."""
        making = self._folder / "going"
        making.write_text(json.dumps(at_s), "ascii")
        making.rename(self._folder / "go")

    def rows(self) -> Rows:
        """Wait until the load is over, and return what was recorded."""
        limit_s = self._end_s + self._settings.answer_limit_s + END_LIMIT_S
        self._wait("end", limit_s, "it did not end")
        if problem := (self._folder / "end").read_text("utf-8"):
            raise self._invalid(problem)
        decoder = msgspec.json.Decoder(Rows)
        parts = []
        for line in (self._folder / "rows.jsonl").read_bytes().splitlines():
            try:
                parts.append(decoder.decode(line))
            except msgspec.DecodeError as error:  # such as a response time that is no number
                raise self._invalid(f"what it recorded can't be used: {error}") from None
        found = merged(parts, self._settings.late_ms)
        found.requests[:] = [self._scrubbed(row) if row.error else row for row in found.requests]
        return found

    def _scrubbed(self, row: RequestRow) -> RequestRow:
        return msgspec.structs.replace(row, error=self._scrub(row.error))

    def _wait(self, file: str, limit_s: float, problem: str) -> None:
        deadline_s = time.monotonic() + limit_s
        while not (self._folder / file).exists():
            if (self._folder / "end").exists():
                raise self._invalid((self._folder / "end").read_text("utf-8"))
            if (code := self._process.poll()) is not None and not (self._folder / file).exists():
                raise self._invalid(f"Locust ended with exit code {code}")
            if time.monotonic() > deadline_s:
                raise self._invalid(f"{problem} within {limit_s:.0f} s")
            time.sleep(POLL_S)

    def _invalid(self, problem: str) -> LoadInvalid:
        with contextlib.suppress(OSError):
            output = printable(self._log.read_text("utf-8", errors="replace"))
            problem = self._few if GAVE_UP in output else problem
            problem = f"{problem}\n{last_lines(output, LOG_LINES)}".rstrip()
        return LoadInvalid(self._scrub(f"the load on {self._side} failed: {problem}"))
