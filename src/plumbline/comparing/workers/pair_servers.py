"""The servers that both sides of a paired comparison share, with separate databases for each worker.

While one pair is measured, the workers of the last two pairs end and the workers of the next one start. So each side
has the databases of ROUNDS rounds, which its pairs use in turn. Each is a copy of a database that is prepared once.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.measuring.cpu_affinity import set_precedence
from plumbline.services.address import Address
from plumbline.services.clients import client_errors, redis_client, run_sql
from plumbline.services.errors import NotReady, ServiceError, describe
from plumbline.services.services import Services
from plumbline.settings import Settings, placeholders

ROUNDS = 4
# Numbers of the Redis databases by side: of each round, and of the prepared one. 0, the default, stays unused.
REDIS_NUMBERS = {"base": (1, 3, 5, 7, 9), "head": (2, 4, 6, 8, 10)}
REDIS_DATABASES = 11
POSTGRES_CONNECTIONS = 100  # for each worker; PostgreSQL's default
LIMIT_S = 30.0


@contextlib.contextmanager
def pair_servers(settings: Settings, root: Path, core: int | None, backends: Mapping[str, str]) -> Iterator[Services]:
    """Start Redis and PostgreSQL on a core, with priority for them and the workers. Raises ComparisonInvalid."""
    services = Services(settings_of_both(settings), root, preferred=backends)
    try:
        services.begin()
        services.wait_ready()
        if core is not None:
            for service in services.running():
                service.pin({core})
        # The workers inherit the priority of this process.
        server_pids = [pid for service in services.running() for pid in service.pids()]
        set_precedence([os.getpid(), *server_pids], ahead=True)
        yield services
    except (NotReady, ServiceError) as error:
        raise ComparisonInvalid(services.scrub(str(error))) from None
    finally:
        set_precedence([os.getpid()], ahead=False)
        services.stop()


def settings_of_both(settings: Settings) -> Settings:
    """Return the settings of the shared servers, with enough databases and connections for all workers.

    External servers are off here, because the workers connect to them directly.
    """
    redis, postgres = settings.redis, settings.postgres
    databases = max(REDIS_DATABASES, int(redis.config.get("databases", 0)))
    redis = replace(redis, config={**redis.config, "databases": databases})
    connections = len(REDIS_NUMBERS) * ROUNDS * int(postgres.config.get("max_connections", POSTGRES_CONNECTIONS))
    postgres = replace(postgres, config={**postgres.config, "max_connections": connections})
    if settings.backend_of("redis") == "external":
        redis = replace(redis, backend="off")
    if settings.backend_of("postgres") == "external":
        postgres = replace(postgres, backend="off")
    return replace(settings, redis=redis, postgres=postgres)


def shared_by_sides(settings: Settings) -> list[str]:
    """Return a sentence for each Redis database that base and head share against intention."""
    tables = [settings.env, *(one.env for one in (settings.app, *settings.processes.values()) if one)]
    named = [(key, placeholders(text), "://" in text) for table in tables for key, text in table.items()]
    everything = set().union(*(names for _, names, _ in named))
    if "redis.prefix" in everything or settings.backend_of("redis") == "off":
        return []
    shared = ["Redis is external, and base and head use the same database of it"]
    if settings.backend_of("redis") != "external":
        hosts = [(key, names if is_url else everything) for key, names, is_url in named if "redis.host" in names]
        keys = [key for key, names in hosts if not names & {"redis.database", "redis.url"}]
        shared = [f"{key} names no {{redis.database}}, so base and head use the same one" for key in keys]
    return [f"{text}: keys with fixed names that one writes, the other reads" for text in shared]


class Databases:
    """The databases of all rounds. Methods raise ComparisonInvalid, and do nothing without a server."""

    def __init__(self, services: Services) -> None:
        self._redis = services.redis.address if services.redis else None
        self._postgres = services.postgres.address if services.postgres else None
        self._prepared = False

    def addresses(self, side: str, round_: int, *, prepared: bool = False) -> dict[str, Address]:
        """Return the addresses of a worker's databases, by server. `prepared`: those that later rounds copy."""
        found = {}
        if self._redis is not None:
            number = REDIS_NUMBERS[side][-1 if prepared else round_]
            found["redis"] = self._redis.with_database(str(number))
        if self._postgres is not None:
            found["postgres"] = self._postgres.with_database(f"perf_{side}_{round_}")
        return found

    def make(self, round_: int) -> None:
        """Create the databases of a round again, as copies of the prepared ones if they exist, otherwise empty."""
        for side, numbers in REDIS_NUMBERS.items():
            template = f'TEMPLATE "perf_{side}_prepared"' if self._prepared else ""
            self._sql(f'DROP DATABASE IF EXISTS "perf_{side}_{round_}" WITH (FORCE)')
            self._sql(f'CREATE DATABASE "perf_{side}_{round_}" {template}')
            self._copy_redis(numbers[-1], numbers[round_])

    def keep_prepared(self, round_: int) -> None:
        """Make the databases of this round the prepared ones."""
        for side in REDIS_NUMBERS:
            self._sql(f'ALTER DATABASE "perf_{side}_{round_}" RENAME TO "perf_{side}_prepared"')
        self._prepared = True

    def _copy_redis(self, prepared: int, number: int) -> None:
        if self._redis is None:
            return
        source, target = (self._redis.with_database(str(one)).url for one in (prepared, number))
        try:
            with redis_client(target, LIMIT_S) as client:
                client.flushdb()
            with redis_client(source, LIMIT_S) as client:
                pipeline = client.pipeline(transaction=False)
                for key in client.scan_iter(count=1000):
                    pipeline.copy(key, key, destination_db=number, replace=True)
                pipeline.execute()
        except client_errors("redis") as error:
            raise ComparisonInvalid(f"database {number} of Redis can't be filled: {describe(error)}") from None

    def _sql(self, statement: str) -> None:
        if self._postgres is None:
            return
        try:
            run_sql(self._postgres.url, statement, limit_s=LIMIT_S)
        except client_errors("postgres") as error:
            raise ComparisonInvalid(f"{statement} failed: {describe(error)}") from None
