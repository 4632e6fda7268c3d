"""The counting pass with real clients, servers, an application and a worker."""

import asyncio
import contextlib
import datetime
import itertools
import json
import textwrap
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import httpx
import psycopg
import pytest
import redis
from redis.asyncio import Redis

from plumbline.counting import counter as module
from plumbline.counting import servers
from plumbline.counting.counter import Counter, Round
from plumbline.counting.families import (
    BLOCKING,
    BUFFERS,
    COMMANDS,
    CPU,
    KEYS,
    ROWS,
    SOCKETS,
    STATEMENTS,
    STORED,
    CannotCount,
)
from plumbline.counting.servers import RedisCommands
from plumbline.judging.counts import compare_counts, compare_plans
from plumbline.results.schema import Counts
from plumbline.services.services import Services
from plumbline.settings_file import load_settings
from tests.support.project import STEADY_SETTINGS, Project
from tests.support.traces import skip_without_docker

SETTINGS = """\
backend = "{backend}"
counts.memory = false

[env]
SAMPLE_DATABASE_URL = "{postgres.url}"
SAMPLE_REDIS_URL = "{redis.url}"

[postgres.config]
autovacuum = false

[app]
asgi = "sample:app"

[processes.worker]
command = ["python", "worker.py"]
ready_output = "ready"
"""

APPLICATION = """
    import os
    from contextlib import asynccontextmanager

    import asyncpg
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, PlainTextResponse
    from starlette.routing import Route

    @asynccontextmanager
    async def lifespan(app):
        async with asyncpg.create_pool(os.environ["SAMPLE_DATABASE_URL"], min_size=1, max_size=1) as pool:
            yield {"pool": pool}

    async def order(request):
        many = "many" in request.query_params
        async with request.state.pool.acquire() as connection, connection.transaction():
            if many:
                lines = [await connection.fetchval("SELECT n FROM line WHERE id = $1", id) for id in range(50)]
            else:
                rows = await connection.fetch("SELECT n FROM line WHERE id < 50 ORDER BY id")
                lines = [row["n"] for row in rows]
        return JSONResponse(lines)

    async def health(request):
        return PlainTextResponse("well")

    app = Starlette(lifespan=lifespan, routes=[Route("/health", health), Route("/order", order)])
"""

WORKER = """
    import asyncio
    import os

    import asyncpg
    from redis.asyncio import Redis

    async def main():
        database = await asyncpg.connect(os.environ["SAMPLE_DATABASE_URL"])
        url = os.environ["SAMPLE_REDIS_URL"]
        async with Redis.from_url(url, decode_responses=True, socket_timeout=None) as redis:  # tasks may be rare
            print("ready")
            while True:
                _, task = await redis.blpop(["tasks"])
                async with database.transaction():
                    if task == "many":
                        for id in range(50):
                            await database.execute("UPDATE line SET n = n WHERE id = $1", id)
                    else:
                        await database.execute("UPDATE line SET n = n WHERE id < 50")
                await redis.rpush("done", task)

    asyncio.run(main())
"""

Body = Callable[[], Awaitable[object]]
Count = Callable[..., Awaitable[Counts]]


class Pass:
    """The rounds of one pass, and their counts when they are over."""

    def __init__(self, counter: Counter, operations: int = 1) -> None:
        self.counts = Counts()
        self._rounds = counter.rounds(operations, lambda: None)

    def __iter__(self) -> Iterator[Round]:
        self.counts = yield from self._rounds


@contextlib.contextmanager
def started(root: Path) -> Iterator[Services]:
    """Start the services of `settings.toml` in the folder `root`, and the application."""
    services = Services(load_settings(root / "settings.toml", {}), root, environ={})
    try:
        services.begin()
        services.wait_ready()
        services.start_application()
        yield services
    finally:
        services.stop()


@pytest.fixture(scope="module", params=["embedded", "docker"])
def counting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cache_home: Path
) -> Iterator[Services]:
    """Servers of either backend, with an application and a worker that run one query for many rows, or many queries."""
    if request.param == "docker":
        skip_without_docker()
    assert cache_home.is_dir()
    root = tmp_path_factory.mktemp("counting")
    (root / "sample.py").write_text(textwrap.dedent(APPLICATION), encoding="utf-8")
    (root / "worker.py").write_text(textwrap.dedent(WORKER), encoding="utf-8")
    (root / "settings.toml").write_text(SETTINGS.replace("{backend}", request.param), encoding="utf-8")
    with started(root) as services:
        yield services


