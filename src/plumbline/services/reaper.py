"""The reaper: a program that removes what a run leaves behind, even if the run is killed.

The run starts it in a new session and sends it JSON lines over a pipe. The first line describes the run. Each later
line adds or withdraws a resource to remove. When the pipe closes or the run's process ends, the reaper removes the
remaining resources and exits. If a process that started the run ends first, the reaper ends the run.
"""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from plumbline.processes import alive, end_all, tree

LABEL = "plumbline.run"
RUN_VARIABLE = "PLUMBLINE_RUN"
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOCK, MAKING = ".lock", ".making"  # suffixes of files beside a run's record
# The time for a run to end by itself after its starter has died. Everything must be gone within 5 s.
TERM_LIMIT_S = 3.0
POLL_S = 0.5
DRAIN_LIMIT_S = 0.5
INTERRUPT_LIMIT_S = 1.0
CLIENT_LIMIT_S = 3
SQL_LIMIT_S = 6.0
KEYS_AT_ONCE = 1000

# {"kind": "process" | "directory" | "containers" | "redis" | "database" | "schema", …}; see `remove`.
Resource = dict[str, Any]


def main() -> None:
    """Read the pipe until the run is over, then remove what is left."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    header = json.loads(sys.stdin.readline())
    owner = header["owner"]
    resources: dict[str, Resource] = {}
    over = threading.Event()  # set when the pipe is closed or the run's process has ended

    def read() -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if message is None:  # the run is over, but a child that it forked may hold the pipe open
                break
            resources.pop(message["key"], None)
            if message["thing"]:
                resources[message["key"]] = message["thing"]
        over.set()

    def wait_for_run() -> None:
        _wait_for_end(**owner)
        over.set()

    def end_with(starter: dict[str, Any]) -> None:
        _wait_for_end(**starter)
        if not over.is_set() and alive(**owner):
            os.kill(owner["pid"], signal.SIGTERM)
            if not over.wait(TERM_LIMIT_S) and alive(**owner):
                os.kill(owner["pid"], signal.SIGKILL)

    reader = threading.Thread(target=read, daemon=True)
    starters = [threading.Thread(target=end_with, args=[one], daemon=True) for one in header["watched"]]
    for thread in (reader, threading.Thread(target=wait_for_run, daemon=True), *starters):
        thread.start()
    over.wait()
    # Read the run's last lines. With a limit, because a child of the run may hold the pipe open.
    reader.join(DRAIN_LIMIT_S)
    if not remove_all(header["run"], list(resources.values()), spare={owner["pid"]}):
        remove_record(Path(header["record"]))
    # A normal exit would wait for the thread that reads the pipe.
    os._exit(0)


def _wait_for_end(pid: int, begun: str) -> None:
    """Wait until the process has ended."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            if alive(pid, begun):
                select.select([descriptor], [], [])
            os.close(descriptor)
            return
    while alive(pid, begun):
        time.sleep(POLL_S)


def remove_all(run: str, resources: list[Resource], spare: Iterable[int] = ()) -> list[Resource]:
    """Remove the resources of a run and return those that could not be removed.

    Also ends every process with the run's id in its environment, or with a working directory in one of the run's
    directories. `spare` and this process are kept.
    """
    resources = [
        resource for resource in resources if resource["kind"] != "directory" or _is_of_run(run, Path(resource["path"]))
    ]
    left: list[Resource] = []

    def attempt(resource: Resource) -> None:
        # A busy engine answers too late, and has removed the containers when it is asked again.
        for _ in range(2 if resource["kind"] == "containers" else 1):
            # Nobody reads an error here. The next run tries again to remove what stays in the record.
            with contextlib.suppress(Exception):
                remove(run, resource)
                return
        left.append(resource)

    # Containers take longest and don't depend on the processes. Everything else may be in use by them.
    threads = _start(attempt, [resource for resource in resources if resource["kind"] == "containers"])
    _end_processes(run, resources, {os.getpid(), *spare})
    threads += _start(attempt, [one for one in resources if one["kind"] not in {"containers", "process"}])
    for thread in threads:
        thread.join()
    return left


