"""External servers: only data of the run are removed, and only allowed hosts are used."""

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import which
from urllib.parse import quote

import asyncpg
import pytest
import redis

from plumbline.services.address import Address
from plumbline.services.errors import NotReady, ServiceError
from plumbline.services.overview import service_lines
from plumbline.services.services import Services
from tests.support.fixtures import MakeServices
from tests.unit.services.test_embedded import begin_and_wait, query, server, started


@pytest.fixture(scope="module")
def theirs(cache_home: Path) -> Iterator[Services]:
    """Redis and PostgreSQL servers of the user, with data."""
    assert cache_home.is_dir()
    with started("embedded") as services:
        with redis.Redis.from_url(server(services.redis).address.url) as client:
            client.set("theirs", "1")
            client.set("perf:another run:key", "1")
        query(server(services.postgres).address, "CREATE TABLE theirs AS SELECT 1 AS one")
        yield services


def addresses(theirs: Services) -> tuple[Address, Address]:
    return server(theirs.redis).address, server(theirs.postgres).address


def databases(address: Address) -> list[str]:
    found = query(address, "SELECT array_agg(datname::text ORDER BY datname) FROM pg_database")
    assert isinstance(found, list)
    return found


def test_only_own_keys_and_database_are_removed(make_services: MakeServices, theirs: Services) -> None:
    """The run has its own database and key prefix, and removes nothing else."""
    cache, database = addresses(theirs)
    before = databases(database)
    services = make_services(PERF_REDIS_URL=cache.url, PERF_DATABASE_URL=database.url)
    services.begin()
    services.wait_ready()
    own = server(services.postgres).address
    assert own.database.startswith("perf_")
    query(own, "CREATE TABLE ours AS SELECT 1 AS one")
    with redis.Redis.from_url(cache.url) as client:
        client.mset({f"{services.key_prefix}{number}": number for number in range(2500)})

        services.stop()

        assert sorted(client.keys("*")) == [b"perf:another run:key", b"theirs"]
    assert databases(database) == before
    assert query(database, "SELECT one FROM theirs") == 1


def test_an_external_server_is_not_controlled(make_services: MakeServices, theirs: Services) -> None:
    """It has no known processes, and cannot be paused, killed or restarted."""
    cache, database = addresses(theirs)
    services = make_services(PERF_REDIS_URL=cache.url, PERF_DATABASE_URL=database.url)
    services.begin()
    services.wait_ready()

    for service in services.running():
        assert not service.own
        assert service.pids() == []
        for attempt in (service.pause, service.resume, service.kill, service.restart):
            with pytest.raises(ServiceError, match=f"{service.name} is external: this run did not start it"):
                attempt()
    assert service_lines(services.running(), services.skipped, {})[0].startswith("redis      external Valkey 9")
    assert service_lines(services.running(), services.skipped, {})[0].endswith("(PERF_REDIS_URL is set)")


@pytest.fixture
def limited(theirs: Services) -> Iterator[Address]:
    """A user that may not create databases."""
    database = server(theirs.postgres).address
    query(database, "CREATE ROLE limited LOGIN PASSWORD 'p/w@1'")
    try:
        yield replace(database, user="limited", password="p/w@1", database="shared")
    finally:
        query(database, "DROP DATABASE IF EXISTS shared WITH (FORCE)")
        query(database, "DROP ROLE limited")


def test_a_schema_is_created_if_no_database_may_be(
    make_services: MakeServices, theirs: Services, limited: Address
) -> None:
    """The schema is first in the search path of every client, and dropped at the end."""
    query(server(theirs.postgres).address, "CREATE DATABASE shared OWNER limited")
    services = make_services(
        PERF_DATABASE_URL=limited.url, PERF_SERVICES="external", PERF_REDIS_URL=addresses(theirs)[0].url
    )
    services.begin()
    services.wait_ready()
    own = server(services.postgres).address
    query(own, "CREATE TABLE ours AS SELECT 1 AS one")
    schema = query(limited, "SELECT table_schema FROM information_schema.tables WHERE table_name = 'ours'")
    assert schema == f"perf_{services._run.id}"

    services.stop()

    assert query(limited, f"SELECT to_regnamespace('{schema}')") is None


def test_neither_database_nor_schema(make_services: MakeServices, theirs: Services, limited: Address) -> None:
    """The message says which privilege to grant."""
    query(server(theirs.postgres).address, "CREATE DATABASE shared")
    services = make_services('redis.backend = "off"', PERF_DATABASE_URL=limited.url)

    with pytest.raises(NotReady, match='GRANT CREATE ON DATABASE "shared" TO "limited"'):
        services.begin()


@pytest.mark.parametrize("name", ["redis", "postgres"])
def test_wrong_password_is_final_at_once(make_services: MakeServices, theirs: Services, name: str) -> None:
    """There is one attempt, and the password is not shown."""
    address = replace(server(getattr(theirs, name)).address, password="wr0ng/one")
    variable = {"redis": "PERF_REDIS_URL", "postgres": "PERF_DATABASE_URL"}[name]
    other = "postgres" if name == "redis" else "redis"
    services = make_services(f'{other}.backend = "off"', **{variable: address.url})

    with pytest.raises(NotReady) as failed:
        begin_and_wait(services)

    assert "final error" in str(failed.value)
    assert "and 1 attempt\n" in str(failed.value)
    assert "check user and password" in str(failed.value)
    assert variable in str(failed.value)
    assert "wr0ng" not in str(failed.value)


