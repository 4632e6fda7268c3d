"""The servers and databases that both sides share. Comparisons with them are in test_compare_elsewhere.py."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import redis

from plumbline.comparing.workers.pair_servers import (
    ROUNDS,
    PairServers,
    pair_servers,
    servers_of_each,
    settings_of_both,
    shared_by_sides,
)
from plumbline.services.address import Address
from plumbline.settings import Settings
from plumbline.settings_file import load_settings
from tests.unit.services.test_embedded import query

EXTERNAL = {"PERF_REDIS_URL": "redis://127.0.0.1", "PERF_DATABASE_URL": "postgresql://127.0.0.1"}


def settings(folder: Path, text: str, environ: Mapping[str, str] = {}) -> Settings:
    (folder / "settings.toml").write_text(f'backend = "embedded"\n{text}\n')
    return load_settings(folder / "settings.toml", environ)


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ('[env]\nURL = "{redis.url}"', []),
        ('[env]\nHOST = "{redis.host}"\nNUMBER = "{redis.database}"', []),
        ('[env]\nURL = "redis://{redis.host}/0"\nPREFIX = "{redis.prefix}"', []),
        ('[env]\nURL = "redis://{redis.host}/0"\nOTHER = "{redis.url}"', ["redis"]),
        ('[env]\nHOST = "{redis.host}"', ["redis"]),
        ('[processes.worker]\ncommand = ["run"]\nenv = { PORT = "{redis.port}" }', ["redis"]),
        ('redis.backend = "off"\n[env]\nHOST = "{redis.host}"', []),
        ('[env]\nPGHOST = "{postgres.host}"\nURL = "x://{postgres.host}/{postgres.database}"', ["postgres"]),
        ('[env]\nPGHOST = "{postgres.host}"\nPGDATABASE = "{postgres.database}"', []),
        ('postgres.database = "app"', ["postgres"]),
        ('postgres.user = "app"', []),
    ],
)
def test_each_side_has_a_server_whose_database_is_hard_coded(tmp_path: Path, text: str, servers: list[str]) -> None:
    """A server is hard-coded if its address is passed on without its database, except in Redis with a prefix."""
    read = settings(tmp_path, text)
    assert servers_of_each(read) == servers
    assert all(settings_of_both(read).backend_of(name) == "off" for name in servers_of_each(read))
    assert shared_by_sides(read) == []


@pytest.mark.parametrize(("each_side", "rounds"), [("true", 1), ("false", ROUNDS)])
def test_pairs_do_not_overlap_on_a_service_of_each_side(tmp_path: Path, each_side: str, rounds: int) -> None:
    """The consumers of two pairs would take each other's messages."""
    service = f'[services.queue]\nimage = "a"\nport = 1\neach_side = {each_side}\n'

    assert PairServers(settings(tmp_path, service), tmp_path, None, {}).rounds == rounds


@pytest.mark.parametrize(
    ("env", "sentences"),
    [
        ('URL = "{redis.url}"', ["Redis is external, and base and head use the same database of it: keys"]),
        ('URL = "{redis.url}"\nPREFIX = "{redis.prefix}"', []),
        (
            'HOST = "{postgres.host}"\nPREFIX = "{redis.prefix}"',
            ["PostgreSQL is external, and base and head use the same database of it: HOST names no"],
        ),
    ],
)
def test_what_both_sides_share_of_external_servers_is_reported(tmp_path: Path, env: str, sentences: list[str]) -> None:
    read = settings(tmp_path, f"[env]\n{env}", EXTERNAL)
    assert servers_of_each(read) == []
    shared = shared_by_sides(read)
    assert [text.startswith(begin) for text, begin in zip(shared, sentences, strict=True)] == [True] * len(sentences)


@pytest.fixture
def servers(tmp_path: Path, cache_home: Path) -> Iterator[PairServers]:
    """Servers for a Redis host alone."""
    assert cache_home.is_dir()
    read = settings(tmp_path, 'postgres.backend = "off"\n[env]\nHOST = "{redis.host}"\n')
    with pair_servers(read, tmp_path, None, {}) as servers:
        yield servers


def test_each_worker_has_a_redis_of_its_own_with_the_prepared_data(servers: PairServers) -> None:
    """All databases are copied, with the time that keys have to live, and so are functions.

    A round that begins again starts anew.
    """

    def client(side: str, round_: int, number: int = 0) -> "redis.Redis":
        return redis.Redis.from_url(servers.addresses(side, round_)["redis"].with_database(str(number)).url)

    servers.make(1)
    for side in ("base", "head"):
        with client(side, 1) as first, client(side, 1, 3) as third:
            first.set("who", side)
            first.set("soon", "gone", ex=1000)
            first.function_load(f"#!lua name=own\nredis.register_function('side', function() return '{side}' end)")
            third.rpush("list", "a", "b")
    servers.keep_prepared(1)
    assert servers.rounds == ROUNDS
    for round_ in (2, 1, 2):
        servers.make(round_)
        for side in ("base", "head"):
            with client(side, round_) as first, client(side, round_, 3) as third:
                assert first.get("who") == side.encode()
                assert 0 < first.ttl("soon") <= 1000
                assert first.fcall("side", 0) == side.encode()
                assert third.lrange("list", 0, -1) == [b"a", b"b"]
                first.set("who", "changed")
                assert first.dbsize() == 2
                first.set("more", "")
    ports = {servers.addresses(side, round_)["redis"].port for side in ("base", "head") for round_ in (1, 2)}
    assert len(ports) == 4


@pytest.mark.parametrize("name", ["app", "postgres"])
def test_each_side_has_a_postgres_of_its_own_with_the_prepared_data(
    tmp_path: Path, cache_home: Path, name: str
) -> None:
    """Its pairs do not overlap. Its database has the name that the application hard-codes."""
    assert cache_home.is_dir()
    read = settings(tmp_path, f'redis.backend = "off"\npostgres.database = "{name}"\n')
    with pair_servers(read, tmp_path, None, {}) as servers:

        def at(side: str) -> Address:
            return servers.addresses(side, 0)["postgres"]

        servers.make(0)
        query(at("base"), "CREATE TABLE old (id int)")
        query(at("head"), "CREATE TABLE new (id int)")
        servers.keep_prepared(0)
        for _ in range(2):
            servers.make(0)
            tables = "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'public'"
            assert [query(at(side), tables) for side in ("base", "head")] == ["old", "new"]
            query(at("base"), "CREATE TABLE more (id int)")
        assert at("base").database == at("head").database == name
        assert at("base").port != at("head").port
        assert servers.rounds == 1
