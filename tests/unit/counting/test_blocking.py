"""Calls that block an event loop, in the test's process and in applications on asyncio and on uvloop."""

import asyncio
import http.server
import logging
import os
import queue
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from time import sleep

import httpx
import pytest
import requests
import uvloop
from sqlalchemy.util import await_only, greenlet_spawn

from plumbline.counting import counter as module
from plumbline.counting.call_sites import BlockingCalls
from plumbline.counting.counter import Counter
from plumbline.results.schema import CallSite
from plumbline.services.at_start.plumbline_probes import Probes
from plumbline.services.services import Services
from tests.unit.counting.conftest import Body, Pass, held
from tests.unit.counting.on_loops import LOOPS, counted, served

Found = dict[str, int]
HERE = Path(__file__)
LOCK = threading.Lock()

APPLICATION = """
    import asyncio
    import time

    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/health")
    async def health():
        return "well"

    @app.get("/pay")
    async def pay():
        time.sleep(0.001)
        with open(__file__) as file:
            return len(file.read())

    @app.get("/thread")
    def thread():
        time.sleep(0.001)

    @app.get("/wait")
    async def wait():
        await asyncio.sleep(0.001)
        await asyncio.to_thread(time.sleep, 0.001)
"""


def blocked(body: Body, *, run: Callable[..., object] = asyncio.run) -> tuple[Found, set[str]]:
    """Return how often each function blocks the loop while a coroutine function runs, and the files and lines."""
    rows: list[tuple[str, str, str, int, str, int]] = []

    async def main() -> None:
        await body()  # what is done once, such as imports
        probes = Probes([str(HERE.parents[3])])
        assert probes.begin(["blocking"]) == {}
        probes.enter()
        try:
            await body()
        finally:
            rows.extend(probes.leave()["blocking"])
            probes.end()

    run(main())
    assert sys.getprofile() is None
    found: Found = {}
    for _, name, *_, number in rows:
        found[name] = found.get(name, 0) + number
    return found, {f"{file}:{line}" for _, _, file, line, _, _ in rows}


