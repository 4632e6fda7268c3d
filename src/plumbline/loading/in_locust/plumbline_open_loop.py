"""Makes Locust an open-loop load generator: tasks begin at set times, and requests are timed from then.

Locust loads this file and `plumbline_conductor.py` beside the user's locustfile. Its master sends them to workers on
other machines, so they import only Locust and the standard library.

Each idle user takes the next arrival of its class and runs one task when it is due. If all users of a class are busy,
its arrivals wait. A request is late by as much as its task, so a server that stalls shows in the times of all requests
that were due meanwhile (coordinated omission, see Gil Tene, "How NOT to Measure Latency", 2015). A later request of a
task is due when the answer to the one before has come and the user's own wait is over. If this process wakes the user
too late, the request is late by that.
"""

import contextlib
import ipaddress
import json
import math
import os
import random
import time
from bisect import insort
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import gevent
from gevent.event import Event
from locust import TaskSet, events
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopUser
from locust.runners import MasterRunner
from locust.user.task import DefaultTaskSet

FOLDER = "PLUMBLINE_LOAD"  # the variable with the folder of the plan and the rows
POLL_S = 0.05
TICK_S = 0.02
FLUSH_S = 1.0
NO_ERRORS = (InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopUser)
MOST_TEXT = 300  # characters of an error

hooks: Any = events


class Arrival(NamedTuple):
    """The start of a task. Times are in seconds since the begin. Base and head get the same arrivals."""

    due_s: float
    window_end_s: float
    # Random numbers from 0 to 1, which choose a class of users, and one of its tasks.
    user: float
    task: float


def arrivals(windows: Iterable[tuple[float, float, float, int]], part: int, parts: int) -> Iterator[Arrival]:
    """Yield the arrivals of one of several processes, a Poisson process in each window.

    `windows`: begin and end in seconds, arrivals per second, and the seed.
    """
    for begin_s, end_s, rate_per_s, seed in windows:
        chance, due_s, number = random.Random(seed), begin_s, 0
        while (due_s := due_s + chance.expovariate(rate_per_s)) < end_s:
            arrival = Arrival(due_s, end_s, chance.random(), chance.random())
            if number % parts == part:
                yield arrival
            number += 1


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


class Shares:
    """Divides arrivals among the classes of users, by their numbers of users.

    If any free user took the next arrival, fast users would take those of slow ones, whose requests would get rarer.
    """

    def __init__(self) -> None:
        self.arrivals: Iterator[Arrival] = iter(())
        self._classes: list[type] = []  # of all users, in an order that is the same for base and head
        self._due: defaultdict[type, deque[Arrival]] = defaultdict(deque)

    def join(self, user: Any) -> None:
        insort(self._classes, type(user), key=repr)

    def leave(self, user: Any) -> None:
        """Give the arrivals of a class to others after its last user."""
        self._classes.remove(kind := type(user))
        if self._classes and kind not in self._classes:
            for arrival in self._due.pop(kind, ()):
                self._divide(arrival)

    def next(self, user: Any) -> Arrival | None:
        """Return the next arrival of a class, None if there are no more."""
        own = self._due[type(user)]
        while not own:
            if (arrival := next(self.arrivals, None)) is None:
                return None
            self._divide(arrival)
        return own.popleft()

    def rest(self) -> Iterator[Arrival]:
        for own in self._due.values():
            while own:
                yield own.popleft()
        yield from self.arrivals

    def _divide(self, arrival: Arrival) -> None:
        self._due[self._classes[int(arrival.user * len(self._classes))]].append(arrival)


