"""The longest hold of an event loop by one callback: in tests and in applications, on asyncio and on uvloop."""

import asyncio
import json
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from plumbline.counting.holds import LoopHolds
from plumbline.counting.probes import ProbedProcesses
from plumbline.results.schema import LoopHold
from plumbline.services.at_start.plumbline_probes import SOCKET, Probes
from plumbline.services.services import Services
from tests.unit.counting.on_loops import LOOPS, counted, served

HERE = Path(__file__)
HAS_MONITORING = sys.version_info >= (3, 12)
UNKNOWN = "an event loop other than asyncio's needs Python 3.12 or later"
HELD_S = 0.02
NUMBERS = list(range(200_000))

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
        await asyncio.sleep(0.001)
        time.sleep(0.02)
        await asyncio.sleep(0.001)
"""


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def a_sleep() -> None:
    time.sleep(HELD_S)  # noqa: ASYNC251


async def a_sleep_after_a_wait() -> None:
    await asyncio.sleep(0)
    await a_sleep()


async def python_code() -> None:
    await asyncio.sleep(0.001)
    spin(HELD_S)


async def a_sleep_after_an_error() -> None:
    try:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(1)
    except TimeoutError:
        await a_sleep()


async def one_call_in_c() -> None:
    await asyncio.sleep(0.001)
    json.dumps(NUMBERS)


def longest(body: Callable[[], Awaitable[object]], run: Callable[..., object]) -> list[tuple[float, str, str]]:
    """Return the seconds of the longest hold, its file and its function in each round but the first.

    On a busy machine, any callback may have to wait for the processor.
    """
    found: list[Any] = []

    async def main() -> None:
        probes = Probes([str(HERE.parents[3])])
        assert probes.begin(["holds"]) == {}
        for _ in range(4):
            probes.enter()
            await body()
            found.append(probes.leave()["holds"])
        probes.end()

    run_one = asyncio.Handle._run
    run(main())
    assert asyncio.Handle._run is run_one
    return [(duration_s, file, function) for duration_s, (file, _, function) in found[1:]]


RUNS = [asyncio.run, *([uvloop.run] if HAS_MONITORING else [])]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    ("body", "function"),
    [
        (a_sleep, "a_sleep"),
        (a_sleep_after_a_wait, "a_sleep"),
        (python_code, "spin"),
        (a_sleep_after_an_error, "a_sleep"),
    ],
)
def test_a_coroutine_that_holds_the_loop(
    body: Callable[[], Awaitable[object]], function: str, run: Callable[..., object]
) -> None:
    rounds = longest(body, run)
    assert min(duration_s for duration_s, *_ in rounds) >= HELD_S
    assert (str(HERE.relative_to(HERE.parents[3])), function) in [tuple(place) for _, *place in rounds]


@pytest.mark.parametrize("run", RUNS)
def test_a_call_in_c_that_lets_no_other_thread_run(run: Callable[..., object]) -> None:
    """The line is seen at the end of the call, if at all: the interpreter may be in another line already."""
    duration_s = max(duration_s for duration_s, *_ in longest(one_call_in_c, run))
    start = time.perf_counter()
    json.dumps(NUMBERS)
    assert duration_s > (time.perf_counter() - start) / 10


@pytest.mark.parametrize("run", RUNS)
def test_a_coroutine_that_waits_holds_nothing(run: Callable[..., object]) -> None:
    assert min(duration_s for duration_s, *_ in longest(lambda: asyncio.sleep(10 * HELD_S), run)) < 5 * HELD_S


@pytest.mark.skipif(HAS_MONITORING, reason="Python 3.12 and later can measure it")
def test_a_loop_that_cannot_be_measured() -> None:
    async def main() -> dict[str, str]:
        return Probes([str(HERE.parent)]).begin(["holds"])

    assert uvloop.run(main()) == {"holds": UNKNOWN}


@pytest.fixture(scope="module", params=LOOPS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Services]]:
    """The name of a loop, and an application on it."""
    with served(tmp_path_factory.mktemp("holds"), APPLICATION, request.param) as services:
        yield request.param, services


async def test_an_application_that_holds_its_loop(shop: tuple[str, Services]) -> None:
    loop, services = shop
    hold = (await counted(services, "/pay")).loop_hold
    assert hold is not None
    assert services.app is not None
    if loop == "uvloop" and not HAS_MONITORING:
        assert hold == LoopHold(0.0, unknown=f"{UNKNOWN} (in app)")
        return
    assert hold.duration_s >= HELD_S
    # On a busy machine, a callback of the test may have waited for longer.
    holds = LoopHolds(services.probes, services.own_folders)
    holds.begin()
    async with httpx.AsyncClient(base_url=services.app.address.url, trust_env=False) as client:
        for _ in range(4):
            holds.enter()
            await client.get("/pay")
            holds.leave()
    holds.end()
    found = [held for one in holds._processes.rounds for process, held in one["holds"] if process == "app"]
    assert min(duration_s for duration_s, _ in found) >= HELD_S
    line = next(n for n, text in enumerate(textwrap.dedent(APPLICATION).splitlines(), start=1) if "time.sleep" in text)
    assert ["shop.py", line, "pay"] in [place for _, place in found]


def test_a_process_that_begins_later_is_noticed(tmp_path: Path) -> None:
    processes = ProbedProcesses(["holds"], tmp_path, [])
    processes.begin()
    assert processes.are_all()
    (tmp_path / SOCKET.format("app", 1)).touch()
    assert not processes.are_all()
    processes.end()
