"""The id, the directory and the reaper of a run, and the record that lets the next run clean up after it."""

import contextlib
import json
import os
import secrets
import shutil
import signal
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
from plumbline.services.reaper import IGNORED, LOCK, MAKING, RUN_VARIABLE, Resource, remove, remove_all, remove_record
from plumbline.settings import URL_VARIABLES

MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108
MEMORY_NEEDED_BYTES = 1 << 30

# Takes a child's name, command and environment, and returns the environment for it.
ChildEnviron = Callable[[str, Sequence[str], Mapping[str, str]], Mapping[str, str]]


class ServiceRun:
    """Registers with the reaper each resource that must be removed at the end.

    The record on disk holds no secrets: URLs are sent to the reaper over its pipe only.
    """

    def __init__(
        self, environ: Mapping[str, str] = os.environ, child_environ: ChildEnviron = lambda _, __, environ: environ
    ) -> None:
        self.id = secrets.token_hex(4)
        self.key_prefix = f"perf:{self.id}:"  # of every Redis key of this run
        self.directory = _roomy_folder() / f"plumbline-{self.id}"
        self.probes = self.directory / "probes"  # for the sockets of the processes of the code under test
        self.environ = {RUN_VARIABLE: self.id}  # of every child, so that the reaper finds it
        self.child_environ = child_environ  # of the code under test: a worker of a comparison traces it
        self._watched = [int(pid) for pid in environ.get(WATCHED, "").split(",") if pid.strip().isdigit()]
        self._record = _records() / f"{self.id}.json"
        self._resources: dict[str, Resource] = {}
        self._lock = threading.Lock()
        self._reaper: subprocess.Popen[str] | None = None
        self._lock_file = self._record.with_suffix(LOCK)  # held while this run is alive

    def begin(self) -> None:
        """Make the directory and start the reaper."""
        self._record.parent.mkdir(parents=True, exist_ok=True)
        descriptors = []
        try:
            descriptors = [held.hold(self._lock_file)]
        except OSError:  # without a lock, no other run cleans up after this one
            self._lock_file.unlink(missing_ok=True)
        self._write_record()
        # Outside of the run, because it must outlive it. `-S` (without `site`) makes it start faster.
        left_out = {RUN_VARIABLE, *URL_VARIABLES.values()}
        environ = {key: text for key, text in os.environ.items() if key not in left_out and key[:6] != "PYTHON"}
        library = Path(os.__file__).parent  # first: a user's module may have the name of a standard one
        path = [library, library / "lib-dynload", *(Path(entry).resolve() for entry in sys.path if entry)]
        environ["PYTHONPATH"] = os.pathsep.join(map(str, path))
        # It inherits the mask: it could not ignore signals before it has imported its modules.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
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
                f"the clean-up process can't be started: {error.strerror}\n"
                "  next        raise the limits of this user: `ulimit -a` shows them"
            ) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        watched = [identity(pid) for pid in self._watched]
        self._send({"run": self.id, "owner": identity(os.getpid()), "watched": watched, "record": str(self._record)})
        self.add_directory(self.directory)
        # For root, PostgreSQL runs as another user, who must be able to enter.
        make_folder(self.directory, 0o711 if os.getuid() == 0 else 0o700)
        self.probes.mkdir(0o700)

    def end(self) -> None:
        """Remove the directory and wait until the reaper has removed the rest. May be called again."""
        for key in [key for key, resource in self._resources.items() if resource["kind"] == "directory"]:
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
        if not self._resources:
            remove_record(self._record)  # the reaper was killed, or never started
        held.release(self._lock_file)

    def add_directory(self, path: Path) -> None:
        self.add(f"directory {path}", {"kind": "directory", "path": str(path)})

    def add(self, key: str, resource: Resource | None) -> None:
        """Register a resource to remove, or None if it has been removed. Its `url` may hold a password."""
        with self._lock:
            self._resources.pop(key, None)
            self._resources |= {key: resource} if resource else {}
            self._write_record()
            self._send({"key": key, "thing": resource})

    def forget(self, key: str) -> None:
        self.add(key, None)

    def remove(self, key: str) -> None:
        """Remove a resource that is not a process. After a failure, the reaper and the next run try again."""
        with contextlib.suppress(Exception):
            remove(self.id, self._resources[key])
            self.forget(key)

    def _send(self, message: object) -> None:
        # If the reaper was killed, the record remains.
        if self._reaper is not None and self._reaper.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._reaper.stdin.write(json.dumps(message) + "\n")
                self._reaper.stdin.flush()

    def _write_record(self) -> None:
        record = {
            "run": self.id,
            "host": host_name(),
            "owner": os.getpid(),  # for people: the lock shows whether the run is alive
            "things": [{**resource, "url": None} for resource in self._resources.values()],
        }
        # If the disk is full, the reaper still has the list.
        with contextlib.suppress(OSError):
            making = self._record.with_suffix(MAKING)
            making.write_text(json.dumps(record), encoding="utf-8")
            making.replace(self._record)


def sweep(external_urls: Mapping[str, str]) -> list[str]:
    """Remove the resources of killed runs of this user on this machine, and return one line per run.

    A run is skipped if its lock is held by the run or its reaper, or cannot be checked. Resources on an external
    server are removed when a run uses that server again: `external_urls` maps its name in the record to its URL.
    """
    swept = []
    for path in sorted(_records().glob("*.json")):
        # The record may be incomplete or missing.
        broken = contextlib.suppress(OSError, ValueError, KeyError, TypeError)
        with broken, held.unless_held(path.with_suffix(LOCK)) as is_dead:
            record = json.loads(path.read_text(encoding="utf-8"))
            if not is_dead or record["host"] != host_name():
                continue
            for resource in record["things"]:
                resource["url"] = external_urls.get(resource.get("server", ""))
            known = [resource for resource in record["things"] if resource["url"] or "server" not in resource]
            left = [resource for resource in record["things"] if resource not in known]
            left += remove_all(record["run"], known)
            if known or not left:
                swept.append(f"cleaned up after run {record['run']}, which was killed")
            if left:
                path.write_text(
                    json.dumps({**record, "things": [{**resource, "url": None} for resource in left]}), "utf-8"
                )
            else:
                remove_record(path)
    return swept


def _records() -> Path:
    try:
        return state_folder() / "runs"
    except OSError as error:
        raise ServiceError(str(error)) from None


def _roomy_folder() -> Path:
    """Return a folder in memory, so that no disk disturbs the timings, or a temporary one if memory is short.

    For root, prefer a folder that other users can enter: root's PostgreSQL runs as another user.
    """
    with contextlib.suppress(OSError):
        if os.access(MEMORY_FOLDER, os.W_OK) and shutil.disk_usage(MEMORY_FOLDER).free >= MEMORY_NEEDED_BYTES:
            return MEMORY_FOLDER
    try:
        folders = temporary_folders()
    except OSError as error:
        raise ServiceError(str(error)) from None
    return next((one for one in folders if os.getuid() != 0 or not closed_to_others(one)), folders[0])
