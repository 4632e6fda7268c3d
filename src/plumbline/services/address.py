"""The address of a server, with and without its password."""

import secrets
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from plumbline.services.errors import ServiceError
from plumbline.services.redaction import HIDDEN, SECRET_OPTION, Secret, redactor, secrets_of
from plumbline.settings import PostgresSettings

DEFAULT_PORTS = {"redis": 6379, "rediss": 6379, "postgresql": 5432, "postgres": 5432, "http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """The address of one server.

    Example::

        assert services.postgres is not None
        address = services.postgres.address
        connection = await asyncpg.connect(address.url)
        print(address.shown)  # without the password
    """

    #: `redis`, `postgresql`, `http` and the like.
    scheme: str
    #: The host name or the IP address.
    host: str
    #: The port.
    port: int
    #: The user, without percent-encoding.
    user: str = ""
    #: The password, without percent-encoding.
    password: str = field(default="", repr=False)
    #: The name or number of the database. For HTTP, the path.
    database: str = ""
    #: The query string of the URL.
    options: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str, variable: str, schemes: tuple[str, ...]) -> Self:
        """Parse a URL. Raises ServiceError, which names the variable and hides the URL: it may hold a password."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ServiceError(f"{variable} is not a URL with one host and a numeric port") from None
        if parts.scheme not in schemes:
            raise ServiceError(f"{variable} must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        if not parts.hostname or "," in parts.netloc.rpartition("@")[2]:
            raise ServiceError(f"{variable} must name one host: {schemes[0]}://user:password@host:port/…")
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=port or DEFAULT_PORTS[parts.scheme],
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=unquote(parts.path.removeprefix("/")),
            options=parts.query,
        )

    @property
    def url(self) -> str:
        """The URL, with the password."""
        password = f":{quote(self.password, safe='')}" if self.password else ""
        return self._spelt(f"{quote(self.user, safe='')}{password}", self.options)

    @property
    def shown(self) -> str:
        """The URL without passwords, which is safe to print."""
        if not self.host:
            return "-"
        pairs = parse_qsl(self.options, keep_blank_values=True)
        hidden = [(key, HIDDEN if SECRET_OPTION.search(key) else value) for key, value in pairs]
        options = urlencode(hidden, safe="*/")
        return self._spelt(quote(self.user, safe=""), options)

    def redact(self, text: str) -> str:
        """Return the text with *** in place of each password of this address."""
        return redactor(self.secrets)(text) if text else text

    @property
    def secrets(self) -> frozenset[Secret]:
        """The passwords of this address."""
        return frozenset(secrets_of(self.url))

    def with_database(self, database: str) -> Self:
        """Return the address of another database on the same server."""
        return replace(self, database=database)

    def _spelt(self, credentials: str, options: str) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        at = "@" if credentials else ""
        path = f"/{quote(self.database, safe='/')}" if self.database else ""
        return f"{self.scheme}://{credentials}{at}{host}:{self.port}{path}{'?' if options else ''}{options}"


def own_redis(host: str, port: int = 0, *, password: bool = True) -> Address:
    """Return an address for a Redis server of this run, with a new password or none."""
    return Address("redis", host, port, password=secrets.token_urlsafe(24) if password else "", database="0")


def own_postgres(settings: PostgresSettings, host: str, port: int = 0) -> Address:
    """Return an address for a PostgreSQL server of this run, with a new password unless the settings have one."""
    password = settings.password or secrets.token_urlsafe(24)
    return Address("postgresql", host, port, settings.user, password, settings.database)