def test_nobody_answers(make_services: MakeServices) -> None:
    """The server is tried until the limit."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{closed.getsockname()[1]}"
        services = make_services('ready_limit_s = 0.3\npostgres.backend = "off"', PERF_REDIS_URL=url)
        services.begin()
        with pytest.raises(NotReady, match=r"redis is not ready: gave up after \d+\.\d s and \d+ attempts?"):
            services.wait_ready()


def test_stopping_ends_the_wait_for_a_server(make_services: MakeServices) -> None:
    """Ctrl-C does not wait for the limit."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://127.0.0.1:{closed.getsockname()[1]}/d"
        services = make_services('ready_limit_s = 600\nredis.backend = "off"', PERF_DATABASE_URL=url)
        begun = threading.Thread(target=begin, args=[services])
        begun.start()
        while services.postgres is None or not services._starting:
            time.sleep(0.001)
        services.stop()
        begun.join(10)
        assert not begun.is_alive()


def begin(services: Services) -> None:
    with contextlib.suppress(NotReady):
        services.begin()


@pytest.mark.parametrize("url", ["redis://cache.staging.example:6379/0", "redis://10.1.2.3"])
def test_host_that_is_not_this_machine(make_services: MakeServices, url: str) -> None:
    """A staging server is never put under load by accident."""
    services = make_services(PERF_REDIS_URL=url)

    with pytest.raises(ServiceError, match=r"PERF_REDIS_URL points at .*allow_external = \[\"(cache|10)\."):
        services.begin()


@pytest.mark.parametrize("option", ["host=staging.example", "service=staging", "port=1"])
def test_options_that_name_another_server(make_services: MakeServices, option: str) -> None:
    """Options after the question mark cannot bypass the check of the host."""
    services = make_services(PERF_DATABASE_URL=f"postgresql://localhost/db?{option}")

    with pytest.raises(ServiceError, match="must not set"):
        services.begin()


def test_external_without_a_url(make_services: MakeServices) -> None:
    """The message names the variable."""
    with pytest.raises(ServiceError, match=r"redis is external: set PERF_REDIS_URL"):
        make_services('backend = "external"').begin()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, with its key in the same file."""
    if not which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", str(path) + ".crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


class TlsProxy:
    """Adds TLS to a server. PostgreSQL's clients first ask for it in clear text."""

    def __init__(self, certificate: Path, target: Address) -> None:
        self.target = target
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.relay, args=[client], daemon=True).start()

    def relay(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            if self.target.scheme == "postgresql":
                client.recv(8)
                client.sendall(b"S")
            with (
                self.context.wrap_socket(client, server_side=True) as secure,
                socket.create_connection((self.target.host, self.target.port)) as inner,
            ):
                secure.settimeout(0.01)  # one thread reads and writes: OpenSSL requires it
                inner.settimeout(0.01)
                while True:
                    for source, sink in ((secure, inner), (inner, secure)):
                        with contextlib.suppress(TimeoutError):
                            data = source.recv(65536)
                            if not data:
                                return
                            sink.sendall(data)


def test_tls_with_a_verified_certificate(make_services: MakeServices, theirs: Services, certificate: Path) -> None:
    """rediss:// and sslmode=verify-full work, from the first probe to the clean-up."""
    cache, database = addresses(theirs)
    secure_cache, secure_database = TlsProxy(certificate, cache), TlsProxy(certificate, database)
    before = databases(database)
    redis_url = replace(
        cache,
        scheme="rediss",
        host="localhost",
        port=secure_cache.port,
        options=f"ssl_ca_certs={quote(str(certificate))}",
    )
    database_url = replace(
        database,
        host="localhost",
        port=secure_database.port,
        options=f"sslmode=verify-full&sslrootcert={quote(str(certificate))}",
    )
    services = make_services(PERF_REDIS_URL=redis_url.url, PERF_DATABASE_URL=database_url.url)
    services.begin()
    services.wait_ready()
    assert "sslmode=verify-full" in server(services.postgres).address.url
    assert len(databases(database)) == len(before) + 1

    services.stop()

    assert databases(database) == before
    secure_cache.listener.close()
    secure_database.listener.close()


def test_certificate_that_cannot_be_verified(make_services: MakeServices, theirs: Services, certificate: Path) -> None:
    """An unknown certificate authority is a final error."""
    proxy = TlsProxy(certificate, server(theirs.redis).address)
    url = replace(server(theirs.redis).address, scheme="rediss", host="localhost", port=proxy.port).url
    services = make_services('postgres.backend = "off"', PERF_REDIS_URL=url)
    services.begin()

    with pytest.raises(NotReady, match=r"final error(.*\n)+.*check the server's certificate"):
        services.wait_ready()

    proxy.listener.close()


def test_advice_on_an_external_application_that_does_not_answer(make_services: MakeServices) -> None:
    """It has no output, so the advice names its URL and its limit."""
    text = 'backend = "off"\n[app]\nasgi = "a:b"\nready_limit_s = 0.01\n'
    services = make_services(text, PERF_API_URL="http://127.0.0.1:9")
    services.begin()

    with pytest.raises(
        NotReady, match=r"next +check that it runs and that PERF_API_URL is right, .* of \[app\]"
    ) as told:
        services.start_application()

    assert "read its last output" not in str(told.value)


def test_servers_of_these_tests_require_a_password(theirs: Services) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(replace(server(theirs.postgres).address, password="another"), "SELECT 1")
