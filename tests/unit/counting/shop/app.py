"""An application of FastAPI."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
import psycopg
from fastapi import BackgroundTasks, Depends, FastAPI
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from starlette.middleware.base import BaseHTTPMiddleware

from tests.unit.counting.shop.clients import Repository

state: dict[str, Any] = {}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with (
        asyncpg.create_pool(os.environ["SHOP_DATABASE_URL"], min_size=1, max_size=1) as state["pool"],
        Redis.from_url(os.environ["SHOP_REDIS_URL"]) as state["redis"],
    ):
        yield


def connection() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(os.environ["SHOP_DATABASE_URL"], autocommit=True) as found:
        yield found


app = FastAPI(lifespan=lifespan)


async def passed_on(request: Any, call_next: Any) -> Any:
    return await call_next(request)


app.add_middleware(BaseHTTPMiddleware, dispatch=passed_on)  # it runs the application in another task


@app.get("/health")
async def health() -> str:
    return "well"


@app.get("/orders")
async def orders() -> int:
    async with state["pool"].acquire() as found:
        await Repository(found).all()
    return int(await state["redis"].incr("orders"))  # served redis


@app.get("/mailed")
async def mailed(tasks: BackgroundTasks) -> None:
    tasks.add_task(mail)


async def mail() -> None:
    for number in range(20):
        async with state["pool"].acquire() as found:
            await found.fetchval("SELECT n FROM line WHERE id = $1", number)  # mail
        await state["redis"].incr("mails")


@app.get("/forked")
def forked() -> list[bool]:
    """Return whether a driver is wrapped, in this process and in one that it forks."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writing, b"wrapped" if hasattr(AbstractConnection.send_command, "__wrapped__") else b"as it was")
        os._exit(0)
    os.waitpid(pid, 0)
    found = os.read(reading, 100)
    os.close(reading)
    os.close(writing)
    return [hasattr(AbstractConnection.send_command, "__wrapped__"), found == b"wrapped"]


@app.get("/lines")
def lines(connection: Annotated[psycopg.Connection[Any], Depends(connection)]) -> None:
    for number in range(3):
        connection.execute("SELECT n FROM line WHERE n = %s", [number])  # thread