class Oversleeping:
    """The seconds by which the greenlets of tasks have slept too long since each was last asked."""

    def __init__(self, is_of_task: Callable[[], bool]) -> None:
        self._hub: Any = gevent.get_hub()
        self._is_of_task = is_of_task
        self._late: WeakKeyDictionary[Any, list[tuple[float, float]]] = WeakKeyDictionary()  # when awake, how late
        self._timer = type(self._hub.loop.timer(0))
        # Each `time.sleep` and `gevent.sleep` comes here, under whatever name a locustfile has imported it.
        self._wait, self._hub.wait = self._hub.wait, self._timed

    def pop(self, before_s: float = math.inf) -> float:
        """Return the seconds of the current greenlet before a time of `time.perf_counter`, and begin anew."""
        return sum(late_s for awake_s, late_s in self._late.pop(gevent.getcurrent(), ()) if awake_s <= before_s)

    def _timed(self, watcher: Any) -> Any:
        if not isinstance(watcher, self._timer):
            return self._wait(watcher)
        end_s = time.perf_counter() + watcher.at
        result = self._wait(watcher)
        if self._is_of_task():
            awake_s = time.perf_counter()
            self._late.setdefault(gevent.getcurrent(), []).append((awake_s, max(0.0, awake_s - end_s)))
        return result


@dataclass
class Task:
    """A task that has been given an arrival. Times are in seconds since the begin."""

    name: str
    due_s: float
    late_s: float | None = None  # None until it begins
    answered_s: float = math.inf  # when its first answer came


class OpenLoop:
    """The arrivals of this process, and the rows about them that have not been sent yet.

    A row of `arrivals` has the time when the arrival was due, how late its task began (None if never), and whether no
    user was free. A row of `requests` has when it was due, how late it was sent, the time of the answer, its name, and
    the error or "". A row of `ticks` has a time, and how late a timer of TICK_S was then. All are in seconds.
    """

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.hosts = Hosts(self._end)
        self.overslept = Oversleeping(lambda: self.task() is not None)
        self.ready: set[Any] = set()  # users
        self.begun = Event()
        self.rows: dict[str, list[list[Any]]] = {}
        self._clear()
        self._open: dict[Any, Task] = {}  # by greenlet
        self._shares = Shares()
        self._begin_s = 0.0

    def begin(self, plan: dict[str, Any]) -> None:
        """Begin in `in_s` seconds."""
        self.hosts.allow(plan["hosts"])
        windows = [tuple(window) for window in plan["windows"]]
        self._shares.arrivals = arrivals(windows, plan["part"], plan["parts"])
        self._begin_s = time.perf_counter() + plan["in_s"]
        self.begun.set()
        gevent.spawn(self._tick)
        gevent.spawn(self._report, windows[-1][1], plan["answer_limit_s"])

    def run(self, user: Any, choose: Callable[[float], Any], execute: Callable[[Any], None]) -> None:
        """Run a task when the next arrival is due. `choose` gets the arrival's random number, and returns the task."""
        me = gevent.getcurrent()
        if user not in self.ready:
            self.ready.add(user)
            self._shares.join(user)
            me.link(lambda _: self._leave(user))
        self.begun.wait()
        arrival, waited = self._take(user)
        due_s, task = arrival.due_s, choose(arrival.task)
        name = getattr(task, "__name__", "task")
        self._open[me] = current = Task(name, due_s)
        try:
            gevent.sleep(max(0.0, due_s - self._now_s()))
            current.late_s = late_s = self._now_s() - due_s
            self.rows["arrivals"].append([due_s, late_s, waited])
            self.overslept.pop()  # it is part of `late_s`
            execute(task)
        except NO_ERRORS:
            raise
        except Exception as error:
            took_s = self._now_s() - due_s - late_s
            self.rows["requests"].append([due_s, late_s, took_s, name, text_of(error)])
            raise
        finally:
            self._open.pop(me, None)

    def request(self, response_time: float, exception: BaseException | None, name: str) -> None:
        """Record a request. The first one of a task is as late as the task. Any is late if its user overslept."""
        if not self.begun.is_set():
            return
        now_s, took_s = self._now_s(), response_time / 1000
        sent_s = now_s - took_s
        late_s = self.overslept.pop(self._begin_s + sent_s)
        if (task := self.task()) and sent_s < task.answered_s:  # also if it sends several at once
            late_s += task.late_s or 0.0
            task.answered_s = min(task.answered_s, now_s)
        error = text_of(exception) if exception else ""
        self.rows["requests"].append([sent_s - late_s, late_s, took_s, writable(str(name)), error])

    def failed(self, exception: BaseException) -> None:
        """End the run if a user fails before the begin, as in `on_start`."""
        if not self.begun.is_set():
            self._end(f"a Locust user failed: {text_of(exception)}")

    def task(self) -> Task | None:
        """Return the task of this greenlet, or of the one that has spawned it."""
        one = gevent.getcurrent()
        while one is not None and one not in self._open:
            spawning = getattr(one, "spawning_greenlet", None)
            one = spawning() if spawning else None
        return self._open.get(one)

    def _end(self, problem: str) -> None:
        """End the run, which says nothing about the application."""
        self.environment.runner.send_message("plumbline_problem", {"text": problem})

    def _now_s(self) -> float:
        return time.perf_counter() - self._begin_s

    def _leave(self, user: Any) -> None:
        self.ready.discard(user)
        self._shares.leave(user)

    def _take(self, user: Any) -> tuple[Arrival, bool]:
        while arrival := self._shares.next(user):
            now_s = self._now_s()
            if now_s < arrival.window_end_s:
                return arrival, now_s > arrival.due_s
            self._missed(arrival.due_s, arrival.window_end_s)
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
        for arrival in self._shares.rest():
            self._missed(arrival.due_s, arrival.window_end_s)
        for task in self._open.values():
            if task.late_s is None:
                self._missed(task.due_s, end_s)
                continue
            error = f"no answer within {answer_limit_s:g} s after the last arrival"
            took_s = now_s - task.due_s - task.late_s
            self.rows["requests"].append([task.due_s, task.late_s, took_s, task.name, error])
        self._send()
        self.environment.runner.send_message("plumbline_done", {})

    def _send(self) -> None:
        rows = self.rows
        self._clear()
        self.environment.runner.send_message("plumbline_rows", rows)

    def _clear(self) -> None:
        self.rows = {"arrivals": [], "requests": [], "ticks": []}


