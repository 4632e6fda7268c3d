"""All services of a run: starts them concurrently, waits until they are ready, and stops them."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from plumbline.inherited import HIDDEN
from plumbline.services import variables
from plumbline.services.address import Address
from plumbline.services.advice import with_advice
from plumbline.services.application import PREPARE, Application, Process
from plumbline.services.base import HOST, Context, Service, not_ready
from plumbline.services.docker import DockerPostgres, DockerRedis
from plumbline.services.docker_engine import Engine, in_background
from plumbline.services.embedded import INSTALL, EmbeddedPostgres, EmbeddedRedis, find_postgres, find_valkey
from plumbline.services.errors import NotReady, Unavailable
from plumbline.services.external import ExternalApplication, ExternalPostgres, ExternalRedis
from plumbline.services.guard import Guard, own_folders
from plumbline.services.preparing import run_prepare
from plumbline.services.redaction import Secret, known_secrets, redactor
from plumbline.services.run import ChildEnviron, ServiceRun, sweep
from plumbline.services.shared import SharedServer
from plumbline.services.stack import SharedService, plan, why_missing
from plumbline.services.watching import watched
from plumbline.settings import URL_VARIABLES, AppSettings, ProcessSettings, Settings, address_variable, placeholders

STOP_LIMIT_S = 20.0
Made = TypeVar("Made", bound=Process)
ServerName = Literal["redis", "postgres"]
SERVERS: tuple[ServerName, ...] = ("redis", "postgres")
BACKENDS: dict[tuple[str, str], Callable[[str, Context], Service]] = {
    ("docker", "redis"): DockerRedis,
    ("docker", "postgres"): DockerPostgres,
    ("embedded", "redis"): EmbeddedRedis,
    ("embedded", "postgres"): EmbeddedPostgres,
    ("external", "redis"): ExternalRedis,
    ("external", "postgres"): ExternalPostgres,
}
# Imported before the servers start in threads: a first import by two threads at once can fail.
DRIVERS: dict[ServerName, str] = {"redis": "redis", "postgres": "asyncpg"}


class Services:
    """The services of a run, as the fixture `services` provides them.

    Example::

        @pytest.mark.full
        @pytest.mark.disruptive
        def test_restart(services: Services) -> None:
            assert services.redis is not None
            services.redis.kill()
            services.redis.restart()
            services.redis.wait_ready(10)
    """

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
        app_python: str = "",
        sides: Sequence[str] = (),
        child_environ: ChildEnviron = lambda _, __, environ: environ,
        shared_log: Callable[[str, int], str] | None = None,
    ) -> None:
        """Create the services of a run without starting them.

        `preferred` maps a server's name to the backend that `auto` prefers: the baseline's. A worker of a paired
        comparison passes the addresses of `shared` servers, its `key_prefix`, and whether to `prepare`; `shared_log`
        returns the last lines of such a server's log, if it is to be counted. `child_environ` returns the environment
        of the code under test. `app_python` runs that code if it has its own environment. The
        coordinator of a comparison names its `sides`: each gets services of its own.
        """
        self.redis: Service | None = None  #: The Redis server. None if it is off.
        self.postgres: Service | None = None  #: The PostgreSQL server. None if it is off.
        self.app: Service | None = None  #: The application. None if the settings name none.
        self.processes: dict[str, Service] = {}  #: The processes of `[processes]`, by name.
        self.stack: dict[str, Service] = {}  #: The other services, those of `[services]`, by name.
        self.skipped: dict[str, str] = {}  # the reason why a service is missing, by its name
        self.unavailable: set[str] = set()  # names of those in `skipped` that only this machine can't run
        self.notices: list[str] = []  # lines for the report
        self._settings = settings
        self._root = root
        self._shared, self._shared_log = shared, shared_log
        self._sides = sides
        self._prepare = prepare
        self._app_python = Path(app_python or sys.executable)
        self._environ = dict(environ)
        self._secrets = known_secrets(environ, settings)
        self._plain = variables.plain(environ, keep_tls=settings.backend_of("postgres") == "external")
        self._run = ServiceRun(environ, child_environ)
        self.directory = self._run.directory  #: A folder for files of this run, which is removed at its end.
        self.probes = self._run.probes  #: A folder with the sockets on which Python processes answer about themselves.
        self.counts = settings.counts  #: What is counted.
        self.own_folders = own_folders(root, settings)  #: Folders with the project's own code.
        self._guard = Guard(root, settings, self._environ, self._run)
        self._context = Context(settings, self._run, Engine(), preferred, self._environ)
        self.key_prefix = key_prefix or self._run.key_prefix  #: The prefix of every Redis key of this run.
        self._starting: list[Future[Service]] = []
        self._waiting: list[Future[None]] = []
        self._application_begun = False

    def begin(self) -> None:
        """Clean up after killed runs, then start Redis, PostgreSQL and the services of the stack concurrently.

        Returns when their addresses are known; they become ready in the background. Raises ServiceError, and NotReady
        if a server cannot be started.
        """
        variables.check(self._settings)
        if self._settings.backend_of("postgres") not in {"external", "off"}:
            for name in filter(variables.LIBPQ_NAME.fullmatch, self._plain):
                os.environ.pop(name, None)  # this process connects to the run's PostgreSQL too
        self.notices += _notices(self._settings, {*self._plain, *self._environ.get(HIDDEN, "").split()})
        needed = [name for name in SERVERS if self._settings.backend_of(name) != "off"]
        for name in needed:
            if importlib.util.find_spec(DRIVERS[name]):
                importlib.import_module(DRIVERS[name])
            if name in self._shared:
                setattr(self, name, SharedServer(name, self._shared[name], self._shared_log))
            elif self._settings.backend_of(name) == "external":
                setattr(self, name, choose(name, self._context))
        off = _source("off", self._environ)
        self.skipped = {name: f"{name} is off: {off}" for name in SERVERS if name not in needed}
        self.notices += sweep({external.address.shown: external.address.url for external in self.running()})
        try:
            self._run.begin()
        except OSError as error:
            raise NotReady(f"no service can be started: {error}\n  next        set TMPDIR to another folder") from None
        limit_s = self._settings.ready_limit_s
        servers = [(getattr(self, name) or name, limit_s) for name in needed if name not in self._shared]
        self._bring_up([*servers, *self._plan_stack()])
        for start in self._starting:
            start.result()

    def _plan_stack(self) -> list[tuple[Service, float]]:
        """Create the services of [services], and return those to start, each with its limit in seconds."""
        chosen: list[tuple[Service, float]] = []
        for name, settings in self._settings.services.items():
            if name in self._shared:
                self.stack[name] = SharedService(name, self._shared[name], self._context)
            elif settings.backend == "off" and name not in self._settings.external_urls:
                self.skipped[name] = f"{name} is off: set in settings.toml"
            elif why := why_missing(name, self._context):
                self.skipped[name] = why
                self.unavailable.add(name)
            else:
                planned = plan(name, self._context, self._sides)
                self.stack |= {one.name: one for one in planned}
                chosen += [(one, settings.ready_limit_s) for one in planned]
        return chosen

    def wait_ready(self) -> None:
        """Wait until all started services do real work. Raises one NotReady for all that don't."""
        if errors := [error for task in self._waiting if (error := task.exception())]:
            raise _as_one(errors)

    def start_application(self) -> None:
        """Run `prepare`, start the application and the processes concurrently, and wait. Raises NotReady."""
        if self._application_begun:
            return
        self._application_begun = True
        settings = self._settings
        missing = self._missing()
        if "app" in settings.external_urls:
            self.app = ExternalApplication(self._context)
        elif missing:
            self.skipped["app"] = f"it needs {missing}, which is off"
            if missing in self.unavailable:
                self.skipped["app"] = f"it needs {missing}: {self.skipped[missing]}"
                self.unavailable.add("app")
        elif settings.app is None:
            self.skipped["app"] = "there is no [app] in settings.toml"
        try:
            self.prepare()
            common = self.environment()
            if settings.app and not missing and self.app is None:
                app = self.app = self._make(Application, "app", settings.app, common)
                app.env_at = partial(self._rendered, settings.app.env)
            for name, process in ({} if missing else settings.processes).items():
                environment = {**common, **self._rendered(process.env)}
                self.processes[name] = self._make(Process, name, process, environment)
            first = [(self.app, (settings.app or settings).ready_limit_s)] if self.app else []
            beside = [(one, settings.processes[name].ready_limit_s) for name, one in self.processes.items()]
            self._bring_up([*first, *beside])
            with self.watched():
                self.wait_ready()
            self.check_connections()
        except NotReady as error:
            self.check_connections()  # a refused connection may be the cause
            raise with_advice(error, self.redis, self.postgres) from None

    def prepare(self) -> None:
        """Run `prepare` once, unless a server that the environment names is off. Raises NotReady."""
        self._guard.allow(self.running())
        if self._settings.prepare and self._prepare and not self._missing():
            self._prepare = False
            processes = []
            for command in self._settings.prepare_commands:
                settings, environment = ProcessSettings(command=command), self.environment()
                if self.postgres:
                    address = self.postgres.address
                    environment |= variables.for_psql(command, self._root, self._settings.env, address)
                processes.append(self._make(Process, PREPARE, settings, environment))
            # Services of the stack, and files, don't tell whether anybody has connected to them.
            elsewhere = variables.servers_named(self._settings.env) & self.stack.keys()
            elsewhere |= {one for one in self._settings.env.values() if variables.ROOT in placeholders(one)}
            servers = [one for one in (self.postgres, self.redis) if one and not elsewhere]
            run_prepare(processes, servers, self._settings.env, self._settings.prepare_limit_s)

    def _make(
        self,
        kind: type[Made],
        name: str,
        settings: ProcessSettings | AppSettings,
        environment: Mapping[str, str | None],
    ) -> Made:
        """Return a process of the code under test."""
        return kind(name, settings, self._root, environment, self._run, self.scrub, self._guard, self._app_python)

    def beside_application(self, kind: type[Made], name: str, settings: AppSettings) -> Made:
        """Return a process in the environment of the application, without starting it."""
        own = self.app.address if self.app else Address("http", HOST, 0)  # 0: `prepare` has failed
        return self._make(kind, name, settings, {**self.environment(), **self._rendered(settings.env, own)})

    def connected(self) -> dict[str, set[str]]:
        """Return by process of the code under test the names of the run's servers that it has connected to."""
        return self._guard.connected()

    def check_connections(self) -> None:
        """Raise NotReady if the code under test has connected to a Redis or PostgreSQL of another origin."""
        self._guard.allow(self.running())
        for one in self.code_under_test():
            one.check_connections()

    def watched(self) -> contextlib.AbstractContextManager[None]:
        """Record even short connections of the code under test for `check_connections`. Do not use it while timing."""
        return watched(self.code_under_test)

    def code_under_test(self) -> list[Process]:
        """Return the application and the processes that this run has started."""
        return [one for one in (self.app, *self.processes.values()) if isinstance(one, Process)]

    def running(self) -> list[Service]:
        """Return the services so far, servers first."""
        every = (self.redis, self.postgres, *self.stack.values(), self.app, *self.processes.values())
        return [one for one in every if one is not None]

    def environment(self) -> dict[str, str | None]:
        """Return the variables of children and of the test process; None removes a variable.

        `[env]` of settings.toml has precedence over the replaced values of variables such as DATABASE_URL.
        """
        plain = variables.overrides(self._plain, self._environ, self.redis, self.postgres)
        imports = _import_path(self._settings, self._root, self._environ.get("PYTHONPATH", ""))
        hidden = dict.fromkeys([*URL_VARIABLES.values(), *map(address_variable, self._settings.services)])  # read
        return {**hidden, **imports, **self._run.environ, **plain, **self._rendered(self._settings.env)}

    def scrub(self, text: str) -> str:
        """Return a text without the passwords that this run knows."""
        return redactor(self._known())(text) if text else text

    def scrub_name(self, name: str) -> str:
        """Return the name of a test without passwords. A password of letters only is kept: it may be a word."""
        return redactor(frozenset(secret for secret in self._known() if not secret.is_word))(name)

    def _known(self) -> frozenset[Secret]:
        return self._secrets.union(*(service.address.secrets for service in self.running()))

    def stop(self) -> None:
        """Stop and remove everything. Does not raise if a service has died."""
        engine = self._context.engine
        try:
            if not engine.given_up.done():
                engine.given_up.set_result(None)
            # Otherwise `wait_ready` of an external server would continue.
            _stop_all(service for service in self.running() if not service.own)
            wait(self._starting, STOP_LIMIT_S)
            servers = {*SERVERS, *self.stack}
            _stop_all(service for service in self.running() if service.name not in servers)
            _stop_all(service for service in self.running() if service.name in servers)
            wait(self._waiting, STOP_LIMIT_S)
            engine.close()
        finally:
            self._run.end()

    def _rendered(self, templates: Mapping[str, str], own: Address | None = None) -> dict[str, str | None]:
        servers = (self.redis, self.postgres, *self.stack.values())
        addresses = {server.name: server.address for server in servers if server is not None}
        prefix = f"perf{self._run.id}"
        return variables.render(templates, addresses, self.key_prefix, own, prefix, str(self._root))

    def _missing(self) -> str:
        """Return a server that the environment of the code under test names but that does not run, or ""."""
        settings = self._settings
        tables = [settings.env, *(one.env for one in settings.code_under_test)]
        named = variables.servers_named(*tables)
        return next((name for name in (*SERVERS, *settings.services) if name in named and name in self.skipped), "")

    def _bring_up(self, chosen: Sequence[tuple[Service | ServerName, float]]) -> None:
        """Start services concurrently, and wait for each in the background up to its limit in seconds."""
        self._starting = [in_background(partial(self._start, one)) for one, _ in chosen]
        for start, (_, limit_s) in zip(self._starting, chosen, strict=True):
            self._waiting.append(in_background(partial(_wait_ready, start, limit_s)))

    def _start(self, chosen: Service | ServerName) -> Service:
        """Start a service, which may be given by its name."""
        service = choose(chosen, self._context) if isinstance(chosen, str) else chosen
        if service.name in SERVERS:
            setattr(self, service.name, service)
        try:
            service.start()
        except Unavailable as error:
            raise not_ready(service, str(error), None, error.advice) from None
        return service


