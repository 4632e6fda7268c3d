"""Removes what a run left behind, however it ended.

As a program it is started by `run.py` in a session of its own and reads JSON lines from a pipe that the run holds: the
first says whose run it is, each later one names a thing to remove, or takes one back. When the pipe closes, or the
run's process ends, it removes what is left and exits. When a process that the run was started by ends first, it ends
the run.

As a module it offers the removing to the sweep at the next start. It is started without site-packages, to be quick, so
everything that isn't in the standard library is imported where it is used.
"""

import contextlib
import json
import os
import queue
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

LABEL = "plumbline.run"
MAKING = ".making"
RUN_VARIABLE = "PLUMBLINE_RUN"
TERM_LIMIT_S = 3.0
"""How long a run whose starter is gone may take to end by itself: all of it is to be gone within 5 s."""
INTERRUPT_LIMIT_S = 1.0
CLIENT_LIMIT_S = 3
POLL_S = 0.5
DRAIN_LIMIT_S = 0.5
SAME_PROCESS_S = 2.0
"""Creation times of one process, read twice, may differ by this when the clock is set."""

Thing = dict[str, Any]
"""{"kind": "process" | "directory" | "containers" | "redis" | "database" | "schema", …}; see `remove`."""


def main() -> None:
    """Read the pipe until the run is over, then remove what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    header = json.loads(sys.stdin.readline())
    sys.path[:] = header["path"]
    owner = (header["owner"]["pid"], header["owner"]["created"])
    things: dict[str, Thing] = {}
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = _report_end("run", ended, _read, things)
    _report_end("run", ended, _wait_for_end, *owner)
    for watched in header["watched"]:
        _report_end("starter", ended, _wait_for_end, watched["pid"], watched["created"])
    if ended.get() == "starter" and alive(*owner):
        os.kill(owner[0], signal.SIGTERM)
        deadline = time.monotonic() + TERM_LIMIT_S
        over = False
        while not over and (left_s := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                over = ended.get(timeout=left_s) == "run"
        if not over and alive(*owner):
            os.kill(owner[0], signal.SIGKILL)
    # What the run wrote last; where a child that it forked holds the pipe open, this never ends.
    reader.join(DRAIN_LIMIT_S)
    left = remove_all(header["run"], list(things.values()), spare={owner[0]})
    if not left:
        remove_record(Path(header["record"]))
    # Not by way of the interpreter's own end, which would wait for the thread that reads the pipe.
    os._exit(0)


def remove_record(record: Path) -> None:
    """With what is left of one that was being written when the run was killed."""
    for suffix in (record.suffix, MAKING):
        record.with_suffix(suffix).unlink(missing_ok=True)


def remove_all(run: str, things: Iterable[Thing], spare: Iterable[int] = ()) -> list[Thing]:
    """Remove what a run left behind and return what could not be removed.

    Beside the things named, every process is ended that carries the run in its environment or works below one of its
    directories, but for this one and those to spare.
    """
    things = list(things)
    directories = [Path(thing["path"]) for thing in things if thing["kind"] == "directory"]
    left: list[Thing] = []

    def attempt(thing: Thing) -> None:
        try:
            remove(run, thing)
        except Exception:
            # There is nobody to tell: what stays in the run's record is tried again at the next start.
            left.append(thing)

    def start(chosen: Iterable[Thing]) -> list[threading.Thread]:
        """Whatever is slow or hangs doesn't keep the rest waiting."""
        threads = [threading.Thread(target=attempt, args=[thing]) for thing in chosen]
        for thread in threads:
            thread.start()
        return threads

    # An engine takes longest, and has nothing to do with our processes; what else there is, they may be using.
    threads = start(thing for thing in things if thing["kind"] == "containers")
    _end_processes(run, things, directories, {os.getpid(), *spare})
    threads += start(thing for thing in things if thing["kind"] not in {"containers", "process"})
    for thread in threads:
        thread.join()
    return left


