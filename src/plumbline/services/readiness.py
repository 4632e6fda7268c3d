"""Waiting until a service does real work, and saying why it doesn't.

Each probe takes the way that a client takes: PING and SET/GET with the password, a query on the target database over
TCP, a GET of the health route. Errors are worth retrying or final. For a final one the classifiers return what to do
next; for one worth retrying, an empty string.
"""

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from plumbline.services.address import Address

FIRST_DELAY_S = 0.004
LONGEST_DELAY_S = 0.5
DELAY_GROWTH = 1.5
ATTEMPT_LIMIT_S = 3.0

T = TypeVar("T")


class NotReady(Exception):
    """A wanted service isn't ready; str() is the whole story, free of passwords."""


class BadStatus(Exception):
    """The health route answered with a status other than 2xx."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"HTTP {status}: {body}" if body else f"HTTP {status}")
        self.status = status


class Subject(Protocol):
    """What a wait needs to know about a service."""

    name: str
    backend: str
    why: str
    address: "Address"

    def probe(self, limit_s: float) -> str:
        """One attempt at real work within the limit; returns the server's product and version."""

    def advice(self, error: BaseException) -> str:
        """What to do next where this error is final; "" where it is worth retrying."""

    def advice_at_limit(self) -> str:
        """What to do next where it isn't ready in time."""

    def running(self) -> bool:
        """False once the process or container has exited; True where that can't be known."""

    def state(self) -> str:
        """The state of the process or container, in words."""

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its output."""


def wait_until_ready(
    subject: Subject,
    limit_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> str:
    """Probe until the service does real work and return its product and version.

    Exponential backoff with full jitter under a monotonic deadline. Raises NotReady at the deadline, at a final error,
    and as soon as the process or container has exited. Blocks: from a coroutine, call it in a thread.
    """
    started = clock()
    longest_delay_s = FIRST_DELAY_S
    attempts = 0
    last_error: BaseException | None = None
    while True:
        left_s = limit_s - (clock() - started)
        if not subject.running():
            told, advice = "it has exited", "read its last output above; a wrong server option is the usual cause"
            break
        if left_s <= 0:
            told, advice = "the time is up", subject.advice_at_limit()
            break
        attempts += 1
        try:
            return subject.probe(min(left_s, ATTEMPT_LIMIT_S))
        except Exception as error:
            last_error = error
            if advice := subject.advice(error):
                told = "the error is final"
                break
        left_s = limit_s - (clock() - started)
        sleep(min(uniform(0, longest_delay_s), max(left_s, 0)))
        longest_delay_s = min(longest_delay_s * DELAY_GROWTH, LONGEST_DELAY_S)
    tried = f"after {clock() - started:.1f} s and {attempts} attempt{'' if attempts == 1 else 's'}"
    raise not_ready(subject, f"{told} {tried}", last_error, advice)


def not_ready(subject: Subject, headline: str, error: BaseException | None, advice: str) -> NotReady:
    """The whole message about one service, password-free. `headline` and `advice` are our own words."""
    log = subject.address.redact(subject.log_tail()).splitlines()
    lines = [
        f"{subject.name} is not ready: {headline}",
        f"  backend     {subject.backend}" + (f" ({subject.why})" if subject.why else ""),
        f"  address     {subject.address.shown}",
        f"  last error  {subject.address.redact(describe(error)) if error else 'none'}",
        f"  state       {subject.state()}",
        "  last output" + ("" if log else " none"),
        *(f"    | {line}" for line in log),
        f"  next        {advice}",
    ]
    return NotReady("\n".join(lines))


def describe(error: BaseException) -> str:
    """Type and text of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


def probe(address: "Address", limit_s: float, key_prefix: str) -> str:
    """One attempt at the server of a Redis or PostgreSQL address; returns product and version."""
    if address.scheme.startswith("redis"):
        return probe_redis(address, limit_s, key_prefix)
    return probe_postgres(address, limit_s)


