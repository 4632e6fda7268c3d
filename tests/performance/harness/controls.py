"""Controls of every paired comparison: an exchange that is alike in both arms, and one that is 10 % slower in head.

What the trial reads for these two is known beforehand: where it is wrong, so is all else. They are run by the
coordinator alone.
"""

import socket
from collections.abc import Callable, Iterator

import pytest

from tests.performance.harness.measure import Measure
from tests.performance.harness.plugin import Run

LIMIT_S = 5
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
    """The same in both arms: its difference is 0."""
    for timer in measure():
        with timer:
            exchange()


def test_slowed(measure: Measure, exchange: Callable[[], None]) -> None:
    """The coordinator has head slow this one down by 10 %."""
    for timer in measure():
        with timer:
            exchange()
