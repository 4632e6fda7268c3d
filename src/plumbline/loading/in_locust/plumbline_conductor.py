"""Makes Locust's master, or its only process, begin the arrivals of all workers at once, and collect their rows.

See `plumbline_open_loop.py`.
"""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.runners import MasterRunner, WorkerRunner

FOLDER = "PLUMBLINE_LOAD"  # the variable with the folder of the plan and the rows
POLL_S = 0.05
STRANGE_S = 2.0  # after all users have been spawned

hooks: Any = events


class Conductor:
    """The master, or the only process: begins when all users are ready, writes the rows, and ends Locust."""

    def __init__(self, environment: Any, folder: Path) -> None:
        self._runner = environment.runner
        self._folder = folder
        self._plan: dict[str, Any] = json.loads((folder / "plan.json").read_text("utf-8"))
        self._ready: dict[str, int] = {}  # users by worker
        self._done: set[str] = set()
        self._spawned_s = math.inf
        self._problem = ""
        self._parent = os.getppid()
        self._rows = (folder / "rows.jsonl").open("w", encoding="utf-8")
        self._runner.register_message("plumbline_ready", self._on_ready)
        self._runner.register_message("plumbline_rows", self._on_rows)
        self._runner.register_message("plumbline_done", lambda msg, **_: self._done.add(msg.node_id))
        self._runner.register_message("plumbline_problem", self._on_problem)

    def conduct(self) -> None:
        if self._until(self._is_ready):
            (self._folder / "ready").touch()
            if self._until((self._folder / "go").exists):
                begin = json.loads((self._folder / "go").read_text("ascii"))
                names = sorted(self._ready)
                for part, name in enumerate(names):
                    plan = {**self._plan, "part": part, "parts": len(names), "in_s": begin - time.time()}
                    self._runner.send_message("plumbline_begin", plan, *([] if name == "local" else [name]))
                self._until(lambda: self._done >= {*names})
        self._rows.close()
        (self._folder / "end").write_text(self._problem, "utf-8")
        self._runner.quit()

    def _is_ready(self) -> bool:
        if isinstance(self._runner, MasterRunner) and self._runner.spawning_completed:
            self._spawned_s = min(self._spawned_s, time.monotonic())
            others = len({*self._runner.clients} - {*self._ready})
            if others and time.monotonic() > self._spawned_s + STRANGE_S:
                what = f"{others} of {len(self._runner.clients)} Locust workers run a locustfile of their own"
                self._problem = f"{what}: start each with `-f -`, so that it gets the locustfile from here"
        return sum(self._ready.values()) >= int(self._plan["users"])

    def _until(self, is_over: Any) -> bool:
        """Wait. Return False if a worker is lost, or the process that started this one."""
        while not is_over() and not self._problem:
            gevent.sleep(POLL_S)
            if os.getppid() != self._parent:
                self._problem = "Plumbline has ended"
            if isinstance(self._runner, MasterRunner):
                missing = {client.id for client in self._runner.clients.missing}
                if lost := len({*self._ready} - ({*self._runner.clients} - missing) - self._done):
                    self._problem = f"{lost} of {len(self._ready)} Locust workers died"
        return not self._problem

    def _on_ready(self, msg: Any, **_: Any) -> None:
        self._ready[msg.node_id] = msg.data["users"]

    def _on_rows(self, msg: Any, **_: Any) -> None:
        self._rows.write(json.dumps({**msg.data, "process": msg.node_id}) + "\n")

    def _on_problem(self, msg: Any, **_: Any) -> None:
        self._problem = self._problem or msg.data["text"]  # others follow from the first one


def conduct(environment: Any, **_: Any) -> None:
    if not isinstance(environment.runner, WorkerRunner):
        conductor = Conductor(environment, Path(os.environ[FOLDER]))
        gevent.spawn(conductor.conduct)


hooks.init.add_listener(conduct)
