"""Blocking requests to Redis, PostgreSQL and HTTP servers: one attempt each, with a time limit.

A probe does what a client does: PING, SET and GET with the password, a query of the target database over TCP, a GET of
the health route.
"""

import contextlib
import secrets
import signal
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from plumbline.services.address import Address

if TYPE_CHECKING:
    import redis

T = TypeVar("T")

# What to do next, by the nearest class of the error; "" if a retry may help.
ADVICE = {
    "redis.exceptions.AuthenticationError": "check user and password",
    "redis.exceptions.NoPermissionError": "give the user the right to PING, INFO and to read and write its keys",
    "redis.exceptions.ConnectionError": "",
    "redis.exceptions.TimeoutError": "",
    "asyncpg.exceptions.InvalidAuthorizationSpecificationError": (  # SQLSTATE 28000, and 28P01 as its subclass
        "check user and password, and that pg_hba.conf lets this host in"
    ),
    "asyncpg.exceptions.InvalidCatalogNameError": "create the database, or name one that exists",
    "asyncpg.exceptions.CannotConnectNowError": "",
    "asyncpg.exceptions.TooManyConnectionsError": "",
    "asyncpg.exceptions.PostgresConnectionError": "",
    "httpx.UnsupportedProtocol": "check the address",
    "httpx.InvalidURL": "check the address",
    "httpx.TransportError": "",
    "builtins.PermissionError": "give this user access to that file, or set HOME to a folder of this user",
    "builtins.OSError": "",
}


class NotYet(Exception):
    """The process runs but is not ready: a retry may help."""


class BadStatus(Exception):
    """The health route answered with a status other than 2xx."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"HTTP {status}: {body}" if body else f"HTTP {status}")
        self.status = status


def run_alone(work: Callable[[], Coroutine[None, None, T]], limit_s: float) -> T:
    """Run a coroutine on a new event loop. Raises TimeoutError."""
    import asyncio  # here: the reaper rarely needs a client, and has to start fast

    interrupted: list[int] = []

    async def bounded() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupt(number: int, _: object) -> None:
            interrupted.append(number)
            loop.call_soon_threadsafe(task.cancel)

        with _interrupted_by(interrupt):
            async with asyncio.timeout(limit_s):
                return await work()

    try:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(bounded())
    finally:
        if interrupted:
            raise KeyboardInterrupt


@contextlib.contextmanager
def _interrupted_by(interrupt: Callable[[int, object], None]) -> Iterator[None]:
    """Call `interrupt` at SIGTERM and SIGHUP. The KeyboardInterrupt that they raise otherwise is lost in C code.

    asyncio does the same at SIGINT.
    """
    numbers = (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    raising = [number for number in numbers if signal.getsignal(number) is signal.default_int_handler]
    for number in raising:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in raising:
            signal.signal(number, signal.default_int_handler)


def redis_client(url: str, limit_s: float, **options: Any) -> "redis.Redis":
    """Return a client that tries each command once: redis-py's default is to retry for seconds."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    once = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(url, socket_timeout=limit_s, socket_connect_timeout=limit_s, retry=once, **options)


def run_sql(url: str, statement: str, *arguments: object, limit_s: float, **options: Any) -> list[Any]:
    """Run one statement on a new connection and return its rows. `options` are those of `asyncpg.connect`."""
    import asyncpg

    async def work() -> list[Any]:
        connection = await asyncpg.connect(url, timeout=limit_s, **options)
        try:
            rows: list[Any] = await connection.fetch(statement, *arguments, timeout=limit_s)
            return rows
        finally:
            await connection.close(timeout=1)

    return run_alone(work, limit_s)


def client_errors(scheme: str) -> tuple[type[Exception], ...]:
    """Return the exceptions of `redis_client` or `run_sql` for a failing server or network."""
    if scheme.startswith("redis"):
        import redis

        return (redis.RedisError, OSError)
    import asyncpg

    return (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


def probe(address: Address, limit_s: float) -> str:
    """Do real work once on a Redis or PostgreSQL server and return its product and version."""
    if not address.scheme.startswith("redis"):
        version = run_sql(address.url, "SELECT current_setting('server_version')", limit_s=limit_s)[0][0]
        return f"PostgreSQL {version.split()[0]}"
    key = f"perf:ready:{secrets.token_hex(4)}"
    with redis_client(address.url, limit_s) as client:
        with client.pipeline(transaction=False) as pipeline:
            pipeline.ping().set(key, "1", ex=60).get(key).delete(key)
            read = pipeline.execute()[2]
        if read not in (b"1", "1"):
            raise ValueError(f"SET then GET returned {read!r}")
        information = client.info("server")
    if "valkey_version" in information:
        return f"Valkey {information['valkey_version']}"
    return f"Redis {information['redis_version']}"


def connections_made(address: Address, limit_s: float) -> int | None:
    """Return how many connections a Redis server or a PostgreSQL database has had; None if that is unknown.

    On Redis this call counts as a connection. On PostgreSQL it connects to another database.
    """
    try:
        if address.scheme.startswith("redis"):
            with redis_client(address.url, limit_s) as client:
                return int(client.info("stats")["total_connections_received"])
        statement = "SELECT sessions FROM pg_stat_database WHERE datname = $1"  # since PostgreSQL 14
        other = address.with_database("template1" if address.database == "postgres" else "postgres")
        rows = run_sql(other.url, statement, address.database, limit_s=limit_s)
        return int(rows[0][0]) if rows else None
    except client_errors(address.scheme):
        return None


def start_mark(address: Address, limit_s: float) -> str:
    """Return a value that changes with each start of a Redis or PostgreSQL server; "" if there is none."""
    if address.scheme.startswith("redis"):
        with redis_client(address.url, limit_s) as client:
            return str(client.info("server").get("run_id", ""))
    if address.scheme.startswith("postgres"):
        return str(run_sql(address.url, "SELECT pg_postmaster_start_time()::text", limit_s=limit_s)[0][0])
    return ""


def probe_http(url: str, limit_s: float) -> str:
    """GET the health route and return the Server header. Raises BadStatus."""
    import httpx

    # Reading the certificate store would take longer than the request.
    response = httpx.get(url, timeout=limit_s, trust_env=False, verify=url.startswith("https:"))
    if not response.is_success:
        raise BadStatus(response.status_code, " ".join(response.text.split())[:200])
    return str(response.headers.get("server", ""))


def advice(error: BaseException) -> str:
    """Return what to do next after an error of a probe; "" if a retry may help."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "check the server's certificate, or name its authority with ?ssl_ca_certs=… or ?sslrootcert=…"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, BadStatus) and error.status < 500:
        return "check health_path in settings.toml: the route must answer with 2xx"
    # Applications answer 5xx until the servers that they need are ready. Redis has error codes for that.
    if isinstance(error, NotYet | BadStatus) or str(error).startswith(("BUSY", "LOADING", "MASTERDOWN")):
        return ""
    classes = [f"{one.__module__}.{one.__name__}" for one in type(error).__mro__]
    return next((ADVICE[name] for name in classes if name in ADVICE), "look up this error of the client or the server")
