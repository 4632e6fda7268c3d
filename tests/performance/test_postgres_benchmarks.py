"""Benchmarks of PostgreSQL through asyncpg: connecting, the pool, reading and writing."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import asyncpg
import pytest
from asyncpg.pool import PoolConnectionProxy
from plumbline import Measure

ACCOUNTS = 1_000
# Benchmarks that write one row at a time write to these rows in turn, so that the tables do not grow.
RING = 100

# fillfactor = 50 leaves half of each page free for updated rows.
SCHEMA = """
DROP TABLE IF EXISTS perf_accounts, perf_entries;
CREATE TABLE perf_accounts (id bigint PRIMARY KEY, name text NOT NULL, balance bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE perf_entries (id bigint PRIMARY KEY, name text NOT NULL, amount bigint NOT NULL);
"""
INSERT = "INSERT INTO perf_entries (id, name, amount) VALUES ($1, $2, $3)"
COUNT = "SELECT count(*) FROM perf_entries"

pytestmark = pytest.mark.usefixtures("tables")


@pytest.fixture(scope="module")
async def tables(postgres_pool: asyncpg.Pool) -> AsyncIterator[None]:
    """A table of 1,000 accounts to read and update, and an empty table of entries to write to."""
    await postgres_pool.execute(SCHEMA)
    await postgres_pool.copy_records_to_table("perf_accounts", records=records(ACCOUNTS))
    await postgres_pool.execute("VACUUM ANALYZE perf_accounts")
    yield
    await postgres_pool.execute("DROP TABLE perf_accounts, perf_entries")


def records(count: int) -> list[tuple[int, str, int]]:
    return [(number, f"account {number}", 1_000) for number in range(count)]


# Connecting


async def test_connect(postgres_url: str, measure: Measure) -> None:
    """Connect, authenticate and disconnect."""
    async for timer in measure(warmup=5):
        with timer:
            connection = await asyncpg.connect(postgres_url)
            await connection.close()
        assert connection.is_closed()


async def test_pool_acquire(postgres_pool: asyncpg.Pool, measure: Measure) -> None:
    """Acquire a connection from the pool and release it, which resets its session."""
    async for timer in measure():
        with timer:
            async with postgres_pool.acquire():
                pass

    assert postgres_pool.get_idle_size() == postgres_pool.get_size()


async def test_pool_hygiene(postgres_pool: asyncpg.Pool) -> None:
    """No connection stays in use or in a transaction after 100 concurrent queries, of which one fails."""

    async def divide(by: int) -> None:
        async with postgres_pool.acquire() as connection, connection.transaction():
            await connection.fetchval("SELECT 1 / $1::int", by)

    outcomes = await asyncio.gather(*(divide(number) for number in range(100)), return_exceptions=True)

    assert isinstance(outcomes[0], asyncpg.DivisionByZeroError)
    assert outcomes[1:] == [None] * 99
    assert postgres_pool.get_idle_size() == postgres_pool.get_size()
    busy = "SELECT query FROM pg_stat_activity WHERE application_name = 'perf' AND state <> 'idle' AND pid <> $1"
    async with postgres_pool.acquire() as connection:
        assert await connection.fetch(busy, connection.get_server_pid()) == []


# Reading


async def test_select_1(postgres: PoolConnectionProxy, measure: Measure) -> None:
    """SELECT 1, to measure one round trip."""
    async for timer in measure():
        with timer:
            value = await postgres.fetchval("SELECT 1")
        assert value == 1


async def test_row_by_key(postgres: PoolConnectionProxy, measure: Measure) -> None:
    """SELECT one row by its primary key."""
    keys = itertools.cycle(range(RING))
    async for timer in measure():
        key = next(keys)
        with timer:
            row = await postgres.fetchrow("SELECT id, name, balance FROM perf_accounts WHERE id = $1", key)
        assert row is not None
        assert row["id"] == key


async def test_200_rows(postgres: PoolConnectionProxy, measure: Measure) -> None:
    """SELECT 200 rows ordered by their primary key."""
    async for timer in measure():
        with timer:
            rows = await postgres.fetch("SELECT id, name, balance FROM perf_accounts ORDER BY id LIMIT 200")
        assert len(rows) == 200


@pytest.mark.unpinned
async def test_10_concurrent_readers(postgres_pool: asyncpg.Pool, measure: Measure) -> None:
    """SELECT 10 rows by key from each of 10 readers at the same time."""
    async for timer in measure(operations=10 * 10, operation="row"):
        with timer:
            await asyncio.gather(*(read_10_rows(postgres_pool, reader) for reader in range(10)))


@pytest.mark.unpinned
async def test_readers_while_a_writer_writes(postgres_pool: asyncpg.Pool, measure: Measure) -> None:
    """SELECT 10 rows by key from each of 10 readers while a writer updates 10 of them."""

    async def write_10_rows() -> None:
        async with postgres_pool.acquire() as connection:
            for key in range(10):
                await connection.execute("UPDATE perf_accounts SET balance = balance + 1 WHERE id = $1", key)

    async for timer in measure(operations=11 * 10, operation="row"):
        with timer:
            await asyncio.gather(write_10_rows(), *(read_10_rows(postgres_pool, reader) for reader in range(10)))


async def read_10_rows(pool: asyncpg.Pool, reader: int) -> None:
    async with pool.acquire() as connection:
        for key in range(reader * 10, reader * 10 + 10):
            name = await connection.fetchval("SELECT name FROM perf_accounts WHERE id = $1", key)
            assert name == f"account {key}"


# Writing


async def test_insert(postgres: PoolConnectionProxy, measure: Measure) -> None:
    """INSERT one row and commit, into a table that is emptied every 100 rows."""
    keys = itertools.cycle(range(RING))
    async for timer in measure():
        key = next(keys)
        if key == 0:
            await postgres.execute("TRUNCATE perf_entries")
        with timer:
            status = await postgres.execute(INSERT, key, "one entry", 1_000)
        assert status == "INSERT 0 1"


async def test_update(postgres: PoolConnectionProxy, measure: Measure) -> None:
    """UPDATE one row by its primary key and commit."""
    keys = itertools.cycle(range(RING))
    async for timer in measure():
        key = next(keys)
        with timer:
            status = await postgres.execute("UPDATE perf_accounts SET balance = balance + 1 WHERE id = $1", key)
        assert status == "UPDATE 1"


async def test_transaction(postgres: PoolConnectionProxy, measure: Measure) -> None:
    """Move an amount from one account to another in a transaction of two updates."""
    update = "UPDATE perf_accounts SET balance = balance + $2 WHERE id = $1"
    keys = itertools.cycle(range(RING))
    async for timer in measure():
        key = next(keys)
        with timer:
            async with postgres.transaction():
                await postgres.execute(update, key, -1)
                await postgres.execute(update, key + RING, 1)


async def test_executemany_of_1000(postgres: PoolConnectionProxy, measure: Measure) -> None:
    """INSERT 1,000 rows with one executemany."""
    rows = records(1_000)
    async for timer in measure(operations=1_000, operation="row"):
        await postgres.execute("TRUNCATE perf_entries")
        with timer:
            await postgres.executemany(INSERT, rows)
        assert await postgres.fetchval(COUNT) == 1_000


async def test_copy_of_10000(postgres: PoolConnectionProxy, measure: Measure) -> None:
    """COPY 10,000 rows into an empty table."""
    rows = records(10_000)
    async for timer in measure(operations=10_000, operation="row"):
        await postgres.execute("TRUNCATE perf_entries")
        with timer:
            status = await postgres.copy_records_to_table("perf_entries", records=rows)
        assert status == "COPY 10000"
