"""Compare the error rates of the gate with those of pytest-benchmark: `python -m scripts.rivals --help`.

Both measure five operations of Redis and PostgreSQL. pytest-benchmark fails if a median is 10 % above the one that it
measured just before. It runs with its defaults, and also on one core with its servers, as the gate does.
"""

import argparse
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from plumbline import Services
from plumbline.measuring.cpu_affinity import CoreLock
from plumbline.selfcheck.record import Share
from plumbline.settings import Settings
from plumbline.settings_file import load_settings
from scripts.accuracy import SLOW_DOWN, Tally
from scripts.clones import ROOT, cloned, run_sections

OPERATIONS_FILE, OUR_FILE = "tests/sample_service/operations.py", "tests/performance/test_operations.py"
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
    """Run an operation, slower by the share SLOWER."""
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
"""The five operations, measured by Plumbline."""

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


class PytestBenchmark:
    """pytest-benchmark in a separate environment, with servers that Plumbline starts."""

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
        same = [f"{name}=={importlib.metadata.version(name)}" for name in ("pytest", "redis", "asyncpg")]
        install = [str(self._python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "pytest-benchmark", *same], check=True)

    def run(self) -> None:
        """Save one run, and compare two with it: an unchanged one, and one in which each operation is slower."""
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
        """Return the number of benchmarks that fail."""
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

    def show(self, title: str) -> None:
        wrong, caught = self._failed[0.0], self._failed[SLOW_DOWN]
        print(f"{title}:")
        print(f"  runs with a false positive: {Share(sum(map(bool, wrong)), len(wrong))}")
        print(f"  false positives by benchmark: {Share(sum(wrong), OPERATIONS_COUNT * len(wrong))}")
        print(f"  slow-downs caught: {Share(sum(caught), OPERATIONS_COUNT * len(caught))}")


def rivals(options: argparse.Namespace) -> None:
    """Run the gate and pytest-benchmark alternately, without a change and with each operation slower."""
    settings = load_settings(ROOT / "tests" / "performance" / "settings.toml")
    with cloned() as clone, tempfile.TemporaryDirectory() as folder:
        (clone.root / OPERATIONS_FILE).write_text(OPERATIONS, encoding="utf-8")
        (clone.root / OUR_FILE).write_text(OUR_BENCHMARKS, encoding="utf-8")
        clone.commit()
        recorded = clone.record_baseline(OUR_FILE)
        clone.pretend_another_host(recorded, 1.0)
        slower = {one.key: SLOW_DOWN for one in recorded.benchmarks}
        unchanged, slowed = Tally(), Tally()
        theirs = {
            "as it comes": PytestBenchmark(settings, Path(folder) / "free"),
            "on one core": PytestBenchmark(settings, Path(folder) / "pinned", pin=True),
        }
        for _ in range(options.runs):
            clone.touch(OPERATIONS_FILE)
            unchanged.add(clone.gate(OUR_FILE))
            clone.restore()
            clone.edit(OPERATIONS_FILE, ("SLOWER = 0.0", f"SLOWER = {SLOW_DOWN}"))
            slowed.add(clone.gate(OUR_FILE), slower)
            clone.restore()
            for one in theirs.values():
                one.run()
        unchanged.show("this gate on five operations, without a change")
        slowed.show(f"this gate on five operations, each {SLOW_DOWN:.0%} slower")
        for how, one in theirs.items():
            one.show(f"pytest-benchmark {how}, --benchmark-compare-fail=median:10%")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.rivals",
        description="Compare the gate with pytest-benchmark on five operations of Redis and PostgreSQL.",
        epilog="example: python -m scripts.rivals --runs 5",
    )
    parser.add_argument("--runs", type=int, default=10, help="runs of each tool (default: 10)")
    run_sections(parser, {"rivals": rivals})
