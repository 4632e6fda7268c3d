"""The settings as typed values, with their defaults and their texts."""

import difflib
import re
import string
from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import Meta, Struct

from plumbline.load_settings import LoadSettings, Positive, Share, check_effect

BackendChoice = Literal["auto", "docker", "embedded", "external", "off"]
ServerOption = str | int | float | bool


RESULTS_FOLDER = "perf-results"
SQL_NAME = re.compile("(?!pg_|template[01]$|public$|none$)[A-Za-z_][A-Za-z0-9_-]{0,62}")
OWN_NAME = "perf"  # of the user and the database in PostgreSQL, if the application reads them from the environment
OVERRIDES = {"PERF_SERVICES": "backend", "PERF_PIN": "pin", "PERF_MACHINE": "machine"}
# Each means `external` for its service.
URL_VARIABLES = {"redis": "PERF_REDIS_URL", "postgres": "PERF_DATABASE_URL", "app": "PERF_API_URL"}


def address_variable(service: str) -> str:
    """Return the variable with the `host:port` of a service of [services] that already runs."""
    return f"PERF_SERVICE_{service.upper()}"


class SettingsError(Exception):
    """The settings or the environment can't be used as they are: wrong usage, exit code 2."""


# The reference of the documentation shows each text after `#:`.


OWN_PLACEHOLDERS = {"host", "port"}  # where the application has to listen


def placeholders(template: str) -> set[str]:
    """Return the names in braces. Raises ValueError for unmatched braces."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def _names_port(template: str) -> bool:
    try:
        return "port" in placeholders(template)
    except ValueError:  # `variables.check` reports it
        return True


class RedisSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The Redis server of a run."""

    #: Like `backend` at the top of the file, but only for Redis.
    backend: BackendChoice | None = None
    #: The image for Docker.
    image: str = "redis:8-alpine"
    #: The oldest version that the readiness tests accept.
    minimum_version: str = "7.0"
    #: Whether a server that the run starts has a password. If the application connects without a password, write
    #: `false`.
    password: bool = True
    #: Options of a server that the run starts, as in `redis.conf`.
    config: dict[str, ServerOption] = {}

    @property
    def without_password(self) -> bool:
        """Return whether a Redis that we start lets everybody on this machine in."""
        # `requirepass` can only be "".
        return not self.password or any(name.lower() == "requirepass" for name in self.config)


class PostgresSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The PostgreSQL server of a run."""

    #: Like `backend` at the top of the file, but only for PostgreSQL.
    backend: BackendChoice | None = None
    #: The image for Docker.
    image: str = "postgres:18-alpine"
    #: The oldest version that the readiness tests accept.
    minimum_version: str = "14"
    #: The user of a server that the run starts. If the application hard-codes a user, write this user.
    user: str = OWN_NAME
    #: The database of a server that the run starts. If the application hard-codes a database, write this database. Base
    #: and head then each get a server of their own.
    database: str = OWN_NAME
    #: The password of a server that the run starts. If the application hard-codes a password, write this password. By
    #: default, each run makes up a new password.
    password: str = ""
    #: Options of a server that the run starts, as in `postgresql.conf`.
    config: dict[str, ServerOption] = {}

    def __post_init__(self) -> None:
        for key in ("user", "database"):
            if not SQL_NAME.fullmatch(name := getattr(self, key)):
                expected = "up to 63 letters, digits, _ and -, but no name that PostgreSQL reserves"
                raise ValueError(f"{key} = {name!r}: expected {expected}")


class AppSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The application under test, which runs in processes of its own. Set one of `asgi`, `wsgi` and `command`."""

    #: An ASGI application, as `package.module:attribute`. uvicorn serves the application.
    asgi: str = ""
    #: A WSGI application, as `package.module:attribute`. gunicorn serves the application with one worker process of
    #: four threads.
    wsgi: str = ""
    #: The command of any HTTP server: a program and its arguments. The server must listen on `{host}` and `{port}`.
    #: Write `{{` for a brace.
    command: list[str] = []
    #: Whether `asgi` or `wsgi` names a function that returns the application.
    factory: bool = False
    #: The folder that imports start from, below the root of the project. The tests, `[processes]` and `prepare` import
    #: from this folder, too.
    directory: str = "."
    #: A path that answers 2xx to a GET request once the application works.
    health_path: str = "/health"
    #: The port that the application listens on. 0 means any free port. A paired comparison always uses free ports.
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    #: Further environment variables of the application. Values may have `{host}` and `{port}`.
    env: dict[str, str] = {}
    #: Seconds that the application may take until `health_path` answers.
    ready_limit_s: Positive = 60.0
    #: With `own`, the application, `[processes]` and `prepare` run in a separate environment. Plumbline makes this
    #: environment from the lock file. Use `own` if packages of the application conflict with those of Plumbline.
    environment: Literal["shared", "own"] = "shared"
    #: The Python of an environment that exists already, such as `.venv/bin/python`. The application, `[processes]` and
    #: `prepare` run in this environment. Base and head share this
    #: environment.
    python: str = ""

    def __post_init__(self) -> None:
        if self.python and self.environment == "own":
            raise ValueError('`python` names an environment that exists, and `environment = "own"` makes one: keep one')
        served = {"asgi": self.asgi, "wsgi": self.wsgi, "command": self.command}
        if len(given := [key for key in served if served[key]]) > 1:
            raise ValueError(f"{', '.join(given)} each name an application: keep one of them")
        if not given:
            raise ValueError("it names no application: set asgi, wsgi or command")
        if self.command:
            self._check_command()

    def _check_command(self) -> None:
        if self.factory:
            raise ValueError("`factory` is for asgi and wsgi, and this is a command: remove it")
        try:
            names = set().union(*map(placeholders, self.command))
        except ValueError as error:
            raise ValueError(f"command: {error}; write {{{{ for a brace") from None
        if wrong := sorted(names - OWN_PLACEHOLDERS):
            raise ValueError(f"command: there is no {{{wrong[0]}}}; there are {{host}} and {{port}}")
        if not any(_names_port(template) for template in (*self.command, *self.env.values())):
            raise ValueError(
                "the command does not say which port to listen on. Base and head run at the same time, each on a port"
                ' of its own: add {port} to the command, or a variable such as PORT = "{port}" to [app.env]'
            )

    @property
    def has_own_environment(self) -> bool:
        return bool(self.python) or self.environment == "own"


class ProcessSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """A process that runs beside the application, such as a worker."""

    #: The program and its arguments.
    command: Annotated[list[str], Meta(min_length=1)]
    #: The folder that the process runs in, below the root of the project.
    directory: str = "."
    #: Further environment variables of the process.
    env: dict[str, str] = {}
    #: A text. The process is ready when it prints a line with this text. Without a text, the process is ready at once.
    ready_output: str = ""
    #: Seconds that the process may take to become ready.
    ready_limit_s: Positive = 60.0


class ServiceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Another service of the stack, such as a message broker, in a container. You choose the NAME.

    The environment variable `PERF_SERVICE_NAME`, as `host:port`, names a service that already runs.
    """

    #: The image of the container.
    image: str
    #: The port that the server listens on in the container.
    port: Annotated[int, Meta(ge=1, le=65535)]
    #: A text or a path. The service is ready when it has printed this text, and its port accepts a connection. With a
    #: path that begins with `/`, the service is ready when it answers 200 to a request for this path. Without `ready`,
    #: the port must accept a connection.
    ready: str = ""
    #: Seconds that the service may take to become ready.
    ready_limit_s: Positive = 60.0
    #: Environment variables of the container. The variables of `[env]` do not apply. `{host}` and `{port}` stand for
    #: the address at which clients reach the service.
    env: dict[str, str] = {}
    #: The command of the container, instead of the image's own command. `{host}` and `{port}` mean the same as in
    #: `env`.
    command: list[str] = []
    #: Whether base and head each get a container in a paired comparison. With `false`, base and head share one
    #: container. Then begin the names of their data with `{NAME.prefix}`.
    each_side: bool = True
    #: `auto` and `docker` start a container. If there is no Docker engine, `auto` skips the tests that need the
    #: service, and `docker` ends the run. `off` does not start the service.
    backend: Literal["auto", "docker", "off"] = "auto"


class InstallSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The parts of your project that the sessions of Nox install."""

    #: `dependencies` installs only the dependencies of the project. `auto` also installs the project, if it can be
    #: built. `off` installs neither.
    application: Literal["auto", "dependencies", "off"] = "auto"
    #: Optional dependencies of the project to install.
    extras: list[str] = []
    #: Dependency groups of `pyproject.toml` to install.
    groups: list[str] = []
    #: Requirements files to install from, if Plumbline does not find the right one by itself.
    requirements: list[str] = []


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """The number of samples, and the time for them."""

    #: The number of samples of each benchmark. If these samples take less than 25 ms together, more follow, up to five
    #: times this number.
    samples: Annotated[int, Meta(ge=7)]
    #: The number of untimed operations before the first sample. If a sample contains several operations, Plumbline
    #: rounds this number up to whole samples.
    warmup: Annotated[int, Meta(ge=0)]
    #: The most seconds that the samples of a benchmark may take together. At least 7 samples are taken in any case.
    timed_limit_s: Positive


# Figures of a pair that are judged besides the fastest samples: the 90th percentile and the mean.
Tail = Literal["p90", "mean"]


class GateSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The limits that decide whether a benchmark passes, and limits of time."""

    #: A slow-down of at most this share is never a regression: 0.02 is 2 %.
    tolerance: Share = 0.02
    #: A benchmark passes if a slow-down of this share or more can be ruled out.
    minimum_effect: Share = 0.05
    #: The share of runs that may fail although nothing got slower: 0.01 is 1 of 100 runs.
    false_alarms: Share = 0.01
    #: The share of slow-downs as large as `minimum_effect` that must not pass: 0.97 is 97 of 100.
    power: Share = 0.97
    #: Further figures that the paired comparison judges: the 90th percentile and the mean. If only some calls get
    #: slower, only these figures grow.
    tails: tuple[Tail, ...] = ("p90", "mean")
    #: Like `tolerance`, for the 90th percentile and the mean.
    tail_tolerance: Share = 0.1
    #: The most seconds that all pairs of base and head may take together. Starting, preparing and counting base and
    #: head is not part of this time.
    pairs_limit_s: Positive = 60.0
    #: The number of fresh processes that measure a benchmark again after it broke its budget. If there is no base
    #: commit, these processes also measure the benchmarks that are slower than the baseline.
    confirm_processes: Annotated[int, Meta(ge=2, le=20)] = 5
    #: The number of fresh processes in which `nox -s baseline` measures each benchmark.
    baseline_processes: Annotated[int, Meta(ge=3, le=20)] = 5
    #: With `["inconclusive"]`, an inconclusive benchmark ends the run with exit code 4. By default, an inconclusive
    #: benchmark is a warning.
    fail_on: list[Literal["inconclusive"]] = []
    #: What happens if a pull request can't be compared with its base commit. With `true`, the report shows a warning.
    #: With `false`, the run ends with exit code 3.
    allow_unmeasured: bool = False
    #: Seconds that a process of pytest may take. After this time, Plumbline ends the process.
    time_limit_s: Positive = 900.0


class Budget(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits on the figures of one benchmark, per operation. A limit that is not given is not checked.

    A benchmark over its budget is measured again in fresh processes before the run fails.

    Example::

        async for timer in measure(budget=Budget(median_ms=5, rate_per_s=200)):
            ...
    """

    #: The highest median, in milliseconds.
    median_ms: Positive | None = None
    #: The highest mean, in milliseconds.
    mean_ms: Positive | None = None
    #: The highest 95th percentile, in milliseconds.
    p95_ms: Positive | None = None
    #: The highest 99th percentile, in milliseconds. This limit needs 1,000 samples. With fewer samples, the benchmark
    #: is inconclusive. If even the 95th percentile is above the limit, the benchmark fails.
    p99_ms: Positive | None = None
    #: The longest operation, in milliseconds.
    max_ms: Positive | None = None
    #: The lowest rate, in operations per second.
    rate_per_s: Positive | None = None
    #: The longest time that one callback may block an event loop, in milliseconds.
    max_loop_hold_ms: Positive | None = None


class BenchmarkSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of one benchmark, instead of the same settings of `[gate]`."""

    #: Like `gate.tolerance`, for this benchmark.
    tolerance: Share | None = None
    #: Like `gate.minimum_effect`, for this benchmark.
    minimum_effect: Share | None = None
    #: Like `gate.tails`, for this benchmark.
    tails: tuple[Tail, ...] | None = None
    #: Like `gate.tail_tolerance`, for this benchmark.
    tail_tolerance: Share | None = None
    #: How much the timings usually move if a change does nothing, such as adding an unused function: 0.01 is 1 %. With
    #: a larger `bias`, only a larger slow-down fails. `nox -s selfcheck -- --placebos --save` measures and writes this
    #: setting.
    bias: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    #: Like `gate.allow_unmeasured`, for this benchmark.
    allow_unmeasured: bool | None = None


class CountSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Optional counts. Messages, Redis commands and SQL statements are always counted."""

    #: Whether allocations and peak memory are counted. Counting needs the extra `memory`, on Linux or macOS.
    memory: bool = True


class CompareSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The copies of the repository in which base and head run."""

    #: Further files and folders that base and head need, as paths from the root of the project. Name files outside of
    #: the repository, such as `../shared`, and folders above 16 MB that git ignores. Smaller ignored files are copied
    #: without this setting.
    also_copy: list[str] = []


class HistorySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The history of the default branch: a line for each run."""

    #: The folder of the history, as a path from the root of the project. Each run on the default branch adds a line to
    #: a file in this folder. Without a folder, no run adds a line.
    folder: str = ""
    #: The branch that holds the history and nothing else. Only `nox -s report -- --push-history` writes to this branch.
    branch: str = "plumbline-data"


