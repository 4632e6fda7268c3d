"""TCP connections as the kernel reports them: real sockets."""

import socket
from collections.abc import Iterator

import pytest

from plumbline.counting.sock_diag import SocketWatch, peers_of
from plumbline.counting.sockets import traffic


@pytest.fixture
def watch() -> Iterator[SocketWatch]:
    watch = SocketWatch()
    watch.listen()
    yield watch
    watch.close()


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Listens on the loopback address of either family."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as server:
        try:
            server.bind((request.param, 0))
        except OSError:
            pytest.skip("no IPv6 here")
        server.listen()
        yield server


def exchange(client: socket.socket, server: socket.socket) -> None:
    """31 bytes there in one message, and 4 back."""
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
    """One message of 31 bytes and an answer of 4, on a connection that was open before."""
    names = dict.fromkeys(peers_of(*address_of(server)), "redis")
    with socket.create_connection(address_of(server)) as client:
        before = watch.open(names)
        exchange(client, server)
        found = traffic(before, watch.open(names), watch.destroyed(names), names)
    assert found["redis"].segments == 1
    assert found["redis"].bytes_sent == 31
    assert found["redis"].bytes_received in (4, 5)  # the end of a stream may count as one
    assert found["redis"].connections == 0


def test_a_connection_that_came_and_went_is_counted(watch: SocketWatch, server: socket.socket) -> None:
    """Three in a row, none of which is open before or afterwards."""
    names = dict.fromkeys(peers_of(*address_of(server)), "redis")
    for _ in range(3):
        with socket.create_connection(address_of(server)) as client:
            exchange(client, server)
    found = traffic({}, watch.open(names), watch.destroyed(names), names)
    assert (found["redis"].connections, found["redis"].segments, found["redis"].bytes_sent) == (3, 3, 93)


def test_an_end_is_reported_once(watch: SocketWatch, server: socket.socket) -> None:
    """Nothing is left after it was reported."""
    peers = peers_of(*address_of(server))
    with socket.create_connection(address_of(server)) as client:
        exchange(client, server)
    assert len(watch.destroyed(peers)) == 1
    assert watch.destroyed(peers) == {}


def test_connections_to_others_are_left_out(watch: SocketWatch, server: socket.socket) -> None:
    """The other side of a connection, and another port, do not count."""
    host, port = address_of(server)
    with socket.create_connection((host, port)) as client:
        assert len(watch.open(peers_of(host, port))) == 1
        assert watch.open(peers_of(host, port + 1)) == {}
        assert watch.open([(socket.inet_aton("127.0.0.2"), port)]) == {}
        assert client.getsockname()


def test_an_ipv4_address_in_an_ipv6_socket_is_the_same_peer(watch: SocketWatch) -> None:
    """As some clients open them."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET6) as client:
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        client.connect((f"::ffff:{server.getsockname()[0]}", server.getsockname()[1]))
        assert len(watch.open(peers_of(*address_of(server)))) == 1
