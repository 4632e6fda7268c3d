"""Benchmarks of the HTTP API: requests go through uvicorn, the application, PostgreSQL and Redis."""

import asyncio
import itertools
import ssl
from contextlib import AsyncExitStack

import asyncpg
import httpx
import pytest
from plumbline import Measure

ITEM = {"name": "a measured item", "price_cents": 1_999}
SEEDED_ITEMS = 1_000  # made by tests/sample_service/prepare.py; their ids start from 1
RING = 100


async def test_health(http_client: httpx.AsyncClient, measure: Measure) -> None:
    """GET the health route, which queries PostgreSQL and Redis."""
    async for timer in measure():
        with timer:
            response = await http_client.get("/health")
        assert response.status_code == 200


async def test_create(http_client: httpx.AsyncClient, postgres_pool: asyncpg.Pool, measure: Measure) -> None:
    """POST one item. The created items are deleted every 100 rounds, outside of the timed block."""
    for_deletion = itertools.cycle(range(RING))
    async for timer in measure():
        if next(for_deletion) == 0:
            await delete_created(postgres_pool)
        with timer:
            response = await http_client.post("/items", json=ITEM)
        assert response.status_code == 201

    await delete_created(postgres_pool)


async def delete_created(pool: asyncpg.Pool) -> None:
    """Delete all items that `prepare` did not make."""
    await pool.execute("DELETE FROM items WHERE id > $1", SEEDED_ITEMS)
    await pool.execute("VACUUM items")


async def test_read(http_client: httpx.AsyncClient, measure: Measure) -> None:
    """GET one item from PostgreSQL."""
    ids = itertools.cycle(range(1, RING + 1))
    async for timer in measure():
        item_id = next(ids)
        with timer:
            response = await http_client.get(f"/items/{item_id}")
        assert response.json()["id"] == item_id


async def test_cached_read(http_client: httpx.AsyncClient, measure: Measure) -> None:
    """GET one item from the cache in Redis."""
    await http_client.get("/items/1/cached")  # fills the cache
    async for timer in measure():
        with timer:
            response = await http_client.get("/items/1/cached")
        assert response.json()["id"] == 1


async def test_list(http_client: httpx.AsyncClient, measure: Measure) -> None:
    """GET a page of 50 items."""
    async for timer in measure():
        with timer:
            response = await http_client.get("/items", params={"limit": 50})
        assert len(response.json()["items"]) == 50


@pytest.mark.unpinned
async def test_20_concurrent_clients(api_url: str, measure: Measure) -> None:
    """GET one item from each of 20 clients at the same time, without an error."""
    tls = ssl.create_default_context()  # shared, because loading the certificates is slow
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=api_url, verify=tls, trust_env=False))
            for _ in range(20)
        ]
        errors = 0
        async for timer in measure(operations=20, operation="request"):
            with timer:
                responses = await asyncio.gather(*(client.get("/items/1") for client in clients))
            errors += sum(response.status_code != 200 for response in responses)

    assert errors == 0
