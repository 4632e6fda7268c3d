"""Connections to PostgreSQL and Redis, and the errors that they raise while a server is unavailable."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from redis import exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.sample_service import settings

STORE_ERRORS: tuple[type[Exception], ...] = (
    OSError,  # includes TimeoutError
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # PostgreSQL starts, stops, or cancelled the query
    asyncpg.InsufficientResourcesError,
    asyncpg.InterfaceError,  # lost connection
    asyncpg.InternalClientError,  # connection lost during its handshake
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
)


@asynccontextmanager
async def open_database() -> AsyncIterator[asyncpg.Pool]:
    """Open a connection pool. It is closed at the end even if the server no longer answers."""
    pool = await asyncpg.create_pool(
        settings.DATABASE_URL,
        min_size=1,
        max_size=settings.POOL_SIZE,
        timeout=settings.CONNECT_TIMEOUT_S,
        command_timeout=settings.COMMAND_TIMEOUT_S,
    )
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), settings.COMMAND_TIMEOUT_S)
        except STORE_ERRORS:
            pool.terminate()


@asynccontextmanager
async def open_redis(block_s: float = 0) -> AsyncIterator[Redis]:
    """Open a client with a bounded connection pool.

    `block_s` is the longest time that a blocking command, such as XREADGROUP, waits in the server.
    """
    pool = BlockingConnectionPool.from_url(
        settings.REDIS_URL,
        max_connections=settings.POOL_SIZE,
        timeout=settings.CONNECT_TIMEOUT_S,
        socket_connect_timeout=settings.CONNECT_TIMEOUT_S,
        socket_timeout=settings.COMMAND_TIMEOUT_S + block_s,
        # Retry once if the server closed the connection. Do not retry after a timeout: Redis may have run the command.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis_errors.ConnectionError,)),
        decode_responses=True,
    )
    async with Redis.from_pool(pool) as client:
        yield client
