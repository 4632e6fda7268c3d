"""Benchmarks of Redis through redis-py: publishing, connections, memory, keys, pipelines, scripts and streams."""

import asyncio
import gc
import itertools
import json
import statistics
import tracemalloc
from contextlib import AsyncExitStack
from time import perf_counter

import psutil
import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from plumbline import Measure, slope

# An event of an order service, about 700 bytes.
STANDARD_PAYLOAD = json.dumps(
    {
        "id": "6f1c2d9e-3f0a-4d57-9a53-0d7f6a1f8e11",
        "type": "order.created",
        "created": "2025-01-01T12:00:00.000Z",
        "customer": {"id": 48_213, "name": "Ada Lovelace", "country": "GB"},
        "lines": [{"sku": f"SKU-{number:05}", "quantity": number, "price_cents": 1_999} for number in range(1, 11)],
    }
)

# Benchmarks that write one key at a time write to these keys in turn, so that the data does not grow.
KEYS = 100


async def client_count(redis_client: Redis, name: str) -> int:
    """Return the number of connections with this client name."""
    return sum(client["name"] == name for client in await redis_client.client_list())


# Publishing


async def test_publish_latency(redis_client: Redis, key_prefix: str, measure: Measure) -> None:
    """PUBLISH one short message to a channel with no subscriber."""
    channel = f"{key_prefix}latency"
    async for timer in measure():
        with timer:
            receivers = await redis_client.publish(channel, "message")
        assert receivers == 0


async def test_latency_percentiles(redis_client: Redis, key_prefix: str, measure: Measure) -> None:
    """PUBLISH with 1,000 samples, as many as the budget for the 99th percentile needs."""
    channel = f"{key_prefix}percentiles"
    async for timer in measure(samples=1000):
        with timer:
            receivers = await redis_client.publish(channel, "message")
        assert receivers == 0


@pytest.mark.unpinned
async def test_500_messages_at_once(redis_client: Redis, key_prefix: str, measure: Measure) -> None:
    """PUBLISH 500 messages at once over a bounded connection pool."""
    channel = f"{key_prefix}burst"
    async for timer in measure(operations=500, operation="message"):
        with timer:
            receivers = await asyncio.gather(*(redis_client.publish(channel, "message") for _ in range(500)))
        assert receivers == [0] * 500


async def test_sustained_load(redis_client: Redis, key_prefix: str, measure: Measure) -> None:
    """PUBLISH 100 messages one after another."""
    channel = f"{key_prefix}sustained"
    async for timer in measure(operations=100, operation="message"):
        with timer:
            for _ in range(100):
                await redis_client.publish(channel, "message")


@pytest.mark.unpinned
async def test_5_concurrent_publishers(redis_client: Redis, key_prefix: str, measure: Measure) -> None:
    """PUBLISH 20 messages from each of 5 publishers at the same time, each to its own channel."""

    async def publisher(number: int) -> None:
        for _ in range(20):
            await redis_client.publish(f"{key_prefix}publisher:{number}", "message")

    async for timer in measure(operations=5 * 20, operation="message"):
        with timer:
            async with asyncio.TaskGroup() as group:
                for number in range(5):
                    group.create_task(publisher(number))


async def test_standard_payload_published(redis_client: Redis, key_prefix: str, measure: Measure) -> None:
    """PUBLISH an event of 700 bytes."""
    channel = f"{key_prefix}payload"
    async for timer in measure():
        with timer:
            receivers = await redis_client.publish(channel, STANDARD_PAYLOAD)
        assert receivers == 0


async def test_standard_throughput(redis_client: Redis, key_prefix: str, measure: Measure) -> None:
    """Encode an event of 700 bytes to JSON and PUBLISH it, 50 times one after another."""
    channel = f"{key_prefix}throughput"
    event = json.loads(STANDARD_PAYLOAD)
    async for timer in measure(operations=50, operation="message"):
        with timer:
            for _ in range(50):
                await redis_client.publish(channel, json.dumps(event))


