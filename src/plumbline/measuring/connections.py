"""Fails tests that leave connections to Redis or PostgreSQL open."""

import contextlib
import functools
import socket
import time
from collections.abc import Set
from pathlib import Path

import pytest

from plumbline.services.clients import client_errors, redis_client, run_sql
from plumbline.services.services import Services

# Connections with this Redis client name or PostgreSQL application_name may outlive a test.
KEPT_CONNECTION_NAME = "perf"
SETTLED_S, ANSWER_LIMIT_S = 1.0, 2.0
SESSIONS = (
    "SELECT client_port, application_name, state, left(query, 80) AS query FROM pg_stat_activity"
    " WHERE client_port = ANY($1::int[]) AND application_name <> $2"
)


def open_ports(services: Services) -> dict[str, set[int]]:
    """Return the local ports of this process's open connections, by the server's URL."""
    addresses = [server.address for server in (services.redis, services.postgres) if server]
    return {address.url: own_ports(address.host, address.port) for address in addresses}


def fail_if_leaked(services: Services, before: dict[str, set[int]]) -> None:
    """Fail a test that has left connections open, except those with KEPT_CONNECTION_NAME."""
    leaked = []
    for url, ports in open_ports(services).items():
        if new := ports - before.get(url, set()):
            leaked += _leaked(url, new)
    if leaked:
        advice = f"close it in the test, or name it {KEPT_CONNECTION_NAME!r} if a wider fixture keeps it"
        pytest.fail("\n".join(["left connections open:", *leaked, advice]), pytrace=False)


def own_ports(host: str, port: int) -> set[int]:
    """Return the local ports of this process's open connections to a server."""
    hosts = _addresses(host)
    ports = set()
    # This process has few open files. The kernel's table also lists the connections of the last minute.
    for file in list(Path("/dev/fd").iterdir()):
        with contextlib.suppress(OSError):
            connection = socket.socket(fileno=int(file.name))
            try:
                if connection.family in (socket.AF_INET, socket.AF_INET6):
                    peer = connection.getpeername()
                    if peer[0] in hosts and peer[1] == port:
                        ports.add(connection.getsockname()[1])
            finally:
                connection.detach()  # do not close it: it belongs to other code
    return ports


@functools.cache
def _addresses(host: str) -> Set[str]:
    """Return the addresses of a host, and its IPv4 addresses also as IPv4-mapped IPv6 addresses."""
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, None)}
    except OSError:
        found = {host}
    return found | {f"::ffff:{address}" for address in found}


def _leaked(url: str, ports: Set[int]) -> list[str]:
    """Describe the leaked connections. Waits a moment, because a server notices a closed connection late."""
    leaked = _leaked_redis if url.startswith("redis") else _leaked_postgres
    deadline_s = time.monotonic() + SETTLED_S
    found: list[str] = []
    with contextlib.suppress(*client_errors(url)):
        while (found := leaked(url, ports)) and time.monotonic() < deadline_s:
            time.sleep(0.02)
    return found


def _leaked_redis(url: str, ports: Set[int]) -> list[str]:
    with redis_client(url, ANSWER_LIMIT_S, client_name=KEPT_CONNECTION_NAME) as client:
        return [
            f"Redis connection from port {port}, last command {entry['cmd']}, for {entry['age']} s"
            for entry in client.client_list()
            if (port := int(entry["addr"].rpartition(":")[2])) in ports and entry["name"] != KEPT_CONNECTION_NAME
        ]


def _leaked_postgres(url: str, ports: Set[int]) -> list[str]:
    kept = {"application_name": KEPT_CONNECTION_NAME}
    rows = run_sql(url, SESSIONS, [*ports], KEPT_CONNECTION_NAME, limit_s=ANSWER_LIMIT_S, server_settings=kept)
    return [f"PostgreSQL connection from port {r['client_port']}, {r['state']}, last {r['query']!r}" for r in rows]
