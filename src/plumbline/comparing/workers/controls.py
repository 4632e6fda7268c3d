"""Controls of every paired comparison: an exchange that is alike in both sides, and one that is 10 % slower in head.

What the comparison reads for these two is known beforehand: where it is wrong, so is all else. They are run by the
coordinator alone, as is the self-check's own benchmark of a slow server.
"""

import socket
from collections.abc import Callable, Iterator

import pytest

from plumbline.comparing.statistics.controls import IN_SERVER
from plumbline.measuring.loop import Measure
from plumbline.pytest_plugin import Run

LIMIT_S = 5
SLEEP_S, HALF_A_TICK_S = 0.1, 0.0005
"""pg_sleep rounds up to whole milliseconds, of which 3 % must be some: 100, and half of one less to round safely."""
BYTES = 30


@pytest.fixture
def exchange(perf_run: Run) -> Iterator[Callable[[], None]]:
    """A PING to Redis over a socket; without a plain Redis, as long a time of bytes through the kernel."""
    assert perf_run.services is not None
    server = perf_run.services.redis
    if server is None or server.address.scheme != "redis":
        one, other = socket.socketpair()
        with one, other:

            def pass_on() -> None:
                for _ in range(BYTES):
                    one.sendall(b"x")
                    other.recv(1)

            yield pass_on
        return
    address = server.address
    with socket.create_connection((address.host, address.port), LIMIT_S) as connection:
        words = [address.user or "default", address.password]
        login = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in ["AUTH", *words])
        if address.password:
            connection.sendall(f"*3\r\n{login}".encode())
            assert connection.recv(64).startswith(b"+OK"), "Redis refused the password"

        def ping() -> None:
            connection.sendall(b"PING\r\n")
            connection.recv(16)

        yield ping


def test_alike(measure: Measure, exchange: Callable[[], None]) -> None:
    """The same in both sides: its difference is 0."""
    for timer in measure():
        with timer:
            exchange()


def test_slowed(measure: Measure, exchange: Callable[[], None]) -> None:
    """The coordinator has head slow this one down by 10 %."""
    for timer in measure():
        with timer:
            exchange()


async def test_in_server(measure: Measure, postgres_url: str, perf_run: Run) -> None:
    """Sleep in PostgreSQL, in head for longer by what the coordinator says."""
    import asyncpg  # not there where PostgreSQL was left out

    share, _ = perf_run.side.slow_down.get(IN_SERVER, (0.0, "")) if perf_run.side else (0.0, "")
    wanted_s = SLEEP_S * (1 + share) - HALF_A_TICK_S
    connection = await asyncpg.connect(postgres_url, timeout=LIMIT_S)
    try:
        async for timer in measure():
            with timer:
                await connection.execute(f"SELECT pg_sleep({wanted_s:.4f})")
    finally:
        await connection.close()