async def test_all_targets_together(redis_client: Redis, key_prefix: str, measure: Measure) -> None:
    """PUBLISH events of 700 bytes to 10 channels in turn, with budgets for both latency and throughput."""
    channels = itertools.cycle([f"{key_prefix}together:{number}" for number in range(10)])
    async for timer in measure(samples=1000):
        channel = next(channels)
        with timer:
            receivers = await redis_client.publish(channel, STANDARD_PAYLOAD)
        assert receivers == 0


# Connections


async def test_500_pings_over_a_pool(redis_client: Redis, measure: Measure) -> None:
    """PING 500 times one after another, each time with a connection from the pool."""
    async for timer in measure(operations=500, operation="ping"):
        with timer:
            for _ in range(500):
                await redis_client.ping()


async def ping_on_a_new_connection(redis_url: str) -> bool:
    async with Redis.from_url(redis_url, single_connection_client=True) as client:
        return bool(await client.ping())


async def test_one_connection_a_ping(redis_url: str, measure: Measure) -> None:
    """Connect, authenticate, PING and disconnect."""
    async for timer in measure():
        with timer:
            answered = await ping_on_a_new_connection(redis_url)
        assert answered


async def test_the_pool_is_cheaper(redis_client: Redis, redis_url: str) -> None:
    """A PING over the pool takes less than half the time of a PING on a new connection."""
    ratios = []
    for _ in range(20):
        start = perf_counter()
        await redis_client.ping()
        pooled = perf_counter()
        await ping_on_a_new_connection(redis_url)
        ratios.append((pooled - start) / (perf_counter() - pooled))

    assert statistics.median(ratios) < 0.5


@pytest.mark.unpinned
async def test_reuse_by_10_clients(redis_client: Redis, measure: Measure) -> None:
    """PING 10 times from each of 10 concurrent clients that share the pool."""
    clients = [Redis(connection_pool=redis_client.connection_pool) for _ in range(10)]

    async def ping_10_times(client: Redis) -> None:
        for _ in range(10):
            await client.ping()

    async for timer in measure(operations=10 * 10, operation="ping"):
        with timer:
            await asyncio.gather(*(ping_10_times(client) for client in clients))


async def test_pool_hygiene(redis_client: Redis, redis_url: str, key_prefix: str) -> None:
    """A pool keeps its limit under load, gets all connections back, and closes all of them at the end."""
    name = f"{key_prefix}hygiene".replace(":", "-")
    pool = BlockingConnectionPool.from_url(redis_url, max_connections=5, timeout=1, client_name=name)
    async with Redis.from_pool(pool) as client:
        await asyncio.gather(*(client.ping() for _ in range(100)))
        assert await client_count(redis_client, name) == 5
        async with AsyncExitStack() as stack:
            for _ in range(5):  # takes all connections of the pool; fails if one is still in use
                subscriber = await stack.enter_async_context(client.pubsub())
                await subscriber.subscribe(f"{key_prefix}hygiene")

    async with asyncio.timeout(5):  # the server sees a closed connection a moment later
        while await client_count(redis_client, name):  # there is no event to wait for
            await asyncio.sleep(0.01)


# Memory

CYCLES = 20
MESSAGES_PER_CYCLE = 50
WARM_UP_CYCLES = 5


async def publish_cycles(redis_client: Redis, channel: str, cycles: int) -> None:
    for _ in range(cycles * MESSAGES_PER_CYCLE):
        await redis_client.publish(channel, STANDARD_PAYLOAD)
    gc.collect(1)


async def test_memory_growth(redis_client: Redis, key_prefix: str) -> None:
    """The memory of this process grows by less than 16 KiB per 50 published messages."""
    channel, process = f"{key_prefix}memory", psutil.Process()
    await publish_cycles(redis_client, channel, WARM_UP_CYCLES)

    resident_bytes = []
    for _ in range(CYCLES):
        await publish_cycles(redis_client, channel, 1)
        resident_bytes.append(process.memory_info().rss)

    assert slope(resident_bytes) < 16 * 1024


