"""External servers, named by URL. A run removes only the data that it created."""

import contextlib
import ipaddress
import re
from dataclasses import replace
from typing import Literal
from urllib.parse import parse_qsl, quote, urlencode

from plumbline.services.address import Address
from plumbline.services.base import Context, Service, not_ready
from plumbline.services.clients import client_errors, probe_http, run_sql, start_mark
from plumbline.services.errors import ServiceError
from plumbline.services.reaper import Resource
from plumbline.settings import URL_VARIABLES, Settings

SCHEMES = {"redis": ("redis", "rediss"), "postgres": ("postgresql", "postgres"), "app": ("http", "https")}
# Options of a URL that would send a client to another server.
ELSEWHERE = re.compile("host|hostaddr|port|user|password|dbname|database|service|servicefile|passfile")
INSUFFICIENT_PRIVILEGE = "42501"  # PostgreSQL's code


def check_allowed(host: str, variable: str, settings: Settings) -> None:
    """Raise ServiceError for a server on another machine, unless `allow_external` names that machine."""
    # By name only, without DNS.
    loopback = host == "localhost" or host.endswith(".localhost")
    with contextlib.suppress(ValueError):
        loopback = loopback or ipaddress.ip_address(host).is_loopback
    if not loopback and host not in settings.allow_external:
        raise ServiceError(
            f"{variable} points at {host}, not this machine. If you may put load on that server, "
            f'set allow_external = ["{host}"] in settings.toml'
        )


class _External(Service):
    def __init__(self, name: Literal["redis", "postgres", "app"], context: Context) -> None:
        settings, variable = context.settings, URL_VARIABLES[name]
        if name not in settings.external_urls:
            raise ServiceError(f"{name} is external: set {variable} to its URL")
        address = Address.parse(settings.external_urls[name], variable, SCHEMES[name])
        misplaced = [key for key, _ in parse_qsl(address.options, keep_blank_values=True) if ELSEWHERE.fullmatch(key)]
        if misplaced:
            raise ServiceError(f"{variable} must not set {', '.join(misplaced)} after the question mark")
        check_allowed(address.host, variable, settings)
        super().__init__(name, "external", f"{variable} is set", address)
        limit = "ready_limit_s of [app]" if name == "app" and settings.app else "ready_limit_s"
        self.advice_at_limit = f"check that it runs and that {variable} is right, or raise {limit} in settings.toml"
        self.run = context.run
        self._limit_s = settings.ready_limit_s
        self._stopped = False
        self._start_mark = ""
        self.advice_if_silent = f"check that it still runs, and that {variable} is right; then run again"
        self._made = ""  # the key in the record of what this run has created on the server

    def wait_ready(self, limit_s: float) -> None:
        super().wait_ready(limit_s)
        self._start_mark = self._mark_now()

    def was_restarted(self) -> bool:
        return bool(self._start_mark) and self._mark_now() not in ("", self._start_mark)

    def _mark_now(self) -> str:
        with contextlib.suppress(Exception):  # the user may not be allowed to ask
            return start_mark(self.address, self._limit_s)
        return ""

    def running(self) -> bool:
        # Unknown. False after `stop`, so that `wait_ready` ends.
        return not self._stopped

    def stop(self) -> None:
        self._stopped = True
        if self._made:
            self.run.remove(self._made)
            self._made = ""

    def advice(self, error: BaseException) -> str:
        advice = super().advice(error)
        return f"{advice}: {URL_VARIABLES[self.name]}" if advice else ""


class ExternalRedis(_External):
    """A Redis server by URL. Keys that begin with the run's prefix are removed at the end."""

    def __init__(self, _why: str, context: Context) -> None:
        super().__init__("redis", context)
        self._prefix = context.run.key_prefix

    def wait_ready(self, limit_s: float) -> None:
        super().wait_ready(limit_s)
        # So far only the probe has written a key, which expires.
        keys = {"kind": "redis", "server": self.address.shown, "url": self.address.url, "prefix": self._prefix}
        self.run.add("redis keys", keys)
        self._made = "redis keys"


class ExternalPostgres(_External):
    """A PostgreSQL server by URL. The run creates a database, or else a schema, and drops it at the end."""

    def __init__(self, _why: str, context: Context) -> None:
        super().__init__("postgres", context)
        if not self.address.database:
            self.address = self.address.with_database(self.address.user or "postgres")
        self._given = self.address

    def start(self) -> None:
        """Wait for the server and create the run's database or schema. Raises NotReady."""
        self.wait_ready(self._limit_s)
        name = f"perf_{self.run.id}"
        mark = {"server": self._given.shown, "url": self._given.url, "name": name}
        # Registered before it is created: the run may be killed in between.
        if self._make({"kind": "database", **mark}, f'CREATE DATABASE "{name}"'):
            self.address = self._given.with_database(name)
        elif self._make({"kind": "schema", **mark}, f'CREATE SCHEMA "{name}"'):
            # Only this schema is in the search path, so an unqualified name never means a table of the user's.
            options = dict(parse_qsl(self._given.options))
            options["options"] = f"{options.get('options', '')} -csearch_path={name}".strip()
            self.address = replace(self._given, options=urlencode(options, quote_via=quote))
        else:
            role = self._given.user
            advice = f'GRANT CREATE ON DATABASE "{self._given.database}" TO "{role}", or ALTER ROLE "{role}" CREATEDB'
            raise not_ready(self, "the user may create neither a database nor a schema", None, advice)

    def _make(self, mark: Resource, statement: str) -> bool:
        """Register and run the statement. Return False if the user lacks the privilege."""
        self.run.add("postgres data", mark)
        try:
            run_sql(self._given.url, statement, limit_s=self._limit_s)
            self._made = "postgres data"
            return True
        except client_errors("postgres") as error:
            if getattr(error, "sqlstate", "") == INSUFFICIENT_PRIVILEGE:
                self.run.forget("postgres data")
                return False
            raise not_ready(self, f"{statement} failed", error, "look up this error of PostgreSQL") from None


class ExternalApplication(_External):
    """An application that is already running, by URL."""

    def __init__(self, context: Context) -> None:
        super().__init__("app", context)
        app = context.settings.app
        self._health_path = app.health_path.removeprefix("/") if app else "health"

    def probe(self, limit_s: float) -> str:
        return probe_http(f"{self.address.url.rstrip('/')}/{self._health_path}", limit_s)
