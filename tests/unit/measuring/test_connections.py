import socket
from collections.abc import Iterator

import pytest

from plumbline.measuring.connections import own_ports


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Listens on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def port_of(connection: socket.socket) -> int:
    return int(connection.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_open_connections_to_a_server_are_told_by_their_local_ports(server: socket.socket, host: str) -> None:
    """Two connections are two ports; neither the listening socket nor the accepted ends are among them."""
    address = server.getsockname()
    with socket.create_connection(address) as one, socket.create_connection(address) as two:
        accepted = [server.accept()[0] for _ in range(2)]

        ports = own_ports(host, port_of(server))

        for connection in accepted:
            connection.close()
        assert ports == {port_of(one), port_of(two)}


def test_looking_at_connections_leaves_them_open(server: socket.socket) -> None:
    """A connection still works after it was looked at."""
    with socket.create_connection(server.getsockname()) as one, server.accept()[0] as accepted:
        own_ports("127.0.0.1", port_of(server))
        one.sendall(b"still here")

        assert accepted.recv(16) == b"still here"


def test_a_closed_connection_is_not_told(server: socket.socket) -> None:
    """What was closed is gone at once, though the kernel remembers it for a minute."""
    with socket.create_connection(server.getsockname()):
        pass

    assert own_ports("127.0.0.1", port_of(server)) == set()


def test_connections_to_other_servers_are_not_told(server: socket.socket) -> None:
    """Another port, or the same port of another host, is another server."""
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_connection(server.getsockname()):
        assert own_ports("127.0.0.1", port_of(other)) == set()
        assert own_ports("192.0.2.1", port_of(server)) == set()


def test_an_ipv4_connection_over_ipv6_is_told(server: socket.socket) -> None:
    """A client that writes IPv4 addresses as IPv6 has a connection like any other."""
    with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as one:
        try:
            one.connect((f"::ffff:{server.getsockname()[0]}", port_of(server)))
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")

        assert own_ports("127.0.0.1", port_of(server)) == {port_of(one)}


def test_a_host_that_has_no_address_has_no_connections(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that can't be resolved is no error."""

    def refuse(*_: object) -> None:
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    assert own_ports("nowhere.invalid", port_of(server)) == set()
