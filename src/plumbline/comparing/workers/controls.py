"""The controls of each paired comparison: a benchmark that is equal on both sides, and one that is 10 % slower in head.

A comparison is invalid if it reads another slow-down for a control. Only workers collect this module. It also has the
self-check's benchmark of a slow server.
"""

import socket

import pytest

from plumbline.comparing.statistics.controls import IN_SERVER
from plumbline.comparing.workers.protocol import Start
from plumbline.measuring.loop import Measure

START = pytest.StashKey[Start]()
LIMIT_S = 5
# pg_sleep rounds up to whole milliseconds. In 100 ms, a slow-down of 3 % is a whole number of them.
SLEEP_S, HALF_A_TICK_S = 0.1, 0.0005
BYTES = 30


def test_alike(measure: Measure) -> None:
    """Equal on both sides."""
    _time_exchange(measure)


def test_slowed(measure: Measure) -> None:
    """Slowed down by 10 % in head."""
    _time_exchange(measure)


def _time_exchange(measure: Measure) -> None:
    one, other = socket.socketpair()
    with one, other:
        for timer in measure():
            with timer:
                for _ in range(BYTES):  # takes about as long as one request to Redis
                    one.sendall(b"x")
                    other.recv(1)


async def test_in_server(measure: Measure, postgres_url: str, pytestconfig: pytest.Config) -> None:
    """Sleep in PostgreSQL, in head longer by the deliberate slow-down."""
    import asyncpg

    share, *_ = pytestconfig.stash[START].slow_down.get(IN_SERVER, (0.0,))
    wanted_s = SLEEP_S * (1 + share) - HALF_A_TICK_S
    connection = await asyncpg.connect(postgres_url, timeout=LIMIT_S)
    try:
        async for timer in measure():
            with timer:
                await connection.execute(f"SELECT pg_sleep({wanted_s:.4f})")
    finally:
        await connection.close()
