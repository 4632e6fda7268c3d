"""The sample service and its worker work, even after an outage of their servers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest
import redis as redis_client

from plumbline.services.base import Service
from plumbline.services.clients import run_alone
from plumbline.services.services import Services
from plumbline.settings import AppSettings, ProcessSettings, Settings
from tests.support.code_under_test import LIMIT_S, start, until

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Sample:
    """The sample service and its worker, started as settings.toml would."""

    api: httpx.Client
    app: Service
    worker: Service
    redis: Service
    postgres: Service
    prefix: str

    def query(self, sql: str) -> list[tuple[object, ...]]:
        async def work() -> list[tuple[object, ...]]:
            connection = await asyncpg.connect(self.postgres.address.url, timeout=LIMIT_S)
            try:
                return [tuple(row) for row in await connection.fetch(sql)]
            finally:
                await connection.close()

        return run_alone(work, LIMIT_S)

    def send_event(self, name: str) -> str:
        answer = self.api.post("/events", json={"name": name})
        assert answer.status_code == 202
        event_id: str = answer.json()["id"]
        return event_id

    def stored_events(self) -> dict[object, object]:
        return dict(self.query("SELECT id, name FROM events"))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sample() -> Iterator[Sample]:
    settings = Settings(
        backend="embedded",
        prepare=["python", "-m", "tests.sample_service.prepare"],
        env={
            "SAMPLE_DATABASE_URL": "{postgres.url}",
            "SAMPLE_REDIS_URL": "{redis.url}",
            "SAMPLE_KEY_PREFIX": "{redis.prefix}",
            "SAMPLE_CONNECT_TIMEOUT_S": "0.5",
            "SAMPLE_COMMAND_TIMEOUT_S": "0.5",
        },
        app=AppSettings("tests.sample_service.app:app"),
        processes={
            "worker": ProcessSettings(["python", "-m", "tests.sample_service.worker"], ready_output="worker ready")
        },
    )
    services = Services(settings, ROOT)
    try:
        start(services)
        app, redis, postgres = services.app, services.redis, services.postgres
        assert app is not None
        assert redis is not None
        assert postgres is not None
        with httpx.Client(base_url=app.address.url, timeout=LIMIT_S) as api:
            yield Sample(api, app, services.processes["worker"], redis, postgres, services.key_prefix)
    finally:
        services.stop()


@pytest.fixture
def healthy_sample(sample: Sample) -> Sample:
    until(lambda: sample.api.get("/health").status_code == 200)
    return sample


def test_the_sample_service_is_healthy(sample: Sample) -> None:
    health = sample.api.get("/health")

    assert (health.status_code, health.json()) == (200, {"postgres": "ok", "redis": "ok"})


def test_the_sample_service_creates_reads_and_lists_items(sample: Sample) -> None:
    created = sample.api.post("/items", json={"name": "lamp", "price_cents": 4900})

    item = created.json()
    assert created.status_code == 201
    assert item == {"id": item["id"], "name": "lamp", "price_cents": 4900}
    assert sample.api.get(f"/items/{item['id']}").json() == item
    assert [one["id"] for one in sample.api.get("/items?limit=3").json()["items"]] == [1, 2, 3]


def test_the_sample_service_reads_through_its_cache(sample: Sample) -> None:
    for _ in range(2):
        assert sample.api.get("/items/7/cached").json() == {"id": 7, "name": "item 7", "price_cents": 107}

    with redis_client.Redis.from_url(sample.redis.address.url) as client:
        assert 0 < client.ttl(f"{sample.prefix}item:7") <= 60
        assert all(key.decode().startswith(sample.prefix) for key in client.scan_iter())


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/items/999999999", "", 404),
        ("GET", "/items/999999999/cached", "", 404),
        ("GET", "/items/99999999999999999999", "", 422),
        ("GET", "/items?limit=0", "", 422),
        ("GET", "/items?limit=many", "", 422),
        ("POST", "/items", "{", 400),
        ("POST", "/items", "[]", 422),
        ("POST", "/items", '{"name": "lamp"}', 422),
        ("POST", "/items", '{"name": "lamp", "price_cents": -1}', 422),
        ("POST", "/events", '{"name": ""}', 422),
    ],
)
def test_the_sample_service_refuses_bad_requests(
    sample: Sample, method: str, path: str, body: str, status: int
) -> None:
    answer = sample.api.request(method, path, content=body)

    assert answer.status_code == status
    assert answer.json()["detail"]


@pytest.mark.parametrize("fault", ["pause", "kill"])
@pytest.mark.parametrize(("store", "path"), [("postgres", "/items/1"), ("redis", "/items/1/cached")])
def test_the_sample_service_answers_503_during_an_outage_and_recovers(
    healthy_sample: Sample, store: str, path: str, fault: str
) -> None:
    sample = healthy_sample
    server = sample.postgres if store == "postgres" else sample.redis
    getattr(server, fault)()
    try:
        answer = sample.api.get(path)
        health = sample.api.get("/health")
    finally:
        server.resume() if fault == "pause" else server.restart()

    assert answer.status_code == 503
    assert "a store is unavailable" in answer.json()["detail"]
    assert health.status_code == 503
    assert [name for name, state in health.json().items() if state != "ok"] == [store]
    until(lambda: sample.api.get(path).status_code == 200)
    assert sample.app.state() == "running"


def test_the_worker_stores_events(healthy_sample: Sample) -> None:
    event_id = healthy_sample.send_event("ordered")

    until(lambda: healthy_sample.stored_events().get(event_id) == "ordered")


def test_a_killed_worker_loses_no_event(healthy_sample: Sample) -> None:
    """Every event answered with 202 is stored: before, between and after the kill."""
    sample = healthy_sample
    sent = {}

    for number in range(60):
        name = f"event {number}"
        sent[sample.send_event(name)] = name
        if number == 20:
            sample.worker.kill()
        if number == 40:
            sample.worker.restart()
            sample.worker.wait_ready(LIMIT_S)

    until(lambda: sent.items() <= sample.stored_events().items())


def test_events_that_a_killed_worker_had_read_are_stored(healthy_sample: Sample) -> None:
    """PostgreSQL hangs, then it and the worker are killed: the worker had read the event but could not store it."""
    sample = healthy_sample
    sample.postgres.pause()
    event_id = sample.send_event("in between")
    with redis_client.Redis.from_url(sample.redis.address.url) as client:
        until(lambda: client.xpending(f"{sample.prefix}events", "store")["pending"] > 0)
    sample.worker.kill()
    sample.postgres.kill()
    sample.postgres.restart()
    sample.postgres.wait_ready(LIMIT_S)
    assert event_id not in sample.stored_events()

    sample.worker.restart()

    until(lambda: sample.stored_events().get(event_id) == "in between")


@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_the_worker_continues_after_an_outage(healthy_sample: Sample, store: str) -> None:
    sample = healthy_sample
    server = sample.postgres if store == "postgres" else sample.redis
    server.kill()
    server.restart()
    until(lambda: sample.api.get("/health").status_code == 200)

    event_id = sample.send_event("afterwards")

    until(lambda: event_id in sample.stored_events())
    assert sample.worker.state() == "running"


def test_the_worker_ends_cleanly(healthy_sample: Sample) -> None:
    worker = healthy_sample.worker

    worker.stop()

    assert worker.state() == "exited with code 0"
    worker.start()
    worker.wait_ready(LIMIT_S)
