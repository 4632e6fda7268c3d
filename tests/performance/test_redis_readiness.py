"""Is Redis fit for production: who gets in, what is kept, and how much room is left."""

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
def redis_service(services: Services, redis_url: str) -> Service:  # noqa: ARG001 - skips if Redis is off
    assert services.redis is not None
    return services.redis


# Who gets in


@pytest.mark.parametrize("password", ["", "wrong"], ids=["no password", "wrong password"])
async def test_redis_refuses(redis_service: Service, password: str) -> None:
    """Redis lets nobody in without the right password."""
    if redis_service.own and not redis_service.address.password:
        pytest.skip('requirepass = "" in settings.toml switches the password off')
    async with Redis.from_url(replace(redis_service.address, password=password).url) as client:
        with pytest.raises(AuthenticationError):
            await client.ping()


# Versions and room


def version_parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


async def test_redis_version(redis_service: Service, settings: dict[str, Any]) -> None:
    """Redis is of the version that the settings ask for, or newer."""
    assert version_parts(redis_service.version) >= version_parts(settings["redis"].get("minimum_version", "7.0"))


async def test_redis_has_room_for_the_pools(redis_client: Redis) -> None:
    """Redis takes twice the connections that are open now and that this pool may still open."""
    limit = int((await redis_client.config_get("maxclients"))["maxclients"] or 0)
    open_now = len(await redis_client.client_list())

    assert 2 * (open_now + redis_client.connection_pool.max_connections) <= limit


# What is kept


async def test_redis_runs_as_configured(redis_service: Service, redis_client: Redis, settings: dict[str, Any]) -> None:
    """Redis reports each option of the settings as they say, durability among them."""
    if not redis_service.own:
        pytest.skip("the options in settings.toml are for a Redis that we start")
    for name, wanted in settings["redis"].get("config", {}).items():
        reported = (await redis_client.config_get(name))[name]
        assert reported == spelt(wanted), name


def spelt(option: object) -> str:
    """Return an option of the settings in the spelling of Redis."""
    if isinstance(option, bool):
        return "yes" if option else "no"
    return str(option)


async def kill_and_start_again(service: Service) -> None:
    if not service.own:
        pytest.skip(f"{service.name} runs elsewhere, and is not killed")
    try:
        await asyncio.to_thread(service.kill)
    finally:
        await asyncio.to_thread(service.restart)
        await asyncio.to_thread(service.wait_ready, 20)


@pytest.mark.full
@pytest.mark.disruptive
async def test_redis_write_survives_a_kill(redis_service: Service, redis_client: Redis, key_prefix: str) -> None:
    """A write that Redis has answered is there after a SIGKILL with the append-only file on, and lost with it off."""
    durable = (await redis_client.config_get("appendonly"))["appendonly"] == "yes"
    if not durable and (await redis_client.config_get("save"))["save"]:
        pytest.skip("with snapshots alone a write may be lost or not")
    await redis_client.set(f"{key_prefix}durable", "value")

    await kill_and_start_again(redis_service)

    assert (await redis_client.get(f"{key_prefix}durable") is not None) == durable


# In containers


async def container_is_well(service: Service) -> None:
    if service.backend != "docker":
        pytest.skip(f"{service.name} is not in a container of ours")

    async with asyncio.timeout(15):
        state = await asyncio.to_thread(service.state)

    assert state == "running"


async def test_redis_container_is_well(redis_service: Service) -> None:
    """It runs: it is not restarting, paused or ended for want of memory, and Docker says so within 15 s."""
    await container_is_well(redis_service)
