"""Rows, buffers and plans of executed statements, with real clients and servers."""

from pathlib import Path

import asyncpg
import psycopg
import pytest

from plumbline.counting.counter import Counter
from plumbline.counting.families import BUFFERS, ROWS, kind_of
from plumbline.judging.counts import compare_counts, compare_plans, figure_of
from plumbline.services.services import Services
from plumbline.settings_file import load_settings
from tests.unit.counting.conftest import Count, Pass, held


async def test_a_dropped_index(count: Count, database: asyncpg.Connection) -> None:
    """The same statement now reads the whole table, whether it also writes or not."""

    async def work() -> None:
        await database.fetch("SELECT n FROM line WHERE id = $1", 7)
        await database.execute("UPDATE line SET n = n WHERE id = 8")

    before = await count(work)
    await database.execute("ALTER TABLE line DROP CONSTRAINT line_pkey")
    after = await count(work)

    assert held(before, after) == {
        "postgres.rows_read SELECT n FROM line WHERE id = $1": (1, 1_000),
        "postgres.rows_read UPDATE line SET n = n WHERE id = ?": (1, 1_000),
    }


async def test_a_statement_that_reads_more_is_not_hidden_by_one_that_reads_less(
    count: Count, wide: asyncpg.Connection
) -> None:
    """One index is lost and another one is new. Both statements together read as much as before."""

    async def work() -> None:
        await wide.fetch("SELECT filler FROM wide WHERE id = $1", 7)
        await wide.fetch("SELECT id FROM wide WHERE n = $1", 7)

    before = await count(work)
    await wide.execute("ALTER TABLE wide DROP CONSTRAINT wide_pkey; CREATE INDEX by_n ON wide (n)")
    after = await count(work)

    assert all(figure_of(before, kind) == figure_of(after, kind) for kind in (ROWS, BUFFERS))
    assert held(before, after) == {
        "postgres.rows_read SELECT filler FROM wide WHERE id = $1": (1, 1_000),
        "postgres.buffers SELECT filler FROM wide WHERE id = $1": (3, 143),
    }


@pytest.fixture
async def wide(database: asyncpg.Connection) -> asyncpg.Connection:
    """A table of 1,000 rows of 1 kB, a function, a procedure and a view that read it, and an index."""
    await database.execute(
        "DROP TABLE IF EXISTS wide CASCADE; CREATE TABLE wide (id int PRIMARY KEY, n int, filler text);"
        "INSERT INTO wide SELECT id, id, repeat('x', 1000) FROM generate_series(1, 1000) AS id;"
        "CREATE MATERIALIZED VIEW sums AS SELECT sum(n) FROM wide;"
        "CREATE OR REPLACE FUNCTION total() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN sum(n) FROM wide; END';"
        "CREATE OR REPLACE PROCEDURE add(int) LANGUAGE plpgsql AS 'BEGIN UPDATE line SET n = n + $1 "
        "WHERE n = (SELECT sum(n) FROM wide); END';"
        "CREATE OR REPLACE PROCEDURE commits() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'"
    )
    await database.execute("VACUUM ANALYZE wide")
    return database


async def test_a_lost_index_in_buffers_and_plan(count: Count, wide: asyncpg.Connection) -> None:
    """Rows and buffers grow, and the plan of the statement is another."""

    async def work() -> None:
        await wide.fetch("SELECT n FROM wide WHERE id = $1", 7)

    before = await count(work)
    await wide.execute("ALTER TABLE wide DROP CONSTRAINT wide_pkey")
    after = await count(work)

    grown = held(before, after)
    assert grown == {
        "postgres.rows_read SELECT n FROM wide WHERE id = $1": (1, 1_000),
        "postgres.buffers SELECT n FROM wide WHERE id = $1": (3, 143),
    }
    assert before.plans == {"SELECT n FROM wide WHERE id = $1": "Index Scan wide_pkey on wide"}
    assert after.plans == {"SELECT n FROM wide WHERE id = $1": "Seq Scan on wide"}


async def test_rows_that_moved_apart_show_in_buffers_alone(count: Count, wide: asyncpg.Connection) -> None:
    """The same rows are read from many more pages."""

    async def work() -> None:
        await wide.fetch("SELECT filler FROM wide WHERE id <= 100")

    before = await count(work)
    await wide.execute("CREATE TABLE other AS SELECT * FROM wide ORDER BY id % 100, id")
    await wide.execute("TRUNCATE wide; INSERT INTO wide SELECT * FROM other; DROP TABLE other")
    await wide.execute("VACUUM ANALYZE wide")
    after = await count(work)

    assert list(held(before, after)) == ["postgres.buffers SELECT filler FROM wide WHERE id <= ?"]


async def test_a_changed_plan_that_reads_as_much_does_not_fail(count: Count, database: asyncpg.Connection) -> None:
    """Another index of the same columns: the plan is another, and the benchmark passes."""

    async def work() -> None:
        await database.fetch("SELECT id FROM line WHERE n = $1", 7)

    await database.execute("CREATE INDEX one ON line (n)")
    before = await count(work)
    await database.execute("DROP INDEX one; CREATE INDEX two ON line (n)")
    after = await count(work)

    assert held(before, after) == {}
    [change] = compare_plans(before.plans, after.plans)
    assert (change.old, change.new) == ("Index Scan one on line", "Index Scan two on line")


