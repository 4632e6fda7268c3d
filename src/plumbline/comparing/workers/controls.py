"""Controls of every paired comparison: a benchmark that is alike on both sides, and one that is 10 % slower in head.

It is known beforehand what the comparison has to read for these two. If it reads anything else, it is invalid. Workers
alone collect this module; the self-check has a benchmark of a slow server in it.
"""

import socket

import pytest

from plumbline.comparing.statistics.plan import IN_SERVER
from plumbline.comparing.workers.protocol import Start
from plumbline.measuring.loop import Measure

START = pytest.StashKey[Start]()
LIMIT_S = 5
# pg_sleep rounds up to whole milliseconds, of which 3 % has to be some: 100, less a half to round safely.
SLEEP_S, HALF_A_TICK_S = 0.1, 0.0005
BYTES = 30


def test_alike(measure: Measure) -> None:
    """The same on both sides: the difference is 0."""
    _time_exchange(measure)


def test_slowed(measure: Measure) -> None:
    """The coordinator slows this one down by 10 % in head."""
    _time_exchange(measure)


def _time_exchange(measure: Measure) -> None:
    one, other = socket.socketpair()
    with one, other:
        for timer in measure():
            with timer:
                for _ in range(BYTES):  # through the kernel, which takes about as long as one request to Redis
                    one.sendall(b"x")
                    other.recv(1)


async def test_in_server(measure: Measure, postgres_url: str, pytestconfig: pytest.Config) -> None:
    """Sleep in PostgreSQL; in head, longer by the share that the coordinator asks for."""
    import asyncpg

    share, _ = pytestconfig.stash[START].slow_down.get(IN_SERVER, (0.0, ""))
    wanted_s = SLEEP_S * (1 + share) - HALF_A_TICK_S
    connection = await asyncpg.connect(postgres_url, timeout=LIMIT_S)
    try:
        async for timer in measure():
            with timer:
                await connection.execute(f"SELECT pg_sleep({wanted_s:.4f})")
    finally:
        await connection.close()
