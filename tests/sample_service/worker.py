"""The worker: it stores the events of the Redis stream in PostgreSQL, and then acknowledges them.

After a start or an error it first reads the events that it has not acknowledged. So no event is lost. An event that is
read twice is stored once, because its id in the stream is the primary key of its row.
"""

import asyncio
import random
import signal
import sys
from contextlib import AsyncExitStack, suppress
from typing import cast

import asyncpg
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from tests.sample_service import settings
from tests.sample_service.stores import STORE_ERRORS, open_database, open_redis

GROUP = "store"
BATCH = 100
BLOCK_S = 1.0
FIRST_DELAY_S, LONGEST_DELAY_S = 0.05, 1.0
# Redis answers with a ResponseError if it restarted without its data: then the stream and its group are missing.
RETRIED: tuple[type[Exception], ...] = (*STORE_ERRORS, redis_errors.ResponseError)

Entries = list[tuple[str, dict[str, str]]]


async def work() -> None:
    """Store events until cancelled. Retry with growing, random delays while a server is unavailable."""
    delay_s = FIRST_DELAY_S
    announced = False
    while True:
        try:
            async with AsyncExitStack() as stack:
                database = await stack.enter_async_context(open_database())
                redis = await stack.enter_async_context(open_redis(BLOCK_S))
                await create_group(redis)
                if not announced:
                    print("worker ready", flush=True)  # noqa: T201 - `ready_output` in settings.toml waits for this
                    announced = True
                pending = True
                while True:
                    stored = await store_batch(redis, database, pending=pending)
                    pending = pending and stored > 0
                    delay_s = FIRST_DELAY_S
        except RETRIED as error:
            sys.stderr.write(f"worker: {type(error).__name__}: {error}; retrying within {delay_s:.2f} s\n")
            await asyncio.sleep(random.uniform(0, delay_s))
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)


async def create_group(redis: Redis) -> None:
    try:
        await redis.xgroup_create(settings.STREAM, GROUP, id="0", mkstream=True)
    except redis_errors.ResponseError as error:
        if "BUSYGROUP" not in str(error):  # the group already exists
            raise


async def store_batch(redis: Redis, database: asyncpg.Pool, *, pending: bool) -> int:
    """Store and acknowledge up to BATCH events. Return their number."""
    reply = await redis.xreadgroup(
        GROUP, settings.WORKER_NAME, {settings.STREAM: "0" if pending else ">"}, BATCH, block=int(BLOCK_S * 1000)
    )
    [(_stream, entries)] = cast("list[tuple[str, Entries]]", reply) or [("", [])]
    if entries:
        # An event that Redis dropped before it was stored has no fields.
        rows = [(event_id, fields["name"]) for event_id, fields in entries if fields]
        async with database.acquire(timeout=settings.CONNECT_TIMEOUT_S) as connection:
            await connection.executemany("INSERT INTO events (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", rows)
        await redis.xack(settings.STREAM, GROUP, *(event_id for event_id, _fields in entries))
    return len(entries)


async def main() -> None:
    task = asyncio.create_task(work())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    asyncio.run(main())
