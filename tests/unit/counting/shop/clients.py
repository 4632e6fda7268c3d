"""One function for each way to send a statement or a command."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any

import asyncpg
import psycopg
import psycopg2  # type: ignore[import-untyped]
import psycopg2.extras  # type: ignore[import-untyped]
import redis
from jinja2 import Template
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, selectinload
from starlette.concurrency import run_in_threadpool

from tests.unit.counting.shop.models import Order, totals


class Repository:
    """Methods that await one another."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def all(self) -> None:
        for number in range(3):
            await self.one(number)

    async def read(self) -> None:
        await self.one(1)
        await self._connection.fetch("SELECT n FROM line WHERE id < 4 AND n >= 0")  # many

    async def one(self, number: int) -> None:
        await self._connection.fetchval("SELECT n FROM line WHERE id = $1", number)  # one


async def with_asyncpg(connection: asyncpg.Connection) -> None:
    async with connection.transaction():  # begin
        await connection.execute("UPDATE line SET n = 1 WHERE id = 1")  # execute
        await connection.executemany("UPDATE line SET n = $1 WHERE id = 2", [(1,), (2,)])  # executemany
        async for _ in connection.cursor("SELECT id FROM line WHERE id < 4 ORDER BY id"):  # cursor
            pass
    await connection.copy_records_to_table("copied", records=[(1,)])  # copy


async def with_asyncpg_prepared(connection: asyncpg.Connection) -> None:
    statement = await connection.prepare("SELECT n + 1 FROM line WHERE id = $1")  # prepare
    await statement.fetchval(1)  # prepared


async def with_pool(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:  # release
        await connection.fetchval("SELECT 1 + 1")  # fetch


async def together(pool: asyncpg.Pool) -> None:
    await asyncio.gather(pool.fetchval("SELECT 2 * 2"), pool.fetchval("SELECT 2 * 2"))  # gather


async def with_new_connections(postgres_url: str, redis_url: str) -> None:
    await (await asyncpg.connect(postgres_url)).close()  # asyncpg
    psycopg.connect(postgres_url).close()  # psycopg
    async with await psycopg.AsyncConnection.connect(postgres_url):  # async psycopg
        pass
    redis.Redis.from_url(redis_url, single_connection_client=True).close()  # redis
    async with Redis.from_url(redis_url) as client:
        await client.get("key")  # async redis


def with_psycopg(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():  # sync begin
        connection.execute("SELECT n FROM line WHERE id = %s", [1])  # sync execute
        with connection.cursor() as cursor:
            cursor.execute("SELECT n FROM line WHERE n = %(n)s", {"n": 1})  # sync named
            cursor.executemany("UPDATE line SET n = %s WHERE id = 3", [(1,), (2,)])  # sync executemany
        with connection.cursor("named") as cursor:  # sync close
            cursor.execute("SELECT id FROM line WHERE id < 4")  # sync declare
            cursor.fetchall()  # sync fetch


def with_psycopg2(connection: Any, postgres_url: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT n FROM line WHERE id = %s", [1])  # old execute
        cursor.executemany("UPDATE line SET n = %s WHERE id = 3", [(1,), (2,)])  # old executemany
    with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        cursor.execute("SELECT n FROM line WHERE n = 1")  # old dictionary
    other = psycopg2.connect(postgres_url)
    other.cursor().execute("SELECT id FROM line")  # old connection
    other.close()


def with_psycopg_pipeline(connection: psycopg.Connection[Any]) -> None:
    with connection.pipeline():
        connection.execute("SELECT n FROM line WHERE id = %s", [1])  # sync pipeline


async def with_async_psycopg(connection: psycopg.AsyncConnection[Any]) -> None:
    async with connection.transaction():  # async begin
        await connection.execute("SELECT n FROM line WHERE id = %s", [1], prepare=True)  # async execute
    await connection.execute("")  # async ping


def with_sqlalchemy(session: Session) -> list[int]:
    return totals(session)


async def with_async_sqlalchemy(session: AsyncSession) -> None:
    await session.scalars(select(Order).options(selectinload(Order.lines)).order_by(Order.id))  # async select
    session.expire_all()
    await session.run_sync(totals)  # run_sync
    await session.rollback()  # rollback


def with_redis(client: redis.Redis) -> None:
    for number in range(3):
        client.get(f"key:{number}")  # get
    client.config_get("maxmemory")  # config
    client.object("encoding", "key")  # object


def with_redis_pipeline(client: redis.Redis) -> None:
    with client.pipeline() as pipeline:
        for number in range(3):
            pipeline.set(f"key:{number}", "value")  # queued
        pipeline.execute()  # sent


async def with_async_redis(client: Redis) -> None:
    for number in range(3):
        await client.get(f"key:{number}")  # async get


async def with_async_redis_pipeline(client: Redis) -> None:
    async with client.pipeline(transaction=False) as pipeline:
        for number in range(3):
            pipeline.set(f"key:{number}", "value")  # async queued
        await pipeline.execute()


async def redis_together(client: Redis) -> None:
    await asyncio.gather(*(client.get(f"key:{number}") for number in range(3)))  # async gather


async def elsewhere(client: Redis, other: redis.Redis) -> None:
    """Functions of a library in tasks and threads that this function begins."""
    await asyncio.wait_for(client.get("key"), 5)  # wait_for
    command = client.execute_command("STRLEN", "key")  # type: ignore[no-untyped-call]
    await asyncio.create_task(command)  # create_task
    await asyncio.to_thread(other.incr, "number")  # to_thread
    await run_in_threadpool(other.append, "text", "")  # threadpool
    with ThreadPoolExecutor(1) as pool:
        pool.submit(other.delete, "key").result()  # submit


def in_thread(client: redis.Redis) -> None:
    """A thread of the library alone."""
    thread = Thread(target=client.get, args=("key",))
    thread.start()
    thread.join()


def rendered(session: Session, template: Template) -> str:
    orders = session.scalars(select(Order).order_by(Order.id)).all()
    return template.render(orders=orders)  # render


def generated(client: redis.Redis) -> None:
    exec("client.get('key')", {"client": client})  # noqa: S102