@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("client", ["asyncpg", "psycopg"])
async def test_reads_count_the_same_by_each_client(
    counting: Services, count: Count, wide: asyncpg.Connection, client: str, prepared: bool
) -> None:
    """Prepared statements count the same as others."""
    assert counting.postgres is not None
    assert not wide.is_closed()
    url, query = counting.postgres.address.url, "SELECT sum(n) FROM wide"
    if client == "asyncpg":
        connection = await asyncpg.connect(url, statement_cache_size=100 if prepared else 0)
        found = await count(lambda: connection.fetch(query))
        await connection.close()
    else:
        threshold = 0 if prepared else None
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=threshold) as other:
            found = await count(lambda: other.execute(query))

    assert (found.same[f"{ROWS} {query}"], found.same[f"{BUFFERS} {query}"]) == (1_000, 143)
    assert found.plans == {"SELECT sum(n) FROM wide": "Aggregate\n  Seq Scan on wide"}


@pytest.mark.parametrize(
    "statement",
    [
        "COPY wide (n) TO STDOUT",
        "COPY (SELECT sum(n) FROM wide) TO STDOUT",
        "DECLARE c CURSOR WITH HOLD FOR SELECT n FROM wide| CLOSE c",
        "EXECUTE sum_of_wide(0)",
        "SELECT total()",
        "CALL add(1)",
        "DO $$ BEGIN PERFORM sum(n) FROM wide; END $$",
        "REFRESH MATERIALIZED VIEW sums",
    ],
)
async def test_statements_that_run_others_are_counted(
    counting: Services, counter: Counter, count: Count, wide: asyncpg.Connection, statement: str
) -> None:
    """Count the reads of COPY, cursors, prepared statements, functions and procedures, without a change to the data."""
    assert counting.postgres is not None
    assert not wide.is_closed()

    async def work() -> None:
        async with other.cursor() as cursor:
            if statement.startswith("COPY"):
                async with cursor.copy(statement) as copy:
                    assert [row async for row in copy]
            else:
                for each in statement.split("| "):
                    await cursor.execute(each)

    async with await psycopg.AsyncConnection.connect(counting.postgres.address.url, autocommit=True) as other:
        await other.execute("PREPARE sum_of_wide (int) AS SELECT sum(n) FROM wide WHERE n > $1")
        found = await count(work)

    assert counter.notes == []
    assert 1_000 <= figure_of(found, ROWS) <= 2_000
    assert 143 <= figure_of(found, BUFFERS) <= 160


async def test_a_statement_that_cannot_run_again_is_named(
    counter: Counter, count: Count, wide: asyncpg.Connection
) -> None:
    """A procedure that commits: the others are counted, its rows and buffers are not."""
    found = await count(lambda: wide.execute("CALL commits()"))

    assert found.same["postgres.statement CALL commits()"] == 1
    assert found.unread == ["CALL commits()"]
    assert counter.notes == [
        "the rows and buffers read by CALL commits() can't be counted: invalid transaction termination"
    ]


async def test_explained_statements_are_rolled_back(count: Count, database: asyncpg.Connection) -> None:
    """Only the rounds change rows."""
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        await database.execute("UPDATE line SET n = n + 1 WHERE id = $1", 5)

    await count(work)

    assert await database.fetchval("SELECT n FROM line WHERE id = 5") == 5 + rounds


async def test_a_statement_that_can_t_be_explained_leaves_the_others(
    counter: Counter, count: Count, database: asyncpg.Connection
) -> None:
    """Only its session sees the table: its rows are not counted, a note says so, and a lost index is found."""
    await database.execute("CREATE TEMPORARY TABLE mine (id int)")

    async def work() -> None:
        await database.fetch("SELECT id FROM mine")
        await database.fetch("SELECT n FROM line WHERE id = $1", 5)

    old = await count(work)
    await database.execute("ALTER TABLE line DROP CONSTRAINT line_pkey")
    new = await count(work)

    assert new.same["postgres.statement SELECT id FROM mine"] == 1
    assert new.unread == ["SELECT id FROM mine"]
    [note] = counter.notes
    assert "the rows and buffers read by SELECT id FROM mine can't be counted" in note
    [grown] = [one for one in compare_counts(old, new) if one.gated]
    assert grown.name == "postgres.rows_read SELECT n FROM line WHERE id = $1"


@pytest.mark.usefixtures("cache_home")
async def test_buffers_are_not_counted_while_autovacuum_runs(tmp_path: Path) -> None:
    """It changes them at any time: rows are counted, and a note says what is not."""
    path = tmp_path / "settings.toml"
    path.write_text('backend = "embedded"\n[redis]\nbackend = "off"\n[postgres.config]\nautovacuum = true\n')
    services = Services(load_settings(path, {}), tmp_path, environ={})
    try:
        services.begin()
        services.wait_ready()
        assert services.postgres is not None
        counter = Counter(services)
        connection = await asyncpg.connect(services.postgres.address.url)
        await connection.execute("CREATE TABLE item (id int); INSERT INTO item VALUES (1)")
        rounds = Pass(counter)
        for timer in rounds:
            with timer:
                await connection.fetch("SELECT id FROM item")
        await connection.close()
        counter.close()
    finally:
        services.stop()

    assert rounds.counts.same["postgres.rows_read SELECT id FROM item"] == 1
    assert BUFFERS not in {*rounds.counts.families, *map(kind_of, rounds.counts.same)}
    assert counter.notes == ["the buffers that SQL statements read can't be counted: autovacuum changes them meanwhile"]