@pytest.fixture
def server() -> Iterator[str]:
    """The URL of a server that answers with an error."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


async def a_sleep() -> None:
    time.sleep(0)  # noqa: ASYNC251


async def a_sleep_by_another_name() -> None:
    sleep(0)  # noqa: ASYNC251


async def a_sleep_in_generated_code() -> None:
    exec("sleep(0)", {"sleep": sleep})  # noqa: S102


async def a_sleep_in_a_greenlet() -> None:
    def work() -> None:
        await_only(asyncio.sleep(0))
        time.sleep(0)

    await greenlet_spawn(work)


async def a_file() -> None:
    with open(HERE) as file:  # noqa: ASYNC230, PTH123
        file.read()


async def a_path() -> None:
    HERE.read_bytes()  # noqa: ASYNC240
    HERE.exists()  # noqa: ASYNC240


async def a_process() -> None:
    subprocess.run(["true"], capture_output=True, check=True)  # noqa: ASYNC221


async def a_database() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("SELECT 1").fetchall()


async def a_lock() -> None:
    with LOCK:
        LOCK.acquire(timeout=0.001)


async def an_event() -> None:
    threading.Event().wait(0.001)


async def an_answer_in_two_parts() -> None:
    one, other = socket.socketpair()
    with one, other:
        other.sendall(one.send(b"?") * b"ab")
        one.recv(1), one.recv(1)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (an_answer_in_two_parts, {"socket.socket.send": 1, "socket.socket.sendall": 1, "socket.socket.recv": 1}),
        (a_sleep, {"time.sleep": 1}),
        (a_sleep_by_another_name, {"time.sleep": 1}),
        (a_sleep_in_a_greenlet, {"time.sleep": 1}),
        (a_file, {"open": 1, "io.TextIOWrapper.read": 1}),
        (a_path, {"open": 1, "io.BufferedReader.read": 1, "os.stat": 1}),
        (a_process, {"subprocess.Popen": 1, "subprocess.Popen.communicate": 1}),
        (a_database, {"sqlite3.Connection.execute": 1, "sqlite3.Cursor.fetchall": 1}),
        (a_lock, {"threading.Lock.acquire": 1}),
        (an_event, {"threading.Lock.acquire": 1}),
    ],
)
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_coroutine_that_blocks(body: Body, expected: Found, run: Callable[..., object]) -> None:
    found, places = blocked(body, run=run)
    assert found == expected
    first = body.__code__.co_firstlineno
    assert places
    assert places <= {f"{HERE.relative_to(HERE.parents[3])}:{line}" for line in range(first + 1, first + 5)}


def test_a_call_in_generated_code() -> None:
    """It is counted without a line."""
    found, places = blocked(a_sleep_in_generated_code)
    assert (found, places) == ({"time.sleep": 1}, {":0"})
    answers = [("app", [("blocking", "time.sleep", "", 0, "", 1)])]
    assert BlockingCalls().numbers(answers) == {"blocking time.sleep": 1}
    assert BlockingCalls().sites(answers) == {}


async def an_await() -> None:
    await asyncio.sleep(0)


async def a_pool_of_threads() -> None:
    await asyncio.to_thread(time.sleep, 0)
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0)


async def processes_and_connections_of_asyncio() -> None:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await reader.read()
        writer.close()


async def a_path_that_is_longer_on_other_machines() -> None:
    os.path.realpath(HERE)  # noqa: ASYNC240


async def what_does_not_wait() -> None:
    with LOCK:
        LOCK.acquire(False)
        LOCK.acquire(blocking=False)
        LOCK.acquire(timeout=0)
    with LOCK:
        pass
    jobs: queue.Queue[int] = queue.Queue()
    jobs.put(1)
    jobs.get()
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        one.send(b"")


async def a_log() -> None:
    logging.getLogger("shop").warning("to standard error")
    sys.stdout.write("to standard output\n")


async def an_import() -> None:
    sys.modules.pop("colorsys", None)
    import colorsys  # noqa: F401


@pytest.mark.parametrize(
    "body",
    [
        a_path_that_is_longer_on_other_machines,
        an_await,
        a_pool_of_threads,
        processes_and_connections_of_asyncio,
        what_does_not_wait,
        a_log,
        an_import,
    ],
)
def test_a_coroutine_that_does_not_block(body: Body) -> None:
    assert blocked(body) == ({}, set())


def test_a_request_by_a_client_that_blocks(server: str) -> None:
    async def body() -> None:
        requests.get(server, timeout=10)  # noqa: ASYNC210

    found, places = blocked(body)
    assert found["socket.socket.connect"] == found["socket.socket.sendall"] == found["socket.getaddrinfo"] == 1
    assert found["socket.socket.recv_into"] == 1  # an answer, in however many parts
    assert len(places) == 1


def test_a_thread_that_begins_in_a_round() -> None:
    """The client for tests of Starlette runs an application in a new thread, with a loop of its own."""
    with ThreadPoolExecutor(1) as pool:
        probes = Probes([str(HERE.parent)])
        assert probes.begin(["blocking"]) == {}
        probes.enter()
        pool.submit(asyncio.run, a_sleep()).result()
        found = probes.leave()["blocking"]
        probes.end()
        assert [name for _, name, *_ in found] == ["time.sleep"]
        assert pool.submit(sys.getprofile).result() is None


def test_a_profiler_stays_in_place() -> None:
    def profiler(*_: object) -> None:
        pass

    probes = Probes([str(HERE.parent)])
    sys.setprofile(profiler)
    try:
        assert probes.begin(["blocking"]) == {"blocking": "another profiler is in use"}
        probes.end()
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)


@pytest.fixture(scope="module", params=LOOPS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """An application on a loop."""
    with served(tmp_path_factory.mktemp("blocking"), APPLICATION, request.param) as services:
        yield services


async def test_an_application_that_blocks(shop: Services) -> None:
    counts = await counted(shop, "/pay")
    names = ("time.sleep", "open", "io.TextIOWrapper.read")
    assert {name: count for name, count in counts.same.items() if name.startswith("blocking")} == {
        f"blocking {name}": 1 for name in names
    }
    lines = textwrap.dedent(APPLICATION).splitlines()
    line = next(number for number, text in enumerate(lines, start=1) if "time.sleep" in text)
    assert counts.sites["blocking time.sleep"] == [CallSite("shop.py", line, "pay", 1, "app")]
    assert counts.sites["blocking io.TextIOWrapper.read"] == [CallSite("shop.py", line + 2, "pay", 1, "app")]


@pytest.mark.parametrize("path", ["/thread", "/wait", "/health"])
async def test_an_application_that_does_not_block(shop: Services, path: str) -> None:
    counts = await counted(shop, path)
    assert "blocking" in counts.families
    assert not [name for name in (*counts.same, *counts.varying, *counts.sites) if name.startswith("blocking")]


async def test_a_call_that_is_not_in_each_round_varies(shop: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last round is counted, and one more because it has such a call."""
    monkeypatch.setattr(module, "LONG_S", 60.0)
    assert shop.app is not None
    with closing(Counter(shop)) as counter:
        async with httpx.AsyncClient(base_url=shop.app.address.url, trust_env=False) as client:
            rounds = Pass(counter)
            for number, timer in enumerate(rounds, start=1):
                with timer:
                    await client.get("/pay" if number == module.PASSES else "/wait")
    assert rounds.counts.varying["blocking time.sleep"] == [1, 0]


async def test_a_call_that_begins_to_block_fails(shop: Services) -> None:
    grown = held(await counted(shop, "/wait"), await counted(shop, "/pay"))
    assert grown["blocking time.sleep"] == (0, 1)
