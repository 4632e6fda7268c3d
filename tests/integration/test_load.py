"""`plumbline load` with real Locust processes and real servers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.repository import Repository

APP = """\
import asyncio
import os

PAUSE_S = 0.0


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    body = str(os.getpid()).encode()
    if scope["path"] == "/":
        await asyncio.sleep(PAUSE_S)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
LOCUSTFILE = """\
from locust import FastHttpUser, constant, task


class User(FastHttpUser):
    wait_time = constant(60)  # not used

    @task
    def get(self):
        self.client.get("/")
"""
SETTINGS = 'backend = "off"\n[app]\nasgi = "shop:app"\n[load]\nlate_ms = 1000\n'


@pytest.fixture
def shop(tmp_path: Path, cache_home: Path) -> Repository:
    """A repository with an application and a locustfile. `late_ms` is for busy machines."""
    assert cache_home.is_dir()
    files = {"shop.py": APP, "tests/performance/locustfile.py": LOCUSTFILE}
    return Repository.create(tmp_path / "shop", {**files, "tests/performance/settings.toml": SETTINGS})


def load(shop: Repository, *arguments: str, code: int, **environ: str) -> str:
    command = [sys.executable, "-m", "plumbline", "load", *arguments]
    done = subprocess.run(
        command, cwd=shop.root, env={**os.environ, **environ}, capture_output=True, text=True, timeout=100
    )
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    return output


def results(shop: Repository) -> Any:
    return json.loads((shop.root / "perf-results" / "load.json").read_text())


STALL = """

import contextlib
import os
import signal

import gevent
import httpx
from locust import events


@events.spawning_complete.add_listener
def stall(**_):
    def stop():
        pid = int(httpx.get(User.host + "/pid").text)
        with contextlib.suppress(OSError):  # only this test may keep it waiting
            os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
        gevent.sleep(3)
        os.kill(pid, signal.SIGSTOP)
        gevent.sleep(0.5)
        os.kill(pid, signal.SIGCONT)

    gevent.spawn(stop)
"""


def test_a_server_that_stops_for_500_ms_breaks_the_budget(shop: Repository) -> None:
    """Only 3 requests wait for it, but 50 more are due meanwhile."""
    limits = "rate_per_s = 100\nduration_s = 8\nleave_out_s = 1\nusers = 3\n[load.budgets]\np99_ms = 300\n"
    shop.write({"tests/performance/settings.toml": SETTINGS + limits})
    shop.write({"tests/performance/locustfile.py": LOCUSTFILE + STALL})
    output = load(shop, code=1)
    assert "regression: p99" in output
    found = results(shop)
    [stage] = found["sides"][0]["stages"]
    assert stage["p99_ms"] >= 400
    assert stage["p99_from_sending_ms"] < stage["p99_ms"]
    assert stage["requests"] == pytest.approx(700, abs=140)
    assert found["verdict"] == "regression"
    assert "regression: p99" in (shop.root / "perf-results" / "load.md").read_text()
