"""What goes over the TCP connections of this machine, as Linux's kernel counts it for whatever process.

Netlink's sock_diag (sock_diag(7)) lists every TCP socket of the network namespace with its `tcp_info`, and tells of
those that are destroyed. It needs neither privileges nor the co-operation of who opened the socket.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

NETLINK_SOCK_DIAG = 4
TCPDIAG_GETSOCK = 18
"""Older than SOCK_DIAG_BY_FAMILY, and lists the sockets of both families at once: most of its time is the way through
the kernel's table, however few there are."""
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NETLINK_DROP_MEMBERSHIP = 270, 1, 2
DESTROY_GROUPS = (1, 3)
"""SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY."""
INET_DIAG_INFO = 2
SO_COOKIE = 57
ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING = 1, 2, 4, 5, 8, 9, 11
STATES = sum(1 << state for state in (ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING))
"""Without those that listen, and those in TIME_WAIT, of which there can be thousands."""
NETLINK_HEADER = struct.Struct("=IHHII")
ATTRIBUTE_HEADER = struct.Struct("=HH")
DIAG_BYTES = 72
"""Of an inet_diag_msg, behind which its attributes stand."""
INFO_WITH_BYTES_SENT = 216
"""Bytes of a tcp_info of Linux 4.19 and later."""
MAPPED = bytes(10) + b"\xff\xff"
QUEUE_BYTES = 1 << 20
MESSAGE_BYTES = 1 << 16
ANSWER_LIMIT_S = 1.0

Peer = tuple[bytes, int]
"""The packed address, of four bytes also where it is an IPv4 address in an IPv6 socket, and the port."""


class CannotCount(Exception):
    """Something can't be counted here; str() says why."""


class Connection(NamedTuple):
    """The client's side of one connection so far, without what was sent a second time."""

    cookie: bytes
    """Tells it from every other socket until the machine starts again."""
    peer: Peer
    segments_sent: int
    """With data; a message is one segment if it fits in."""
    bytes_sent: int
    bytes_received: int
    segment_bytes: int
    """The most data that one segment takes."""


@dataclass
class Traffic:
    """What went to and came from one service."""

    segments: int = 0
    """Sent, with data."""
    bytes_sent: int = 0
    bytes_received: int = 0
    connections: int = 0
    """Opened."""
    whole: bool = True
    """Whether messages seem to fit one segment each, and so segments are messages."""


