"""All services of one run: started side by side, waited for, and stopped."""

import importlib.util
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from plumbline.services import variables
from plumbline.services.address import Address
from plumbline.services.application import Application, Process, run_prepare
from plumbline.services.base import Context, Service, not_ready
from plumbline.services.choice import SERVERS, ServerName, choose, source, with_advice_on_extension
from plumbline.services.docker_engine import Engine
from plumbline.services.errors import NotReady, Unavailable
from plumbline.services.external import ExternalApplication
from plumbline.services.run import ChildEnviron, ServiceRun, sweep
from plumbline.settings import Settings

STOP_LIMIT_S = 20.0
# Imported before servers start in threads: the first import of a package by two threads at once can fail.
DRIVERS: dict[ServerName, str] = {"redis": "redis", "postgres": "asyncpg"}


class Services:
    """All services of one run. `stop` may be called at any point, and again."""

    def __init__(
        self,
        settings: Settings,
        root: Path,
        *,
        preferred: Mapping[str, str] = {},
        environ: Mapping[str, str] = os.environ,
        shared: Mapping[str, Address] = {},
        key_prefix: str = "",
        prepare: bool = True,
        child_environ: ChildEnviron = lambda _, __, environ: environ,
    ) -> None:
        """`preferred` is the backend by service name that `auto` takes if it can: the baseline's.

        A worker of a paired comparison passes the `shared` servers by name, its `key_prefix`, and whether to `prepare`;
        its code under test gets the environment that `child_environ` returns.
        """
        self.redis: Service | None = None
        self.postgres: Service | None = None
        self.app: Service | None = None
        self.processes: dict[str, Service] = {}
        # Why a service is not there, by its name; and lines for the reader.
        self.skipped: dict[str, str] = {}
        self.notices: list[str] = []
        self._settings = settings
        self._root = root
        self._preferred = preferred
        self._shared = shared
        self._prepare = prepare
        self._environ = dict(environ)
        self._plain = variables.plain(environ, keep_tls=settings.backend("postgres") == "external")
        self._run = ServiceRun(environ, child_environ)
        self._context = Context(settings, self._run, Engine())
        # Of each Redis key of this run.
        self.key_prefix = key_prefix or self._context.key_prefix
        self._tasks: list[_Task] = []
        self._application_begun = False

    def begin(self) -> None:
        """Remove what dead runs left, then start Redis and PostgreSQL side by side.

        Returns once their addresses are known; they become ready in the background. Raises ServiceError, and NotReady
        if a server cannot be started.
        """
        variables.check(self._settings)
        if self._plain:
            verb = "is" if len(self._plain) == 1 else "are"
            self.notices.append(f"{', '.join(self._plain)} {verb} set: not used, and hidden from what this run starts")
        needed: list[ServerName] = []
        for name in SERVERS:
            if self._settings.backend(name) == "off":
                self.skipped[name] = f"{name} is off: {source('off', self._environ)}"
                continue
            needed.append(name)
            if name in self._shared:
                setattr(self, name, Service(name, "shared", "started for both sides", self._shared[name]))
            elif self._settings.backend(name) == "external":
                setattr(self, name, self._choose(name))
        external = [service.address for service in self.running()]
        self.notices += sweep({address.shown: address.url for address in external})
        self._run.begin()
        for name in needed:
            if importlib.util.find_spec(DRIVERS[name]):
                importlib.import_module(DRIVERS[name])
        self._tasks = [_Task(self._bring_up, name) for name in needed if name not in self._shared]
        for task in self._tasks:
            task.located.wait()
            if task.error:
                raise task.error

    def wait_ready(self) -> None:
        """Wait until Redis and PostgreSQL do real work. Raises NotReady."""
        _finish(self._tasks)

    def start_application(self) -> None:
        """Run `prepare`, then start the application and the processes side by side and wait. Raises NotReady."""
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
            raise with_advice_on_extension(error, self.postgres) from None
        finally:
            if self.app is not None:
                self.skipped.pop("app", None)

    def prepare(self) -> None:
        """Run `prepare` once, unless a server that the environment names is off. Raises NotReady."""
        if self._settings.prepare and self._prepare and not self._missing():
            self._prepare = False
            secrets = [service.address for service in self.running()]
            limit_s = self._settings.ready_limit_s
            run_prepare(self._settings.prepare, self._root, self.environment(), limit_s, self._run, secrets)

    def _missing(self) -> str:
        """Return a server that the environment of the code under test names and that is off; "" if there is none."""
        settings = self._settings
        named = variables.servers_named(settings.env, settings.app.env if settings.app else {})
        return next((name for name in SERVERS if name in named and settings.backend(name) == "off"), "")

    def _make_code_under_test(self) -> None:
        settings, run = self._settings, self._run
        common = self.environment()
        secrets = [service.address for service in self.running()]
        if settings.app and self.app is None:
            environment = {**common, **self._rendered(settings.app.env)}
            self.app = Application(settings.app, self._root, environment, run, secrets)
        for name, process in settings.processes.items():
            environment = {**common, **self._rendered(process.env)}
            self.processes[name] = Process(name, process, self._root, environment, run, secrets)

    def running(self) -> list[Service]:
        """Return the services that have been chosen so far, servers first."""
        everything = (self.redis, self.postgres, self.app, *self.processes.values())
        return [service for service in everything if service is not None]

    def environment(self) -> dict[str, str | None]:
        """Return variables for children and the test process; None removes a variable.

        `env` of settings.toml, rendered, overrides our addresses in place of plain variables that are set.
        """
        plain = variables.overrides(self._plain, self._environ, self.redis, self.postgres)
        return {**self._import_path(), **self._run.environ, **plain, **self._rendered(self._settings.env)}

    def _import_path(self) -> dict[str, str]:
        """Let other commands import what the application can import."""
        if self._settings.app is None or self._settings.app.directory == ".":
            return {}
        path = [str(self._root / self._settings.app.directory), self._environ.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, path))}

    @property
    def directory(self) -> Path:
        """A folder for files of this run; removed with it."""
        return self._run.directory

    def lines(self, pinned: Mapping[str, int | None]) -> list[str]:
        """Return one line for each service: its backend, its version, its core of `pinned`, and why this backend."""
        text = []
        for one in self.running():
            core = pinned.get(one.name)
            on_core = f"on core {core}" if core is not None else ""
            parts = filter(None, [one.backend, one.product, one.version, on_core, f"({one.why})"])
            text.append(f"{one.name:<10} {' '.join(parts)}")
        return text + [f"{name:<10} skipped: {reason}" for name, reason in self.skipped.items()]

    def table(self) -> list[str]:
        """Return a table of the services with their addresses, and how long each took to become ready."""
        rows = [("service", "backend", "version", "ready after", "address")]
        for one in self.running():
            ready = f"{one.ready_s * 1000:.0f} ms" if one.ready_s is not None else "-"
            version = f"{one.product} {one.version}".strip() or "-"
            rows.append((one.name, one.backend, version, ready, one.address.shown))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        text = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return [*text, *(f"{name}  skipped: {reason}" for name, reason in self.skipped.items())]

    def scrub(self, text: str) -> str:
        """Return the text without any password of the services."""
        for service in self.running():
            text = service.address.redact(text)
        return text

    def stop(self) -> None:
        """Stop and remove everything. Never raises for a service that has died."""
        self._context.engine.given_up.set()
        # This ends the waiting for external servers, which would otherwise go on.
        _stop_all(service for service in self.running() if not service.own)
        for task in self._tasks:
            task.located.wait(STOP_LIMIT_S)
        _stop_all(service for service in self.running() if service.name not in SERVERS)
        _stop_all(service for service in self.running() if service.name in SERVERS)
        for task in self._tasks:
            task.join(STOP_LIMIT_S)
        self._context.engine.close()
        self._run.end()

    def _rendered(self, templates: Mapping[str, str]) -> dict[str, str | None]:
        addresses = {server.name: server.address for server in (self.redis, self.postgres) if server is not None}
        return variables.render(templates, addresses, self.key_prefix)

    def _bring_up(self, task: "_Task", name: ServerName) -> None:
        service: Service = getattr(self, name) or self._choose(name)
        setattr(self, name, service)
        try:
            service.start()
        except Unavailable as error:
            raise not_ready(service, str(error), None, error.advice) from None
        task.located.set()
        service.wait_ready(self._settings.ready_limit_s)

    def _choose(self, name: ServerName) -> Service:
        return choose(name, self._context, self._preferred.get(name), self._environ)


class _Task(threading.Thread):
    """Work in the background. `located` is set when the address is known, or at the end of the work."""

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
    """Wait for all. Raises what they raised, and one NotReady for all that are not ready."""
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
        task.join(STOP_LIMIT_S)
