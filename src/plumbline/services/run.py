"""What exists on behalf of one run: its id, its directory, its reaper, and the record that the next start reads."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from plumbline import held
from plumbline.cache import state_folder
from plumbline.folders import closed_to_others, make_folder, temporary_folders
from plumbline.processes import CLEANING_LIMIT_S, CLEANING_MODULE, WATCHED, host_name, identity
from plumbline.services.errors import NotReady, ServiceError
from plumbline.services.reaper import LOCK, MAKING, RUN_VARIABLE, Thing, remove, remove_all, remove_record
from plumbline.settings import URL_VARIABLES

MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108
MEMORY_NEEDED_BYTES = 1 << 30

# From a child's name, its command and its environment to the environment that it gets.
ChildEnviron = Callable[[str, Sequence[str], Mapping[str, str]], Mapping[str, str]]


class ServiceRun:
    """Registers each thing with the reaper as soon as it is made.

    The record on disk holds no secret; the reaper learns URLs over its pipe alone.
    """

    def __init__(
        self, environ: Mapping[str, str] = os.environ, child_environ: ChildEnviron = lambda _, __, environ: environ
    ) -> None:
        self.id = secrets.token_hex(4)
        self.key_prefix = f"perf:{self.id}:"  # of each Redis key of this run
        self.directory = _roomy_folder() / f"plumbline-{self.id}"
        self.environ = {RUN_VARIABLE: self.id}  # for every child, so that it can be found again
        self.child_environ = child_environ  # for the code under test, which the worker of a comparison traces
        self._watched = [int(pid) for pid in environ.get(WATCHED, "").split(",") if pid.strip().isdigit()]
        self._record = _records() / f"{self.id}.json"
        self._things: dict[str, Thing] = {}
        self._lock = threading.Lock()
        self._reaper: subprocess.Popen[str] | None = None
        self._lock_file = self._record.with_suffix(LOCK)  # shows other runs that this one lives

    def begin(self) -> None:
        """Make the directory and start the reaper."""
        self._record.parent.mkdir(parents=True, exist_ok=True)
        descriptors = []
        try:
            descriptors = [held.hold(self._lock_file)]
        except OSError:  # without a lock, no other run touches what this one leaves
            self._lock_file.unlink(missing_ok=True)
        self._write_record()
        # Not part of any run, as it must outlive its own, and quick to start: without `site`.
        left_out = {RUN_VARIABLE, *URL_VARIABLES.values()}
        environ = {key: text for key, text in os.environ.items() if key not in left_out and key[:6] != "PYTHON"}
        library = Path(os.__file__).parent  # first: a module of the user's may have the name of one of Python's own
        path = [library, library / "lib-dynload", *(Path(entry).resolve() for entry in sys.path if entry)]
        environ["PYTHONPATH"] = os.pathsep.join(map(str, path))
        try:
            self._reaper = subprocess.Popen(
                [sys.executable, "-S", "-P", "-m", CLEANING_MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=Path(sys.executable).anchor,
                env=environ,
                start_new_session=True,
                pass_fds=descriptors,
            )
        except OSError as error:
            raise NotReady(
                f"the process that removes what a run leaves can't be started: {error.strerror}\n"
                "  next        raise the limits of this user: `ulimit -a` shows them"
            ) from None
        watched = [identity(pid) for pid in self._watched]
        self._send({"run": self.id, "owner": identity(os.getpid()), "watched": watched, "record": str(self._record)})
        self.add_directory(self.directory)
        # Root's PostgreSQL runs as another user, who must get to the data directory.
        make_folder(self.directory, 0o711 if os.getuid() == 0 else 0o700)

    def end(self) -> None:
        """Remove the directory, let the reaper remove what else is left, and wait for it. May be called again."""
        for key in [key for key, thing in self._things.items() if thing["kind"] == "directory"]:
            self.remove(key)
        if self._reaper is not None:
            assert self._reaper.stdin is not None
            self._send(None)
            with contextlib.suppress(OSError):
                self._reaper.stdin.close()
            try:
                self._reaper.wait(CLEANING_LIMIT_S)
            except subprocess.TimeoutExpired:
                return
            self._reaper = None
        if not self._things:
            remove_record(self._record)  # the reaper had been killed, or had not yet been started
        held.release(self._lock_file)

    def add_directory(self, path: Path) -> None:
        self.add(f"directory {path}", {"kind": "directory", "path": str(path)})

    def add(self, key: str, thing: Thing | None) -> None:
        """Register something to remove; None: it has been removed. The `url` of a thing may hold a password."""
        with self._lock:
            self._things.pop(key, None)
            self._things |= {key: thing} if thing else {}
            self._write_record()
            self._send({"key": key, "thing": thing})

    def forget(self, key: str) -> None:
        self.add(key, None)

    def remove(self, key: str) -> None:
        """Remove something that is no process. If that fails, the reaper tries again, and then the next start."""
        with contextlib.suppress(Exception):
            remove(self.id, self._things[key])
            self.forget(key)

    def _send(self, message: object) -> None:
        # If the reaper has been killed, there is still the record.
        if self._reaper is not None and self._reaper.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._reaper.stdin.write(json.dumps(message) + "\n")
                self._reaper.stdin.flush()

    def _write_record(self) -> None:
        record = {
            "run": self.id,
            "host": host_name(),
            "owner": os.getpid(),  # for people: whether it lives is shown by the lock
            "things": [{**thing, "url": None} for thing in self._things.values()],
        }
        # If the disk is full, the reaper still knows it.
        with contextlib.suppress(OSError):
            making = self._record.with_suffix(MAKING)
            making.write_text(json.dumps(record), encoding="utf-8")
            making.replace(self._record)


def sweep(external_urls: Mapping[str, str]) -> list[str]:
    """Remove what dead runs of this user left on this machine and return one line for each run.

    A run is left alone while it or its reaper holds its lock, and if that is unknown. What it left on an external
    server is removed when that server is in use again: `external_urls` maps the server's name in the record to its URL.
    """
    swept = []
    for path in sorted(_records().glob("*.json")):
        # A record may have been cut short, or has gone.
        broken = contextlib.suppress(OSError, ValueError, KeyError, TypeError)
        with broken, held.unless_held(path.with_suffix(LOCK)) as is_dead:
            record = json.loads(path.read_text(encoding="utf-8"))
            if not is_dead or record["host"] != host_name():
                continue
            for thing in record["things"]:
                thing["url"] = external_urls.get(thing.get("server", ""))
            known = [thing for thing in record["things"] if thing["url"] or "server" not in thing]
            left = [thing for thing in record["things"] if thing not in known]
            left += remove_all(record["run"], known)
            if known or not left:
                swept.append(f"swept up after run {record['run']}, which had been killed")
            if left:
                path.write_text(json.dumps({**record, "things": [{**thing, "url": None} for thing in left]}), "utf-8")
            else:
                remove_record(path)
    return swept


def _records() -> Path:
    try:
        return state_folder() / "runs"
    except OSError as error:
        raise ServiceError(str(error)) from None


def _roomy_folder() -> Path:
    """Return a folder in memory if there is room, so that no disk disturbs the figures; else a temporary one.

    For root it is one that other users can pass through, if there is one: root's PostgreSQL runs as another user.
    """
    with contextlib.suppress(OSError):
        if os.access(MEMORY_FOLDER, os.W_OK) and shutil.disk_usage(MEMORY_FOLDER).free >= MEMORY_NEEDED_BYTES:
            return MEMORY_FOLDER
    try:
        folders = temporary_folders()
    except OSError as error:
        raise ServiceError(str(error)) from None
    return next((one for one in folders if os.getuid() != 0 or not closed_to_others(one)), folders[0])
