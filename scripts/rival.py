"""Five operations measured by pytest-benchmark, to be held beside the gate: for `scripts.gate_numbers`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from plumbline.comparing.trees.installer import find_uv
from plumbline.measuring.cpu_affinity import CoreLock
from plumbline.results.environment import installed_packages
from plumbline.selfcheck.share import Share
from plumbline.services import Services
from plumbline.settings import Settings
from scripts.numbers import ROOT

SLOW_DOWN = 0.1
OPERATIONS_COUNT = 5
OPERATIONS = '''\
"""Five operations, as plain coroutines."""

from collections.abc import Awaitable
from time import perf_counter
from typing import Any

import asyncpg
from redis.asyncio import Redis

SLOWER = 0.0


async def slowed(operation: Awaitable[object]) -> None:
    """An operation that is slower by this share."""
    began_s = perf_counter()
    await operation
    busy(SLOWER * (perf_counter() - began_s))


def busy(duration_s: float) -> None:
    until_s = perf_counter() + duration_s
    while perf_counter() < until_s:
        pass


async def publish(redis: Redis, _database: Any) -> None:
    await redis.publish("channel", "message")


async def get(redis: Redis, _database: Any) -> None:
    await redis.get("value")


async def pipeline(redis: Redis, _database: Any) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for number in range(50):
            pipe.set(f"key:{number}", "value")
        await pipe.execute()


async def select_1(_redis: Redis, database: Any) -> None:
    await database.fetchval("SELECT 1")


async def row_by_key(_redis: Redis, database: Any) -> None:
    await database.fetchrow("SELECT id, name, amount FROM rows WHERE id = $1", 50)


OPERATIONS = [publish, get, pipeline, select_1, row_by_key]


async def fill(redis: Redis, database: Any) -> None:
    await redis.set("value", "x" * 100)
    await database.execute("DROP TABLE IF EXISTS rows")
    await database.execute("CREATE TABLE rows (id bigint PRIMARY KEY, name text, amount int)")
    await database.execute("INSERT INTO rows SELECT n, 'row ' || n, n FROM generate_series(1, 1000) AS n")
'''
OUR_BENCHMARKS = '''\
"""The five operations, measured by the harness."""

import pytest

from tests.sample_service import operations


@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=lambda one: one.__name__)
async def test_operation(redis_client, postgres, measure, operation):
    await operations.fill(redis_client, postgres)
    async for timer in measure():
        with timer:
            await operations.slowed(operation(redis_client, postgres))
'''
THEIR_BENCHMARKS = '''\
"""The five operations, measured by pytest-benchmark."""

import asyncio
import os
from time import perf_counter

import asyncpg
import operations
import pytest
from redis.asyncio import Redis

SLOWER = float(os.environ["SLOWER"])
LOOP = asyncio.new_event_loop()


@pytest.fixture(scope="session")
def clients():
    redis = Redis.from_url(os.environ["THE_REDIS"])
    database = LOOP.run_until_complete(asyncpg.connect(os.environ["THE_DATABASE"]))
    LOOP.run_until_complete(operations.fill(redis, database))
    yield redis, database
    LOOP.run_until_complete(database.close())
    LOOP.run_until_complete(redis.aclose())


@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=lambda one: one.__name__)
def test_operation(benchmark, clients, operation):
    def run():
        began_s = perf_counter()
        LOOP.run_until_complete(operation(*clients))
        operations.busy(SLOWER * (perf_counter() - began_s))

    benchmark(run)
'''


class Rival:
    """pytest-benchmark in an environment of its own, on servers of our harness; what it found is counted."""

    def __init__(self, settings: Settings, folder: Path, *, pin: bool = False) -> None:
        folder.mkdir()
        self._settings = settings
        self._folder = folder
        self._pin = pin
        self._failed: dict[float, list[int]] = {0.0: [], SLOW_DOWN: []}
        (folder / "operations.py").write_text(OPERATIONS, encoding="utf-8")
        (folder / "test_operations.py").write_text(THEIR_BENCHMARKS, encoding="utf-8")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="ascii")
        self._python = folder / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        ours = installed_packages()
        packages = ["pytest-benchmark", *(f"{name}=={ours[name]}" for name in ("pytest", "redis", "asyncpg"))]
        uv = find_uv()
        install = [*uv, "pip", "install", "--python"] if uv else []
        install = [*install, str(self._python)] if uv else [str(self._python), "-m", "pip", "install"]
        subprocess.run([*install, "--quiet", *packages], check=True, stderr=subprocess.DEVNULL)

    def run(self) -> None:
        """Measure and keep; compare with that, first without a change and then slower."""
        shutil.rmtree(self._folder / "kept", ignore_errors=True)
        lock = CoreLock.acquire("auto" if self._pin else "off")
        services = Services(self._settings, ROOT)
        try:
            services.begin()
            services.wait_ready()
            if lock.core is not None:
                for service in services.running():
                    service.pin({lock.core})
            self._measure(services, lock.core, 0.0, "--benchmark-save=base")
            for slower, found in self._failed.items():
                compare = ("--benchmark-compare", "--benchmark-compare-fail=median:10%")
                found.append(self._measure(services, lock.core, slower, *compare))
        finally:
            services.stop()
            lock.release()

    def _measure(self, services: Services, core: int | None, slower: float, *arguments: str) -> int:
        """Return how many benchmarks it fails."""
        assert services.redis is not None
        assert services.postgres is not None
        urls = {"THE_REDIS": services.redis.address.url, "THE_DATABASE": services.postgres.address.url}
        done = subprocess.run(
            [str(self._python), "-m", "pytest", "-q", f"--benchmark-storage={self._folder / 'kept'}", *arguments],
            cwd=self._folder,
            env={**os.environ, **urls, "SLOWER": str(slower)},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
        found = len(re.findall("has failed PercentageRegressionCheck", done.stdout + done.stderr))
        if (done.returncode != 0) != (found > 0):
            sys.exit(f"pytest-benchmark ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return found

    def report_lines(self) -> list[str]:
        """Return the result, line by line."""
        alarms, caught = self._failed[0.0], self._failed[SLOW_DOWN]
        return [
            f"  runs with a false alarm: {Share(sum(map(bool, alarms)), len(alarms))}",
            f"  false alarms by benchmark: {Share(sum(alarms), OPERATIONS_COUNT * len(alarms))}",
            f"  slow-downs caught: {Share(sum(caught), OPERATIONS_COUNT * len(caught))}",
        ]
