"""Clients of the system under test, for the benchmarks beside this file: edit them to suit your own.

A client that lives longer than one test names itself `perf` to its server (`client_name`, `application_name`). After
each test Plumbline reports other new connections of this process as leaked: a test closes what it opens.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

# Fixtures import what they use: a suite may need only some of these packages, and the repository's own pytest none.
if TYPE_CHECKING:
    import asyncpg
    import httpx
    from asyncpg.pool import PoolConnectionProxy
    from redis.asyncio import Redis

POOL_SIZE = 20
CLOSE_LIMIT_S = 5.0


def is_configured_here(config: pytest.Config) -> bool:
    """Return whether pytest has its configuration from this folder, and not from the repository's own."""
    return config.inipath is not None and config.inipath.parent.name == "performance"


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave this folder out of the repository's own pytest runs."""
    return None if is_configured_here(config) else True


@pytest.fixture(scope="session")
async def redis_client(redis_url: str) -> "AsyncIterator[Redis]":
    """A client over a pool of at most POOL_SIZE connections; more than that wait for one."""
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError

    pool = BlockingConnectionPool.from_url(
        redis_url,
        max_connections=POOL_SIZE,
        timeout=5,
        client_name="perf",
        # Once more if the server has closed the connection since, as after a restart.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    async with Redis.from_pool(pool) as client:
        await client.ping()
        yield client


@pytest.fixture(scope="session")
async def postgres_pool(postgres_url: str) -> "AsyncIterator[asyncpg.Pool]":
    """A pool that is full from the start, so that no measurement pays for a new connection."""
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
async def postgres(postgres_pool: "asyncpg.Pool") -> "AsyncIterator[PoolConnectionProxy]":
    """One connection of the pool, for the length of a test."""
    async with postgres_pool.acquire() as connection:
        yield connection


@pytest.fixture(scope="session")
async def http_client(api_url: str) -> "AsyncIterator[httpx.AsyncClient]":
    """A client that keeps its connections to the application open."""
    import httpx

    limits = httpx.Limits(max_connections=POOL_SIZE, max_keepalive_connections=POOL_SIZE, keepalive_expiry=None)
    async with httpx.AsyncClient(base_url=api_url, limits=limits, timeout=10, trust_env=False) as client:
        yield client


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter") -> None:
    """Print what tests report with `record_property`: recovery times, memory, CPU."""
    reports = terminalreporter.getreports("passed") if is_configured_here(terminalreporter.config) else []
    for report in reports:
        for name, value in report.user_properties:
            if isinstance(value, str):
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {name}: {value}")