def advice(scheme: str, error: BaseException) -> str:
    """What to do next where an error of that probe is final; "" where it is worth retrying."""
    return advice_redis(error) if scheme.startswith("redis") else advice_postgres(error)


def probe_redis(address: "Address", limit_s: float, key_prefix: str) -> str:
    """PING, SET, GET and DEL in one round trip; returns product and version."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client = redis.Redis.from_url(
        address.url, socket_timeout=limit_s, socket_connect_timeout=limit_s, retry=Retry(NoBackoff(), 0)
    )
    with client:
        key = f"{key_prefix}ready"
        with client.pipeline(transaction=False) as pipeline:
            pipeline.ping()
            pipeline.set(key, "1", ex=60)
            pipeline.get(key)
            pipeline.delete(key)
            read = pipeline.execute()[2]
        if read not in (b"1", "1"):
            raise redis.ResponseError(f"SET then GET returned {read!r}")
        information = client.info("server")
    if "valkey_version" in information:
        return f"Valkey {information['valkey_version']}"
    return f"Redis {information['redis_version']}"


def advice_redis(error: BaseException) -> str:
    """See the module's docstring."""
    import redis.exceptions as errors

    if isinstance(error, errors.AuthenticationError):
        return "check user and password"
    if isinstance(error, errors.NoPermissionError):
        return "give the user the right to PING, INFO and to read and write its keys"
    if _certificate_refused(error):
        return "check the server's certificate, or name its authority with ?ssl_ca_certs=…"
    if isinstance(error, errors.ResponseError) and not str(error).startswith(("BUSY", "LOADING", "MASTERDOWN")):
        return "look up this answer of the server"
    if isinstance(error, errors.ConnectionError | errors.TimeoutError | errors.ResponseError | OSError):
        return ""
    return "look up this error of the client library"


def probe_postgres(address: "Address", limit_s: float) -> str:
    """A query on the target database over TCP; returns product and version."""
    import asyncpg

    async def query() -> str:
        connection = await asyncpg.connect(address.url, timeout=limit_s)
        try:
            return str(await connection.fetchval("SELECT current_setting('server_version')"))
        finally:
            await connection.close(timeout=1)

    return f"PostgreSQL {run_alone(query, limit_s).split()[0]}"


def advice_postgres(error: BaseException) -> str:
    """See the module's docstring."""
    import asyncpg

    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):  # 28000 and, below it, 28P01
        return "check user and password, and that pg_hba.conf lets this host in"
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return "create the database, or name one that exists"
    if _certificate_refused(error):
        return "check the server's certificate, or name its authority with ?sslrootcert=…"
    transient = (asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError, asyncpg.PostgresConnectionError)
    if isinstance(error, (*transient, OSError, TimeoutError)):
        return ""
    return "look up this answer of the server"


def probe_http(url: str, limit_s: float) -> str:
    """GET the health route; returns what the Server header says."""
    import httpx

    # Reading the certificate store takes longer than all else.
    response = httpx.get(url, timeout=limit_s, trust_env=False, verify=url.startswith("https:"))
    if not response.is_success:
        raise BadStatus(response.status_code, " ".join(response.text.split())[:200])
    return str(response.headers.get("server", ""))


def advice_http(error: BaseException) -> str:
    """See the module's docstring. A 5xx may pass: applications answer so while a store isn't there yet."""
    import httpx

    if isinstance(error, BadStatus):
        return "" if error.status >= 500 else "check health_path in settings.toml: the route must answer with 2xx"
    if _certificate_refused(error):
        return "check the server's certificate"
    if isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol):
        return ""
    return "check the address"


def run_alone(work: Callable[[], Coroutine[None, None, T]], limit_s: float) -> T:
    """Run a coroutine to its end on an event loop of its own, in whatever thread this is."""

    async def bounded() -> T:
        async with asyncio.timeout(limit_s):
            return await work()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(bounded())


def _certificate_refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
