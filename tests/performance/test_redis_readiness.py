"""Readiness tests of Redis: access, version, connection limit, configuration and durability."""

import asyncio
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from plumbline import Service, Services

pytestmark = pytest.mark.readiness


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("settings.toml").read_text(encoding="utf-8"))


@pytest.fixture
def redis_service(services: Services, redis_url: str) -> Service:  # skips if Redis is off
    assert services.redis is not None
    return services.redis


# Access


@pytest.mark.parametrize("password", ["", "wrong"], ids=["no password", "wrong password"])
async def test_redis_refuses(redis_service: Service, password: str) -> None:
    """Redis refuses clients without the right password."""
    if redis_service.own and not redis_service.address.password:
        pytest.skip('requirepass = "" in settings.toml switches the password off')
    async with Redis.from_url(replace(redis_service.address, password=password).url) as client:
        with pytest.raises(AuthenticationError):
            await client.ping()


# Version and connection limit


def version_parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


async def test_redis_version(redis_service: Service, settings: dict[str, Any]) -> None:
    """Redis has at least the `minimum_version` of settings.toml."""
    assert version_parts(redis_service.version) >= version_parts(settings["redis"].get("minimum_version", "7.0"))


async def test_redis_has_room_for_the_pools(redis_client: Redis) -> None:
    """`maxclients` is at least twice the open connections and the size of the pool together."""
    limit = int((await redis_client.config_get("maxclients"))["maxclients"] or 0)
    open_now = len(await redis_client.client_list())

    assert 2 * (open_now + redis_client.connection_pool.max_connections) <= limit


# Configuration and durability


async def test_redis_runs_as_configured(redis_service: Service, redis_client: Redis, settings: dict[str, Any]) -> None:
    """Redis runs with each option of `[redis.config]` in settings.toml."""
    if not redis_service.own:
        pytest.skip("Plumbline did not start this Redis, so [redis.config] does not apply to it")
    for name, wanted in settings["redis"].get("config", {}).items():
        reported = (await redis_client.config_get(name))[name]
        assert reported == spelt(wanted), name


def spelt(option: object) -> str:
    """Return the value of an option as Redis spells it."""
    if isinstance(option, bool):
        return "yes" if option else "no"
    return str(option)


async def kill_and_start_again(service: Service) -> None:
    if not service.own:
        pytest.skip(f"Plumbline did not start {service.name}, so it does not kill it")
    try:
        await asyncio.to_thread(service.kill)
    finally:
        await asyncio.to_thread(service.restart)
        await asyncio.to_thread(service.wait_ready, 20)


@pytest.mark.full
@pytest.mark.disruptive
async def test_redis_write_survives_a_kill(redis_service: Service, redis_client: Redis, key_prefix: str) -> None:
    """Redis keeps an acknowledged write after SIGKILL if its append-only file is on, and loses it if it is off."""
    durable = (await redis_client.config_get("appendonly"))["appendonly"] == "yes"
    if not durable and (await redis_client.config_get("save"))["save"]:
        pytest.skip("this Redis saves snapshots only, so a killed Redis may lose a write")
    await redis_client.set(f"{key_prefix}durable", "value")

    await kill_and_start_again(redis_service)

    assert (await redis_client.get(f"{key_prefix}durable") is not None) == durable


# Container


async def container_is_well(service: Service) -> None:
    if service.backend != "docker":
        pytest.skip(f"{service.name} does not run in a container that Plumbline started")

    async with asyncio.timeout(15):
        state = await asyncio.to_thread(service.state)

    assert state == "running"


async def test_redis_container_is_well(redis_service: Service) -> None:
    """Docker reports within 15 s that the container is running: not paused, restarting or killed for its memory."""
    await container_is_well(redis_service)
