"""Makes Locust an open-loop load generator: tasks begin at set times, and requests are timed from then.

Locust loads this file beside the user's locustfile. Its master sends both to workers on other machines, so this file
imports only Locust and the standard library.

Each idle user takes the next arrival and runs one task when it is due. If all users are busy, arrivals wait. A request
is late by as much as its task, so a server that stalls shows in the times of all requests that were due meanwhile
(coordinated omission, see Gil Tene, "How NOT to Measure Latency", 2015).
"""

import contextlib
import ipaddress
import json
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event
from locust import TaskSet, events
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopUser
from locust.runners import MasterRunner, WorkerRunner
from locust.user.task import DefaultTaskSet

FOLDER = "PLUMBLINE_LOAD"  # the variable with the folder of the plan and the rows
POLL_S = 0.05
TICK_S = 0.02
FLUSH_S = 1.0
NO_ERRORS = (InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopUser)
MOST_TEXT = 300  # characters of an error

hooks: Any = events
Arrival = tuple[float, float]  # when it is due, and when its window ends, in seconds since the begin


def arrivals(windows: Iterable[tuple[float, float, float, int]], part: int, parts: int) -> Iterator[Arrival]:
    """Yield the arrivals of one of several processes, a Poisson process in each window.

    `windows`: begin and end in seconds, arrivals per second, and the seed.
    """
    for begin_s, end_s, rate_per_s, seed in windows:
        chance, due_s, number = random.Random(seed), begin_s, 0
        while (due_s := due_s + chance.expovariate(rate_per_s)) < end_s:
            if number % parts == part:
                yield due_s, end_s
            number += 1


def read_plan(folder: Path) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads((folder / "plan.json").read_text("utf-8"))
    return plan


def text_of(error: BaseException) -> str:
    return writable(f"{type(error).__name__}: {error}"[:MOST_TEXT])