@pytest.fixture
def counter(counting: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    monkeypatch.setattr(module, "LONG_S", 60.0)  # on a busy machine, rounds take long
    counter = Counter(counting)
    yield counter
    counter.close()


@pytest.fixture
def count(counter: Counter) -> Count:
    """Count what a body does after a warm-up."""

    async def count(body: Body, operations: int = 1) -> Counts:
        await body()
        rounds = Pass(counter, operations)
        for timer in rounds:
            with timer:
                await body()
        return rounds.counts

    return count


@pytest.fixture
async def client(counting: Services) -> AsyncIterator[Redis]:
    assert counting.redis is not None
    async with Redis.from_url(counting.redis.address.url) as client:
        yield client


@pytest.fixture
async def database(counting: Services) -> AsyncIterator[asyncpg.Connection]:
    """A connection, and a table of 1,000 rows."""
    assert counting.postgres is not None
    connection = await asyncpg.connect(counting.postgres.address.url)
    try:
        await connection.execute(
            "DROP TABLE IF EXISTS line; CREATE TABLE line (id int PRIMARY KEY, n int);"
            "INSERT INTO line SELECT id, id FROM generate_series(0, 999) AS id"
        )
        await connection.execute("VACUUM ANALYZE line")
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def http(counting: Services) -> AsyncIterator[httpx.AsyncClient]:
    assert counting.app is not None
    async with httpx.AsyncClient(base_url=counting.app.address.url, trust_env=False) as client:
        yield client


def held(before: Counts, after: Counts) -> dict[str, tuple[float, float]]:
    """Return the counts that have grown from the first to the second."""
    return {one.name: (one.old, one.new) for one in compare_counts(before, after) if one.gated}


async def test_a_pipeline_turned_into_single_commands(count: Count, client: Redis) -> None:
    """The same 50 commands need 50 messages instead of one or two."""

    async def pipelined() -> None:
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(50):
                pipeline.set(f"key:{number}", "value")
            await pipeline.execute()

    async def single() -> None:
        for number in range(50):
            await client.set(f"key:{number}", "value")

    before, after = await count(pipelined), await count(single)

    assert before.same["redis.command SET"] == 50
    [(name, (then, now))] = held(before, after).items()
    assert name == "redis.messages"
    assert then <= 2
    assert now == 50


async def test_a_command_that_reads_more_keys(count: Count, client: Redis) -> None:
    """It is the same number of commands and messages."""
    before = await count(lambda: client.mget([f"key:{number}" for number in range(20)]))
    after = await count(lambda: client.mget([f"k:{number}" for number in range(25)]))

    assert held(before, after) == {"redis.keys_read": (20, 25)}


async def test_a_command_that_changes_more(count: Count, client: Redis) -> None:
    """A field more in each hash. A key that is set anew takes no more memory than before."""
    before = await count(lambda: client.hset("hash", mapping={"a": "x" * 10}))
    after = await count(lambda: client.hset("hash", mapping={"a": "x", "b": "y"}))

    assert held(before, after)["redis.changes"] == (1, 2)
    assert STORED not in before.same.keys() | after.same.keys()


async def test_keys_that_stay_behind(count: Count, client: Redis) -> None:
    """The same SET, of a new key each time: the data set grows by the key and its value."""
    numbers = itertools.count(10_000)
    before = await count(lambda: client.set("key:10000", "x" * 100, ex=60))
    after = await count(lambda: client.set(f"key:{next(numbers)}", "x" * 100, ex=60))

    grown = held(before, after)
    assert list(grown) == [STORED]
    assert 100 < grown[STORED][1] < 300


async def test_the_processor_time_of_redis_is_shown_and_never_judged(count: Count, client: Redis) -> None:
    """It is not the same twice."""
    keys = [f"key:{number}" for number in range(1_000)]
    before = await count(client.ping)
    after = await count(lambda: client.mget(keys))

    assert CPU not in before.same.keys() | after.same.keys() | held(before, after).keys()
    assert min(after.varying[CPU]) > 0


async def test_a_worker_that_waits_for_work_is_no_growth(count: Count, client: Redis, counting: Services) -> None:
    """It asks again and again, more often in a longer round."""
    assert counting.redis is not None
    begun, ended = threading.Event(), threading.Event()

    def wait_for_work(url: str) -> None:
        with redis.Redis.from_url(url) as worker:
            while not ended.is_set():
                worker.blpop(["no work"], timeout=0.02)
                begun.set()

    async def work() -> None:
        await client.ping()
        await asyncio.sleep(0.1)

    before = await count(client.ping)
    thread = threading.Thread(target=wait_for_work, args=[counting.redis.address.url])
    thread.start()
    try:
        await asyncio.to_thread(begun.wait)
        after = await count(work)
    finally:
        ended.set()
        thread.join()

    assert after.varying["redis.command BLPOP"][0] > 0
    assert held(before, after) == {}


async def test_too_many_keys_are_not_measured(
    counter: Counter, count: Count, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note says so, and the other counts remain."""
    await client.mset({"key:1": "1", "key:2": "2"})
    monkeypatch.setattr(servers, "MOST_KEYS", 1)

    found = await count(lambda: client.set("key:1", "1"))

    assert found.same["redis.changes"] == 1
    assert STORED not in {*found.same, *found.families}
    assert counter.notes == ["the bytes that Redis stores can't be counted: there are more than 1 keys"]


async def test_one_query_turned_into_many(count: Count, database: asyncpg.Connection) -> None:
    """Each statement is counted by its text and per operation."""

    async def one() -> None:
        await database.fetch("SELECT n FROM line WHERE id < 50 ORDER BY id")

    async def many() -> None:
        await one()
        for number in range(50):
            await database.fetch("SELECT n FROM line WHERE id = $1", number)

    before, after = await count(one, 10), await count(many, 10)

    assert held(before, after)["postgres.statement SELECT n FROM line WHERE id = $1"] == (0, 5)
    assert held(before, after)["postgres.messages"] == (0.1, 5.1)
    assert held(before, after)["postgres.rows_read"] == (5, 10)


@pytest.mark.usefixtures("database")
async def test_one_query_turned_into_many_in_a_transaction_of_an_endpoint(
    count: Count, http: httpx.AsyncClient
) -> None:
    """Statements of the application are counted, although the request is the same."""

    async def one() -> None:
        (await http.get("/order")).raise_for_status()

    async def many() -> None:
        (await http.get("/order?many")).raise_for_status()

    before, after = await count(one), await count(many)

    assert before.same["postgres.statement BEGIN"] == before.same["postgres.statement COMMIT"] == 1
    assert before.same["app.messages"] == 1
    assert held(before, after)["postgres.statement SELECT n FROM line WHERE id = $1"] == (0, 50)
    assert "app.messages" not in held(before, after)


@pytest.mark.usefixtures("database")
async def test_one_query_turned_into_many_in_a_transaction_of_a_worker(count: Count, client: Redis) -> None:
    """Statements of the worker count for the task."""

    async def work(task: str) -> None:
        await client.rpush("tasks", task)
        assert await client.blpop(["done"], timeout=5)

    before, after = await count(lambda: work("one")), await count(lambda: work("many"))

    assert before.same["postgres.statement BEGIN"] == 1
    assert held(before, after)["postgres.statement UPDATE line SET n = n WHERE id = $1"] == (0, 50)


async def test_a_pooled_client_turned_into_a_connection_per_call(
    count: Count, client: Redis, counting: Services
) -> None:
    """Connections that are opened and closed within the call are counted."""
    assert counting.redis is not None
    url = counting.redis.address.url

    async def fresh() -> None:
        async with Redis.from_url(url, single_connection_client=True) as own:
            await own.ping()

    before, after = await count(client.ping), await count(fresh)

    grown = held(before, after)
    assert grown["redis.connections"] == (0, 1)
    # redis-py authenticates with AUTH, or with HELLO if it uses RESP3.
    assert grown.get("redis.command HELLO", grown.get("redis.command AUTH")) == (0, 1)


async def test_a_payload_that_grew(count: Count, client: Redis) -> None:
    """The same command in the same number of messages, with more bytes."""
    before = await count(lambda: client.set("key", "x" * 1_000))
    after = await count(lambda: client.set("key", "x" * 1_100))

    assert list(held(before, after)) == ["redis.bytes_sent"]


async def test_a_prepared_statement_that_is_no_longer_cached(count: Count, counting: Services) -> None:
    """It is executed as often as before, but parsed each time."""
    assert counting.postgres is not None
    found = []
    for size in (100, 0):
        connection = await asyncpg.connect(counting.postgres.address.url, statement_cache_size=size)
        try:
            found.append(await count(lambda connection=connection: connection.fetchval("SELECT $1::int", 1)))
        finally:
            await connection.close()

    before, after = found
    assert "postgres.parse SELECT $1::int" not in before.same
    assert "postgres.parse SELECT $1::int" in held(before, after)
    assert before.same["postgres.statement SELECT $1::int"] == after.same["postgres.statement SELECT $1::int"] == 1


async def test_a_silent_retry(count: Count, client: Redis, database: asyncpg.Connection) -> None:
    """A repeated operation counts twice on either server."""

    async def once() -> None:
        await client.set("key", "value")
        await database.fetchval("SELECT 1 / 1")

    async def again() -> None:
        with pytest.raises(redis.ResponseError):
            await client.set("key", "value", px=0)
        with pytest.raises(asyncpg.DivisionByZeroError):
            await database.fetchval("SELECT 1 / 0")
        await once()

    before, after = await count(once), await count(again)

    assert held(before, after)["redis.command SET"] == (1, 2)
    assert held(before, after)["postgres.statement SELECT ? / ?"] == (1, 2)


async def test_a_dropped_index(count: Count, database: asyncpg.Connection) -> None:
    """The same statement now reads the whole table, whether it also writes or not."""

    async def work() -> None:
        await database.fetch("SELECT n FROM line WHERE id = $1", 7)
        await database.execute("UPDATE line SET n = n WHERE id = 8")

    before = await count(work)
    await database.execute("ALTER TABLE line DROP CONSTRAINT line_pkey")
    after = await count(work)

    assert held(before, after)[ROWS] == (2, 2_000)


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
    assert grown[ROWS] == (1, 1_000)
    assert grown[BUFFERS] == (3, 143)
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

    assert list(held(before, after)) == [BUFFERS]


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
    """Whether the client prepares its statements or not."""
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

    assert (found.same[ROWS], found.same[BUFFERS]) == (1_000, 143)
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
    """What COPY, cursors, prepared statements of SQL, functions and procedures read, without a change to the data."""
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
    assert 1_000 <= found.same[ROWS] <= 2_000
    assert 143 <= found.same[BUFFERS] <= 160


async def test_a_statement_that_cannot_run_again_is_named(
    counter: Counter, count: Count, wide: asyncpg.Connection
) -> None:
    """A procedure that commits: the others are counted, its rows and buffers are not."""
    found = await count(lambda: wide.execute("CALL commits()"))

    assert found.same["postgres.statement CALL commits()"] == 1
    assert not {ROWS, BUFFERS} & {*found.families}
    [note] = counter.notes
    assert note.startswith("the rows and buffers read by CALL commits() can't be counted: ")
    assert "invalid transaction termination" in note


async def test_explained_statements_are_rolled_back(count: Count, database: asyncpg.Connection) -> None:
    """Only the rounds change rows."""
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        await database.execute("UPDATE line SET n = n + 1 WHERE id = $1", 5)

    await count(work)

    assert await database.fetchval("SELECT n FROM line WHERE id = 5") == 5 + rounds


async def test_ids_and_timestamps_never_count_as_growth(
    count: Count, client: Redis, database: asyncpg.Connection
) -> None:
    """Growing ids, random UUIDs and the time of day, over several passes."""
    ids = iter(range(95, 1_000))

    async def work() -> None:
        number, key, now = next(ids), uuid.uuid4(), datetime.datetime.now(datetime.UTC)
        await client.set(f"item:{number}", f"{key} {now.isoformat()}", ex=60)
        await database.execute(f"SELECT n /* {key} */ FROM line WHERE id = {number} AND '{now}' <> '{key}'")  # noqa: S608
        await database.fetch("SELECT n FROM line WHERE id = ANY($1::int[])", [number, number + 1])

    found = [await count(work) for _ in range(5)]

    for before in found:
        for after in found:
            assert held(before, after) == {}
        assert before.varying.keys() <= {CPU}
        assert before.same["postgres.statement SELECT n FROM line WHERE id = ? AND ? <> ?"] == 1


async def test_longer_ids_never_count_as_growth(count: Count, client: Redis) -> None:
    """After more samples, or in an older database, ids have more digits."""
    ids = iter(range(10_000))

    async def work() -> None:
        async with client.pipeline(transaction=False) as pipeline:
            for _ in range(50):
                pipeline.set(f"item:{(number := next(ids))}", str(number), ex=60)
            await pipeline.execute()

    found = []
    for start in (100, 1_000):
        ids = iter(range(start, start + 1_000))
        found.append(await count(work))
    assert found[1].same["redis.bytes_sent"] - found[0].same["redis.bytes_sent"] >= 100
    assert held(*found) == {}


async def test_concurrent_work_is_counted_together(count: Count, client: Redis) -> None:
    """20 concurrent tasks. Counts are per operation."""

    async def work() -> None:
        await asyncio.gather(*(client.ping() for _ in range(20)))

    found = await count(work, 20)

    assert found.same["redis.command PING"] == found.same["redis.messages"] == 1


def test_synchronous_clients_are_counted_too(counter: Counter, counting: Services) -> None:
    """Without a running event loop."""
    assert counting.redis is not None
    rounds = Pass(counter)
    with redis.Redis.from_url(counting.redis.address.url) as client:
        client.ping()
        for timer in rounds:
            with timer:
                client.get("key")
    assert rounds.counts.same["redis.command GET"] == rounds.counts.same["redis.messages"] == 1


async def test_varying_counts_are_kept_apart(count: Count, client: Redis) -> None:
    """A count that differs between rounds is kept with all its values."""
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        for _ in range(rounds):
            await client.ping()

    found = await count(work)

    assert found.varying["redis.command PING"] == [2, 3, 4]
    assert "redis.command PING" not in found.same


async def test_a_server_that_gets_nothing_counts_zero(count: Count, client: Redis) -> None:
    """If PostgreSQL is not used, its counts are 0, and no round is discarded."""
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        await client.ping()

    found = await count(work)

    assert sorted(found.families) == sorted([SOCKETS, COMMANDS, KEYS, STORED, STATEMENTS, ROWS, BUFFERS, BLOCKING])
    assert rounds == 1 + module.PASSES


async def test_a_benchmark_that_takes_long_has_fewer_rounds(
    count: Count, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONG_S", 0.0)
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        await client.ping()

    found = await count(work)

    assert rounds == 1 + module.LEAST_PASSES
    assert found.same["redis.command PING"] == 1


async def test_postgres_logs_only_during_the_pass(
    count: Count, database: asyncpg.Connection, counting: Services
) -> None:
    """Its settings are restored afterwards, even if the benchmark fails."""
    assert counting.postgres is not None

    async def failing() -> None:
        await database.fetchval("SELECT 1")
        if await database.fetchval("SHOW log_min_duration_statement") == "0":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await count(failing)

    async with asyncio.timeout(5):
        while await database.fetchval("SHOW log_min_duration_statement") != "-1":  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_statement_that_can_t_be_explained_leaves_the_others(
    counter: Counter, count: Count, database: asyncpg.Connection
) -> None:
    """Only its session sees the table: statements are counted, rows are not, and a note says so."""
    await database.execute("CREATE TEMPORARY TABLE mine (id int)")

    found = await count(lambda: database.fetch("SELECT id FROM mine"))

    assert found.same["postgres.statement SELECT id FROM mine"] == 1
    assert ROWS not in found.families
    [note] = counter.notes
    assert "the rows and buffers read by SELECT id FROM mine can't be counted" in note


async def test_a_machine_that_does_not_report_connections(
    counting: Services, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS: commands and statements are counted, and one note says what is not."""

    def refuse() -> None:
        raise CannotCount("only Linux's kernel reports them")

    monkeypatch.setattr(module, "SocketWatch", refuse)
    counter = Counter(counting)
    rounds = Pass(counter)
    try:
        for timer in rounds:
            with timer:
                await client.ping()
    finally:
        counter.close()

    assert rounds.counts.same == {"redis.command PING": 1}
    assert SOCKETS not in rounds.counts.families
    assert counter.notes == ["messages, bytes and connections can't be counted here: only Linux's kernel reports them"]


async def test_a_dead_server_costs_only_its_own_counts(counting: Services, client: Redis) -> None:
    """The benchmark continues, and a note without passwords says what was not counted."""
    assert counting.redis is not None
    counter = Counter(counting)
    counter._redis = RedisCommands(counting.redis, counter._note)
    rounds = Pass(counter)
    real = counting.redis.address
    counting.redis.address = type(real)("redis", real.host, 1, password=real.password)
    try:
        for timer in rounds:
            with timer:
                await client.ping()
    finally:
        counting.redis.address = real
        counter.close()

    assert COMMANDS not in rounds.counts.families
    [note] = counter.notes
    assert note.startswith("some Redis commands weren't counted")
    assert real.password not in note


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

    assert rounds.counts.same[ROWS] == 1
    assert BUFFERS not in {*rounds.counts.families, *rounds.counts.same}
    assert counter.notes == ["the buffers that SQL statements read can't be counted: autovacuum changes them meanwhile"]


async def test_servers_that_were_restarted_are_counted_again(counter: Counter, counting: Services) -> None:
    """Their old connections are lost. The application ends with them, so this test is last."""
    postgres, redis_ = counting.postgres, counting.redis
    assert postgres is not None
    assert redis_ is not None

    async def counted() -> Counts:
        rounds = Pass(counter)
        for timer in rounds:
            with timer:
                connection = await asyncpg.connect(postgres.address.url)
                await connection.execute("SELECT 1 AS one")
                await connection.close()
        return rounds.counts

    before = await counted()
    for service in (postgres, redis_):
        await asyncio.to_thread(service.restart)
        await asyncio.to_thread(service.wait_ready, 20)
    after = await counted()

    assert before.same["postgres.statement SELECT ? AS one"] == after.same["postgres.statement SELECT ? AS one"] == 1
    assert before.families == after.families
    assert counter.notes == []


# ---- whole runs

SUITE = '''\
"""One benchmark of Redis, whose code under test stands in another file."""

import redis

from code_under_test import store
from plumbline import Measure


def test_storing(redis_url: str, measure: Measure) -> None:
    """Store 50 values."""
    with redis.Redis.from_url(redis_url, client_name="perf") as client:
        for timer in measure(operations=50):
            with timer:
                store(client)


def test_asking(redis_url: str, measure: Measure) -> None:
    """PING."""
    with redis.Redis.from_url(redis_url, client_name="perf") as client:
        for timer in measure():
            with timer:
                client.ping()
'''

PIPELINED = """\
def store(client):
    with client.pipeline(transaction=False) as pipeline:
        for number in range(50):
            pipeline.set(f"key:{number}", "value")
        pipeline.execute()
"""
SINGLE = """\
def store(client):
    for number in range(50):
        client.set(f"key:{number}", "value")
"""


def test_a_run_fails_for_its_counts_on_any_machine(project: Project) -> None:
    """A pipeline turned into single commands ends with exit code 1, although timings cannot be judged."""
    settings = STEADY_SETTINGS.replace('backend = "off"', 'backend = "embedded"')
    project.write("settings.toml", settings + '\n[postgres]\nbackend = "off"\n')
    project.write("test_suite.py", SUITE)
    code = project.root / "code_under_test.py"
    code.write_text(PIPELINED, encoding="utf-8")
    recorded = project.run("baseline")
    assert recorded.code == 0, recorded.output
    code.write_text(SINGLE, encoding="utf-8")

    done = project.run("ci", PERF_MACHINE="elsewhere")

    assert done.code == 1, done.output
    assert project.verdicts() == {
        "test_suite.py::test_storing": "regression",
        "test_suite.py::test_asking": "inconclusive",
    }
    assert "REGRESSION: larger counts than before: " in done.output
    assert "redis messages 0.02 → 1, code_under_test.py:3 in store" in done.output
    code.write_text(PIPELINED, encoding="utf-8")
    again = project.run("ci", PERF_MACHINE="elsewhere")
    assert again.code == 0, again.output


def test_growth_without_a_difference_is_drift(project: Project) -> None:
    """Growth that the change has not caused is reported and does not fail the run: base and head are counted, too."""
    settings = STEADY_SETTINGS.replace('backend = "off"', 'backend = "embedded"')
    project.write("settings.toml", settings + '\n[postgres]\nbackend = "off"\n')
    project.write("test_suite.py", SUITE)
    project.begin_repository(PIPELINED)
    recorded = project.run("baseline")
    assert recorded.code == 0, recorded.output
    path = project.baseline()
    data = json.loads(path.read_text())
    for entry in data["benchmarks"]:
        entry["counts"]["redis.messages"] /= 2
    path.write_text(json.dumps(data))
    project.commit("Baseline")

    done = project.run("ci")

    assert done.code == 0, done.output
    assert set(project.verdicts().values()) == {"drift"}
    assert "redis messages 0.01 → 0.02" in done.output
    assert "executes nothing that differs from" in done.output

    code = project.root / "code_under_test.py"
    code.write_text(PIPELINED.replace("value", "other"), encoding="utf-8")
    done = project.run("ci")
    assert done.code == 0, done.output
    assert set(project.verdicts().values()) == {"drift"}

    code.write_text(SINGLE, encoding="utf-8")
    done = project.run("ci")
    assert done.code == 1, done.output
    assert project.verdicts() == {"test_suite.py::test_storing": "regression", "test_suite.py::test_asking": "drift"}
    assert "redis messages 0.02 → 1" in done.output
