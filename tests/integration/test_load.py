"""`plumbline load` with real Locust processes and real servers."""

import argparse
import json
import os
import random
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from plumbline.commands.load import add_arguments
from plumbline.load_settings import LoadSettings
from plumbline.loading import locust_run
from plumbline.loading.plan import plan_windows
from plumbline.settings_file import load_settings
from tests.support.documentation import Block, blocks_of
from tests.support.project import ROOT
from tests.support.repository import Repository

APP = """\
import asyncio
import os

PAUSE_S = 0.0
seen = set()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    body = str(os.getpid()).encode()
    if scope["path"] == "/seen":
        body = str(len(seen)).encode()
    if scope["path"] not in ("/health", "/pid"):
        seen.add(scope["query_string"])
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
PAIRED = "rate_per_s = 40\nduration_s = 3\nwindow_s = 0.5\nleave_out_s = 0.1\n"


@pytest.fixture
def shop(tmp_path: Path, cache_home: Path) -> Repository:
    """A repository with an application and a locustfile. `late_ms` is for busy machines."""
    assert cache_home.is_dir()
    files = {"shop.py": APP, "tests/performance/locustfile.py": LOCUSTFILE}
    return Repository.create(tmp_path / "shop, open", {**files, "tests/performance/settings.toml": SETTINGS})


def load(shop: Repository, *arguments: str, code: int | None, **environ: str) -> str:
    """Return the output of a load test. `code`: its exit code, None for any."""
    command = [sys.executable, "-m", "plumbline", "load", *arguments]
    done = subprocess.run(
        command, cwd=shop.root, env={**os.environ, **environ}, capture_output=True, text=True, timeout=100
    )
    output = done.stdout + done.stderr
    assert code in (None, done.returncode), output
    return output


def results(shop: Repository) -> Any:
    return json.loads((shop.root / "perf-results" / "load.json").read_text())


@pytest.fixture
def served(shop: Repository) -> Iterator[str]:
    """The URL of an application that already runs."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(port), "--log-level", "warning"]
    with subprocess.Popen(command, cwd=shop.root) as process:
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


STALLS = """\
import os
import signal

import gevent
from locust import FastHttpUser, task

tasks = 0


def stall(pid):
    os.kill(pid, signal.SIGSTOP)
    gevent.sleep(0.5)
    os.kill(pid, signal.SIGCONT)


class User(FastHttpUser):
    @task
    def get(self):
        global tasks
        number = tasks = tasks + 1
        pid = int(GET("/").text)
        if number == 300:
            gevent.spawn(stall, pid)
"""
BESIDE = "gevent.spawn(self.client.get, URL).get()"  # as to send several requests at once


@pytest.mark.parametrize("get", ["self.client.get(URL)", BESIDE], ids=["directly", "in a greenlet of its own"])
def test_a_server_that_stops_for_500_ms_breaks_the_budget(shop: Repository, get: str) -> None:
    """Only 3 requests wait for it, but 100 more are due meanwhile."""
    limits = "rate_per_s = 200\nduration_s = 4\nleave_out_s = 0.5\nusers = 3\n[load.budgets]\np99_ms = 100\n"
    shop.write({"tests/performance/settings.toml": SETTINGS + limits})
    shop.write({"tests/performance/locustfile.py": STALLS.replace('GET("/")', get.replace("URL", '"/"'))})
    output = load(shop, code=1)
    assert "regression: p99" in output, output
    found = results(shop)
    [stage] = found["sides"][0]["stages"]
    assert stage["p99_ms"] >= 400
    assert stage["p99_from_sending_ms"] < stage["p99_ms"]
    assert stage["requests"] == pytest.approx(700, abs=140)
    assert found["verdict"] == "regression"
    assert "regression: p99" in (shop.root / "perf-results" / "load.md").read_text()
    assert "Load test: regression" in (shop.root / "perf-results" / "load.html").read_text()
    assert '<failure type="regression" message="regression: p99' in (shop.root / "perf-results/load.xml").read_text()


STOPS = """\
import os

from locust import FastHttpUser, task

tasks = 0


class User(FastHttpUser):
    @task
    def get(self):
        global tasks
        tasks += 1
        self.client.get("/")
        if tasks == 15:
            self.client.get(f"/stop?{os.getpid()}", name="/")
"""
STOPPING = """\
    if scope["path"] == "/stop":
        pid = int(scope["query_string"])
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(0.5)
        os.kill(pid, signal.SIGCONT)
    if scope"""


