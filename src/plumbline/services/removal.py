"""Removing what a run left behind: processes, folders, containers, and data of its own on external servers."""

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from plumbline.processes import alive, signal_all, wait_gone
from plumbline.services.clients import redis_client, run_sql

LABEL = "plumbline.run"
RUN_VARIABLE = "PLUMBLINE_RUN"
MAKING = ".making"
INTERRUPT_LIMIT_S = 1.0
CLIENT_LIMIT_S = 3
SQL_LIMIT_S = 6.0
KEYS_AT_ONCE = 1000

# {"kind": "process" | "directory" | "containers" | "redis" | "database" | "schema", …}; see `remove`.
Thing = dict[str, Any]


def remove_all(run: str, things: Iterable[Thing], spare: Iterable[int] = ()) -> list[Thing]:
    """Remove what a run left behind and return what could not be removed.

    Beside the things named, this ends every process that carries the run in its environment or works below one of its
    directories, except this process and those to spare.
    """
    things = list(things)
    left: list[Thing] = []

    def attempt(thing: Thing) -> None:
        try:
            remove(run, thing)
        except Exception:
            # Nobody reads a message here: what stays in the run's record is tried again at the next start.
            left.append(thing)

    def start(chosen: Iterable[Thing]) -> list[threading.Thread]:
        """Remove each in a thread of its own, so that one that hangs does not delay the others."""
        threads = [threading.Thread(target=attempt, args=[thing]) for thing in chosen]
        for thread in threads:
            thread.start()
        return threads

    # An engine takes longest and has nothing to do with our processes. These may be using everything else.
    threads = start(thing for thing in things if thing["kind"] == "containers")
    _end_processes(run, things, {os.getpid(), *spare})
    threads += start(thing for thing in things if thing["kind"] not in {"containers", "process"})
    for thread in threads:
        thread.join()
    return left


def remove(run: str, thing: Thing) -> None:
    """Remove one thing that is not a process. If it has gone already, do nothing. Raises what its client raises."""
    match thing["kind"]:
        case "directory":
            _remove_shared_memory(Path(thing["path"]))
            shutil.rmtree(thing["path"], ignore_errors=True)
            if Path(thing["path"]).exists():
                raise OSError(f"{thing['path']} could not be removed")
        case "containers":
            _remove_containers(run, thing["engine"])
        case "redis":
            _remove_keys(thing["url"], thing["prefix"])
        case "database":
            drop = f'DROP DATABASE IF EXISTS "{thing["name"]}" WITH (FORCE)'
            run_sql(thing["url"], drop, limit_s=SQL_LIMIT_S)
        case "schema":
            run_sql(thing["url"], f'DROP SCHEMA IF EXISTS "{thing["name"]}" CASCADE', limit_s=SQL_LIMIT_S)


def remove_record(record: Path) -> None:
    """Remove a run's record, and one that was being written when the run was killed."""
    for suffix in (record.suffix, MAKING):
        record.with_suffix(suffix).unlink(missing_ok=True)


def _remove_keys(url: str, prefix: str) -> None:
    with redis_client(url, CLIENT_LIMIT_S) as client:
        keys = list(client.scan_iter(match=f"{prefix}*", count=KEYS_AT_ONCE))
        for first in range(0, len(keys), KEYS_AT_ONCE):
            client.unlink(*keys[first : first + KEYS_AT_ONCE])


def _end_processes(run: str, things: list[Thing], spare: set[int]) -> None:
    directories = [Path(thing["path"]) for thing in things if thing["kind"] == "directory"]
    found: dict[int, psutil.Process] = {}
    for thing in things:
        if thing["kind"] == "process" and alive(thing["pid"], thing["created"]):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(thing["pid"])
                found.update({one.pid: one for one in [process, *process.children(recursive=True)]})
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(RUN_VARIABLE) == run or any(map(Path(process.cwd()).is_relative_to, directories)):
                found[process.pid] = process
    doomed = [process for pid, process in found.items() if pid not in spare]
    # SIGINT first: on it PostgreSQL gives its shared memory back.
    for number in (signal.SIGINT, signal.SIGKILL):
        signal_all(doomed, number)
        signal_all(doomed, signal.SIGCONT)
        doomed = wait_gone(doomed, INTERRUPT_LIMIT_S)


def _remove_shared_memory(directory: Path) -> None:
    """Remove the System V segment of a PostgreSQL that was killed: line 7 of its pid file ends with its id."""
    for pid_file in directory.glob("*/postmaster.pid"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            import ctypes

            identifier = int(pid_file.read_text(encoding="utf-8").splitlines()[6].split()[1])
            ctypes.CDLL(None).shmctl(identifier, 0, None)


def _remove_containers(run: str, engine: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import docker

    environment = {**os.environ, "DOCKER_HOST": engine} if engine else dict(os.environ)
    client = docker.from_env(
        timeout=CLIENT_LIMIT_S, environment=environment, use_ssh_client=engine.startswith("ssh://")
    )

    def remove_one(container: Any) -> None:
        try:
            container.remove(force=True, v=True)
        except docker.errors.APIError as error:
            # Gone already, or about to be: the start of another run may have swept it up.
            if error.status_code not in {404, 409}:
                raise

    with contextlib.closing(client), ThreadPoolExecutor() as pool:
        found = client.containers.list(all=True, filters={"label": f"{LABEL}={run}"}, ignore_removed=True)
        list(pool.map(remove_one, found))
