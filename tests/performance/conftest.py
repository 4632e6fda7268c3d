"""Clients of Redis, PostgreSQL and the application, for the benchmarks."""

# Edit them to match your own clients. A test that leaves a connection open
# fails, unless its `client_name` or `application_name` is `perf`, as here.

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

# Each fixture imports its own client, so that a suite without Redis, for
# example, runs without the redis package.
if TYPE_CHECKING:
    import asyncpg
    import httpx
    from asyncpg.pool import PoolConnectionProxy
    from redis.asyncio import Redis

POOL_SIZE = 20
CLOSE_LIMIT_S = 5.0


def is_configured_here(config: pytest.Config) -> bool:
    """Return whether pytest uses the pyproject.toml of this folder."""
    path = config.inipath
    return path is not None and path.parent.name == "performance"


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Skip this folder when pytest runs the other tests of the repository."""
    return None if is_configured_here(config) else True


@pytest.fixture(scope="session")
async def redis_client(redis_url: str) -> "AsyncIterator[Redis]":
    """A Redis client with a pool of at most POOL_SIZE connections."""
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError

    pool = BlockingConnectionPool.from_url(
        redis_url,
        max_connections=POOL_SIZE,
        timeout=5,
        client_name="perf",
        # Retry once if the server closed the connection, as in a restart.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    async with Redis.from_pool(pool) as client:
        await client.ping()
        yield client


@pytest.fixture(scope="session")
async def postgres_pool(postgres_url: str) -> "AsyncIterator[asyncpg.Pool]":
    """A pool of POOL_SIZE open connections: no sample includes connecting."""
    import asyncpg

    pool = await asyncpg.create_pool(
        postgres_url,
        min_size=POOL_SIZE,
        max_size=POOL_SIZE,
        max_inactive_connection_lifetime=0,
        command_timeout=10,
        server_settings={"application_name": "perf"},
    )
    yield pool
    try:
        await asyncio.wait_for(pool.close(), CLOSE_LIMIT_S)
    except TimeoutError:
        pool.terminate()


@pytest.fixture
async def postgres(
    postgres_pool: "asyncpg.Pool",
) -> "AsyncIterator[PoolConnectionProxy]":
    """One connection of the pool, for one test."""
    async with postgres_pool.acquire() as connection:
        yield connection


@pytest.fixture(scope="session")
async def http_client(api_url: str) -> "AsyncIterator[httpx.AsyncClient]":
    """An HTTP client of the application that keeps its connections open."""
    import httpx

    limits = httpx.Limits(
        max_connections=POOL_SIZE,
        max_keepalive_connections=POOL_SIZE,
        keepalive_expiry=None,
    )
    async with httpx.AsyncClient(
        base_url=api_url,
        limits=limits,
        timeout=10,
        trust_env=False,
    ) as client:
        yield client


def pytest_terminal_summary(
    terminalreporter: "pytest.TerminalReporter",
) -> None:
    """Print what tests report with `record_property`, such as memory."""
    if not is_configured_here(terminalreporter.config):
        return
    for report in terminalreporter.getreports("passed"):
        test = report.nodeid.rpartition("::")[2]
        for name, value in report.user_properties:
            if isinstance(value, str):
                terminalreporter.write_line(f"{test}: {name}: {value}")