def _import_path(settings: Settings, root: Path, given: str) -> dict[str, str]:
    """Return a PYTHONPATH with which commands can import the application's modules; {} to keep the `given` one."""
    if settings.app is None or settings.app.directory == ".":
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(root / settings.app.directory), given]))}


def _notices(settings: Settings, hidden: Iterable[str]) -> list[str]:
    """Return lines about hidden variables and about a server without a password."""
    notices = []
    if names := sorted(hidden):
        verb = "is" if len(names) == 1 else "are"
        notices.append(f"{', '.join(names)} {verb} set: ignored, and hidden from all processes of this run")
    own = [name for name in SERVERS if settings.backend_of(name) not in {"external", "off"}]
    if settings.redis.without_password and "redis" in own:
        notices.append("redis has no password, as set in settings.toml: everybody on this machine can use it")
    if settings.postgres.password and "postgres" in own:
        notices.append("postgres has the password of settings.toml: everybody on this machine who knows it can use it")
    return notices


def _as_one(errors: Sequence[BaseException]) -> BaseException:
    """Combine several NotReady into one. An unexpected error is returned unchanged."""
    expected = [error for error in errors if isinstance(error, NotReady)]
    if len(expected) < len(errors):
        return next(error for error in errors if not isinstance(error, NotReady))
    return NotReady("\n".join(map(str, expected)), "\n".join(error.output for error in expected))


