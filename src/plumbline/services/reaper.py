"""The program that removes what a run left behind, however the run ended.

A run starts it in a session of its own and sends it JSON lines over a pipe. The first line says whose run it is; each
later one names a thing to remove, or takes one back. When the pipe closes, or the run's process ends, the reaper
removes what is left and exits. If a process that started the run ends first, the reaper ends the run.
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
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from plumbline.processes import alive, end_all, tree
from plumbline.services.clients import redis_client, run_sql

LABEL = "plumbline.run"
RUN_VARIABLE = "PLUMBLINE_RUN"
LOCK, MAKING = ".lock", ".making"  # suffixes of files beside a run's record
# How long a run may take to end by itself once its starter has died: everything is to be gone within 5 s.
TERM_LIMIT_S = 3.0
POLL_S = 0.5
DRAIN_LIMIT_S = 0.5
INTERRUPT_LIMIT_S = 1.0
CLIENT_LIMIT_S = 3
SQL_LIMIT_S = 6.0
KEYS_AT_ONCE = 1000

# {"kind": "process" | "directory" | "containers" | "redis" | "database" | "schema", …}; see `remove`.
Thing = dict[str, Any]


def main() -> None:
    """Read the pipe until the run is over, then remove what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    header = json.loads(sys.stdin.readline())
    owner = header["owner"]
    things: dict[str, Thing] = {}
    over = threading.Event()  # the pipe has been closed, or the run's process has ended

    def read() -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if message is None:  # the run's last word: a child that it forked may hold the pipe open
                break
            things.pop(message["key"], None)
            if message["thing"]:
                things[message["key"]] = message["thing"]
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
    # The run's last lines. If a child that it forked holds the pipe open, this never ends.
    reader.join(DRAIN_LIMIT_S)
    if not remove_all(header["run"], list(things.values()), spare={owner["pid"]}):
        remove_record(Path(header["record"]))
    # Not the interpreter's own end, which would wait for the thread that reads the pipe.
    os._exit(0)


def _wait_for_end(pid: int, begun: str) -> None:
    """Return when the process has ended. On Linux this sleeps until then."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            if alive(pid, begun):
                select.select([descriptor], [], [])
            os.close(descriptor)
            return
    while alive(pid, begun):
        time.sleep(POLL_S)


def remove_all(run: str, things: list[Thing], spare: Iterable[int] = ()) -> list[Thing]:
    """Remove what a run left behind and return what could not be removed.

    Beside the things named, this ends every process that carries the run in its environment or works below one of its
    directories, except this process and those to spare.
    """
    things = [thing for thing in things if thing["kind"] != "directory" or _is_of_run(run, Path(thing["path"]))]
    left: list[Thing] = []

    def attempt(thing: Thing) -> None:
        try:
            remove(run, thing)
        except Exception:
            # Nobody reads a message here: what stays in the run's record is tried again at the next start.
            left.append(thing)

    # A thread for each, so that one that hangs does not delay the others.
    with ThreadPoolExecutor(max_workers=len(things) + 1) as pool:
        # An engine takes longest and has nothing to do with our processes. These may be using everything else.
        pool.map(attempt, [thing for thing in things if thing["kind"] == "containers"])
        _end_processes(run, things, {os.getpid(), *spare})
        pool.map(attempt, [thing for thing in things if thing["kind"] not in {"containers", "process"}])
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
            with redis_client(thing["url"], CLIENT_LIMIT_S) as client:
                keys = list(client.scan_iter(match=f"{thing['prefix']}*", count=KEYS_AT_ONCE))
                for first in range(0, len(keys), KEYS_AT_ONCE):
                    client.unlink(*keys[first : first + KEYS_AT_ONCE])
        case "database":
            drop = f'DROP DATABASE IF EXISTS "{thing["name"]}" WITH (FORCE)'
            run_sql(thing["url"], drop, limit_s=SQL_LIMIT_S)
        case "schema":
            run_sql(thing["url"], f'DROP SCHEMA IF EXISTS "{thing["name"]}" CASCADE', limit_s=SQL_LIMIT_S)


def _is_of_run(run: str, folder: Path) -> bool:
    """Return whether a folder has a name that only a run gives: a damaged record must not name the user's own."""
    return (
        re.fullmatch(rf"(plumbline|perf)-(\w+-)?{re.escape(run)}", folder.name) is not None and not folder.is_symlink()
    )


def remove_record(record: Path) -> None:
    """Remove a run's record, and one that was being written when the run was killed."""
    for suffix in (record.suffix, MAKING, LOCK):
        record.with_suffix(suffix).unlink(missing_ok=True)


def _end_processes(run: str, things: list[Thing], spare: set[int]) -> None:
    directories = [Path(thing["path"]) for thing in things if thing["kind"] == "directory"]
    named = [one["pid"] for one in things if one["kind"] == "process" and alive(one["pid"], one["begun"])]
    found = {process.pid: process for pid in named for process in tree(pid)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(RUN_VARIABLE) == run or any(map(Path(process.cwd()).is_relative_to, directories)):
                found[process.pid] = process
    doomed = [process for pid, process in found.items() if pid not in spare]
    # SIGINT first: on it PostgreSQL gives its shared memory back.
    for number in (signal.SIGINT, signal.SIGKILL):
        end_all(lambda: doomed, number, INTERRUPT_LIMIT_S)


def _remove_shared_memory(directory: Path) -> None:
    """Remove the System V segment of a PostgreSQL that was killed: line 7 of its pid file ends with its id."""
    for pid_file in directory.glob("*/postmaster.pid"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            import ctypes

            identifier = int(pid_file.read_text(encoding="utf-8").splitlines()[6].split()[1])
            ctypes.CDLL(None).shmctl(identifier, 0, None)


def _remove_containers(run: str, engine: str) -> None:
    import docker

    environment = {**os.environ, "DOCKER_HOST": engine} if engine else dict(os.environ)
    ssh = engine.startswith("ssh://")
    client = docker.from_env(timeout=CLIENT_LIMIT_S, environment=environment, use_ssh_client=ssh)

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


if __name__ == "__main__":
    main()
