"""Fails tests that leave connections to Redis or PostgreSQL open."""

import contextlib
import functools
import ipaddress
import socket
import time
from collections.abc import Callable, Collection, Generator
from pathlib import Path

import pytest

from plumbline.measuring.context import RunContext
from plumbline.services.clients import redis_client, redis_errors, run_sql, sql_errors

# The Redis client name or PostgreSQL application_name of connections that may outlive a test.
KEPT_CONNECTION_NAME = "perf"
SETTLED_S = 1.0
ANSWER_LIMIT_S = 2.0

_PORTS = pytest.StashKey[dict[str, set[int]]]()


class ConnectionCheck:
    """Fails each test of the suite that leaves connections open without naming them. A pytest plugin."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self._context.key_of(item):
            item.stash[_PORTS] = self._open_ports()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            if _PORTS in item.stash:
                self._fail_if_leaked(item.stash[_PORTS])

    def _open_ports(self) -> dict[str, set[int]]:
        servers = [server for server in (self._context.services.redis, self._context.services.postgres) if server]
        return {server.name: own_ports(server.address.host, server.address.port) for server in servers}

    def _fail_if_leaked(self, before: dict[str, set[int]]) -> None:
        leaked = []
        for name, ports in self._open_ports().items():
            if new := ports - before.get(name, set()):
                find = leaked_redis if name == "redis" else leaked_postgres
                leaked += find(getattr(self._context.services, name).address.url, new)
        if leaked:
            advice = f"close it in the test, or name it {KEPT_CONNECTION_NAME!r} if a wider fixture keeps it"
            pytest.fail("\n".join(["left connections open:", *leaked, advice]), pytrace=False)


def own_ports(host: str, port: int) -> set[int]:
    """Return the local ports of this process's open connections to a server.

    They come from the open files, which are few. The kernel's table of connections also holds those of the last minute.
    """
    hosts = _addresses(host)
    ports = set()
    for file in list(Path("/dev/fd").iterdir()):
        with contextlib.suppress(OSError):
            connection = socket.socket(fileno=int(file.name))
            try:
                peer = connection.getpeername() if connection.family in (socket.AF_INET, socket.AF_INET6) else ("", 0)
                if peer[1] == port and _plain(peer[0]) in hosts:
                    ports.add(connection.getsockname()[1])
            finally:
                connection.detach()  # it belongs to somebody else: do not close it
    return ports


@functools.cache
def _addresses(host: str) -> frozenset[str]:
    try:
        return frozenset(str(found[4][0]) for found in socket.getaddrinfo(host, None))
    except OSError:
        return frozenset({host})


def _plain(address: str) -> str:
    mapped = getattr(ipaddress.ip_address(address), "ipv4_mapped", None)
    return str(mapped or address)


def leaked_redis(url: str, ports: Collection[int]) -> list[str]:
    """Describe the connections, of those from these local ports, that the Redis server lists without the kept name."""

    def ask() -> list[str]:
        with redis_client(url, ANSWER_LIMIT_S, client_name=KEPT_CONNECTION_NAME) as client:
            return [
                f"Redis connection from port {port}, last command {entry['cmd']}, for {entry['age']} s"
                for entry in client.client_list()
                if (port := int(entry["addr"].rpartition(":")[2])) in ports and entry["name"] != KEPT_CONNECTION_NAME
            ]

    return _until_settled(ask, redis_errors())


def leaked_postgres(url: str, ports: Collection[int]) -> list[str]:
    """Describe the connections, of those from these local ports, that PostgreSQL lists without the kept name."""
    statement = (
        "SELECT client_port, application_name, state, left(query, 80) AS query FROM pg_stat_activity"
        " WHERE client_port = ANY($1::int[]) AND application_name <> $2"
    )
    kept = {"application_name": KEPT_CONNECTION_NAME}

    def ask() -> list[str]:
        rows = run_sql(url, statement, [*ports], KEPT_CONNECTION_NAME, limit_s=ANSWER_LIMIT_S, server_settings=kept)
        return [f"PostgreSQL connection from port {r['client_port']}, {r['state']}, last {r['query']!r}" for r in rows]

    return _until_settled(ask, sql_errors())


def _until_settled(ask: Callable[[], list[str]], errors: tuple[type[Exception], ...]) -> list[str]:
    """Ask until the server lists nothing any more: it notices a closed connection a moment later. Errors end it."""
    deadline_s = time.monotonic() + SETTLED_S
    found: list[str] = []
    with contextlib.suppress(*errors):
        while (found := ask()) and time.monotonic() < deadline_s:
            time.sleep(0.02)
    return found
