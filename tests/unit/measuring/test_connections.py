import socket
from collections.abc import Iterator

import pytest

from plumbline.measuring.connections import own_ports


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Listen on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def port_of(connection: socket.socket) -> int:
    return int(connection.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_open_connections_are_listed_by_their_local_ports(server: socket.socket, host: str) -> None:
    """Two connections have two ports. The listening socket and the accepted ends are not listed."""
    address = server.getsockname()
    with socket.create_connection(address) as one, socket.create_connection(address) as two:
        accepted = [server.accept()[0] for _ in range(2)]

        ports = own_ports(host, port_of(server))

        for connection in accepted:
            connection.close()
        assert ports == {port_of(one), port_of(two)}


def test_listing_connections_does_not_close_them(server: socket.socket) -> None:
    with socket.create_connection(server.getsockname()) as one, server.accept()[0] as accepted:
        own_ports("127.0.0.1", port_of(server))
        one.sendall(b"still here")

        assert accepted.recv(16) == b"still here"


def test_a_closed_connection_is_not_listed(server: socket.socket) -> None:
    """Although the kernel keeps it for a minute."""
    with socket.create_connection(server.getsockname()):
        pass

    assert own_ports("127.0.0.1", port_of(server)) == set()


def test_connections_to_other_servers_are_not_listed(server: socket.socket) -> None:
    """Another port, or the same port on another host, is another server."""
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_connection(server.getsockname()):
        assert own_ports("127.0.0.1", port_of(other)) == set()
        assert own_ports("192.0.2.1", port_of(server)) == set()


def test_an_ipv4_connection_over_ipv6_is_listed(server: socket.socket) -> None:
    """Some clients use IPv4-mapped IPv6 addresses."""
    with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as one:
        try:
            one.connect((f"::ffff:{server.getsockname()[0]}", port_of(server)))
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")

        assert own_ports("127.0.0.1", port_of(server)) == {port_of(one)}


def test_an_unknown_host_has_no_connections(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:

    def refuse(*_: object) -> None:
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    assert own_ports("nowhere.invalid", port_of(server)) == set()
