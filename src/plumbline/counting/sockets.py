"""Messages, bytes and connections by service, as counted by the Linux kernel for the TCP connections of every process.

Netlink's sock_diag(7) lists every TCP socket of the network namespace with its `tcp_info`, and reports each socket
that is destroyed. It needs neither privileges nor the cooperation of the process that opened the socket.
"""

import contextlib
import errno
import os
import socket
import struct
import sys
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from plumbline.counting.families import SOCKETS, CannotCount, Numbers
from plumbline.services.netlink import (
    ANSWER_LIMIT_S,
    CONNECTED,
    NETLINK_SOCK_DIAG,
    TCP_REQUEST,
    TCPDIAG_GETSOCK,
    answers,
    attribute,
    messages,
)

SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NETLINK_DROP_MEMBERSHIP = 270, 1, 2
DESTROY_GROUPS = (1, 3)  # SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY
INET_DIAG_INFO = 2
SO_COOKIE = 57
DIAG_BYTES = 72  # size of an inet_diag_msg; its attributes follow
INFO_WITH_BYTES_SENT = 216  # size of a tcp_info of Linux 4.19 and later
MAPPED = bytes(10) + b"\xff\xff"
QUEUE_BYTES = 1 << 20

Peer = tuple[bytes, int]  # packed address and port; an IPv4-mapped IPv6 address is packed to four bytes


class Connection(NamedTuple):
    """The traffic of one connection, seen from the client and without retransmissions."""

    cookie: bytes  # the kernel's unique id of the socket
    peer: Peer
    segments_sent: int  # segments with data; a message that fits is one segment
    bytes_sent: int
    bytes_received: int
    segment_bytes: int  # the maximum size of a segment's data


class SocketWatch:
    """Lists the TCP connections of this network namespace to given peers."""

    def __init__(self) -> None:
        """Open two netlink sockets. Raises CannotCount if the kernel does not answer."""
        if not sys.platform.startswith("linux"):
            raise CannotCount("only Linux's kernel reports them")
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
            self.listen(on=False)
        except OSError as error:
            raise CannotCount(f"the kernel's sock_diag doesn't answer ({error.strerror or error})") from None

    def open(self, peers: Collection[Peer]) -> dict[bytes, Connection]:
        """Return the open connections to these peers by cookie. Raises OSError."""
        request = TCP_REQUEST.pack(0, 0, 0, 1 << (INET_DIAG_INFO - 1), CONNECTED, 0)
        found: dict[bytes, Connection] = {}
        for body in answers(self._asking, TCPDIAG_GETSOCK, request):
            if connection := _connection(body, peers):
                found[connection.cookie] = connection
        return found

    def listen(self, *, on: bool = True) -> None:
        """Start or stop the kernel's reports of closed connections, each of which takes it a few microseconds."""
        for group in DESTROY_GROUPS:
            self._listening.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP if on else NETLINK_DROP_MEMBERSHIP, group)

    def destroyed(self, peers: Collection[Peer]) -> dict[bytes, Connection]:
        """Return the connections closed since the last call or `listen`. Raises OSError, ENOBUFS for too many."""
        found: dict[bytes, Connection] = {}
        # The kernel reports closed sockets late, and only those of the same CPU in order: wait for one of each CPU.
        marks = set()
        for _ in _each_cpu():
            with socket.socket() as last:
                marks.add(last.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))
        reports = messages(self._listening)
        while marks:
            _, body = next(reports)
            marks.discard(body[44:52])
            if connection := _connection(body, peers):
                found[connection.cookie] = connection
        return found

    def close(self) -> None:
        self._asking.close()
        self._listening.close()


