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
from plumbline_open_loop import OpenLoop

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
    loop._shares.arrivals = iter([(0.0, 100.0, 0.0)])
    gevent.spawn(loop.run, None, "task", task).join()

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
class Slow(User):
    pass

class Fast(User):
    pass

class Once(User):
    pass

def pause(user):
    if isinstance(user, Slow):
        sleep(BUSY_S)

def work(user):
    name = type(user).__name__
    while True:
        loop.run(user, name, lambda: (request(name), pause(user)))
        if name == "Once":
            return

loop.begun.clear()
users = [kind(loop.environment) for kind in (Slow, Fast, Once) for _ in range(3)]
for user in users:
    gevent.spawn(work, user)
gevent.sleep(0)
loop.begin({"hosts": [], "windows": [(0.0, 1.2, 200.0, 1)], "part": 0, "parts": 1, "in_s": 0.0, "answer_limit_s": 1.0})
sent = []
loop.environment.runner.send_message = lambda name, data: sent.append(data)
while {} not in sent:
    gevent.sleep(WAIT_S)
names = [row[3] for data in sent for row in data.get("requests", ())]
missed = names.count("")
slow, fast, once = (names.count(name) for name in ("Slow", "Fast", "Once"))
assert once == 3, once
assert missed > 60, missed  # those of slow users
assert abs(slow + missed - fast) < 60, (slow, missed, fast)
"""
    )
