"""The counting pass with real clients, servers, an application and a worker."""

import asyncio
import datetime
import itertools
import threading
import uuid

import asyncpg
import httpx
import pytest
import redis
from redis.asyncio import Redis

from plumbline.counting import counter as module
from plumbline.counting import redis_commands
from plumbline.counting.counter import Counter
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
from plumbline.counting.redis_commands import RedisCommands
from plumbline.results.schema import Counts
from plumbline.services.services import Services
from tests.unit.counting.conftest import Count, Pass, held


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
    monkeypatch.setattr(redis_commands, "MOST_KEYS", 1)

    found = await count(lambda: client.set("key:1", "1"))

    assert found.same["redis.changes"] == 1
    assert STORED not in {*found.same, *found.families}
    assert counter.notes == ["the bytes that Redis stores can't be counted: there are more than 1 keys"]


async def test_keys_in_another_database_are_stored_too(count: Count, counting: Services) -> None:
    assert counting.redis is not None
    numbers = itertools.count(10_000)
    async with Redis.from_url(counting.redis.address.with_database("3").url) as other:
        found = await count(lambda: other.set(f"key:{next(numbers)}", "x" * 100))

    assert 100 < found.same[STORED] < 300


async def test_changes_of_databases_that_are_too_large_are_noted(
    counter: Counter, count: Count, counting: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert counting.redis is not None
    numbers = itertools.count(20_000)
    async with Redis.from_url(counting.redis.address.with_database("3").url) as other:
        await other.mset({f"key:{number}": "1" for number in range(10)})
        async with Redis.from_url(counting.redis.address.url) as own:
            await own.flushdb()
        monkeypatch.setattr(redis_commands, "MOST_KEYS", 1)
        found = await count(lambda: other.set(f"key:{next(numbers)}", "x" * 100))

    assert STORED not in {*found.same, *found.varying, *found.families}
    assert "the bytes that Redis stores can't be counted: other databases change" in counter.notes[0]


async def test_a_key_that_expires_between_rounds_is_stored_anew(counter: Counter, client: Redis) -> None:
    """Redis counts no change when it expires."""
    rounds = Pass(counter)
    for timer in rounds:
        while await client.exists("short"):
            pass
        with timer:
            await client.set("short", "x" * 1000, px=500)

    assert rounds.counts.same[STORED] > 1000


async def test_bytes_are_not_counted_if_a_key_expires_in_a_round(counter: Counter, client: Redis) -> None:
    rounds = Pass(counter)
    for timer in rounds:
        await client.set("short", "x" * 1000, px=50)
        with timer:
            while await client.exists("short"):
                pass
            await client.set("key", "x")

    assert STORED not in {*rounds.counts.same, *rounds.counts.varying, *rounds.counts.families}
    assert counter.notes == ["the bytes that Redis stores can't be counted: keys expired meanwhile"]


async def test_changes_are_not_counted_if_redis_saves_its_data(counter: Counter, count: Count, client: Redis) -> None:
    """Bytes are: the new key was not there before."""
    numbers = itertools.count(30_000)

    async def save() -> None:
        await client.set(f"key:{next(numbers)}", "x" * 100)
        await client.save()

    found = await count(save)

    assert 100 < found.same[STORED] < 300
    assert not {KEYS, "redis.changes", "redis.keys_read"} & {*found.same, *found.varying, *found.families}
    [note] = counter.notes
    assert note.startswith("the keys that Redis reads and changes can't be counted: it saved its data meanwhile")


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
    assert held(before, after)["postgres.rows_read SELECT n FROM line WHERE id = $1"] == (0, 5)


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
