"""The servers that both sides of a paired comparison share."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.workers.databases import REDIS_DATABASES, ROUNDS, SIDES
from plumbline.measuring.cpu_affinity import set_precedence
from plumbline.services import ServiceError, Services
from plumbline.services.readiness import NotReady
from plumbline.services.variables import placeholders
from plumbline.settings import Settings

# PostgreSQL's default, which each worker may expect for itself.
POSTGRES_CONNECTIONS = 100


@contextlib.contextmanager
def pair_servers(settings: Settings, root: Path, core: int | None, backends: Mapping[str, str]) -> Iterator[Services]:
    """Start Redis and PostgreSQL on this core, and give them and the workers precedence over other processes.

    `backends`: by server, the one to prefer where the settings leave it open. Raises ComparisonInvalid.
    """
    services = Services(settings_of_both(settings), root, preferred=backends)
    with contextlib.ExitStack() as stack:
        stack.callback(services.stop)
        try:
            services.begin()
            services.wait_ready()
        except (NotReady, ServiceError) as error:
            raise ComparisonInvalid(services.scrub(str(error))) from None
        if core is not None:
            for service in services.running():
                service.pin({core})
        stack.callback(set_precedence, [os.getpid()], ahead=False)
        # The workers inherit it from this process.
        server_pids = [pid for service in services.running() for pid in service.pids()]
        set_precedence([os.getpid(), *server_pids], ahead=True)
        yield services


def settings_of_both(settings: Settings) -> Settings:
    """Return the settings of the shared servers: with room for all workers that run at the same time.

    External servers are off, as the workers find those for themselves.
    """
    redis, postgres = settings.redis, settings.postgres
    databases = max(REDIS_DATABASES, int(redis.config.get("databases", 0)))
    redis = replace(redis, config={**redis.config, "databases": databases})
    connections = len(SIDES) * ROUNDS * int(postgres.config.get("max_connections", POSTGRES_CONNECTIONS))
    postgres = replace(postgres, config={**postgres.config, "max_connections": connections})
    if settings.backend("redis") == "external":
        redis = replace(redis, backend="off")
    if settings.backend("postgres") == "external":
        postgres = replace(postgres, backend="off")
    return replace(settings, redis=redis, postgres=postgres)


def shared_by_sides(settings: Settings) -> list[str]:
    """Return what base and head share although they should not, one sentence each."""
    tables = [settings.env, *(one.env for one in (settings.app, *settings.processes.values()) if one)]
    named = [(key, placeholders(text), "://" in text) for table in tables for key, text in table.items()]
    everything = set().union(*(names for _, names, _ in named))
    if "redis.prefix" in everything:
        return []
    shared = []
    if settings.backend("redis") == "external":
        shared.append("Redis is external, and base and head use the same database of it")
    elif settings.backend("redis") != "off":
        for key, names, is_url in named:
            itself = names if is_url else everything
            if "redis.host" in names and not itself & {"redis.database", "redis.url"}:
                shared.append(f"{key} names no {{redis.database}}, so base and head use the same one")
    return [f"{text}: keys with fixed names that one writes, the other reads" for text in shared]