def _source(choice: str, environ: Mapping[str, str]) -> str:
    return f"PERF_SERVICES={choice}" if environ.get("PERF_SERVICES") == choice else "set in settings.toml"


def choose(name: ServerName, context: Context) -> Service:
    """Create a server without starting it. `auto` prefers the baseline's backend. Raises NotReady, ServiceError."""
    choice, preferred = context.settings.backend_of(name), context.preferred.get(name)
    if choice != "auto":
        return BACKENDS[choice, name](_source(choice, context.environ), context)
    problems: dict[str, str] = {}
    for backend in ("embedded", "docker") if preferred == "embedded" else ("docker", "embedded"):
        try:
            if backend == "docker":
                context.engine.require_image(getattr(context.settings, name).image)
            else:
                find_valkey() if name == "redis" else find_postgres()
        except Unavailable as error:
            problems[backend] = str(error)
            continue
        reason = "as in the baseline" if backend == preferred else "a Docker engine answers"
        return BACKENDS[backend, name]("; ".join(problems.values()) or reason, context)
    lines = [
        f"{name} is not ready: neither Docker nor an embedded server is available",
        *(f"  {backend:<11} {problem}" for backend, problem in problems.items()),
        f"  next        start Docker; or {INSTALL.partition(',')[0]}; or set {URL_VARIABLES[name]}",
    ]
    raise NotReady("\n".join(lines))


def _wait_ready(start: Future[Service], limit_s: float) -> None:
    start.result().wait_ready(limit_s)


def _stop_all(services: Iterable[Service]) -> None:
    wait([in_background(service.stop) for service in services], STOP_LIMIT_S)
