"""Servers that are somebody else's, by URL. Nothing is flushed or dropped there but what the run itself made."""

import ipaddress
import re
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, urlencode

from plumbline.services import readiness
from plumbline.services.address import Address, ServiceError
from plumbline.services.base import Context, Service
from plumbline.services.reaper import CLIENT_LIMIT_S, remove
from plumbline.services.service_run import Run
from plumbline.settings import URL_VARIABLES

SCHEMES = {"redis": ("redis", "rediss"), "postgres": ("postgresql", "postgres"), "app": ("http", "https")}
ELSEWHERE = re.compile("host|hostaddr|port|user|password|dbname|database|service|servicefile|passfile")
"""Options that would send a client elsewhere than where the URL itself says."""


class _External(Service):
    own = False
    _limit_name = "ready_limit_s in settings.toml"

    def __init__(self, name: Literal["redis", "postgres", "app"], context: Context) -> None:
        settings, variable = context.settings, URL_VARIABLES[name]
        if name not in settings.external_urls:
            raise ServiceError(f"{name} is to be external: set {variable} to its URL")
        address = Address.parse(settings.external_urls[name], variable, SCHEMES[name])
        misplaced = [key for key, _ in parse_qsl(address.options, keep_blank_values=True) if ELSEWHERE.fullmatch(key)]
        if misplaced:
            raise ServiceError(f"{variable} must not have {', '.join(misplaced)} after the question mark")
        if not is_loopback(address.host) and address.host not in settings.allow_external:
            raise ServiceError(
                f"{variable} points at {address.host}, not this machine: if that server may be put under load, "
                f'set allow_external = ["{address.host}"] in settings.toml'
            )
        super().__init__(name, "external", f"{variable} is set", address)
        self.run = context.run
        self._limit_s = settings.ready_limit_s
        self._stopped = False

    def running(self) -> bool:
        # Whether theirs runs can't be seen; but when the run ends, waiting ends.
        return not self._stopped

    def stop(self) -> None:
        self._stopped = True

    def advice(self, error: BaseException) -> str:
        advice = super().advice(error)
        return f"{advice}: {URL_VARIABLES[self.name]}" if advice else ""

    def advice_at_limit(self) -> str:
        return f"see that it runs and that {URL_VARIABLES[self.name]} is right, or raise {self._limit_name}"

    def state(self) -> str:
        return "unknown: it isn't ours to look at"


class ExternalRedis(_External):
    """Keys of this run begin with the prefix, and go at the end."""

    def __init__(self, _why: str, context: Context) -> None:
        super().__init__("redis", context)
        self.key_prefix = context.key_prefix
        self._mark: dict[str, Any] = {}

    def wait_ready(self, limit_s: float) -> None:
        super().wait_ready(limit_s)
        # Before this only the probe has written, a key that expires by itself.
        self._mark = {"kind": "redis", "server": self.address.shown, "url": self.address.url, "prefix": self.key_prefix}
        self.run.add("redis keys", self._mark)

    def stop(self) -> None:
        super().stop()
        if self._mark:
            _remove_own(self.run, "redis keys", self._mark)
            self._mark = {}


class ExternalPostgres(_External):
    """A database of the run's own, or a schema where it may not make one; dropped at the end."""

    def __init__(self, _why: str, context: Context) -> None:
        super().__init__("postgres", context)
        if not self.address.database:
            self.address = self.address.with_database(self.address.user or "postgres")
        self._given = self.address
        self._mark: dict[str, Any] = {}

    def start(self) -> None:
        """Wait for the server, since only it can tell whether a database may be made."""
        readiness.wait_until_ready(self, self._limit_s)
        name = f"perf_{self.run.id}"
        mark = {"server": self._given.shown, "url": self._given.url, "name": name}
        # Marked before it is made, lest it stay when the run is killed in between.
        self._make({"kind": "database", **mark}, f'CREATE DATABASE "{name}"')
        self.address = self._given.with_database(name)
        if not self._mark:
            self._make({"kind": "schema", **mark}, f'CREATE SCHEMA "{name}"')
            # Their schemas are left out of the path, so that no table of theirs is written to by its bare name.
            options = dict(parse_qsl(self._given.options))
            options["options"] = f"{options.get('options', '')} -csearch_path={name}".strip()
            self.address = replace(self._given, options=urlencode(options, quote_via=quote))
        if not self._mark:
            self.address = self._given
            advice = (
                f'GRANT CREATE ON DATABASE "{self._given.database}" TO "{self._given.user}", '
                f'or ALTER ROLE "{self._given.user}" CREATEDB'
            )
            raise readiness.not_ready(self, "it lets us make neither a database nor a schema of our own", None, advice)

    def stop(self) -> None:
        super().stop()
        if self._mark:
            _remove_own(self.run, "postgres data", self._mark)
            self._mark = {}

    def _make(self, mark: dict[str, Any], statement: str) -> None:
        """Run the statement and remember what it made; not permitted: remember nothing."""
        import asyncpg

        async def work() -> None:
            connection = await asyncpg.connect(self._given.url, timeout=CLIENT_LIMIT_S)
            try:
                await connection.execute(statement, timeout=self._limit_s)
            finally:
                await connection.close(timeout=1)

        self.run.add("postgres data", mark)
        try:
            readiness.run_alone(work, self._limit_s)
            self._mark = mark
        except asyncpg.InsufficientPrivilegeError:
            self.run.forget("postgres data")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise readiness.not_ready(self, f"{statement} failed", error, "look up this answer of the server") from None


class ExternalApplication(_External):
    """An API that is served elsewhere."""

    def __init__(self, context: Context) -> None:
        super().__init__("app", context)
        app = context.settings.app
        self._health_path = app.health_path if app else "/health"
        if app:
            self._limit_name = "ready_limit_s of [app] in settings.toml"

    def probe(self, limit_s: float) -> str:
        return readiness.probe_http(self.address.url.rstrip("/") + self._health_path, limit_s)

    def advice(self, error: BaseException) -> str:
        return readiness.advice_http(error)


def is_loopback(host: str) -> bool:
    """Whether the host is this machine, by its name alone: no name is looked up."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _remove_own(run: Run, key: str, mark: dict[str, Any]) -> None:
    try:
        remove(run.id, mark)
    except Exception:
        return  # the server is gone: the reaper tries once more, and after it the next start
    run.forget(key)
