"""Recovery tests: pause, kill and restart Redis, PostgreSQL and the application while clients send requests.

The clients create items, and events for the worker. The run prints the times until the first failed request and until
requests succeed again, and writes them to junit.xml. These times have no limits of their own.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis
from plumbline import Service, Services

pytestmark = [pytest.mark.full, pytest.mark.disruptive, pytest.mark.timeout(60)]

CLIENTS = 4
REQUEST_LIMIT_S = 3.0
NOTICE_LIMIT_S = 10.0
RECOVERY_LIMIT_S = 20.0
# The body of a request by its kind, and the query that finds what was stored.
KINDS = {"items": {"name": "interrupted", "price_cents": 1}, "events": {"name": "interrupted"}}
STORED = {"items": "SELECT id FROM items WHERE id = ANY($1)", "events": "SELECT id FROM events WHERE id = ANY($1)"}


@dataclass(frozen=True)
class Attempt:
    """One request. Times are readings of `perf_counter`; `acknowledged` is the id in the answer, None if it failed."""

    kind: str
    began_s: float
    ended_s: float
    acknowledged: int | str | None


class Work:
    """Clients that create items and events, and the outcome of each request."""

    def __init__(self, api_url: str) -> None:
        self.attempts: list[Attempt] = []
        self._api_url = api_url

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Send requests until the `async with` block ends."""
        async with (
            httpx.AsyncClient(base_url=self._api_url, timeout=REQUEST_LIMIT_S, trust_env=False) as client,
            asyncio.TaskGroup() as group,
        ):
            tasks = [group.create_task(self._ask(client)) for _ in range(CLIENTS)]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _ask(self, client: httpx.AsyncClient) -> None:
        while True:
            for kind, body in KINDS.items():
                began_s = perf_counter()
                try:
                    response = await client.post(f"/{kind}", json=body)
                    acknowledged = response.json()["id"] if response.is_success else None
                except httpx.HTTPError:
                    acknowledged = None
                self.attempts.append(Attempt(kind, began_s, perf_counter(), acknowledged))
                await asyncio.sleep(0.002)  # leaves CPU time to the servers

    def acknowledged(self, kind: str) -> set[int | str]:
        return {attempt.acknowledged for attempt in self.attempts if attempt.kind == kind and attempt.acknowledged}

    def failed_at(self, since_s: float) -> float | None:
        """Return the time at which the first request failed since `since_s`, if one did."""
        return min((a.ended_s for a in self.attempts if not a.acknowledged and a.ended_s >= since_s), default=None)

    def going_again_at(self, since_s: float) -> float | None:
        """Return the time at which requests of both kinds, sent since `since_s`, had succeeded, if they have."""
        again_s: dict[str, float] = {}
        for attempt in self.attempts:
            if attempt.acknowledged and attempt.began_s >= since_s:
                again_s.setdefault(attempt.kind, attempt.ended_s)
        return max(again_s.values()) if len(again_s) == len(KINDS) else None


async def until(event: str, condition: Callable[[], bool], limit_s: float) -> None:
    """Wait until the condition holds. Raises AssertionError after `limit_s`."""
    deadline_s = perf_counter() + limit_s
    while not condition():
        assert perf_counter() < deadline_s, f"not within {limit_s:g} s: {event}"
        await asyncio.sleep(0.002)


@pytest.fixture(params=["redis", "postgres", "app"])
async def service(request: pytest.FixtureRequest, services: Services, api_url: str) -> AsyncIterator[Service]:
    """The service to interrupt. Afterwards this fixture waits until the whole system works again."""
    found: Service | None = getattr(services, request.param)
    if found is None or not found.own:
        pytest.skip(f"Plumbline did not start {request.param}, so it does not interrupt it")
    yield found
    async with asyncio.timeout(RECOVERY_LIMIT_S), httpx.AsyncClient(base_url=api_url, trust_env=False) as client:
        while True:
            try:
                if (await client.get("/health")).is_success:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.02)


@pytest.fixture
async def promised(service: Service, redis_client: Redis, postgres_pool: asyncpg.Pool) -> list[str]:
    """The kinds of data that the configured durability keeps when the service is killed."""
    if service.name == "postgres" and await postgres_pool.fetchval("SHOW synchronous_commit") == "off":
        return []
    if service.name == "redis" and (await redis_client.config_get("appendonly"))["appendonly"] == "no":
        return ["items"]
    return list(KINDS)


async def lift(service: Service, interruption: str) -> None:
    """End the interruption."""
    if interruption == "pause":
        await asyncio.to_thread(service.resume)
    elif interruption == "kill":
        await asyncio.to_thread(service.restart)


@pytest.mark.parametrize("interruption", ["pause", "kill", "restart"])
async def test_nothing_acknowledged_is_lost(
    service: Service,
    interruption: str,
    api_url: str,
    postgres_pool: asyncpg.Pool,
    promised: list[str],
    record_property: Callable[[str, object], None],
) -> None:
    """Requests succeed again after an interruption, and PostgreSQL has everything that was acknowledged."""
    work = Work(api_url)
    async with work.going_on():
        await until("requests succeed", lambda: work.going_again_at(0) is not None, RECOVERY_LIMIT_S)
        began_s = perf_counter()
        try:
            await asyncio.to_thread(getattr(service, interruption))
            if interruption != "restart":  # a restart may be over before a request fails
                await until("a request fails", lambda: work.failed_at(began_s) is not None, NOTICE_LIMIT_S)
        finally:
            await lift(service, interruption)
        lifted_s = perf_counter()
        await until("requests succeed again", lambda: work.going_again_at(lifted_s) is not None, RECOVERY_LIMIT_S)

    noticed_s, again_s = work.failed_at(began_s), work.going_again_at(lifted_s)
    record_property("first failure after", "none" if noticed_s is None else f"{noticed_s - began_s:.3f} s")
    record_property("recovered after", f"{(again_s or 0) - lifted_s:.3f} s")
    for kind in promised:
        assert await lost(postgres_pool, kind, work.acknowledged(kind)) == set(), kind


async def lost(postgres_pool: asyncpg.Pool, kind: str, acknowledged: set[int | str]) -> set[int | str]:
    """Return the acknowledged ids that PostgreSQL lacks, after waiting for the worker to store its events."""
    missing = acknowledged
    deadline_s = perf_counter() + RECOVERY_LIMIT_S
    while missing and perf_counter() < deadline_s:
        missing = acknowledged - {row["id"] for row in await postgres_pool.fetch(STORED[kind], list(acknowledged))}
        await asyncio.sleep(0.02)
    return missing
