"""The Redis and PostgreSQL servers of a paired comparison, with separate databases for each worker.

While one pair is measured, the workers of the last two pairs end and the workers of the next one start. So each side
has the databases of ROUNDS rounds, which its pairs use in turn. Each is a copy of a database that is prepared once.

Usually both sides share the servers. If the application hard-codes a database, each worker has a server of its own. For
PostgreSQL there is one for each side, whose pairs then do not overlap: its databases can only be copied within it. Nor
do they with a service of the stack: consumers of two pairs would take each other's messages.
"""

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.counting.statements import PREFIX
from plumbline.measuring.cpu_affinity import set_precedence
from plumbline.services.address import Address
from plumbline.services.base import Service
from plumbline.services.clients import client_errors, redis_client, run_sql
from plumbline.services.docker_engine import in_background
from plumbline.services.errors import NotReady, ServiceError, describe
from plumbline.services.services import SERVERS, ServerName, Services
from plumbline.settings import OWN_NAME, Settings, placeholders

ROUNDS = 4
# Numbers of the Redis databases by side: of each round, and of the prepared one. 0, the default, stays unused.
REDIS_NUMBERS = {"base": (1, 3, 5, 7, 9), "head": (2, 4, 6, 8, 10)}
REDIS_DATABASES = 11
POSTGRES_CONNECTIONS = 100  # for each worker; PostgreSQL's default
LIMIT_S = 30.0
PRODUCTS = {"redis": "Redis", "postgres": "PostgreSQL"}
DATA = {"redis": "keys with fixed names", "postgres": "rows"}


@contextlib.contextmanager
def pair_servers(
    settings: Settings, root: Path, core: int | None, backends: Mapping[str, str]
) -> Iterator["PairServers"]:
    """Start the shared servers on a core, with priority for all servers and the workers. Raises ComparisonInvalid."""
    servers = PairServers(settings, root, core, backends)
    try:
        servers.start()
        yield servers
    finally:
        set_precedence([os.getpid()], ahead=False)
        servers.stop()


def settings_of_both(settings: Settings) -> Settings:
    """Return the settings of the shared servers, with enough databases and connections for all workers.

    External servers are off here, because the workers connect to them directly. So are those that each side has.
    """
    redis, postgres = settings.redis, settings.postgres
    databases = max(REDIS_DATABASES, int(redis.config.get("databases", 0)))
    redis = replace(redis, config={**redis.config, "databases": databases})
    connections = len(REDIS_NUMBERS) * ROUNDS * int(postgres.config.get("max_connections", POSTGRES_CONNECTIONS))
    config = {"log_line_prefix": PREFIX, **postgres.config, "max_connections": connections}
    postgres = replace(postgres, config=config)
    external = {name for name in SERVERS if settings.backend_of(name) == "external"}
    return _without(replace(settings, redis=redis, postgres=postgres), external | set(servers_of_each(settings)))


def servers_of_each(settings: Settings) -> list[ServerName]:
    """Return the servers that each side needs for itself, because the application hard-codes the database."""
    hard_coded = {name for name in SERVERS if _hosts_only(settings, name)}
    hard_coded |= {"postgres"} if settings.postgres.database != OWN_NAME else set()
    return [name for name in SERVERS if name in hard_coded and settings.backend_of(name) not in {"external", "off"}]


def shared_by_sides(settings: Settings) -> list[str]:
    """Return a sentence for each external database, and each service, that base and head share against intention."""
    shared = {name: _hosts_only(settings, name) for name in SERVERS if settings.backend_of(name) == "external"}
    found = {name: f"{keys[0]} names no {{{name}.database}}" for name, keys in shared.items() if keys}
    if "redis" in shared and "redis.prefix" not in _named(settings):
        found["redis"] = ""
    both = [name for name, one in settings.services.items() if name in settings.external_urls or not one.each_side]
    services = [
        f"base and head share {name}, and no variable uses {{{name}.prefix}}:"
        " what one writes under a fixed name, the other reads"
        for name in both
        if f"{name}.prefix" not in _named(settings)
    ]
    return services + [
        f"{PRODUCTS[name]} is external, and base and head use the same database of it{f': {why}' if why else ''}:"
        f" {DATA[name]} that one writes, the other reads"
        for name, why in found.items()
    ]


@dataclass(frozen=True)
class Dump:
    """The data of a Redis server."""

    functions: bytes = b""
    # By the number of the database: the name, the milliseconds to live and the value of each key.
    keys: Mapping[int, Sequence[tuple[bytes, int, bytes]]] = field(default_factory=dict)


