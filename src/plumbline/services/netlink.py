"""Linux's sock_diag(7): lists the sockets of this network namespace over netlink. It needs no privileges."""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
NETLINK_HEADER = struct.Struct("=IHHII")
ATTRIBUTE_HEADER = struct.Struct("=HH")
MESSAGE_BYTES = 1 << 16
ANSWER_LIMIT_S = 1.0
# Older than SOCK_DIAG_BY_FAMILY, but faster: one walk through the kernel's table lists the sockets of both families.
TCPDIAG_GETSOCK = 18
TCP_REQUEST = struct.Struct("=BBBB48xII")
# Without sockets in TIME_WAIT, of which there can be thousands.
ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = 1, 2, 4, 5, 8, 9, 10, 11
CONNECTED = sum(1 << one for one in (ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING))
UNIX_REQUEST = struct.Struct("=BBHIIIQ")
UNIX_BYTES = 16  # size of a unix_diag_msg; its attributes follow
UNIX_NAME, UNIX_PEER = 0, 2
SHOW_NAME, SHOW_PEER = 1, 4
ALL_STATES = 0xFFFFFFFF


def messages(netlink: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the body of each message that arrives."""
    while True:
        data, at = netlink.recv(MESSAGE_BYTES), 0
        while at + NETLINK_HEADER.size <= len(data):
            size, kind, *_ = NETLINK_HEADER.unpack_from(data, at)
            yield kind, data[at + NETLINK_HEADER.size : at + size]
            at += (size + 3) & ~3


def answers(netlink: socket.socket, kind: int, request: bytes) -> Iterator[bytes]:
    """Send a dump request and yield the body of each answer. Raises OSError."""
    size = NETLINK_HEADER.size + len(request)
    netlink.send(NETLINK_HEADER.pack(size, kind, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + request)
    for answer, body in messages(netlink):
        if answer == NLMSG_DONE:
            return
        if answer == NLMSG_ERROR:
            number = -struct.unpack_from("=i", body)[0]
            raise OSError(number, os.strerror(number))
        yield body


def attribute(body: bytes, at: int, wanted: int) -> bytes:
    """Return an attribute of an answer, or b"" if it is missing. `at` is the offset of the first attribute in bytes."""
    while at + ATTRIBUTE_HEADER.size <= len(body):
        size, kind = ATTRIBUTE_HEADER.unpack_from(body, at)
        if kind == wanted:
            return body[at + ATTRIBUTE_HEADER.size : at + size]
        at += max(size + 3 & ~3, ATTRIBUTE_HEADER.size)
    return b""


def tcp_peers(inodes: Collection[int]) -> set[tuple[str, int]]:
    """Return the hosts and ports that these sockets have connected to. Ignores incoming connections.

    Raises OSError if the kernel does not answer.
    """
    listening, peers = set[int](), list[tuple[int, str, int]]()
    with asking() as netlink:
        request = TCP_REQUEST.pack(0, 0, 0, 0, CONNECTED | 1 << LISTEN, 0)
        for body in answers(netlink, TCPDIAG_GETSOCK, request):
            # An inet_diag_msg: linux/inet_diag.h.
            family, state, port, peer_port = struct.unpack_from(">BBxxHH", body)
            if struct.unpack_from("=I", body, 68)[0] in inodes:
                host = socket.inet_ntop(family, body[24:28] if family == socket.AF_INET else body[24:40])
                listening |= {port} if state == LISTEN else set()
                peers += [] if state == LISTEN else [(port, host, peer_port)]
    return {(host, peer_port) for port, host, peer_port in peers if port not in listening}


@contextlib.contextmanager
def asking() -> Iterator[socket.socket]:
    """Open a sock_diag socket. Raises OSError."""
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(ANSWER_LIMIT_S)
        yield netlink


def unix_peers(inodes: Collection[int]) -> set[str]:
    """Return the paths of the Unix sockets that these sockets are connected to. Raises OSError."""
    names: dict[int, str] = {}
    peers: set[int] = set()
    with asking() as netlink:
        request = UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, ALL_STATES, 0, SHOW_NAME | SHOW_PEER, 0)
        for body in answers(netlink, SOCK_DIAG_BY_FAMILY, request):
            (inode,) = struct.unpack_from("=I", body, 4)
            names[inode] = os.fsdecode(attribute(body, UNIX_BYTES, UNIX_NAME).rstrip(b"\0"))
            if inode in inodes and (peer := attribute(body, UNIX_BYTES, UNIX_PEER)):
                peers |= {struct.unpack("=I", peer)[0]}
    return {names[peer] for peer in peers if names.get(peer)}