async def test_memory_growth_traced(redis_client: Redis, key_prefix: str) -> None:
    """The memory of Python objects grows by less than 500 bytes per 50 published messages."""
    channel = f"{key_prefix}memory"
    await publish_cycles(redis_client, channel, WARM_UP_CYCLES)

    traced_bytes = []
    tracemalloc.start()
    try:
        for _ in range(CYCLES):
            await publish_cycles(redis_client, channel, 1)
            traced_bytes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()

    assert slope(traced_bytes) < 500


# Keys, pipelines, scripts

SIZES = [pytest.param(100, id="100B"), pytest.param(10_000, id="10kB")]


@pytest.mark.parametrize("size_bytes", SIZES)
async def test_get(redis_client: Redis, key_prefix: str, measure: Measure, size_bytes: int) -> None:
    """GET one value."""
    key, value = f"{key_prefix}get:{size_bytes}", b"x" * size_bytes
    await redis_client.set(key, value)
    async for timer in measure():
        with timer:
            found = await redis_client.get(key)
        assert found == value


@pytest.mark.parametrize("size_bytes", SIZES)
async def test_set(redis_client: Redis, key_prefix: str, measure: Measure, size_bytes: int) -> None:
    """SET one value, to 100 keys in turn."""
    keys, value = [f"{key_prefix}set:{size_bytes}:{n}" for n in range(KEYS)], b"x" * size_bytes
    for key in keys:
        await redis_client.set(key, value)
    ring = itertools.cycle(keys)
    async for timer in measure():
        key = next(ring)
        with timer:
            stored = await redis_client.set(key, value)
        assert stored


async def test_pipeline_of_50(redis_client: Redis, key_prefix: str, measure: Measure) -> None:
    """SET 50 keys in one round trip."""
    keys = [f"{key_prefix}pipeline:{n}" for n in range(50)]
    async for timer in measure(operations=50, operation="command"):
        with timer:
            async with redis_client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.set(key, "value")
                stored = await pipeline.execute()
        assert all(stored)


async def test_lua_script(redis_client: Redis, key_prefix: str, measure: Measure) -> None:
    """Run a Lua script that counts requests, as a rate limiter does."""
    key = f"{key_prefix}limiter"
    count = redis_client.register_script(
        """
        local count = redis.call('INCR', KEYS[1])
        if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
        return count
        """
    )
    await redis_client.delete(key)  # a key of an earlier process could expire while this test runs
    before = await count(keys=[key], args=[60_000])
    async for timer in measure():
        with timer:
            counted = await count(keys=[key], args=[60_000])
        assert counted > before


# Streams and subscriptions


async def test_stream_add(redis_client: Redis, key_prefix: str, measure: Measure) -> None:
    """XADD one event to a stream that is kept at 100 events."""
    stream = f"{key_prefix}stream:add"
    async for timer in measure():
        with timer:
            entry = await redis_client.xadd(stream, {"event": STANDARD_PAYLOAD}, maxlen=KEYS, approximate=False)
        assert entry


async def test_stream_read(redis_client: Redis, key_prefix: str, measure: Measure) -> None:
    """XREAD 10 events from a stream of 100."""
    stream = f"{key_prefix}stream:read"
    await redis_client.delete(stream)
    for number in range(KEYS):
        await redis_client.xadd(stream, {"event": STANDARD_PAYLOAD, "number": str(number)})
    async for timer in measure():
        with timer:
            reply = await redis_client.xread({stream: "0"}, count=10)
        assert isinstance(reply, list)
        [[_stream, events]] = reply
        assert len(events) == 10


async def test_pub_sub_round_trip(redis_client: Redis, key_prefix: str, measure: Measure) -> None:
    """PUBLISH a message and receive it as a subscriber."""
    channel = f"{key_prefix}round-trip"
    async with redis_client.pubsub(ignore_subscribe_messages=True) as subscriber:
        await subscriber.subscribe(channel)
        await subscriber.get_message(timeout=5)  # the confirmation of the subscription
        async for timer in measure():
            with timer:
                await redis_client.publish(channel, "message")
                message = await subscriber.get_message(timeout=5)
            assert message is not None
            assert message["data"] == b"message"