class PairServers:
    """The servers of both sides, and the databases of all rounds. Methods raise ComparisonInvalid."""

    def __init__(self, settings: Settings, root: Path, core: int | None, backends: Mapping[str, str]) -> None:
        self._settings = settings
        of_each = servers_of_each(settings)
        overlap = "postgres" not in of_each and not any(one.each_side for one in settings.services.values())
        self.rounds = ROUNDS if overlap else 1
        stack = {name: replace(one, backend="off") for name, one in settings.services.items()}
        self._settings_of_each = replace(_without(settings, set(SERVERS) - {*of_each}), services=stack)
        self._root, self._core, self._backends = root, core, dict(backends)
        self._shared = Services(settings_of_both(settings), root, preferred=backends, sides=[*REDIS_NUMBERS])
        self.directory = self._shared.directory  # for files of the comparison
        self._of_each: dict[tuple[str, int], Services] = {}  # by side and round
        self._has_own = bool(of_each)
        self._prepared = False
        self._dumps: dict[str, Dump] = {}  # of the prepared Redis of each side

    def start(self) -> None:
        """Start the servers that both sides share."""
        self._start([self._shared])
        set_precedence([os.getpid()], ahead=True)  # the workers inherit it

    def stop(self) -> None:
        wait([in_background(services.stop) for services in (*self._of_each.values(), self._shared)])

    def running(self) -> list[Service]:
        """Return all servers that have been started."""
        return [one for services in (self._shared, *self._of_each.values()) for one in services.running()]

    def scrub(self, text: str) -> str:
        """Return a text without the passwords of the servers."""
        for services in (self._shared, *self._of_each.values()):
            text = services.scrub(text)
        return text

    def addresses(self, side: str, round_: int, *, prepared: bool = False) -> dict[str, Address]:
        """Return the addresses of a worker's servers. `prepared`: the databases that later rounds copy."""
        of_others = tuple(f"-{one}" for one in REDIS_NUMBERS if one != side)
        services = {name: one for name, one in self._shared.stack.items() if not name.endswith(of_others)}
        found = {name.removesuffix(f"-{side}"): one.address for name, one in services.items()}
        own = self._of_each.get((side, round_))
        if own and own.redis:
            found["redis"] = own.redis.address
        elif self._shared.redis:
            number = REDIS_NUMBERS[side][-1 if prepared else round_]
            found["redis"] = self._shared.redis.address.with_database(str(number))
        if own and own.postgres:
            found["postgres"] = own.postgres.address
        elif self._shared.postgres:
            found["postgres"] = self._shared.postgres.address.with_database(f"perf_{side}_{round_}")
        return found

    def log_of(self, side: str, round_: int, name: str, lines: int) -> str:
        """Return the last lines of the log of a worker's server."""
        own = self._of_each.get((side, round_))
        found = {one.name: one for services in (self._shared, own) if services for one in services.running()}
        return found[name].raw_log(lines) if name in found else ""

    def prepares_each(self, servers: Collection[str]) -> bool:
        """Return whether `prepare` has to run for each worker: it may fill a server whose data is not copied.

        If all data is in files of the tree, such as SQLite's, the next pair's `prepare` would replace them under this
        pair's application.
        """
        settings = self._settings
        return "postgres" not in servers and bool(
            settings.services or any(settings.backend_of(name) == "external" for name in SERVERS)
        )

    def make(self, round_: int, sides: Iterable[str] = tuple(REDIS_NUMBERS)) -> None:
        """Create the databases of a round again, as copies of the prepared ones if they exist, otherwise empty.

        `sides`: base and head, in the order in which they get their databases.
        """
        self._start_own(round_)
        for side in sides:
            addresses = self.addresses(side, round_)
            if postgres := addresses.get("postgres"):
                template = f'TEMPLATE "perf_{side}_prepared"' if self._prepared else ""
                _sql(postgres, f'DROP DATABASE IF EXISTS "{postgres.database}" WITH (FORCE)')
                _sql(postgres, f'CREATE DATABASE "{postgres.database}" {template}')
            if redis := addresses.get("redis"):
                with _filling(redis):
                    if self._shared.redis:
                        _copy(self.addresses(side, round_, prepared=True)["redis"], redis, REDIS_NUMBERS[side][round_])
                    else:
                        _restore(self._dumps.get(side, Dump()), redis)

    def keep_prepared(self, round_: int) -> None:
        """Make the databases of this round the prepared ones."""
        for side in REDIS_NUMBERS:
            addresses = self.addresses(side, round_)
            if postgres := addresses.get("postgres"):
                _sql(postgres, f'ALTER DATABASE "{postgres.database}" RENAME TO "perf_{side}_prepared"')
            if (redis := addresses.get("redis")) and not self._shared.redis:
                with _filling(redis):
                    self._dumps[side] = _dump(redis)
        self._prepared = True

    def _start_own(self, round_: int) -> None:
        """Start the servers that each side of this round has for itself, once."""
        if not self._has_own or ("base", round_) in self._of_each:
            return
        new = {
            (side, round_): Services(self._settings_of_each, self._root, preferred=self._backends, sides=[side])
            for side in REDIS_NUMBERS
        }
        self._of_each |= new
        self._start(new.values())
        backends = {service.name: service.backend for services in new.values() for service in services.running()}
        for name, backend in backends.items():  # the same for all, also if `auto` would now choose another
            server = replace(getattr(self._settings_of_each, name), backend=backend)
            self._settings_of_each = replace(self._settings_of_each, **{name: server})

    def _start(self, several: Iterable[Services]) -> None:
        several = list(several)
        try:
            for services in several:
                services.begin()
            for services in several:
                services.wait_ready()
        except (NotReady, ServiceError) as error:
            raise ComparisonInvalid(self.scrub(str(error))) from None
        running = [service for services in several for service in services.running()]
        for service in running:
            if self._core is not None:
                service.pin({self._core})
            set_precedence(service.pids(), ahead=True)