def test_a_generator_that_stops_for_500_ms_is_not_the_fault_of_the_application(shop: Repository) -> None:
    """With 2 users and 5 tasks a second, hardly any request and only one timer of Locust is late. But p95 is."""
    limits = "rate_per_s = 5\nduration_s = 6\nleave_out_s = 0.1\nusers = 2\nlate_ms = 100\n"
    limits += "[load.budgets]\np95_ms = 200\n"
    shop.write({"tests/performance/settings.toml": SETTINGS.replace("late_ms = 1000\n", limits)})
    application = APP.replace("import os\n", "import os\nimport signal\n").replace("    if scope", STOPPING, 1)
    shop.write({"shop.py": application, "tests/performance/locustfile.py": STOPS})
    output = load(shop, code=3)
    assert re.search(r"invalid: the load generator was \d+ ms late at the 99th percentile", output)
    assert results(shop)["sides"][0]["stages"][0]["max_ms"] > 400


def test_an_application_that_dies_makes_the_run_invalid(shop: Repository) -> None:
    """Nothing is known about its times, although most requests fail from then on."""
    dies = "        seen.add(len(seen))\n        if len(seen) == 20:\n            os._exit(7)\n"
    sleep = "        await asyncio.sleep(PAUSE_S)\n"
    shop.write({"shop.py": APP.replace(sleep, dies + sleep)})
    limits = "rate_per_s = 20\nduration_s = 2\nleave_out_s = 0.1\n"
    shop.write({"tests/performance/settings.toml": SETTINGS + limits})
    output = " ".join(load(shop, code=3).split())
    assert "invalid: in head: app is not ready: it has died" in output
    assert "exited with code 7" in output
    assert "next read its last output; lower the rate to see if the load is the cause" in output


def test_a_rate_above_what_the_generator_can_do_is_invalid(shop: Repository) -> None:
    """The application is not blamed."""
    limits = "rate_per_s = 20_000\nduration_s = 1\nleave_out_s = 0.1\nusers = 10\nanswer_limit_s = 1\n"
    shop.write({"tests/performance/settings.toml": SETTINGS.replace("1000", "20") + limits})
    output = load(shop, code=3)
    assert re.search(r"invalid: .* \(wanted 20000 arrivals/s, reached ", output)
    assert "verdict: invalid" in output


def test_without_the_base_of_a_proposed_change_the_run_is_invalid(shop: Repository) -> None:
    load(shop, code=3, GITHUB_ACTIONS="true", GITHUB_EVENT_NAME="pull_request", GITHUB_BASE_REF="lost")
    assert results(shop)["verdict"] == "invalid"
    assert 'name="the run"' in (shop.root / "perf-results" / "load.xml").read_text()


def test_a_locustfile_that_cannot_be_imported(shop: Repository) -> None:
    """Locust's last output is shown without passwords."""
    text = "import os\nraise RuntimeError(os.environ['SHOP_URL'].split(':')[2].split('@')[0])\n"
    shop.write({"tests/performance/locustfile.py": text})
    output = load(shop, code=3, SHOP_URL="https://me:correct-h0rse@shop.example")
    written = (shop.root / "perf-results" / "load.json").read_text()
    for shown in (output, written):
        assert "RuntimeError: ***" in shown
        assert "h0rse" not in shown
    assert results(shop)["verdict"] == "invalid"

    shop.write({"tests/performance/locustfile.py": "users = []\n"})
    assert "No User class found!" in load(shop, code=3)


def test_the_repositorys_own_configuration_of_locust_is_ignored(shop: Repository) -> None:
    """It is for load tests without Plumbline. With one of these options, the task would not run."""
    tagged = LOCUSTFILE.replace("import ", "import tag, ").replace("    @task", '    @tag("usual")\n    @task')
    configured = {
        "locust.conf": "tags = own\nrun-time = 1\n",
        "pyproject.toml": "[tool.locust]\nexclude-tags = 'usual'\n",
    }
    limits = "rate_per_s = 40\nduration_s = 2\nleave_out_s = 0.1\n"
    files = {"tests/performance/locustfile.py": tagged, "tests/performance/settings.toml": SETTINGS + limits}
    shop.write({**files, **configured})
    load(shop, "--alone", code=0, LOCUST_TAGS="own", LOCUST_RUN_TIME="1")
    assert results(shop)["sides"][0]["stages"][0]["requests"] > 0


