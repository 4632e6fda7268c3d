"""Requests to servers: final errors, the probe of a health route, and a separate event loop."""

import asyncio
import contextlib
import http.server
import os
import signal
import ssl
import threading
from collections.abc import Iterator

import asyncpg
import httpx
import pytest
import redis.exceptions

from plumbline.services.clients import (
    BadStatus,
    advice,
    probe_http,
    run_alone,
)

REFUSED_CERTIFICATE = ConnectionError("TLS")
REFUSED_CERTIFICATE.__cause__ = ssl.SSLCertVerificationError("self-signed")
REDIS_CERTIFICATE = redis.exceptions.ConnectionError("TLS")
REDIS_CERTIFICATE.__cause__ = ssl.SSLCertVerificationError("self-signed")
CASES: list[tuple[BaseException, bool]] = [
    (redis.exceptions.ConnectionError("refused"), False),
    (redis.exceptions.TimeoutError("slow"), False),
    (redis.exceptions.BusyLoadingError("loading"), False),
    (redis.exceptions.ResponseError("BUSY running a script"), False),
    (redis.exceptions.AuthenticationError("WRONGPASS"), True),
    (redis.exceptions.NoPermissionError("NOPERM"), True),
    (redis.exceptions.ResponseError("ERR unknown command"), True),
    (REDIS_CERTIFICATE, True),
    (ValueError("port"), True),
    (ConnectionRefusedError("refused"), False),
    (TimeoutError(), False),
    (asyncpg.CannotConnectNowError("starting up"), False),
    (asyncpg.ConnectionDoesNotExistError("closed"), False),
    (asyncpg.TooManyConnectionsError("full"), False),
    (asyncpg.InvalidPasswordError("wrong"), True),
    (asyncpg.InvalidAuthorizationSpecificationError("pg_hba"), True),
    (asyncpg.InvalidCatalogNameError("no such database"), True),
    (REFUSED_CERTIFICATE, True),
    (httpx.ConnectError("refused"), False),
    (httpx.ConnectTimeout("slow"), False),
    (httpx.ReadError("reset"), False),
    (httpx.ReadTimeout("slow"), False),
    (httpx.RemoteProtocolError("closed"), False),
    (BadStatus(503, "starting"), False),
    (BadStatus(404, "not found"), True),
    (BadStatus(307, ""), True),
    (httpx.UnsupportedProtocol("ftp"), True),
]


@pytest.mark.parametrize(("error", "final"), CASES, ids=lambda value: getattr(value, "__name__", repr(value)))
def test_which_errors_are_final(error: BaseException, final: bool) -> None:
    """A final error comes with advice. All others are retried."""
    assert bool(advice(error)) is final


@pytest.fixture
def unhealthy_url() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if self.path == "/health" else 200)
            self.end_headers()
            self.wfile.write(b"the database\n is away")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_probe_of_a_health_route(unhealthy_url: str) -> None:
    """A route that answers 503 is not ready, and its body is shown on one line."""
    with pytest.raises(BadStatus, match="HTTP 503: the database is away"):
        probe_http(f"{unhealthy_url}/health", 5)

    assert probe_http(f"{unhealthy_url}/", 5).startswith("BaseHTTP")


def test_probing_in_a_thread_leaves_the_main_loop_alone() -> None:
    """A probe runs on a new event loop with a limit, and does not touch the loop of the tests."""
    before = asyncio.get_event_loop_policy()
    errors: list[BaseException] = []

    def probe() -> None:
        try:
            run_alone(lambda: asyncio.sleep(60), 0.01)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=probe)
    thread.start()
    thread.join()

    assert isinstance(errors[0], TimeoutError)
    assert asyncio.get_event_loop_policy() is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_not_lost_in_a_client(number: signal.Signals) -> None:
    """Also if the code of a client swallows KeyboardInterrupt, as compiled code does."""

    async def work() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), number)

    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_alone(work, 60)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
