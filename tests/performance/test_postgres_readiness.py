"""Readiness tests of PostgreSQL: access, version, connection limit, configuration and durability."""

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
def postgres_service(services: Services, postgres_url: str) -> Service:  # skips if PostgreSQL is off
    assert services.postgres is not None
    return services.postgres


# Access


@pytest.mark.parametrize("password", ["", "wrong"], ids=["no password", "wrong password"])
async def test_postgres_refuses(postgres_service: Service, password: str) -> None:
    """PostgreSQL refuses clients without the right password."""
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(replace(postgres_service.address, password=password).url)


# Version and connection limit


def version_parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


async def test_postgres_version(postgres_service: Service, settings: dict[str, Any]) -> None:
    """PostgreSQL has at least the `minimum_version` of settings.toml."""
    assert version_parts(postgres_service.version) >= version_parts(settings["postgres"].get("minimum_version", "14"))


async def test_postgres_has_room_for_the_pools(postgres_pool: asyncpg.Pool) -> None:
    """`max_connections` suffices for a full pool of this suite, all other clients and the reserved connections."""
    limit = int(await postgres_pool.fetchval("SHOW max_connections"))
    reserved = int(await postgres_pool.fetchval("SHOW superuser_reserved_connections"))
    others = await postgres_pool.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'perf'"
    )

    assert others + postgres_pool.get_max_size() <= limit - reserved


# Configuration and durability


async def test_postgres_runs_as_configured(
    postgres_service: Service, postgres_pool: asyncpg.Pool, settings: dict[str, Any]
) -> None:
    """PostgreSQL runs with each option of `[postgres.config]` in settings.toml."""
    if not postgres_service.own:
        pytest.skip("Plumbline did not start this PostgreSQL, so [postgres.config] does not apply to it")
    for name, wanted in settings["postgres"].get("config", {}).items():
        reported = await postgres_pool.fetchval("SELECT current_setting($1)", name)
        assert reported == spelt(wanted), name


def spelt(option: object) -> str:
    """Return the value of an option as PostgreSQL spells it."""
    if isinstance(option, bool):
        return "on" if option else "off"
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
async def test_postgres_commit_survives_a_kill(postgres_service: Service, postgres_pool: asyncpg.Pool) -> None:
    """PostgreSQL keeps an acknowledged commit when it is killed with SIGKILL."""
    if await postgres_pool.fetchval("SHOW synchronous_commit") == "off":
        pytest.skip("synchronous_commit is off, so a killed PostgreSQL may lose a commit")
    await postgres_pool.execute("DROP TABLE IF EXISTS perf_durable; CREATE TABLE perf_durable (id bigint)")
    await postgres_pool.execute("INSERT INTO perf_durable VALUES (1)")

    await kill_and_start_again(postgres_service)

    assert await postgres_pool.fetchval("SELECT id FROM perf_durable") == 1
    await postgres_pool.execute("DROP TABLE perf_durable")


# Container


async def container_is_well(service: Service) -> None:
    if service.backend != "docker":
        pytest.skip(f"{service.name} does not run in a container that Plumbline started")

    async with asyncio.timeout(15):
        state = await asyncio.to_thread(service.state)

    assert state == "running"


async def test_postgres_container_is_well(postgres_service: Service) -> None:
    """Docker reports within 15 s that the container is running: not paused, restarting or killed for its memory."""
    await container_is_well(postgres_service)
