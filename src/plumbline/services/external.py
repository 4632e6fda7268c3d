"""External servers, by URL. Only what the run itself made there is removed."""

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
from plumbline.services.reaper import Thing
from plumbline.settings import URL_VARIABLES

SCHEMES = {"redis": ("redis", "rediss"), "postgres": ("postgresql", "postgres"), "app": ("http", "https")}
# Options that would send a client to another server than the URL itself.
ELSEWHERE = re.compile("host|hostaddr|port|user|password|dbname|database|service|servicefile|passfile")
INSUFFICIENT_PRIVILEGE = "42501"  # PostgreSQL's code


class _External(Service):
    def __init__(self, name: Literal["redis", "postgres", "app"], context: Context) -> None:
        settings, variable = context.settings, URL_VARIABLES[name]
        if name not in settings.external_urls:
            raise ServiceError(f"{name} is to be external: set {variable} to its URL")
        address = Address.parse(settings.external_urls[name], variable, SCHEMES[name])
        misplaced = [key for key, _ in parse_qsl(address.options, keep_blank_values=True) if ELSEWHERE.fullmatch(key)]
        if misplaced:
            raise ServiceError(f"{variable} must not have {', '.join(misplaced)} after the question mark")
        # Judged by its spelling alone: no name is looked up.
        loopback = address.host == "localhost" or address.host.endswith(".localhost")
        with contextlib.suppress(ValueError):
            loopback = loopback or ipaddress.ip_address(address.host).is_loopback
        if not loopback and address.host not in settings.allow_external:
            raise ServiceError(
                f"{variable} points at {address.host}, not this machine: if that server may be put under load, "
                f'set allow_external = ["{address.host}"] in settings.toml'
            )
        super().__init__(name, "external", f"{variable} is set", address)
        limit = "ready_limit_s of [app]" if name == "app" and settings.app else "ready_limit_s"
        self.advice_at_limit = f"check that it runs and that {variable} is right, or raise {limit} in settings.toml"
        self.run = context.run
        self._limit_s = settings.ready_limit_s
        self._stopped = False
        self._start_mark = ""
        self.advice_if_silent = f"check that it still runs, and that {variable} is right; then run again"
        self._made = ""  # what this run has made there, by its key in the record

    def wait_ready(self, limit_s: float) -> None:
        super().wait_ready(limit_s)
        self._start_mark = self._mark_now()

    def was_restarted(self) -> bool:
        return bool(self._start_mark) and self._mark_now() not in ("", self._start_mark)

    def _mark_now(self) -> str:
        with contextlib.suppress(Exception):  # without the right to ask for it, it is not known
            return start_mark(self.address, self._limit_s)
        return ""

    def running(self) -> bool:
        # Not known, but when the run ends, waiting for it ends.
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
    """Keys of this run begin with the prefix, and are removed at the end."""

    def __init__(self, _why: str, context: Context) -> None:
        super().__init__("redis", context)
        self._prefix = context.run.key_prefix

    def wait_ready(self, limit_s: float) -> None:
        super().wait_ready(limit_s)
        # Until now only the probe has written: a key that expires by itself.
        keys = {"kind": "redis", "server": self.address.shown, "url": self.address.url, "prefix": self._prefix}
        self.run.add("redis keys", keys)
        self._made = "redis keys"


class ExternalPostgres(_External):
    """The run gets a database of its own, or a schema if it may not make one; dropped at the end."""

    def __init__(self, _why: str, context: Context) -> None:
        super().__init__("postgres", context)
        if not self.address.database:
            self.address = self.address.with_database(self.address.user or "postgres")
        self._given = self.address

    def start(self) -> None:
        """Wait for the server, which alone knows whether a database may be made. Raises NotReady."""
        self.wait_ready(self._limit_s)
        name = f"perf_{self.run.id}"
        mark = {"server": self._given.shown, "url": self._given.url, "name": name}
        # Registered before it is made: the run may be killed in between.
        if self._make({"kind": "database", **mark}, f'CREATE DATABASE "{name}"'):
            self.address = self._given.with_database(name)
        elif self._make({"kind": "schema", **mark}, f'CREATE SCHEMA "{name}"'):
            # No other schema is in the path, so that a bare name never means a table that was there before.
            options = dict(parse_qsl(self._given.options))
            options["options"] = f"{options.get('options', '')} -csearch_path={name}".strip()
            self.address = replace(self._given, options=urlencode(options, quote_via=quote))
        else:
            role = self._given.user
            advice = f'GRANT CREATE ON DATABASE "{self._given.database}" TO "{role}", or ALTER ROLE "{role}" CREATEDB'
            raise not_ready(self, "it lets us make neither a database nor a schema of our own", None, advice)

    def _make(self, mark: Thing, statement: str) -> bool:
        """Run the statement and register what it made. Return False without the right to."""
        self.run.add("postgres data", mark)
        try:
            run_sql(self._given.url, statement, limit_s=self._limit_s)
            self._made = "postgres data"
            return True
        except client_errors("postgres") as error:
            if getattr(error, "sqlstate", "") == INSUFFICIENT_PRIVILEGE:
                self.run.forget("postgres data")
                return False
            raise not_ready(self, f"{statement} failed", error, "look up this answer of the server") from None


class ExternalApplication(_External):
    """An application that already runs elsewhere."""

    def __init__(self, context: Context) -> None:
        super().__init__("app", context)
        app = context.settings.app
        self._health_path = app.health_path.removeprefix("/") if app else "health"

    def probe(self, limit_s: float) -> str:
        return probe_http(f"{self.address.url.rstrip('/')}/{self._health_path}", limit_s)