def _start(call: Callable[[Resource], None], resources: Iterable[Resource]) -> list[threading.Thread]:
    """Start one thread each: a resource that hangs must not delay the others."""
    threads = [threading.Thread(target=call, args=[resource]) for resource in resources]
    for thread in threads:
        thread.start()
    return threads


def remove(run: str, resource: Resource) -> None:
    """Remove a resource that is not a process, if it still exists. Raises the client's errors."""
    match resource["kind"]:
        case "directory":
            _remove_shared_memory(Path(resource["path"]))
            shutil.rmtree(resource["path"], ignore_errors=True)
            if Path(resource["path"]).exists():
                raise OSError(f"{resource['path']} could not be removed")
        case "containers":
            _remove_containers(run, resource["engine"])
        # The clients are imported where they are used: it takes a while, and most runs need none.
        case "redis":
            from plumbline.services.clients import redis_client

            with redis_client(resource["url"], CLIENT_LIMIT_S) as client:
                keys = list(client.scan_iter(match=f"{resource['prefix']}*", count=KEYS_AT_ONCE))
                for first in range(0, len(keys), KEYS_AT_ONCE):
                    client.unlink(*keys[first : first + KEYS_AT_ONCE])
        case "database" | "schema" as kind:
            from plumbline.services.clients import run_sql

            name, how = resource["name"], "WITH (FORCE)" if kind == "database" else "CASCADE"
            run_sql(resource["url"], f'DROP {kind} IF EXISTS "{name}" {how}', limit_s=SQL_LIMIT_S)


def _is_of_run(run: str, folder: Path) -> bool:
    """Return whether the folder's name is one that this run gives: a damaged record may name a user's folder."""
    return (
        re.fullmatch(rf"(plumbline|perf)-(\w+-)?{re.escape(run)}", folder.name) is not None and not folder.is_symlink()
    )


def remove_record(record: Path) -> None:
    """Remove a run's record with its lock and its temporary file."""
    for suffix in (record.suffix, MAKING, LOCK):
        record.with_suffix(suffix).unlink(missing_ok=True)


def _end_processes(run: str, resources: list[Resource], spare: set[int]) -> None:
    directories = [Path(resource["path"]) for resource in resources if resource["kind"] == "directory"]
    named = [one["pid"] for one in resources if one["kind"] == "process" and alive(one["pid"], one["begun"])]
    found = {process.pid: process for pid in named for process in tree(pid)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(RUN_VARIABLE) == run or any(map(Path(process.cwd()).is_relative_to, directories)):
                found[process.pid] = process
    doomed = [process for pid, process in found.items() if pid not in spare]
    # SIGINT first: PostgreSQL then frees its shared memory.
    for number in (signal.SIGINT, signal.SIGKILL):
        end_all(lambda: doomed, number, INTERRUPT_LIMIT_S)


def _remove_shared_memory(directory: Path) -> None:
    """Remove the System V segment of a killed PostgreSQL: line 7 of its pid file ends with the segment's id."""
    for pid_file in directory.glob("*/postmaster.pid"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            import ctypes

            identifier = int(pid_file.read_text(encoding="utf-8").splitlines()[6].split()[1])
            ctypes.CDLL(None).shmctl(identifier, 0, None)


def _remove_containers(run: str, engine: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import docker

    environment = {**os.environ, "DOCKER_HOST": engine} if engine else dict(os.environ)
    ssh = engine.startswith("ssh://")
    client = docker.from_env(timeout=CLIENT_LIMIT_S, environment=environment, use_ssh_client=ssh)

    def remove_one(container: Any) -> None:
        try:
            container.remove(force=True, v=True)
        except docker.errors.APIError as error:
            # Removed already, or being removed, by the start of another run.
            if error.status_code not in {404, 409}:
                raise

    with contextlib.closing(client), ThreadPoolExecutor() as pool:
        found = client.containers.list(all=True, filters={"label": f"{LABEL}={run}"}, ignore_removed=True)
        list(pool.map(remove_one, found))


if __name__ == "__main__":
    main()