def remove(run: str, thing: Thing) -> None:
    """Remove one thing that isn't a process; one that has gone already is no error."""
    match thing["kind"]:
        case "directory":
            _remove_shared_memory(Path(thing["path"]))
            shutil.rmtree(thing["path"], ignore_errors=True)
            if Path(thing["path"]).exists():
                raise OSError(f"{thing['path']} could not be removed")
        case "containers":
            _remove_containers(run, thing["engine"])
        case "redis":
            remove_keys(thing["url"], thing["prefix"])
        case "database":
            run_sql(thing["url"], f'DROP DATABASE IF EXISTS "{thing["name"]}" WITH (FORCE)')
        case "schema":
            run_sql(thing["url"], f'DROP SCHEMA IF EXISTS "{thing["name"]}" CASCADE')


def remove_keys(url: str, prefix: str) -> None:
    """Remove the Redis keys that begin so, and no other."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    limits: dict[str, Any] = {"socket_timeout": CLIENT_LIMIT_S, "socket_connect_timeout": CLIENT_LIMIT_S}
    with redis.Redis.from_url(url, **limits, retry=Retry(NoBackoff(), 0)) as client:
        batch = []
        for key in client.scan_iter(match=f"{prefix}*", count=1000):
            batch.append(key)
            if len(batch) == 1000:
                client.unlink(*batch)
                batch.clear()
        if batch:
            client.unlink(*batch)


def run_sql(url: str, *statements: str) -> None:
    """Run statements one by one on a connection of their own, in whatever thread this is."""
    import asyncio

    import asyncpg

    async def work() -> None:
        connection = await asyncpg.connect(url, timeout=CLIENT_LIMIT_S, command_timeout=CLIENT_LIMIT_S)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close(timeout=CLIENT_LIMIT_S)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(work())


def alive(pid: int, created: float) -> bool:
    """Whether this very process is still running; a zombie isn't."""
    import psutil

    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < SAME_PROCESS_S and _runs(process)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def wait_gone(processes: Iterable[Any], limit_s: float) -> list[Any]:
    """Wait until psutil's processes have ended, and return those that have not."""
    left = list(processes)
    deadline = time.monotonic() + limit_s
    while (left := [one for one in left if _runs(one)]) and time.monotonic() < deadline:
        time.sleep(0.005)
    return left


def _runs(process: Any) -> bool:
    """Whether it is still this very process, and not a zombie."""
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _report_end(
    what: str, ended: "queue.SimpleQueue[str]", wait: Callable[..., None], *arguments: Any
) -> threading.Thread:
    def work() -> None:
        wait(*arguments)
        ended.put(what)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _read(things: dict[str, Thing]) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if message["thing"] is None:
            things.pop(message["key"], None)
        else:
            things[message["key"]] = message["thing"]


def _wait_for_end(pid: int, created: float) -> None:
    """Return when the process has ended; on Linux without ever waking up before."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            if alive(pid, created):
                select.select([descriptor], [], [])
            os.close(descriptor)
            return
    while alive(pid, created):
        time.sleep(POLL_S)


def _end_processes(run: str, things: list[Thing], directories: list[Path], spare: set[int]) -> None:
    import psutil

    known = {(thing["pid"], thing["created"]) for thing in things if thing["kind"] == "process"}
    found = {}
    for pid, created in known:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if alive(pid, created):
                found.update({one.pid: one for one in [process, *process.children(recursive=True)]})
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(RUN_VARIABLE) == run or _works_below(process, directories):
                found[process.pid] = process
    doomed = [process for pid, process in found.items() if pid not in spare]
    # First in the way that lets PostgreSQL give its shared memory back.
    for number, limit_s in ((signal.SIGINT, INTERRUPT_LIMIT_S), (signal.SIGKILL, INTERRUPT_LIMIT_S)):
        for process in doomed:
            with contextlib.suppress(psutil.Error, OSError):
                process.send_signal(number)
                process.send_signal(signal.SIGCONT)
        doomed = wait_gone(doomed, limit_s)


def _works_below(process: Any, directories: list[Path]) -> bool:
    return bool(directories) and any(Path(process.cwd()).is_relative_to(directory) for directory in directories)


def _remove_shared_memory(directory: Path) -> None:
    """The System V segment of a PostgreSQL that was killed: the seventh line of its pid file ends with its id."""
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


if __name__ == "__main__":
    main()
