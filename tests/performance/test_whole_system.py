"""Readiness test of the whole sample service: the API, PostgreSQL, Redis and the worker."""

import asyncio

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

pytestmark = pytest.mark.readiness


@pytest.mark.timeout(60)
async def test_whole_system(
    http_client: httpx.AsyncClient, postgres_pool: asyncpg.Pool, redis_client: Redis, key_prefix: str
) -> None:
    """A created item is in PostgreSQL and in the cache, and the worker stores a created event."""
    created = (await http_client.post("/items", json={"name": "whole system", "price_cents": 42})).raise_for_status()
    item = created.json()
    row = await postgres_pool.fetchrow("SELECT name, price_cents FROM items WHERE id = $1", item["id"])
    assert row is not None
    assert dict(row) == {"name": "whole system", "price_cents": 42}

    read = await http_client.get(f"/items/{item['id']}/cached")
    read_again = await http_client.get(f"/items/{item['id']}/cached")
    assert read.json() == read_again.json() == item
    assert await redis_client.exists(f"{key_prefix}item:{item['id']}")

    accepted = (await http_client.post("/events", json={"name": "whole system"})).raise_for_status()
    event_id = accepted.json()["id"]
    stored = "SELECT name FROM events WHERE id = $1"
    while not await postgres_pool.fetchval(stored, event_id):  # there is no event to wait for
        await asyncio.sleep(0.01)

    await postgres_pool.execute("DELETE FROM items WHERE id = $1", item["id"])
    await postgres_pool.execute("DELETE FROM events WHERE id = $1", event_id)
