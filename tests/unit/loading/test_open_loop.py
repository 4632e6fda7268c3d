"""The times when requests are due. In a process of its own, because gevent patches the standard library."""

import subprocess
import sys

from plumbline.loading.locust_run import MODULES

CODE = f"""
import sys
import time
sys.path.insert(0, {str(MODULES[0].parent)!r})
from locust import User
from locust.env import Environment
from time import sleep  # as a locustfile may import it
import gevent
from gevent.pool import Group
from locust import SequentialTaskSet, TaskSet
from locust.user.task import DefaultTaskSet
from plumbline_open_loop import Arrival, OpenLoop, Shares, arrivals, chooser, remembered

WAIT_S, BUSY_S = 0.05, 0.3

def keep_busy():
    until_s = time.perf_counter() + BUSY_S
    while time.perf_counter() < until_s:
        pass

loop = OpenLoop(Environment(user_classes=[User]))
loop.environment.create_local_runner()
loop.begun.set()
now_s = loop._begin_s = time.perf_counter()
answered = {{}}

def request(name):
    loop.request(0.0, None, name)
    answered[name] = time.perf_counter() - now_s

def run(task):
    loop._shares.arrivals = iter([Arrival(0.0, 100.0, 0.0, 0.0)])
    gevent.spawn(loop.run, None, lambda _: task, lambda task: task()).join()

def row(name):
    return next(one for one in loop.rows["requests"] if one[3] == name)
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_later_request_is_due_when_its_user_has_waited() -> None:
    """The process is busy when the user's wait is over. The request is late by the rest."""
    run(
        """
def task():
    request("first")
    gevent.spawn(keep_busy)
    sleep(WAIT_S)
    request("second")
    sleep(WAIT_S)
    request("third")
    gevent.spawn(keep_busy)
    gevent.sleep(WAIT_S)
    request("fourth")

run(task)
for before, name in (("first", "second"), ("third", "fourth")):
    due_s, late_s, took_s, _, _ = row(name)
    assert late_s > BUSY_S - WAIT_S - 0.01, late_s
    assert due_s > answered[before] + WAIT_S - 0.01
    assert due_s + late_s < answered[name]
"""
    )


def test_what_else_a_user_waits_for_is_its_own_wait() -> None:
    run(
        """
from gevent.event import Event

def task():
    request("first")
    done = Event()
    gevent.spawn_later(WAIT_S, done.set)
    done.wait()
    request("second")

run(task)
due_s, late_s, *_ = row("second")
assert late_s == 0
assert due_s > answered["first"] + WAIT_S - 0.01
"""
    )


def test_a_wait_within_a_request_is_part_of_its_time() -> None:
    run(
        """
def task():
    request("first")
    begun_s = time.perf_counter()
    gevent.spawn(keep_busy)
    sleep(WAIT_S)
    took_s = time.perf_counter() - begun_s
    loop.request(1000 * took_s, None, "polled")

run(task)
due_s, late_s, took_s, _, _ = row("polled")
assert took_s >= BUSY_S
assert late_s == 0
"""
    )


def test_requests_that_a_task_sends_at_once_are_as_late_as_the_task() -> None:
    run(
        """
keep_busy()

def task():
    group = Group()
    for name in ("a", "b"):
        group.spawn(lambda name: (sleep(WAIT_S), loop.request(1000 * WAIT_S, None, name)), name)
    group.join()
    request("last")

run(task)
for name in ("a", "b"):
    due_s, late_s, took_s, _, _ = row(name)
    assert late_s >= BUSY_S, late_s
    assert took_s == WAIT_S
assert row("last")[1] < BUSY_S
"""
    )


def test_slow_users_get_as_many_arrivals_as_fast_ones() -> None:
    """Otherwise fewer requests would show that they are slow. The arrivals of users that have ended go to others."""
    run(
        """
class Fast(User):
    pass

class Once(User):
    pass

class Slow(User):
    pass

def work(user):
    name = type(user).__name__
    while True:
        loop.run(user, lambda _: name, lambda name: (request(name), name == "Slow" and gevent.sleep(1e6)))
        if name == "Once":
            return

def turns():
    for _ in range(1000):
        gevent.sleep(0)

loop.begun.clear()
for kind in (Slow, Fast, Once):
    for _ in range(3):
        gevent.spawn(work, kind(loop.environment))
turns()
loop._shares.arrivals = iter([Arrival(0.0, 1e6, number * 7 % 300 / 300, 0.0) for number in range(300)])
loop.begun.set()
turns()
names = [row[3] for row in loop.rows["requests"]]
assert names.count("Once") == 3
assert names.count("Slow") == 3
left = len(list(loop._shares.rest()))
assert len(names) + left == 300
assert 130 <= names.count("Fast") <= 170, names.count("Fast")
assert 130 <= left <= 170, left

fast, once, shares = Fast(loop.environment), Once(loop.environment), Shares()
shares.join(fast)
shares.join(once)
shares.arrivals = iter([Arrival(due_s, 1e6, number, 0.0) for due_s, number in ((1.0, 0.9), (2.0, 0.9), (3.0, 0.1))])
assert shares.next(fast).due_s == 3.0
shares.leave(once)
assert [shares.next(fast).due_s for _ in range(2)] == [1.0, 2.0]
"""
    )


def test_base_and_head_get_the_same_tasks_with_their_weights() -> None:
    """But tasks of a sequence, or that the locustfile has chosen itself, stay as they are."""
    run(
        """
class Nested(TaskSet):
    pass

def often(user): ...
def rarely(user): ...

class Buyer(User):
    tasks = {often: 3, rarely: 1, Nested: 1}

class Own(TaskSet):
    tasks = [often, rarely]

    def get_next_task(self):
        super().get_next_task()
        return rarely

class Steps(SequentialTaskSet):
    tasks = [often, rarely]

for owner in (TaskSet, DefaultTaskSet):
    owner.get_next_task = remembered(owner.get_next_task)
numbers = [arrival.task for arrival in arrivals([(0.0, 20.0, 50.0, 1)], 0, 1)]

def chosen(tasks):
    found = []
    for number in numbers:
        task = tasks.get_next_task()
        if task is not Nested:
            found.append((number, chooser(tasks, task)(number)))
    return found

buyer = Buyer(loop.environment)
base, head = (dict(chosen(DefaultTaskSet(buyer))) for _ in range(2))
both = base.keys() & head.keys()
assert len(both) > 400
assert [base[number] for number in both] == [head[number] for number in both]
assert abs(len([one for one in base.values() if one is often]) / len(base) - 0.75) < 0.08
assert {task for _, task in chosen(Own(buyer))} == {rarely}
assert [task for _, task in chosen(Steps(buyer))][:4] == [often, rarely] * 2
tasks = DefaultTaskSet(buyer)
tasks.get_next_task()
assert chooser(tasks, tasks.interrupt)(0.5) == tasks.interrupt
"""
    )
