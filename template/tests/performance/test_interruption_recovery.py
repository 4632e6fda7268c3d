"""Redis, PostgreSQL and the application paused, killed and restarted in the middle of work.

The work goes through the application: items are created and events handed to the worker. The times until a
failure is noticed and until work goes on are printed at the end of the run and written to junit.xml, but not judged.
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
KINDS = {"items": {"name": "interrupted", "price_cents": 1}, "events": {"name": "interrupted"}}
STORED = {"items": "SELECT id FROM items WHERE id = ANY($1)", "events": "SELECT id FROM events WHERE id = ANY($1)"}


@dataclass(frozen=True)
class Attempt:
    """One request: its kind, its begin and end (perf_counter seconds), and the id that was acknowledged, if any."""

    kind: str
    began_s: float
    ended_s: float
    acknowledged: int | str | None


class Work:
    """Clients that create items and events, one after another, with the outcome of each request."""

    def __init__(self, api_url: str) -> None:
        self.attempts: list[Attempt] = []
        self._api_url = api_url

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Work for as long as the block lasts."""
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
                await asyncio.sleep(0.002)  # leaves the core to the others

    def acknowledged(self, kind: str) -> set[int | str]:
        return {attempt.acknowledged for attempt in self.attempts if attempt.kind == kind and attempt.acknowledged}

    def failed_at(self, since_s: float) -> float | None:
        """When the first failure after that time was noticed."""
        return min((a.ended_s for a in self.attempts if not a.acknowledged and a.ended_s >= since_s), default=None)

    def going_again_at(self, since_s: float) -> float | None:
        """When both kinds of work, begun after that time, had succeeded."""
        again_s: dict[str, float] = {}
        for attempt in self.attempts:
            if attempt.acknowledged and attempt.began_s >= since_s:
                again_s.setdefault(attempt.kind, attempt.ended_s)
        return max(again_s.values()) if len(again_s) == len(KINDS) else None


async def until(event: str, condition: Callable[[], bool], limit_s: float) -> None:
    """Wait until the condition holds. Raises AssertionError that names the event if it does not in time."""
    deadline_s = perf_counter() + limit_s
    while not condition():
        assert perf_counter() < deadline_s, f"{event}: not within {limit_s:g} s"
        await asyncio.sleep(0.002)


@pytest.fixture(params=["redis", "postgres", "app"])
async def service(request: pytest.FixtureRequest, services: Services, api_url: str) -> AsyncIterator[Service]:
    """The service to interrupt; everything is up again afterwards."""
    found: Service | None = getattr(services, request.param)
    if found is None or not found.own:
        pytest.skip(f"{request.param} runs elsewhere, and is not interrupted")
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
    """The kinds of work that outlive a killed service with the durability that the servers are configured for."""
    if service.name == "postgres" and await postgres_pool.fetchval("SHOW synchronous_commit") == "off":
        return []
    if service.name == "redis" and (await redis_client.config_get("appendonly"))["appendonly"] == "no":
        return ["items"]
    return list(KINDS)


async def lift(service: Service, interruption: str) -> None:
    """End the interruption, whatever has become of the test."""
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
    """Work goes on after an interruption, and all that was acknowledged and promised is in PostgreSQL in the end."""
    work = Work(api_url)
    async with work.going_on():
        await until("work begins", lambda: work.going_again_at(0) is not None, RECOVERY_LIMIT_S)
        began_s = perf_counter()
        try:
            await asyncio.to_thread(getattr(service, interruption))
            if interruption != "restart":  # one may be over before it is noticed
                await until("a failure is noticed", lambda: work.failed_at(began_s) is not None, NOTICE_LIMIT_S)
        finally:
            await lift(service, interruption)
        lifted_s = perf_counter()
        await until("work goes on", lambda: work.going_again_at(lifted_s) is not None, RECOVERY_LIMIT_S)

    noticed_s, again_s = work.failed_at(began_s), work.going_again_at(lifted_s)
    record_property("noticed", "not at all" if noticed_s is None else f"{noticed_s - began_s:.3f} s")
    record_property("work goes on", f"{(again_s or 0) - lifted_s:.3f} s")
    for kind in promised:
        assert await lost(postgres_pool, kind, work.acknowledged(kind)) == set(), kind


async def lost(postgres_pool: asyncpg.Pool, kind: str, acknowledged: set[int | str]) -> set[int | str]:
    """Those that are not in PostgreSQL, not even after the worker has had time to catch up."""
    missing = acknowledged
    deadline_s = perf_counter() + RECOVERY_LIMIT_S
    while missing and perf_counter() < deadline_s:
        missing = acknowledged - {row["id"] for row in await postgres_pool.fetch(STORED[kind], list(acknowledged))}
        await asyncio.sleep(0.02)
    return missing