def test_a_request_to_another_machine_is_refused(shop: Repository) -> None:
    get = 'self.client.get("/")'
    shop.write({"tests/performance/locustfile.py": LOCUSTFILE.replace(get, 'self.client.get("http://192.0.2.7/")')})
    output = " ".join(load(shop, code=3).split())
    assert "invalid: the load on head failed: the locustfile sends requests to 192.0.2.7, not this machine." in output
    assert 'set allow_external = ["192.0.2.7"] in settings.toml' in output


def test_too_few_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locust_run, "CONNECT_LIMIT_S", 1.0)
    (tmp_path / "locustfile.py").write_text(LOCUSTFILE)
    settings = LoadSettings()
    run = locust_run.LocustRun(
        "head",
        "http://127.0.0.1:9",
        settings,
        plan_windows(settings, ["head"], random.Random(1)),
        locustfile=tmp_path / "locustfile.py",
        root=tmp_path,
        folder=tmp_path,
        environ=os.environ,
        processes=1,
        workers_at=("127.0.0.1", free_port()),
        workers=2,
    )
    with run, pytest.raises(locust_run.LoadInvalid, match="fewer than 2 Locust workers connected within 1 s"):
        run.wait_ready()


PAGE = blocks_of(ROOT / "docs" / "how-to" / "load.md")


def test_a_slower_head_fails_beside_its_base(shop: Repository) -> None:
    """The locustfile is the one of the documentation. Both sides get the same load in turn, in 6 pairs of windows."""
    [locustfile] = [block.text for block in PAGE if block.language == "python"]
    shop.commit({"tests/performance/settings.toml": SETTINGS + PAIRED, "tests/performance/locustfile.py": locustfile})
    shop.write({"shop.py": APP.replace("PAUSE_S = 0.0", "PAUSE_S = 0.3")})
    output = load(shop, "--base", "HEAD", code=1)
    found = results(shop)
    base, head = (side["stages"][0] for side in found["sides"])
    assert head["p50_ms"] > base["p50_ms"] + 100
    changes = {one["figure"]: one for one in found["changes"]}
    assert changes["p50"]["verdict"] == "regression"
    assert changes["error share"]["verdict"] == "pass"
    assert "1 file differs: shop.py" in output


def test_both_sides_have_several_processes_of_locust(shop: Repository) -> None:
    """Each side has a master of Locust with a port of its own."""
    limits = "rate_per_s = 20\nduration_s = 3\nwindow_s = 1.5\nleave_out_s = 0.1\nprocesses = 2\n"
    shop.commit({"tests/performance/settings.toml": SETTINGS + limits})
    shop.write({"shop.py": f"{APP}\n# changed\n"})
    output = load(shop, "--base", "HEAD", code=None)
    assert "invalid" not in output
    base, head = (side["stages"][0]["requests"] for side in results(shop)["sides"])
    assert base == pytest.approx(56, abs=38)
    assert base == pytest.approx(head, abs=2)  # of the same arrivals


SHOWING_CORES = """\
    if scope["path"] == "/cores":
        async with redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]) as client:
            processes = {"app": 0, "redis": (await client.info("server"))["process_id"]}
        connection = await asyncpg.connect(os.environ["DATABASE_URL"])
        processes["postgres"] = await connection.fetchval("SELECT pg_backend_pid()")
        await connection.close()
        body = json.dumps({name: sorted(os.sched_getaffinity(one)) for name, one in processes.items()}).encode()
    headers ="""
CORES = APP.replace("import os\n", "import json\nimport os\n\nimport asyncpg\nimport redis.asyncio\n", 1).replace(
    "    headers =", SHOWING_CORES, 1
)
ASKS_FOR_CORES = """\
import json
import os
from pathlib import Path

from locust import FastHttpUser, task


class User(FastHttpUser):
    @task
    def get(self):
        found = self.client.get("/cores").json()
        found["locust"] = sorted(os.sched_getaffinity(0))
        Path(os.environ["SEEN"], str(os.getpid())).write_text(json.dumps(found))
"""
SERVERS = """\
backend = "embedded"

[env]
DATABASE_URL = "{postgres.url}"
REDIS_URL = "{redis.url}"

[app]
asgi = "shop:app"

[load]
late_ms = 1000
rate_per_s = 5
duration_s = 3
window_s = 1.5
leave_out_s = 0.1
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")
@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: "")(0)) < 2, reason="there is one core")
@pytest.mark.parametrize("base", ["--base HEAD", pytest.param("--alone", marks=pytest.mark.slow)])
def test_locust_has_cores_that_nothing_else_uses(shop: Repository, tmp_path: Path, base: str) -> None:
    """The servers are those of this run, which both sides share."""
    files = {"shop.py": CORES, "tests/performance/locustfile.py": ASKS_FOR_CORES}
    shop.commit({**files, "tests/performance/settings.toml": SERVERS})
    shop.write({"shop.py": f"{CORES}\n# changed\n"})
    seen = tmp_path / "seen"
    seen.mkdir()
    output = load(shop, *base.split(), code=None, SEEN=str(seen))
    found = [json.loads(one.read_text()) for one in seen.iterdir()]
    assert len(found) == (1 if base == "--alone" else 2), output
    for one in found:
        locust = {*one.pop("locust")}
        others = {core for cores in one.values() for core in cores}
        assert {*one} == {"app", "redis", "postgres"}
        assert not locust & others
        assert locust | others == os.sched_getaffinity(0)


DIES = """