class SocketWatch:
    """Sees every TCP connection of this network namespace to some peers."""

    def __init__(self) -> None:
        """Raises CannotCount where the kernel doesn't tell."""
        if not sys.platform.startswith("linux"):
            raise CannotCount("only Linux's kernel tells")
        try:
            self._asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
            self._listening = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
            for one in (self._asking, self._listening):
                one.settimeout(ANSWER_LIMIT_S)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUE_BYTES)
            self._listening.bind((0, 0))
            self.open(())
            self.listen()
            self.destroyed(())
            self.ignore()
        except OSError as error:
            raise CannotCount(f"the kernel's sock_diag doesn't answer ({error.strerror or error})") from None

    def open(self, peers: Iterable[Peer]) -> dict[bytes, Connection]:
        """The connections to these peers that are open now, by cookie; raises OSError."""
        wanted = _by_port(peers)
        request = struct.pack("=BBBB48xII", 0, 0, 0, 1 << (INET_DIAG_INFO - 1), STATES, 0)
        flags, size = NLM_F_REQUEST | NLM_F_DUMP, NETLINK_HEADER.size + len(request)
        self._asking.send(NETLINK_HEADER.pack(size, TCPDIAG_GETSOCK, flags, 0, 0) + request)
        found = (_connection(body, wanted) for body in self._answer())
        return {connection.cookie: connection for connection in found if connection}

    def listen(self) -> None:
        """From now on the kernel tells of connections that end, which takes it a few microseconds each."""
        for group in DESTROY_GROUPS:
            self._listening.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def ignore(self) -> None:
        """The opposite of `listen`."""
        for group in DESTROY_GROUPS:
            self._listening.setsockopt(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, group)

    def destroyed(self, peers: Iterable[Peer]) -> dict[bytes, Connection]:
        """The connections to these peers that have ended since the last call or `listen`, by cookie.

        Raises OSError, with ENOBUFS where there were more than the kernel could keep for us.
        """
        wanted = _by_port(peers)
        found: dict[bytes, Connection] = {}
        # The kernel tells of them a moment later, in their order: by then it has told of this one.
        with socket.socket() as last:
            mark = last.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
        while True:
            for _, body in _messages(self._listening.recv(MESSAGE_BYTES)):
                if body[44:52] == mark:
                    return found
                if connection := _connection(body, wanted):
                    found[connection.cookie] = connection

    def close(self) -> None:
        """Give its two sockets back."""
        self._asking.close()
        self._listening.close()

    def _answer(self) -> Iterator[bytes]:
        while True:
            for kind, body in _messages(self._asking.recv(MESSAGE_BYTES)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    raise OSError(number, os.strerror(number))
                yield body


def peers_of(host: str, port: int) -> list[Peer]:
    """What a server's host and port are to the kernel; empty where the host's name isn't known."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({(_plain(socket.inet_pton(family, str(where[0]))), port) for family, _, _, _, where in found})


def traffic(
    before: Mapping[bytes, Connection],
    after: Mapping[bytes, Connection],
    ended: Mapping[bytes, Connection],
    names: Mapping[Peer, str],
) -> dict[str, Traffic]:
    """What went to each of the named peers between two looks, connections that came and went included."""
    found: dict[str, Traffic] = {}
    for cookie, now in {**ended, **after}.items():
        then = before.get(cookie)
        segments = now.segments_sent - (then.segments_sent if then else 0)
        sent = now.bytes_sent - (then.bytes_sent if then else 0)
        received = now.bytes_received - (then.bytes_received if then else 0)
        if then and not (segments or received):
            continue
        total = found.setdefault(names[now.peer], Traffic())
        total.segments += segments
        total.bytes_sent += sent
        total.bytes_received += received
        total.connections += then is None
        # One that is cut in two or more fills more than half of them.
        total.whole &= sent <= segments * now.segment_bytes / 2
    return found


def lost(error: OSError) -> bool:
    """Whether the error says that more connections ended than the kernel could keep for us."""
    return error.errno == errno.ENOBUFS


def _by_port(peers: Iterable[Peer]) -> dict[int, set[bytes]]:
    ports: dict[int, set[bytes]] = {}
    for address, port in peers:
        ports.setdefault(port, set()).add(address)
    return ports


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + NETLINK_HEADER.size <= len(data):
        size, kind, *_ = NETLINK_HEADER.unpack_from(data, at)
        yield kind, data[at + NETLINK_HEADER.size : at + size]
        at += (size + 3) & ~3


def _connection(body: bytes, wanted: Mapping[int, set[bytes]]) -> Connection | None:
    """An inet_diag_msg with its tcp_info (linux/inet_diag.h, linux/tcp.h), where it is to one of the wanted peers."""
    port = int.from_bytes(body[6:8])
    if port not in wanted:
        return None
    address = _plain(body[24:28] if body[0] == socket.AF_INET else body[24:40])
    info = _attribute(body, INET_DIAG_INFO)
    if address not in wanted[port] or not info:
        return None
    (segment_bytes,) = struct.unpack_from("=I", info, 16)
    (segments_again,) = struct.unpack_from("=I", info, 100)
    acknowledged, received = struct.unpack_from("=QQ", info, 120)
    (segments,) = struct.unpack_from("=I", info, 156)
    sent = acknowledged
    if len(info) >= INFO_WITH_BYTES_SENT:
        sent, again = struct.unpack_from("=QQ", info, 200)
        sent -= again
    return Connection(body[44:52], (address, port), segments - segments_again, sent, received, segment_bytes)


def _attribute(body: bytes, wanted: int) -> bytes:
    at = DIAG_BYTES
    while at + ATTRIBUTE_HEADER.size <= len(body):
        size, kind = ATTRIBUTE_HEADER.unpack_from(body, at)
        if kind == wanted:
            return body[at + ATTRIBUTE_HEADER.size : at + size]
        at += max(size + 3 & ~3, ATTRIBUTE_HEADER.size)
    return b""


def _plain(address: bytes) -> bytes:
    return address.removeprefix(MAPPED) if len(address) == 16 else address
