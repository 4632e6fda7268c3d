"""Is PostgreSQL fit for production: who gets in, what is kept, and how much room is left."""

import asyncio
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from plumbline import Service, Services

pytestmark = pytest.mark.readiness


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("settings.toml").read_text(encoding="utf-8"))


@pytest.fixture
def postgres_service(services: Services, postgres_url: str) -> Service:  # noqa: ARG001 - skips if it is off
    assert services.postgres is not None
    return services.postgres


# Who gets in


@pytest.mark.parametrize("password", ["", "wrong"], ids=["no password", "wrong password"])
async def test_postgres_refuses(postgres_service: Service, password: str) -> None:
    """PostgreSQL lets nobody in without the right password."""
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(replace(postgres_service.address, password=password).url)


# Versions and room


def version_parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


async def test_postgres_version(postgres_service: Service, settings: dict[str, Any]) -> None:
    """PostgreSQL is of the version that the settings ask for, or newer."""
    assert version_parts(postgres_service.version) >= version_parts(settings["postgres"].get("minimum_version", "14"))


async def test_postgres_has_room_for_the_pools(postgres_pool: asyncpg.Pool) -> None:
    """PostgreSQL takes the connections that others have open and a full pool of ours, beside those it reserves."""
    limit = int(await postgres_pool.fetchval("SHOW max_connections"))
    reserved = int(await postgres_pool.fetchval("SHOW superuser_reserved_connections"))
    others = await postgres_pool.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'perf'"
    )

    assert others + postgres_pool.get_max_size() <= limit - reserved


# What is kept


async def test_postgres_runs_as_configured(
    postgres_service: Service, postgres_pool: asyncpg.Pool, settings: dict[str, Any]
) -> None:
    """PostgreSQL reports each option of the settings as they say, durability among them."""
    if not postgres_service.own:
        pytest.skip("the options in settings.toml are for a PostgreSQL that we start")
    for name, wanted in settings["postgres"].get("config", {}).items():
        reported = await postgres_pool.fetchval("SELECT current_setting($1)", name)
        assert reported == spelt(wanted), name


def spelt(option: object) -> str:
    """Return an option of the settings in the spelling of PostgreSQL."""
    if isinstance(option, bool):
        return "on" if option else "off"
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
async def test_postgres_commit_survives_a_kill(postgres_service: Service, postgres_pool: asyncpg.Pool) -> None:
    """A commit that PostgreSQL has answered is there after a SIGKILL, unless synchronous_commit is off."""
    if await postgres_pool.fetchval("SHOW synchronous_commit") == "off":
        pytest.skip("with synchronous_commit off a commit may be lost or not")
    await postgres_pool.execute("DROP TABLE IF EXISTS perf_durable; CREATE TABLE perf_durable (id bigint)")
    await postgres_pool.execute("INSERT INTO perf_durable VALUES (1)")

    await kill_and_start_again(postgres_service)

    assert await postgres_pool.fetchval("SELECT id FROM perf_durable") == 1
    await postgres_pool.execute("DROP TABLE perf_durable")


# In containers


async def container_is_well(service: Service) -> None:
    if service.backend != "docker":
        pytest.skip(f"{service.name} is not in a container of ours")

    async with asyncio.timeout(15):
        state = await asyncio.to_thread(service.state)

    assert state == "running"


async def test_postgres_container_is_well(postgres_service: Service) -> None:
    """It runs: it is not restarting, paused or ended for want of memory, and Docker says so within 15 s."""
    await container_is_well(postgres_service)
