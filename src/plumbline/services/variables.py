"""The environment of children: the user's variables, with the addresses of this run's servers."""

import difflib
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, quote

from plumbline.inherited import FOR_SERVERS, disturbing
from plumbline.load_sql import URL
from plumbline.processes import SHELLS
from plumbline.services.address import Address
from plumbline.services.base import Service
from plumbline.services.errors import ServiceError
from plumbline.settings import OWN_PLACEHOLDERS, Settings, placeholders

FIELDS = ("user", "password", "host", "port", "database", "options", "url")
ROOT = "root"  # the placeholder for the project's folder: in a comparison, that of the side's copy
PLACEHOLDERS = {f"{server}.{field}" for server in ("redis", "postgres") for field in FIELDS} | {"redis.prefix", ROOT}
SERVICE_FIELDS = ("host", "port", "prefix")  # of a service of [services]
# Variables that often point at a staging server.
PLAIN_NAME = re.compile(r"(DATABASE|DB|POSTGRES|POSTGRESQL|PG|SQLALCHEMY_DATABASE|REDIS|CACHE|BROKER)_(URL|URI|DSN)")
PLAIN_URL = re.compile(r"(?P<redis>rediss?|valkeys?)://|(?P<postgres>(postgres(ql)?|psql|pgsql|postgis)(\+\w+)?)://")
LIBPQ_NAME = re.compile(
    r"PG(HOST|HOSTADDR|PORT|DATABASE|USER|PASSWORD|PASSFILE|SERVICE|SERVICEFILE|OPTIONS|APPNAME|REQUIREAUTH"
    r"|REQUIREPEER|TARGETSESSIONATTRS|CHANNELBINDING|GSSENCMODE|GSSLIB|GSSDELEGATION|KRBSRVNAME|REQUIRESSL|SSL[A-Z]+"
    r"|CONNECT_TIMEOUT|CLIENTENCODING|LOADBALANCEHOSTS|M(IN|AX)PROTOCOLVERSION|DATESTYLE|TZ|GEQO|SYSCONFDIR)"
)

LIBPQ_OPTIONS = {"options", "sslmode", "sslrootcert", "sslcert", "sslkey"}  # of a URL
LIBPQ_PROGRAM = re.compile(
    r"\b(plumbline\.(?:load_sql|seed)|psql|pg_restore|createdb|dropdb|createuser|vacuumdb|pgbench)\b"
)


def check(settings: Settings) -> None:
    """Check all templates. Raises ServiceError for an unknown placeholder."""
    own = {f"{name}.{field}" for name in settings.services for field in SERVICE_FIELDS}
    tables = {"env": settings.env, "app.env": settings.app.env if settings.app else {}}
    tables |= {f"processes.{name}.env": process.env for name, process in settings.processes.items()}
    for table, key, template in ((table, *item) for table, templates in tables.items() for item in templates.items()):
        try:
            known = PLACEHOLDERS | own | (OWN_PLACEHOLDERS if table == "app.env" else set())
            wrong = sorted(placeholders(template) - known)
        except ValueError as error:
            raise ServiceError(f"settings.toml: {table}.{key}: {error}; write {{{{ for a brace") from None
        if wrong:
            near = difflib.get_close_matches(wrong[0], known, n=1)
            guess = f"did you mean {{{near[0]}}}? There are" if near else "there are"
            names = " ".join(f"{{{name}}}" for name in sorted(known))
            raise ServiceError(f"settings.toml: {table}.{key}: there is no {{{wrong[0]}}}; {guess} {names}")


def servers_named(*tables: Mapping[str, str]) -> set[str]:
    """Return the servers that templates name."""
    names = {name for table in tables for text in table.values() for name in placeholders(text)}
    return {name.partition(".")[0] for name in names - OWN_PLACEHOLDERS - {ROOT}}


def render(
    templates: Mapping[str, str],
    addresses: Mapping[str, Address],
    prefix: str,
    own: Address | None = None,
    service_prefix: str = "",
    root: str = "",
) -> dict[str, str | None]:
    """Return the templates with their values, or None for a template that names a server that is off.

    `addresses`: those of the servers. `own`: where the application itself listens. `prefix`, `service_prefix`: for
    keys of Redis, and for names in services of [services]. `root`: the project's folder.
    """
    values = {f"{name}.{field}": str(getattr(at, field)) for name, at in addresses.items() for field in FIELDS}
    values |= {name: str(getattr(own, name)) for name in OWN_PLACEHOLDERS if own}
    values |= {f"{name}.prefix": service_prefix for name in addresses} | {"redis.prefix": prefix, ROOT: root}
    rendered: dict[str, str | None] = {}
    for key, template in templates.items():
        # In a URL, these are percent-encoded.
        quoted = ("user", "password", "database") if "://" in template else ()
        known = {name: quote(text, safe="") if name.endswith(quoted) else text for name, text in values.items()}
        parts = string.Formatter().parse(template)
        missing = not servers_named({key: template}) <= set(addresses)
        rendered[key] = None if missing else "".join(text + (known[name] if name else "") for text, name, _, _ in parts)
    return rendered


def plain(environ: Mapping[str, str], *, keep_tls: bool) -> list[str]:
    """Return the variables that would lead a client to another server, or configure the application's HTTP server.

    `keep_tls` excludes libpq's PGSSL… variables.
    """
    elsewhere = (
        name
        for name, value in environ.items()
        if (PLAIN_NAME.fullmatch(name) and PLAIN_URL.match(value))
        or (LIBPQ_NAME.fullmatch(name) and not (keep_tls and name.startswith("PGSSL")))
    )
    return sorted([*elsewhere, *disturbing(environ, FOR_SERVERS)])


def for_psql(command: Sequence[str], root: Path, env: Mapping[str, str], postgres: Address) -> dict[str, str]:
    """Return libpq's variables with the address of the run's server for a command that runs `psql` or the like.

    Without them, these programs connect to the server of the user. What `env`, the table [env], sets is left out.
    """
    words = " ".join(command)
    if command[0] in SHELLS and (root / command[-1]).is_file():
        words = (root / command[-1]).read_text("utf-8", errors="replace")
    if not LIBPQ_PROGRAM.search(words) or "PGSERVICE" in env:
        return {}
    fields = {"HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password", "DATABASE": "database"}
    given = {f"PG{name}": str(getattr(postgres, one)) for name, one in fields.items()}
    given |= {f"PG{name.upper()}": text for name, text in parse_qsl(postgres.options) if name in LIBPQ_OPTIONS}
    return {URL: postgres.url} | {name: text for name, text in given.items() if name not in env}


def overrides(
    names: Iterable[str], environ: Mapping[str, str], redis: Service | None, postgres: Service | None
) -> dict[str, str | None]:
    """Return new values of these variables: the URL of this run's server, or None."""
    changes: dict[str, str | None] = dict.fromkeys(names)
    for name in changes:
        found = PLAIN_URL.match(environ[name])
        if found and found["redis"] and redis:
            changes[name] = redis.address.url
        elif found and found["postgres"] and postgres:
            # Keep their scheme: it may name a driver, as in postgresql+asyncpg.
            changes[name] = found["postgres"] + postgres.address.url.removeprefix(postgres.address.scheme)
    return changes
