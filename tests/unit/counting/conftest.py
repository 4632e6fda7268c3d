"""Servers, an application and a worker whose work is counted."""

import contextlib
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from plumbline.counting import counter as module
from plumbline.counting.counter import Counter, Round
from plumbline.judging.counts import compare_counts
from plumbline.results.schema import Counts
from plumbline.services.services import Services
from plumbline.settings_file import load_settings
from tests.support.traces import skip_without_docker

SETTINGS = """\
backend = "{backend}"
counts.memory = false

[env]
SAMPLE_DATABASE_URL = "{postgres.url}"
SAMPLE_REDIS_URL = "{redis.url}"

[postgres.config]
autovacuum = false

[app]
asgi = "sample:app"

[processes.worker]
command = ["python", "worker.py"]
ready_output = "ready"
"""

APPLICATION = """
    import os
    from contextlib import asynccontextmanager

    import asyncpg
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, PlainTextResponse
    from starlette.routing import Route

    @asynccontextmanager
    async def lifespan(app):
        async with asyncpg.create_pool(os.environ["SAMPLE_DATABASE_URL"], min_size=1, max_size=1) as pool:
            yield {"pool": pool}

    async def order(request):
        many = "many" in request.query_params
        async with request.state.pool.acquire() as connection, connection.transaction():
            if many:
                lines = [await connection.fetchval("SELECT n FROM line WHERE id = $1", id) for id in range(50)]
            else:
                rows = await connection.fetch("SELECT n FROM line WHERE id < 50 ORDER BY id")
                lines = [row["n"] for row in rows]
        return JSONResponse(lines)

    async def health(request):
        return PlainTextResponse("well")

    app = Starlette(lifespan=lifespan, routes=[Route("/health", health), Route("/order", order)])
"""

WORKER = """
    import asyncio
    import os

    import asyncpg
    from redis.asyncio import Redis

    async def main():
        database = await asyncpg.connect(os.environ["SAMPLE_DATABASE_URL"])
        url = os.environ["SAMPLE_REDIS_URL"]
        async with Redis.from_url(url, decode_responses=True, socket_timeout=None) as redis:  # tasks may be rare
            print("ready")
            while True:
                _, task = await redis.blpop(["tasks"])
                async with database.transaction():
                    if task == "many":
                        for id in range(50):
                            await database.execute("UPDATE line SET n = n WHERE id = $1", id)
                    else:
                        await database.execute("UPDATE line SET n = n WHERE id < 50")
                await redis.rpush("done", task)

    asyncio.run(main())
"""

Body = Callable[[], Awaitable[object]]
Count = Callable[..., Awaitable[Counts]]


class Pass:
    """The rounds of one pass, and their counts when they are over."""

    def __init__(self, counter: Counter, operations: int = 1) -> None:
        self.counts = Counts()
        self._rounds = counter.rounds(operations, lambda: None)

    def __iter__(self) -> Iterator[Round]:
        self.counts = yield from self._rounds


@contextlib.contextmanager
def started(root: Path) -> Iterator[Services]:
    """Start the services of `settings.toml` in the folder `root`, and the application."""
    services = Services(load_settings(root / "settings.toml", {}), root, environ={})
    try:
        services.begin()
        services.wait_ready()
        services.start_application()
        yield services
    finally:
        services.stop()


@pytest.fixture(scope="module", params=["embedded", "docker"])
def counting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cache_home: Path
) -> Iterator[Services]:
    """Servers of either backend, with an application and a worker that run one query for many rows, or many queries."""
    if request.param == "docker":
        skip_without_docker()
    assert cache_home.is_dir()
    root = tmp_path_factory.mktemp("counting")
    (root / "sample.py").write_text(textwrap.dedent(APPLICATION), encoding="utf-8")
    (root / "worker.py").write_text(textwrap.dedent(WORKER), encoding="utf-8")
    (root / "settings.toml").write_text(SETTINGS.replace("{backend}", request.param), encoding="utf-8")
    with started(root) as services:
        yield services


@pytest.fixture
def counter(counting: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    monkeypatch.setattr(module, "LONG_S", 60.0)  # on a busy machine, rounds take long
    counter = Counter(counting)
    yield counter
    counter.close()


@pytest.fixture
def count(counter: Counter) -> Count:
    """Count what a body does after a warm-up."""

    async def count(body: Body, operations: int = 1) -> Counts:
        await body()
        rounds = Pass(counter, operations)
        for timer in rounds:
            with timer:
                await body()
        return rounds.counts

    return count


@pytest.fixture
async def client(counting: Services) -> AsyncIterator[Redis]:
    assert counting.redis is not None
    async with Redis.from_url(counting.redis.address.url) as client:
        yield client


@pytest.fixture
async def database(counting: Services) -> AsyncIterator[asyncpg.Connection]:
    """A connection, and a table of 1,000 rows."""
    assert counting.postgres is not None
    connection = await asyncpg.connect(counting.postgres.address.url)
    try:
        await connection.execute(
            "DROP TABLE IF EXISTS line; CREATE TABLE line (id int PRIMARY KEY, n int);"
            "INSERT INTO line SELECT id, id FROM generate_series(0, 999) AS id"
        )
        await connection.execute("VACUUM ANALYZE line")
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def http(counting: Services) -> AsyncIterator[httpx.AsyncClient]:
    assert counting.app is not None
    async with httpx.AsyncClient(base_url=counting.app.address.url, trust_env=False) as client:
        yield client


def held(before: Counts, after: Counts) -> dict[str, tuple[float, float]]:
    """Return the counts that have grown from the first to the second."""
    return {one.name: (one.old, one.new) for one in compare_counts(before, after) if one.gated}