PROFILES = {
    "ci": Profile(samples=100, warmup=20, timed_limit_s=0.15),
    "full": Profile(samples=1000, warmup=100, timed_limit_s=2.0),
}


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys at the top of `tests/performance/settings.toml`."""

    #: Where Redis and PostgreSQL come from. `docker` starts containers. `embedded` starts servers from Python packages.
    #: `auto` is `docker` if a Docker engine is available, and otherwise `embedded`. `external` uses the servers in
    #: `PERF_REDIS_URL` and `PERF_DATABASE_URL`. `off` uses no servers.
    backend: BackendChoice = "auto"
    #: The number of the core that the tests, the servers and the application share. `auto` chooses a core. With `off`,
    #: all cores are used.
    pin: Annotated[int, Meta(ge=0)] | Literal["auto", "off"] = "auto"
    #: Your name for this machine, or for several equal machines. By default, the name is a hash of the machine's id and
    #: hardware.
    machine: str = ""
    #: The Python version of the sessions, such as `3.13` or `>=3.12`. By default, `.python-version` or
    #: `requires-python` decides.
    python: str = ""
    install: InstallSettings = InstallSettings()
    #: Hosts of other machines that the run may use, such as `db.test`. The run refuses any other host in a locustfile,
    #: and in variables such as `PERF_REDIS_URL`.
    allow_external: list[str] = []
    #: Further Redis and PostgreSQL servers that your code may use, such as `127.0.0.1:6380`. Also SQLite files that
    #: your code may open during `nox -s init`, such as `./app.db`.
    also_allowed: list[str] = []
    #: The folder of the results, as a path from the root of the project. The folder must contain no other files.
    results: str = RESULTS_FOLDER
    #: Seconds that all services together may take to become ready.
    ready_limit_s: Positive = 60.0
    #: Seconds that one test may take.
    test_limit_s: Positive = 30.0
    #: The command that makes tables and rows before the application starts, as a list of strings. Several commands are
    #: a list of such lists, and run one after another.
    prepare: list[str | list[str]] = []
    #: Seconds that each command of `prepare` may take.
    prepare_limit_s: Positive = 300.0
    #: Environment variables of the application, `[processes]`, `prepare` and the tests. Values may have placeholders,
    #: such as `{postgres.url}`.
    env: dict[str, str] = {}
    redis: RedisSettings = RedisSettings()
    postgres: PostgresSettings = PostgresSettings()
    app: AppSettings | None = None
    processes: dict[str, ProcessSettings] = {}
    services: dict[str, ServiceSettings] = {}
    profiles: dict[str, Profile] = {}  # besides those of PROFILES, or in their place
    gate: GateSettings = GateSettings()
    counts: CountSettings = CountSettings()
    compare: CompareSettings = CompareSettings()
    history: HistorySettings = HistorySettings()
    budgets: dict[str, Budget] = {}  # by the key of the benchmark
    benchmarks: dict[str, BenchmarkSettings] = {}  # by the key of the benchmark
    load: LoadSettings = LoadSettings()
    # From the PERF_…_URL variables, never from the file: they may hold passwords. Of [services] as `host:port`.
    external_urls: dict[str, str] = {}

    def __post_init__(self) -> None:
        if len({type(part) for part in self.prepare}) > 1 or [] in self.prepare:
            raise ValueError("prepare: write one command as a list of texts, or a list of such commands")
        for key, own in {"gate": BenchmarkSettings(), **self.benchmarks}.items():
            try:
                check_effect(own.minimum_effect or self.gate.minimum_effect, own.tolerance or self.gate.tolerance)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None

    @property
    def code_under_test(self) -> "list[AppSettings | ProcessSettings]":
        """The tables of the application, if there is one, and of the processes beside it."""
        return [*([self.app] if self.app else []), *self.processes.values()]

    @property
    def prepare_commands(self) -> list[list[str]]:
        if any(isinstance(part, str) for part in self.prepare):
            return [[str(part) for part in self.prepare]]
        return [[*command] for command in self.prepare]

    def backend_of(self, service: Literal["redis", "postgres"]) -> BackendChoice:
        return getattr(self, service).backend or self.backend

    def profile(self, name: str) -> Profile:
        """Return a profile by name; raises SettingsError if there is none."""
        profiles = PROFILES | self.profiles
        if name not in profiles:
            known = f"{nearest(name, profiles)}: {', '.join(sorted(profiles))}"
            raise SettingsError(f"there is no profile {name!r} in settings.toml{known}")
        return profiles[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """Ask for the nearest of the known names, by the last part of a dotted one; "" if none is near."""
    names = {one.split(".")[-1]: one for one in known}
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {names[near[0]]!r}?" if near else ""
