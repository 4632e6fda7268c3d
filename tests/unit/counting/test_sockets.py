"""Traffic between two readings of the kernel's table: known numbers."""

import pytest

from plumbline.counting.sock_diag import Connection, Peer
from plumbline.counting.sockets import Traffic, traffic

PEER: Peer = (bytes([127, 0, 0, 1]), 5432)


def connection(cookie: bytes, segments: int, sent: int, received: int = 0, segment_bytes: int = 1000) -> Connection:
    return Connection(cookie, PEER, segments, sent, received, segment_bytes)


def test_traffic_is_the_difference_of_two_readings() -> None:
    """Connections that stayed, ended, began, and began and ended; an idle one has no traffic."""
    before = {b"stays": connection(b"stays", 5, 50, 500), b"ends": connection(b"ends", 1, 10)}
    before[b"still"] = connection(b"still", 9, 90)
    after = {b"stays": connection(b"stays", 7, 70, 900), b"comes": connection(b"comes", 1, 1)}
    after[b"still"] = before[b"still"]
    ended = {b"ends": connection(b"ends", 2, 20), b"came and went": connection(b"came and went", 1, 5)}
    assert traffic(before, after, ended, {PEER: "redis"}) == {
        "redis": Traffic(segments=2 + 1 + 1 + 1, bytes_sent=20 + 1 + 10 + 5, bytes_received=400, connections=2)
    }
    assert traffic(before, before, {}, {PEER: "redis"}) == {}


@pytest.mark.parametrize(("segments", "sent", "whole"), [(1, 500, True), (2, 1_001, False), (10, 100, True)])
def test_segments_are_messages_only_if_messages_fit_them(segments: int, sent: int, whole: bool) -> None:
    """With segments of 1,000 bytes, 1,001 bytes in two of them may have been one message."""
    found = traffic({}, {b"a": connection(b"a", segments, sent)}, {}, {PEER: "redis"})
    assert found["redis"].whole is whole
