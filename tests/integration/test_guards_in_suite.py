"""Leaks of tests and benchmarks that measure nothing, in a suite with real servers."""

from pathlib import Path

import pytest

from tests.support.project import STEADY_SETTINGS, Done, Project

SETTINGS = STEADY_SETTINGS.replace('backend = "off"', 'backend = "embedded"')

SUITE = """\
import asyncio
import threading
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
from redis.asyncio import Redis

from plumbline import Measure

LEFT: list[object] = []


@pytest.fixture(scope="session")
async def kept(redis_url: str, postgres_url: str) -> AsyncIterator[None]:
    client = Redis.from_url(redis_url, client_name="perf")
    await client.ping()
    connection = await asyncpg.connect(postgres_url, server_settings={"application_name": "perf"})
    yield
    await client.aclose()
    await connection.close()


async def test_keeps_connections(kept: None) -> None: ...


async def test_closes_connections(redis_url: str, postgres_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        await client.ping()
    connection = await asyncpg.connect(postgres_url)
    await connection.close()


async def test_ends_its_tasks() -> None:
    await asyncio.gather(asyncio.create_task(asyncio.sleep(0)), asyncio.sleep(0))


async def poll_for_ever() -> None:
    while True:
        await asyncio.sleep(3600)


async def test_leaks_a_task() -> None:
    LEFT.append(asyncio.create_task(poll_for_ever(), name="the poller"))
    await asyncio.sleep(0)


async def test_leaks_a_redis_connection(redis_url: str) -> None:
    client = Redis.from_url(redis_url)
    await client.echo("left")
    LEFT.append(client)


async def test_leaks_a_postgres_connection(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.fetchval("SELECT 'left open'")
    LEFT.append(connection)


@pytest.mark.timeout(2)  # pytest-timeout ends it after 3 s: on a busy machine, 1 s would be too near to that
async def test_blocks_the_loop() -> None:
    time.sleep(2.5)  # a driver that isn't asynchronous


@pytest.mark.timeout(1)
async def test_blocks_the_loop_for_ever() -> None:
    threading.Event().wait()


@pytest.mark.timeout(1)
async def test_waits_for_ever() -> None:
    await asyncio.Event().wait()  # nobody will set it


@pytest.mark.timeout(1)
def test_waits_for_ever_without_a_loop() -> None:
    threading.Lock().acquire() and threading.Event().wait()


async def test_fails_and_leaks_a_task() -> None:
    LEFT.append(asyncio.create_task(poll_for_ever(), name="another poller"))
    await asyncio.sleep(0)
    raise ValueError("its own failure")


async def test_leaves_the_loop(measure: Measure) -> None:
    async for timer in measure():
        with timer:
            pass
        break


def test_times_nothing(measure: Measure) -> None:
    for _timer in measure():
        pass


def test_times_twice(measure: Measure) -> None:
    for timer in measure():
        with timer:
            pass
        with timer:
            pass


def test_never_measures(measure: Measure) -> None: ...


def test_measures_two_things(measure: Measure) -> None:
    for _ in range(2):
        for timer in measure():
            with timer:
                pass


async def test_the_last(measure: Measure) -> None:
    async for timer in measure():
        with timer:
            await asyncio.sleep(0)
"""


@pytest.fixture(scope="module")
def suite(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The suite after one run."""
    project = Project.create(tmp_path_factory.mktemp("guards") / "project", environments)
    project.write("settings.toml", SETTINGS)
    project.write("test_suite.py", SUITE)
    return project


@pytest.fixture(scope="module")
def done(suite: Project) -> Done:
    """The end of the run."""
    return suite.run("ci")


@pytest.fixture(scope="module")
def outcomes(suite: Project, done: Done) -> dict[str, tuple[str, str]]:
    """The outcome and the message of each test."""
    assert done.code == 1, done.output
    return {
        test["key"].removeprefix("test_suite.py::test_"): (test["outcome"], test.get("message", ""))
        for test in suite.results()["tests"]
    }


def test_a_failed_test_fails_the_run(done: Done) -> None:
    """With the exit code of a failed test. The reason names the test."""
    assert done.code == 1, done.output
    assert "test failed: test_suite.py::test_" in done.output


@pytest.mark.parametrize("name", ["keeps_connections", "closes_connections", "ends_its_tasks", "the_last"])
def test_tests_without_leaks_pass(outcomes: dict[str, tuple[str, str]], name: str) -> None:
    """Connections of a wider fixture named `perf` are no leak. Tests after a failed one run."""
    assert outcomes[name] == ("passed", "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("leaks_a_task", ["left 1 task(s) running", "the poller", "poll_for_ever", "await asyncio.sleep(3600)"]),
        ("leaks_a_redis_connection", ["left connections open", "Redis connection", "last command echo", "'perf'"]),
        ("leaks_a_postgres_connection", ["left connections open", "PostgreSQL connection", "SELECT 'left open'"]),
        (
            "blocks_the_loop",
            ["something blocked the event loop", "the event loop itself was in", "test_suite.py", "time.sleep(2.5)  #"],
        ),
        ("blocks_the_loop_for_ever", ["Timeout", "threading.Event().wait()", "Something blocked the event loop"]),
        ("waits_for_ever", ["not done after 1 s", "the position of every task", "await asyncio.Event().wait()  #"]),
        ("waits_for_ever_without_a_loop", ["Timeout", "threading.Event().wait()"]),
        ("fails_and_leaks_a_task", ["its own failure", "It also left 1 task(s) running", "another poller"]),
        ("leaves_the_loop", ["the loop over measure() was left before its end"]),
        ("times_nothing", ["entered `with timer` never"]),
        ("times_twice", ["entered `with timer` more than once"]),
        ("never_measures", ["asked for the fixture `measure` and never called it"]),
        ("measures_two_things", ["measure() was called twice"]),
    ],
)
def test_leaks_and_misuse_fail_with_a_message(
    outcomes: dict[str, tuple[str, str]], name: str, words: list[str]
) -> None:
    """The message names the leak or the mistake, and its place."""
    outcome, message = outcomes[name]
    assert outcome == "failed"
    for word in words:
        assert word in message


def test_a_failed_benchmark_has_no_figures(suite: Project, done: Done) -> None:
    """Samples before the failure don't count."""
    assert done.code == 1
    assert set(suite.verdicts()) == {"test_suite.py::test_the_last"}


def test_a_leak_is_not_blamed_on_the_next_test(outcomes: dict[str, tuple[str, str]]) -> None:
    leaking = [name for name, (_, message) in outcomes.items() if "left connections open" in message]
    assert leaking == ["leaks_a_postgres_connection", "leaks_a_redis_connection"]