def report_ready(loop: OpenLoop) -> None:
    while not loop.begun.is_set():
        loop.environment.runner.send_message("plumbline_ready", {"users": len(loop.ready)})
        gevent.sleep(4 * POLL_S)


def remembered(original: Any) -> Any:
    """Return a method of a TaskSet that remembers the task that Locust has chosen at random."""

    def get_next_task(tasks: Any) -> Any:
        tasks.plumbline_random = original(tasks)
        return tasks.plumbline_random

    return get_next_task


def chooser(tasks: Any, task: Any) -> Callable[[float], Any]:
    """Return what chooses a task by a number from 0 to 1: always `task`, unless Locust has chosen it at random.

    Base and head so get the same tasks, as far as a locustfile leaves the choice to Locust.
    """
    is_random = type(tasks).get_next_task in (TaskSet.get_next_task, DefaultTaskSet.get_next_task)
    if not is_random or task is not getattr(tasks, "plumbline_random", None):
        return lambda _: task
    every = tasks.user.tasks if isinstance(tasks, DefaultTaskSet) else tasks.tasks
    several = [one for one in every if not (isinstance(one, type) and issubclass(one, TaskSet))]
    return lambda choice: several[int(choice * len(several))]


def take_over(environment: Any, **_: Any) -> None:
    """Replace the pace of all users by arrivals."""
    runner = environment.runner
    environment.shape_class = None
    if isinstance(runner, MasterRunner):
        return
    loop = OpenLoop(environment)
    if FOLDER in os.environ:  # not from elsewhere
        plan = json.loads(Path(os.environ[FOLDER], "plan.json").read_text("utf-8"))
        loop.hosts.allow(plan["hosts"])
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
                loop.run(tasks.user, chooser(tasks, task), lambda chosen: original(tasks, chosen))

        return execute_task

    for owner in (TaskSet, DefaultTaskSet):
        owner.execute_task = paced(owner.execute_task)  # type: ignore[method-assign]
        owner.get_next_task = remembered(owner.get_next_task)  # type: ignore[method-assign]
    waits: Any = TaskSet.wait

    def wait(tasks: TaskSet) -> None:
        """Wait if a task calls this. Between tasks, the next arrival, not `wait_time`, decides when a user goes on."""
        if loop.task():
            waits(tasks)
        else:
            gevent.sleep(0)

    TaskSet.wait = wait  # type: ignore[method-assign]


hooks.init.add_listener(take_over)