def writable(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can hold and UTF-8 can't."""
    return text.encode(errors="replace").decode()


def is_loopback(host: str) -> bool:
    """Return whether a name or an IP address is surely of this machine, without asking DNS."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


class Hosts:
    """Refuses connections of the locustfile to other machines, and ends the run with `report`.

    gevent resolves each name of a host, and each IP address in a URL, before anything is sent. A worker from elsewhere
    gets the allowed hosts at the begin only. Then the names from before are judged, too.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._asked: set[str] = set()
        self._allowed: set[str] | None = None
        resolver = gevent.get_hub().resolver
        self._resolve, resolver.getaddrinfo = resolver.getaddrinfo, self._checked

    def allow(self, hosts: Iterable[str]) -> None:
        self._allowed = {*hosts}
        for host in self._asked:
            self._refusal(host)

    def _checked(self, host: Any, *others: Any, **named: Any) -> Any:
        text = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if text and (problem := self._refusal(text.lower())):
            raise PermissionError(problem)
        return self._resolve(host, *others, **named)

    def _refusal(self, host: str) -> str:
        if self._allowed is None:
            self._asked.add(host)
        elif not is_loopback(host) and host not in self._allowed:
            problem = f"the locustfile sends requests to {host}, not this machine. If you may put load on that server, "
            problem += f'set allow_external = ["{host}"] in settings.toml'
            self._report(problem)
            return problem
        return ""


class OpenLoop:
    """The arrivals of this process, and the rows about them that have not been sent yet.

    A row of `arrivals` has the time when the arrival was due, how late its task began (None if never), and whether no
    user was free. A row of `requests` has when its arrival was due, how late the task began, the time of the answer,
    its name, and the error or "". A row of `ticks` has a time, and how late a timer was then. All are in seconds.
    """

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.hosts = Hosts(self._end)
        self.ready: set[Any] = set()  # users
        self.begun = Event()
        self.rows: dict[str, list[list[Any]]] = {}
        self._clear()
        self._open: dict[Any, list[Any]] = {}  # by greenlet: when due, how late, whether a request was timed, task
        self._arrivals: Iterator[Arrival] = iter(())
        self._begin_s = 0.0

    def begin(self, plan: dict[str, Any]) -> None:
        """Begin in `in_s` seconds."""
        self.hosts.allow(plan["hosts"])
        windows = [tuple(window) for window in plan["windows"]]
        self._arrivals = arrivals(windows, plan["part"], plan["parts"])
        self._begin_s = time.perf_counter() + plan["in_s"]
        self.begun.set()
        gevent.spawn(self._tick)
        gevent.spawn(self._report, windows[-1][1], plan["answer_limit_s"])

    def run(self, user: Any, name: str, task: Any) -> None:
        """Run a task when the next arrival is due."""
        self.ready.add(user)
        self.begun.wait()
        me = gevent.getcurrent()
        due_s, waited = self._take()
        self._open[me] = current = [due_s, None, False, name]
        try:
            gevent.sleep(max(0.0, due_s - self._now_s()))
            current[1] = late_s = self._now_s() - due_s
            self.rows["arrivals"].append([due_s, late_s, waited])
            task()
        except NO_ERRORS:
            raise
        except Exception as error:
            took_s = self._now_s() - due_s - late_s
            self.rows["requests"].append([due_s, late_s, took_s, name, text_of(error)])
            raise
        finally:
            self._open.pop(me, None)

    def request(self, response_time: float, exception: BaseException | None, name: str) -> None:
        """Record a request. The first one of a task is as late as the task, the others follow an answer."""
        if not self.begun.is_set():
            return
        now_s, took_s = self._now_s(), response_time / 1000
        due_s, late_s, is_timed, _ = current = self._open.get(gevent.getcurrent()) or [now_s - took_s, 0.0, True, name]
        current[2] = True
        error = text_of(exception) if exception else ""
        self.rows["requests"].append([due_s, 0.0 if is_timed else late_s, took_s, writable(str(name)), error])

    def failed(self, exception: BaseException) -> None:
        """End the run if a user fails before the begin, as in `on_start`."""
        if not self.begun.is_set():
            self._end(f"a Locust user failed: {text_of(exception)}")

    def _end(self, problem: str) -> None:
        """End the run, which says nothing about the application."""
        self.environment.runner.send_message("plumbline_problem", {"text": problem})

    def _now_s(self) -> float:
        return time.perf_counter() - self._begin_s

    def _take(self) -> tuple[float, bool]:
        for due_s, end_s in self._arrivals:
            now_s = self._now_s()
            if now_s >= end_s:
                self._missed(due_s, end_s)
                continue
            return due_s, now_s > due_s
        Event().wait()  # until Locust ends
        raise AssertionError

    def _missed(self, due_s: float, end_s: float) -> None:
        self.rows["arrivals"].append([due_s, None, True])
        self.rows["requests"].append([due_s, end_s - due_s, 0.0, "", "not sent: no user was free"])

    def _tick(self) -> None:
        while True:
            before_s = self._now_s()
            gevent.sleep(TICK_S)
            self.rows["ticks"].append([before_s, self._now_s() - before_s - TICK_S])

    def _report(self, end_s: float, answer_limit_s: float) -> None:
        """Send rows until all arrivals are over."""
        sent_s = 0.0
        while (now_s := self._now_s()) < end_s or (self._open and now_s < end_s + answer_limit_s):
            gevent.sleep(POLL_S)
            if now_s > sent_s + FLUSH_S:
                sent_s = now_s
                self._send()
        for arrival in self._arrivals:
            self._missed(*arrival)
        for due_s, late_s, _, name in self._open.values():
            if late_s is None:
                self._missed(due_s, end_s)
                continue
            error = f"no answer within {answer_limit_s:g} s after the last arrival"
            self.rows["requests"].append([due_s, late_s, now_s - due_s - late_s, name, error])
        self._send()
        self.environment.runner.send_message("plumbline_done", {})

    def _send(self) -> None:
        rows = self.rows
        self._clear()
        self.environment.runner.send_message("plumbline_rows", rows)

    def _clear(self) -> None:
        self.rows = {"arrivals": [], "requests": [], "ticks": []}


class Conductor:
    """The master, or the only process: begins when all users are ready, writes the rows, and ends Locust."""

    def __init__(self, environment: Any, folder: Path) -> None:
        self._runner = environment.runner
        self._folder = folder
        self._plan = read_plan(folder)
        self._ready: dict[str, int] = {}  # users by worker
        self._done: set[str] = set()
        self._problem = ""
        self._parent = os.getppid()
        self._rows = (folder / "rows.jsonl").open("w", encoding="utf-8")
        self._runner.register_message("plumbline_ready", self._on_ready)
        self._runner.register_message("plumbline_rows", self._on_rows)
        self._runner.register_message("plumbline_done", lambda msg, **_: self._done.add(msg.node_id))
        self._runner.register_message("plumbline_problem", self._on_problem)

    def conduct(self) -> None:
        if self._until(lambda: sum(self._ready.values()) >= self._plan["users"]):
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
        self._rows.write(json.dumps(msg.data) + "\n")

    def _on_problem(self, msg: Any, **_: Any) -> None:
        self._problem = self._problem or msg.data["text"]  # others follow from the first one


def report_ready(loop: OpenLoop) -> None:
    while not loop.begun.is_set():
        loop.environment.runner.send_message("plumbline_ready", {"users": len(loop.ready)})
        gevent.sleep(4 * POLL_S)


def take_over(environment: Any, **_: Any) -> None:
    """Replace the pace of all users by arrivals."""
    runner = environment.runner
    environment.shape_class = None
    if not isinstance(runner, WorkerRunner):
        conductor = Conductor(environment, Path(os.environ[FOLDER]))
        gevent.spawn(conductor.conduct)
    if isinstance(runner, MasterRunner):
        return
    loop = OpenLoop(environment)
    if FOLDER in os.environ:  # not from elsewhere
        loop.hosts.allow(read_plan(Path(os.environ[FOLDER]))["hosts"])
    runner.register_message("plumbline_begin", lambda msg, **_: loop.begin(msg.data))
    hooks.request.add_listener(
        lambda response_time, exception, name, **_: loop.request(response_time or 0.0, exception, name)
    )
    hooks.user_error.add_listener(lambda exception, **_: loop.failed(exception))
    gevent.spawn(report_ready, loop)

    def paced(original: Any) -> Any:
        def execute_task(tasks: Any, task: Any) -> None:
            if isinstance(task, type) and issubclass(task, TaskSet):
                original(tasks, task)  # its tasks are paced
            else:
                loop.run(tasks.user, getattr(task, "__name__", "task"), lambda: original(tasks, task))

        return execute_task

    for owner in (TaskSet, DefaultTaskSet):
        owner.execute_task = paced(owner.execute_task)  # type: ignore[method-assign]
    # The next arrival, not `wait_time`, decides when a user goes on.
    TaskSet.wait = lambda _: gevent.sleep(0)  # type: ignore[method-assign]


hooks.init.add_listener(take_over)