def peers_of(host: str, port: int) -> list[Peer]:
    """Return a server's addresses as the kernel lists them, or [] if the host is unknown."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({(_plain(socket.inet_pton(family, str(address[0]))), port) for family, _, _, _, address in found})


def _each_cpu() -> Iterator[None]:
    """Move this thread to each CPU that it may use, and back in the end."""
    before = os.sched_getaffinity(0)
    try:
        for cpu in range(os.cpu_count() or 1):
            with contextlib.suppress(OSError):  # of another container, or offline
                os.sched_setaffinity(0, {cpu})
                yield
    finally:
        os.sched_setaffinity(0, before)


def _connection(body: bytes, peers: Collection[Peer]) -> Connection | None:
    """Parse an inet_diag_msg with tcp_info (linux/inet_diag.h, linux/tcp.h). Return None for any other peer."""
    peer = _plain(body[24:28] if body[0] == socket.AF_INET else body[24:40]), int.from_bytes(body[6:8])
    info = attribute(body, DIAG_BYTES, INET_DIAG_INFO) if peer in peers else b""
    if not info:
        return None
    (segment_bytes,) = struct.unpack_from("=I", info, 16)
    (segments_again,) = struct.unpack_from("=I", info, 100)
    acknowledged, received = struct.unpack_from("=QQ", info, 120)
    (segments,) = struct.unpack_from("=I", info, 156)
    sent = acknowledged
    if len(info) >= INFO_WITH_BYTES_SENT:
        sent, again = struct.unpack_from("=QQ", info, 200)
        sent -= again
    return Connection(body[44:52], peer, segments - segments_again, sent, received, segment_bytes)


def _plain(address: bytes) -> bytes:
    return address.removeprefix(MAPPED) if len(address) == 16 else address


def traffic(
    before: Mapping[bytes, Connection],
    after: Mapping[bytes, Connection],
    ended: Mapping[bytes, Connection],
    names: Mapping[Peer, str],
) -> Numbers:
    """Return the traffic with each named peer between two readings. `ended` are connections closed in between."""
    found: Tally[str] = Tally()
    cut = set()  # names of peers with larger messages
    for cookie, now in {**ended, **after}.items():
        then = before.get(cookie)
        segments = now.segments_sent - (then.segments_sent if then else 0)
        sent = now.bytes_sent - (then.bytes_sent if then else 0)
        received = now.bytes_received - (then.bytes_received if then else 0)
        if then and not (segments or received):
            continue
        name = names[now.peer]
        found[f"{name}.messages"] += segments
        found[f"{name}.bytes_sent"] += sent
        found[f"{name}.bytes_received"] += received
        found[f"{name}.connections"] += then is None
        # A segment is a message, unless a large message was split. Then the segments are more than half full.
        if sent > segments * now.segment_bytes / 2:
            cut.add(name)
    for name in cut:
        found[f"{name}.segments"] = found.pop(f"{name}.messages")
    return dict(found)


class SocketSource:
    """Counts traffic with the kernel's table of sockets."""

    def __init__(self, watch: SocketWatch, names: Mapping[Peer, str]) -> None:
        self.families = [SOCKETS]
        self._watch = watch
        self._names = names
        self._before: dict[bytes, Connection] = {}
        self._rounds: list[Numbers] = []

    def begin(self) -> None:
        self._rounds = []
        self._watch.listen()

    def enter(self) -> None:
        self._before = self._asked(self._watch.open)
        self._asked(self._watch.destroyed)  # discard those closed before the block

    def leave(self) -> None:
        after, ended = self._asked(self._watch.open), self._asked(self._watch.destroyed)
        self._rounds.append(traffic(self._before, after, ended, self._names))

    def end(self) -> list[Numbers]:
        self._watch.listen(on=False)
        return self._rounds

    def touched(self, service: str) -> bool:
        """Return whether the last round sent anything to a service; True if that is unknown."""
        return not self._rounds or any(name.startswith(f"{service}.") for name in self._rounds[-1])

    def _asked(self, ask: Callable[[Mapping[Peer, str]], dict[bytes, Connection]]) -> dict[bytes, Connection]:
        try:
            return ask(self._names)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise CannotCount("some messages weren't counted: too many connections were closed at once") from None
            raise CannotCount(f"some messages weren't counted: {error.strerror or error}") from None
