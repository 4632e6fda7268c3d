"""The HTTP API: items in PostgreSQL, a cache of items in Redis, and events for the worker."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypedDict, cast

import asyncpg
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.sample_service import settings
from tests.sample_service.stores import STORE_ERRORS, open_database, open_redis

LIST_LIMIT = 200
NAME_LENGTH = 200


class State(TypedDict):
    database: asyncpg.Pool
    redis: Redis


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[State]:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database())
        redis = await stack.enter_async_context(open_redis())
        yield {"database": database, "redis": redis}


async def health(request: Request) -> Response:
    """Report whether PostgreSQL and Redis answer."""

    async def check_database() -> None:
        await fetch(request, "SELECT 1")

    async def check_redis() -> None:
        await request.state.redis.ping()

    results = await asyncio.gather(check_database(), check_redis(), return_exceptions=True)
    stores = {
        name: f"{type(result).__name__}: {result}" if isinstance(result, BaseException) else "ok"
        for name, result in zip(("postgres", "redis"), results, strict=True)
    }
    return JSONResponse(stores, status_code=200 if set(stores.values()) == {"ok"} else 503)


async def create_item(request: Request) -> Response:
    body = await read_body(request)
    price = body.get("price_cents")
    if type(price) is not int or not 0 <= price < 2**31:
        raise HTTPException(422, "price_cents must be a whole number, 0 or more")
    query = "INSERT INTO items (name, price_cents) VALUES ($1, $2) RETURNING id, name, price_cents"
    [item] = await fetch(request, query, read_name(body), price)
    return JSONResponse(item, status_code=201)


async def read_item(request: Request) -> Response:
    return JSONResponse(await find_item(request))


async def read_cached_item(request: Request) -> Response:
    redis: Redis = request.state.redis
    key = f"{settings.KEY_PREFIX}item:{request.path_params['id']}"
    cached = await redis.get(key)
    if cached is None:
        cached = json.dumps(await find_item(request))
        await redis.set(key, cached, ex=settings.CACHE_TTL_S)
    return Response(cached, media_type="application/json")


async def list_items(request: Request) -> Response:
    limit = request.query_params.get("limit", "50")
    if not limit.isdecimal() or not 1 <= int(limit) <= LIST_LIMIT:
        raise HTTPException(422, f"limit must be a number from 1 to {LIST_LIMIT}")
    items = await fetch(request, "SELECT id, name, price_cents FROM items ORDER BY id LIMIT $1", int(limit))
    return JSONResponse({"items": items})


async def create_event(request: Request) -> Response:
    """Add an event to the stream that the worker reads."""
    redis: Redis = request.state.redis
    name = read_name(await read_body(request))
    event_id = await redis.xadd(settings.STREAM, {"name": name}, maxlen=settings.STREAM_LENGTH, approximate=True)
    return JSONResponse({"id": event_id}, status_code=202)


async def fetch(request: Request, query: str, *values: object) -> list[dict[str, Any]]:
    """Return the rows of a query."""
    database: asyncpg.Pool = request.state.database
    # This timeout also limits the release of the connection, which can wait for a stopped server.
    async with database.acquire(timeout=settings.CONNECT_TIMEOUT_S) as connection:
        return [dict(row) for row in await connection.fetch(query, *values)]


async def find_item(request: Request) -> dict[str, Any]:
    item_id = request.path_params["id"]
    rows = await fetch(request, "SELECT id, name, price_cents FROM items WHERE id = $1", item_id)
    if not rows:
        raise HTTPException(404, f"there is no item {item_id}")
    return rows[0]


async def read_body(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        raise HTTPException(400, "the body must be JSON") from None
    if not isinstance(body, dict):
        raise HTTPException(422, "the body must be a JSON object")
    return cast("dict[str, Any]", body)


def read_name(body: dict[str, Any]) -> str:
    name = body.get("name")
    if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name) <= NAME_LENGTH:
        raise HTTPException(422, f"name must be a printable string of 1 to {NAME_LENGTH} characters")
    return name


async def refuse(_request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, status_code=422)


async def explain(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, status_code=error.status_code)


async def unavailable(_request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": f"a store is unavailable: {type(error).__name__}"}, status_code=503)


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/health", health),
        Route("/items", create_item, methods=["POST"]),
        Route("/items", list_items),
        Route("/items/{id:int}", read_item),
        Route("/items/{id:int}/cached", read_cached_item),
        Route("/events", create_event, methods=["POST"]),
    ],
    exception_handlers={
        HTTPException: explain,
        asyncpg.DataError: refuse,  # such as an id beyond 64 bits
        **dict.fromkeys(STORE_ERRORS, unavailable),
    },
)