def _without(settings: Settings, names: Collection[str]) -> Settings:
    """Return the settings with these servers off."""
    return replace(settings, **{name: replace(getattr(settings, name), backend="off") for name in names})


def _named(settings: Settings, *, bare: bool = False) -> set[str]:
    """Return the placeholders in all templates, or in those that are `bare`: not URLs."""
    return set().union(*(names for _, names, is_url in _templates(settings) if not (bare and is_url)))


def _templates(settings: Settings) -> Iterator[tuple[str, set[str], bool]]:
    """Yield the name of each variable, the placeholders of its template, and whether that is a URL."""
    for table in (settings.env, *(one.env for one in settings.code_under_test)):
        yield from ((key, placeholders(text), "://" in text) for key, text in table.items())


def _hosts_only(settings: Settings, server: str) -> list[str]:
    """Return the variables that name the address of a server without a database, which is then hard-coded."""
    if server == "redis" and "redis.prefix" in _named(settings):
        return []
    address, database = {f"{server}.host", f"{server}.port"}, f"{server}.database"
    bare = _named(settings, bare=True)
    return [
        key
        for key, names, is_url in _templates(settings)
        if names & address and database not in (names if is_url else bare)
    ]


def _copy(source: Address, target: Address, number: int) -> None:
    """Copy the keys of one database to another one on the same Redis server."""
    with redis_client(target.url, LIMIT_S) as client:
        client.flushdb()
    with redis_client(source.url, LIMIT_S) as client:
        pipeline = client.pipeline(transaction=False)
        for key in client.scan_iter(count=1000):
            pipeline.copy(key, key, destination_db=number, replace=True)
        pipeline.execute()


def _dump(source: Address) -> Dump:
    found, functions = {}, b""
    with redis_client(source.url, LIMIT_S) as client:
        numbers = [int(name.removeprefix("db")) for name in client.info("keyspace")]
        with contextlib.suppress(*client_errors("redis")):  # Redis 6 has none
            functions = client.function_dump()
    for number in numbers:
        with redis_client(source.with_database(str(number)).url, LIMIT_S) as client:
            keys = list(client.scan_iter(count=1000))
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.pttl(key).dump(key)
            answers = pipeline.execute()
        entries = zip(keys, answers[::2], answers[1::2], strict=True)
        found[number] = [(key, max(lives_ms, 0), value) for key, lives_ms, value in entries if value is not None]
    return Dump(functions, found)


def _restore(dump: Dump, target: Address) -> None:
    """Replace all data of a Redis server."""
    with redis_client(target.url, LIMIT_S) as client:
        client.flushall()
        if dump.functions:
            client.function_restore(dump.functions, "FLUSH")
    for number, entries in dump.keys.items():
        with redis_client(target.with_database(str(number)).url, LIMIT_S) as client:
            pipeline = client.pipeline(transaction=False)
            for entry in entries:
                pipeline.restore(*entry)
            pipeline.execute()


@contextlib.contextmanager
def _filling(redis: Address) -> Iterator[None]:
    try:
        yield
    except client_errors("redis") as error:
        raise ComparisonInvalid(f"Redis at {redis.shown} can't be filled: {describe(error)}") from None


def _sql(postgres: Address, statement: str) -> None:
    """Run a statement in another database of the server."""
    other = postgres.with_database("template1" if postgres.database == "postgres" else "postgres")
    try:
        run_sql(other.url, statement, limit_s=LIMIT_S)
    except client_errors("postgres") as error:
        raise ComparisonInvalid(f"{statement} failed: {describe(error)}") from None