import os
import signal

import gevent
from locust import events


@events.spawning_complete.add_listener
def die(**_):
    if os.environ.get("DIES"):
        gevent.spawn_later(1, os.kill, os.getpid(), signal.SIGKILL)
"""


WORKER = next(block.text for block in PAGE if block.text.startswith("uvx locust"))


def worker(port: int, *changes: tuple[str, str]) -> list[str]:
    """Return the command of the documentation."""
    text = WORKER.replace("HOST", "127.0.0.1").replace("5557", str(port))
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return [sys.executable, "-m", "locust", *text.split()[2:]]


@pytest.mark.parametrize("own", ["-f locustfile.py", "-f - --processes 2"], ids=["of its own", "of the master"])
def test_workers_with_a_locustfile(shop: Repository, served: str, own: str) -> None:
    """A worker with a locustfile of its own would send requests at another pace. `--processes` makes two workers."""
    limits = "rate_per_s = 20\nduration_s = 2\nleave_out_s = 0.5\n"
    shop.write({"tests/performance/settings.toml": SETTINGS + limits})
    port, is_own = free_port(), own.endswith(".py")
    with subprocess.Popen(worker(port, ("-f -", own)), cwd=shop.root / "tests" / "performance") as process:
        try:
            arguments = ["--host", served, "--workers-from", f"127.0.0.1:{port}", "--workers", "1" if is_own else "2"]
            output = load(shop, *arguments, code=3 if is_own else 0)
        finally:
            process.terminate()
    if is_own:
        assert "1 of 1 Locust workers run a locustfile of their own: start each with `-f -`" in output
        assert httpx.get(f"{served}/seen").text != "0"


@pytest.mark.parametrize("dies", ["", "1"], ids=["both end", "one dies"])
def test_two_workers_from_elsewhere(shop: Repository, served: str, tmp_path: Path, dies: str) -> None:
    """They get the locustfile from the master. Both have sent requests, or the run is invalid."""
    get = 'self.client.get("/")'
    locustfile = LOCUSTFILE.replace(get, 'import os; self.client.get(f"/?{os.getpid()}", name="/")') + DIES
    shop.write({"tests/performance/locustfile.py": locustfile})
    limits = "rate_per_s = 20\nduration_s = 3\nleave_out_s = 0.5\n[load.budgets]\np50_ms = 2000\nerror_share = 0\n"
    shop.write({"tests/performance/settings.toml": SETTINGS + limits})
    port = free_port()
    workers = [
        subprocess.Popen(worker(port), cwd=tmp_path, env={**os.environ, "DIES": kill}, stderr=subprocess.DEVNULL)
        for kill in ("", dies)
    ]
    try:
        arguments = ["--host", served, "--workers-from", f"127.0.0.1:{port}", "--workers", "2"]
        output = load(shop, *arguments, code=3 if dies else 0)
    finally:
        for one in workers:
            one.kill()
            one.wait()
    if dies:
        assert "1 of 2 Locust workers died" in output
    else:
        assert httpx.get(f"{served}/seen").text == "2"
        assert results(shop)["sides"][0]["stages"][0]["requests"] == pytest.approx(50, abs=36)


@pytest.mark.parametrize("block", [block for block in PAGE if block.language in ("toml", "console")], ids=str)
def test_the_page_has_settings_and_options_that_exist(block: Block, tmp_path: Path) -> None:
    """Those of Locust are used by the test of workers."""
    if block.language == "toml":
        (tmp_path / "settings.toml").write_text(block.text)
        load_settings(tmp_path / "settings.toml", {})
    elif not block.text.startswith("uvx locust"):
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        for line in block.text.splitlines():
            parser.parse_args(line.split()[5:])
