"""The two stores: how they are opened and closed, and which errors mean that one is away for now."""

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
    OSError,  # TimeoutError is one
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, cancelled
    asyncpg.InsufficientResourcesError,
    asyncpg.InterfaceError,  # the connection was lost
    asyncpg.InternalClientError,  # lost while it was being set up
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
)


@asynccontextmanager
async def open_database() -> AsyncIterator[asyncpg.Pool]:
    """A pool of connections, closed at the end even when the server no longer answers."""
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
    """A client over a bounded pool; `block_s` is the longest that one of its commands blocks in the server."""
    pool = BlockingConnectionPool.from_url(
        settings.REDIS_URL,
        max_connections=settings.POOL_SIZE,
        timeout=settings.CONNECT_TIMEOUT_S,
        socket_connect_timeout=settings.CONNECT_TIMEOUT_S,
        socket_timeout=settings.COMMAND_TIMEOUT_S + block_s,
        # Once more on a connection that the server has closed; a command that timed out may have been executed.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis_errors.ConnectionError,)),
        decode_responses=True,
    )
    async with Redis.from_pool(pool) as client:
        yield client
