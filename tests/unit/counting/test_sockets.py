"""TCP connections as reported by the kernel, with real sockets, and the traffic between two readings."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from plumbline.counting.sockets import Connection, Peer, SocketWatch, peers_of, traffic

CLOSE_AND_BE_BUSY = """
import os, socket, sys, time

_, cpu, host, port = sys.argv
os.sched_setaffinity(0, {int(cpu)})
client = socket.create_connection((host, int(port)))
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
except PermissionError:
    sys.exit()
client.recv(1)  # the server closes it first
client.close()
print("closed", flush=True)
end_s = time.perf_counter() + 0.1
while time.perf_counter() < end_s:
    pass
"""
PEER: Peer = (bytes([127, 0, 0, 1]), 5432)


@pytest.fixture
def watch() -> Iterator[SocketWatch]:
    watch = SocketWatch()
    watch.listen()
    yield watch
    watch.close()


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Listen on the loopback address of either family."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as server:
        try:
            server.bind((request.param, 0))
        except OSError:
            pytest.skip("no IPv6 here")
        server.listen()
        yield server


def exchange(client: socket.socket, server: socket.socket) -> None:
    """Send 31 bytes in one message, and receive 4."""
    client.sendall(b"x" * 31)
    served, _ = server.accept()
    with served:
        assert served.recv(100) == b"x" * 31
        served.sendall(b":0\r\n")
        assert client.recv(100) == b":0\r\n"


def address_of(server: socket.socket) -> tuple[str, int]:
    host, port = server.getsockname()[:2]
    return host, port


def test_traffic_of_an_open_connection_is_counted(watch: SocketWatch, server: socket.socket) -> None:
    """One message of 31 bytes and an answer of 4 bytes, on an existing connection."""
    names = dict.fromkeys(peers_of(*address_of(server)), "redis")
    with socket.create_connection(address_of(server)) as client:
        before = watch.open(names)
        exchange(client, server)
        found = traffic(before, watch.open(names), watch.destroyed(names), names)
    assert found["redis.messages"] == 1
    assert found["redis.bytes_sent"] == 31
    assert found["redis.bytes_received"] in (4, 5)  # the end of a stream may count as a message
    assert found["redis.connections"] == 0


def test_connections_opened_and_closed_in_between_are_counted(watch: SocketWatch, server: socket.socket) -> None:
    """Three in a row, none of which is open before or afterwards."""
    names = dict.fromkeys(peers_of(*address_of(server)), "redis")
    for _ in range(3):
        with socket.create_connection(address_of(server)) as client:
            exchange(client, server)
    found = traffic({}, watch.open(names), watch.destroyed(names), names)
    assert (found["redis.connections"], found["redis.messages"], found["redis.bytes_sent"]) == (3, 3, 93)


def test_a_closed_connection_is_reported_once(watch: SocketWatch, server: socket.socket) -> None:
    peers = peers_of(*address_of(server))
    with socket.create_connection(address_of(server)) as client:
        exchange(client, server)
    assert len(watch.destroyed(peers)) == 1
    assert watch.destroyed(peers) == {}


def test_a_connection_closed_on_a_busy_cpu_is_reported(watch: SocketWatch, server: socket.socket) -> None:
    """The kernel reports it when that CPU has time for it, which is after it has reported those of another CPU."""
    here, *others = sorted(os.sched_getaffinity(0))
    if not others:
        pytest.skip("one CPU")
    command = [sys.executable, "-c", CLOSE_AND_BE_BUSY, str(others[0]), *map(str, address_of(server))]
    os.sched_setaffinity(0, {here})
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            server.accept()[0].close()
            if process.stdout.readline() != "closed\n":
                pytest.skip("real-time priority is not allowed")
            found = watch.destroyed(peers_of(*address_of(server)))
    finally:
        os.sched_setaffinity(0, {here, *others})
    assert len(found) == 1


def test_connections_to_other_peers_do_not_count(watch: SocketWatch, server: socket.socket) -> None:
    """The other side of a connection, and another port."""
    host, port = address_of(server)
    with socket.create_connection((host, port)) as client:
        assert len(watch.open(peers_of(host, port))) == 1
        assert watch.open(peers_of(host, port + 1)) == {}
        assert watch.open([(socket.inet_aton("127.0.0.2"), port)]) == {}
        assert client.getsockname()


def test_an_ipv4_address_in_an_ipv6_socket_is_the_same_peer(watch: SocketWatch) -> None:
    """Some clients use IPv4-mapped IPv6 addresses."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET6) as client:
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        client.connect((f"::ffff:{server.getsockname()[0]}", server.getsockname()[1]))
        assert len(watch.open(peers_of(*address_of(server)))) == 1


def connection(cookie: bytes, segments: int, sent: int, received: int = 0, segment_bytes: int = 1000) -> Connection:
    return Connection(cookie, PEER, segments, sent, received, segment_bytes)


def test_traffic_is_the_difference_of_two_readings() -> None:
    """Connections that stayed, closed, opened, or opened and closed. An idle one has no traffic."""
    before = {b"stays": connection(b"stays", 5, 50, 500), b"ends": connection(b"ends", 1, 10)}
    before[b"still"] = connection(b"still", 9, 90)
    after = {b"stays": connection(b"stays", 7, 70, 900), b"comes": connection(b"comes", 1, 1)}
    after[b"still"] = before[b"still"]
    ended = {b"ends": connection(b"ends", 2, 20), b"came and went": connection(b"came and went", 1, 5)}
    assert traffic(before, after, ended, {PEER: "redis"}) == {
        "redis.messages": 2 + 1 + 1 + 1,
        "redis.bytes_sent": 20 + 1 + 10 + 5,
        "redis.bytes_received": 400,
        "redis.connections": 2,
    }
    assert traffic(before, before, {}, {PEER: "redis"}) == {}


@pytest.mark.parametrize(("segments", "sent", "whole"), [(1, 500, True), (2, 1_001, False), (10, 100, True)])
def test_segments_are_messages_only_if_messages_fit_them(segments: int, sent: int, whole: bool) -> None:
    """With segments of 1,000 bytes, 1,001 bytes in two segments may be one message."""
    found = traffic({}, {b"a": connection(b"a", segments, sent)}, {}, {PEER: "redis"})
    assert found["redis.messages" if whole else "redis.segments"] == segments
    assert ("redis.segments" if whole else "redis.messages") not in found
