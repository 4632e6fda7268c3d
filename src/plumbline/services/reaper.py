"""The program that removes what a run left behind, however the run ended.

A run starts it in a session of its own and sends it JSON lines over a pipe. The first line says whose run it is; each
later one names a thing to remove, or takes one back. When the pipe closes, or the run's process ends, the reaper
removes what is left and exits. If a process that started the run ends first, the reaper ends the run.

It starts with `-I -S`, to be quick: the first line brings `sys.path`, and only then can packages be imported.
"""

import contextlib
import json
import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# How long a run may take to end by itself once its starter has died: everything is to be gone within 5 s.
TERM_LIMIT_S = 3.0
POLL_S = 0.5
DRAIN_LIMIT_S = 0.5


def main() -> None:
    """Read the pipe until the run is over, then remove what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    header = json.loads(sys.stdin.readline())
    sys.path[:] = header["path"]
    from plumbline.processes import alive
    from plumbline.services.removal import remove_all, remove_record

    owner = (header["owner"]["pid"], header["owner"]["created"])
    things: dict[str, dict[str, Any]] = {}
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = _report_end("run", ended, _read, things)
    _report_end("run", ended, _wait_for_end, alive, *owner)
    for watched in header["watched"]:
        _report_end("starter", ended, _wait_for_end, alive, watched["pid"], watched["created"])
    if ended.get() == "starter" and alive(*owner):
        os.kill(owner[0], signal.SIGTERM)
        deadline_s = time.monotonic() + TERM_LIMIT_S
        over = False
        while not over and (left_s := deadline_s - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                over = ended.get(timeout=left_s) == "run"
        if not over and alive(*owner):
            os.kill(owner[0], signal.SIGKILL)
    # The run's last lines. If a child that it forked holds the pipe open, this never ends.
    reader.join(DRAIN_LIMIT_S)
    left = remove_all(header["run"], list(things.values()), spare={owner[0]})
    if not left:
        remove_record(Path(header["record"]))
    # Not the interpreter's own end, which would wait for the thread that reads the pipe.
    os._exit(0)


def _report_end(name: str, ended: "queue.SimpleQueue[str]", wait: Callable[..., None], *args: Any) -> threading.Thread:
    def work() -> None:
        wait(*args)
        ended.put(name)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _read(things: dict[str, dict[str, Any]]) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if message["thing"] is None:
            things.pop(message["key"], None)
        else:
            things[message["key"]] = message["thing"]


def _wait_for_end(alive: Callable[[int, float], bool], pid: int, created: float) -> None:
    """Return when the process has ended. On Linux this sleeps until then."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            if alive(pid, created):
                select.select([descriptor], [], [])
            os.close(descriptor)
            return
    while alive(pid, created):
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
