"""`settings.toml` as typed values, and the environment variables that override it for one run."""

import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct, field

BackendChoice = Literal["auto", "docker", "embedded", "external", "off"]
ServerOption = str | int | float | bool
Positive = Annotated[float, Meta(gt=0, le=1e9)]  # a longer time overflows the system's clocks
Share = Annotated[float, Meta(gt=0, lt=1)]

PLACE = re.compile(r"/.+|[^/@]+:\d{1,5}")

RESULTS_FOLDER = "perf-results"
OVERRIDES = {"PERF_SERVICES": "services", "PERF_PIN": "pin", "PERF_MACHINE": "machine"}
# Each means `external` for its service.
URL_VARIABLES = {"redis": "PERF_REDIS_URL", "postgres": "PERF_DATABASE_URL", "app": "PERF_API_URL"}


# Options that Plumbline sets itself, by server. Case means nothing in them.
REDIS_OPTIONS = ("bind", "port", "dir", "daemonize", "logfile", "requirepass")
POSTGRES_OPTIONS = (
    *("listen_addresses", "port", "unix_socket_directories", "dynamic_shared_memory_type"),
    *("data_directory", "config_file", "hba_file", "ident_file", "password"),
)


class SettingsError(Exception):
    """The settings or the environment can't be used as they are: wrong usage, exit code 2."""


class RedisSettings(Struct, frozen=True, forbid_unknown_fields=True):
    backend: BackendChoice | None = None  # None: as `services` says
    image: str = "redis:8-alpine"
    minimum_version: str = "7.0"
    config: dict[str, ServerOption] = {}  # options of servers that we start, as in redis.conf

    @property
    def without_password(self) -> bool:
        """Whether a Redis that we start lets everybody on this machine in."""
        return any(name.lower() == "requirepass" for name in self.config)  # which can only be ""


class PostgresSettings(Struct, frozen=True, forbid_unknown_fields=True):
    backend: BackendChoice | None = None
    image: str = "postgres:18-alpine"
    minimum_version: str = "14"
    config: dict[str, ServerOption] = {}  # options of servers that we start, as in postgresql.conf


class AppSettings(Struct, frozen=True, forbid_unknown_fields=True):
    asgi: str  # `package.module:attribute`
    factory: bool = False  # whether `asgi` names a function that makes the application
    directory: str = "."  # the folder below the repository's root that imports start from, those of the tests as well
    health_path: str = "/health"
    port: Annotated[int, Meta(ge=0, le=65535)] = 0  # 0: a free one
    env: dict[str, str] = {}
    ready_limit_s: Positive = 20.0
    # "own": it runs with `prepare` and the processes in an environment of its own, made from its lock file.
    environment: Literal["shared", "own"] = "shared"
    python: str = ""  # the Python of an environment that exists, for the same; from the repository's root

    def __post_init__(self) -> None:
        if self.python and self.environment == "own":
            raise ValueError('`python` names an environment that exists, and `environment = "own"` makes one: keep one')

    @property
    def has_own_environment(self) -> bool:
        return bool(self.python) or self.environment == "own"


class ProcessSettings(Struct, frozen=True, forbid_unknown_fields=True):
    command: Annotated[list[str], Meta(min_length=1)]
    directory: str = "."  # the folder that it runs in, below the repository's root
    env: dict[str, str] = {}
    ready_output: str = ""  # ready when a line of its output contains this; "": when it has started
    ready_limit_s: Positive = 20.0


class InstallSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The application in the environment that the sessions measure in."""

    application: Literal["auto", "dependencies", "off"] = "auto"  # auto: with its dependencies, if it can be built
    extras: list[str] = []  # optional dependencies of the application
    groups: list[str] = []  # dependency groups of pyproject.toml
    requirements: list[str] = []  # its requirements files; by default requirements.txt


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    samples: Annotated[int, Meta(ge=7)]
    warmup: Annotated[int, Meta(ge=0)]  # operations; at least a round, of which one may hold many
    timed_limit_s: Positive  # a benchmark stops once its samples take this long, but never below 7 samples


class GateSettings(Struct, frozen=True, forbid_unknown_fields=True):
    tolerance: Share = 0.02  # a slow-down up to this is never a regression
    minimum_effect: Share = 0.05  # the slow-down that the gate promises to see
    false_alarms: Share = 0.01  # share of runs without any change that may fail, over all benchmarks together
    power: Share = 0.97  # share of slow-downs of `minimum_effect` that must be seen
    duet_budget_s: Positive = 60.0  # how long the paired comparison with the base commit may take
    confirm_processes: Annotated[int, Meta(ge=2, le=20)] = 5  # that measure a benchmark again before it fails
    baseline_processes: Annotated[int, Meta(ge=3, le=20)] = 5
    fail_on: list[Literal["inconclusive"]] = []  # verdicts that end the run with exit code 4
    allow_unmeasured: bool = False  # whether a proposed change may pass if it could not be compared with its base
    time_limit_s: Positive = 900.0  # a run that takes longer is ended


class Budget(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A service-level objective; None: not limited. All per operation."""

    median_ms: Positive | None = None
    mean_ms: Positive | None = None
    p95_ms: Positive | None = None
    p99_ms: Positive | None = None
    max_ms: Positive | None = None
    rate_per_s: Positive | None = None  # the least number of operations a second


class BenchmarkSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of one benchmark that replace those of `[gate]`."""

    tolerance: Share | None = None
    minimum_effect: Share | None = None
    allow_unmeasured: bool | None = None


class CompareSettings(Struct, frozen=True, forbid_unknown_fields=True):
    also_copy: list[str] = []  # further files and folders for both sides, from the repository's root


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    services: BackendChoice = "auto"
    pin: Annotated[int, Meta(ge=0)] | Literal["auto", "off"] = "auto"
    machine: str = ""  # your name for it; "": a hash of its machine id and hardware
    python: str = ""  # the version that the sessions run on, as 3.13 or >=3.12; "": as the project asks
    install: InstallSettings = InstallSettings()
    allow_external: list[str] = []  # hosts other than loopback that a PERF_…_URL may point at
    also_allowed: list[str] = []  # Redis and PostgreSQL servers that your code may use beside ours: "host:port"
    results: str = RESULTS_FOLDER  # a folder of its own, from the project's root
    ready_limit_s: Positive = 60.0  # for all services together
    test_limit_s: Positive = 30.0  # for one coroutine test
    prepare: list[str] = []  # a command that prepares the database (migrations, seed data) before the app starts
    env: dict[str, str] = {}  # of the application, the processes, `prepare` and the tests: templates by name
    redis: RedisSettings = RedisSettings()
    postgres: PostgresSettings = PostgresSettings()
    app: AppSettings | None = None
    processes: dict[str, ProcessSettings] = {}
    profiles: dict[str, Profile] = field(
        default_factory=lambda: {
            "ci": Profile(samples=100, warmup=20, timed_limit_s=0.15),
            "full": Profile(samples=1000, warmup=100, timed_limit_s=2.0),
        }
    )
    gate: GateSettings = GateSettings()
    compare: CompareSettings = CompareSettings()
    budgets: dict[str, Budget] = {}  # by the key of the benchmark
    benchmarks: dict[str, BenchmarkSettings] = {}  # by the key of the benchmark
    # From the PERF_…_URL variables, never from the file: they may hold passwords.
    external_urls: dict[Literal["redis", "postgres", "app"], str] = {}

    def backend(self, service: Literal["redis", "postgres"]) -> BackendChoice:
        return getattr(self, service).backend or self.services

    def profile(self, name: str) -> Profile:
        """Return a profile by name; raises SettingsError if there is none."""
        if name not in self.profiles:
            known = f"{_nearest(name, self.profiles)}: {', '.join(sorted(self.profiles))}"
            raise SettingsError(f"there is no profile {name!r} in settings.toml{known}")
        return self.profiles[name]


def load_settings(path: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the settings; raises SettingsError that names the key and the nearest right one."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path.name} is missing: expected at {path}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path.name} can't be read: {error}") from None
    if "external_urls" in raw:
        raise SettingsError(f"{path.name}: URLs may hold passwords: set {', '.join(URL_VARIABLES.values())} instead")
    if isinstance(table := raw.get("services"), dict):  # another way to write both
        raw |= {"services": table.pop("backend", "auto"), "also_allowed": table.pop("also_allowed", [])}
        for name in table:
            raise SettingsError(f"{path.name}: unknown key {name!r} in [services]; it has backend and also_allowed")
    _check_values(raw, path.name)
    settings = _convert(raw, path.name)
    for place in settings.also_allowed:
        if not PLACE.fullmatch(place):
            raise SettingsError(f'{path.name}: also_allowed: {place!r} is not "host:port", nor the path of a socket')
    for variable, key in OVERRIDES.items():
        if value := environ.get(variable):
            raw[key] = int(value) if key == "pin" and value.isdecimal() else value
            settings = _convert(raw, variable)
    _check_server_options(settings, path.name)
    urls = {name: environ[variable] for name, variable in URL_VARIABLES.items() if environ.get(variable)}
    changed: dict[str, Any] = {}
    for name in ("redis", "postgres"):
        server = getattr(settings, name)
        if name in urls:
            changed[name] = msgspec.structs.replace(server, backend="external")
        elif environ.get("PERF_SERVICES") and server.backend != "off":  # what is off in the file isn't needed
            changed[name] = msgspec.structs.replace(server, backend=settings.services)
    return msgspec.structs.replace(settings, **changed, external_urls=urls)


def _check_server_options(settings: Settings, source: str) -> None:
    """Refuse server options that would be overridden silently."""
    for server, ours in (("redis", REDIS_OPTIONS), ("postgres", POSTGRES_OPTIONS)):
        for name, value in getattr(settings, server).config.items():
            option = name.lower()
            if option not in ours or (option == "requirepass" and value == ""):
                continue
            advice = f"Plumbline sets it itself: remove it, and read the address from {{{server}.url}} in [env]"
            if option in {"requirepass", "password"}:
                advice = f"each run has a password of its own: remove it, and use {{{server}.password}} in [env]"
                advice += '; requirepass = "" lets clients in without one' if server == "redis" else ""
            raise SettingsError(f"{source}: {server}.config.{name}: {advice}")


def check_keys(settings: Settings, known: Collection[str], is_whole: Callable[[str], bool]) -> None:
    """Raise SettingsError at keys under `budgets` or `benchmarks` that name no benchmark, with the nearest right ones.

    `known`: the keys of all that was collected. `is_whole`: whether all of a file was collected, by its name.
    """
    # A key without its parameters stands for all of them.
    names = {*known, *(key.partition("[")[0] for key in known)}
    wrong = []
    for table in ("budgets", "benchmarks"):
        for key in getattr(settings, table):
            if key not in names and is_whole(key.partition("::")[0]):
                near = difflib.get_close_matches(key, names, n=1)
                guess = f"; did you mean {near[0]!r}?" if near else ""
                wrong.append(f"settings.toml: [{table}] has {key!r}, but there is no such benchmark{guess}")
    if wrong:
        raise SettingsError("\n".join(wrong))


TABLES = {
    "profiles.NAME": Profile,
    "processes.NAME": ProcessSettings,
    "budgets.KEY": Budget,
    "benchmarks.KEY": BenchmarkSettings,
    "app": AppSettings,
    "install": InstallSettings,
    "postgres": PostgresSettings,
    "redis": RedisSettings,
    "gate": GateSettings,
    "compare": CompareSettings,
}


def _check_values(value: object, source: str, key: str = "") -> None:
    """Raise SettingsError at a number or a text that TOML allows, but that no limit, path or command can be."""
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{source}: {key} = {value}: expected a finite number")
    if isinstance(value, str) and "\0" in value:
        raise SettingsError(f"{source}: {key} has a character U+0000, which no path and no command may have")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_values(name, source, repr(name))
            _check_values(inner, source, f"{key}.{name}" if key else name)
    for inner in value if isinstance(value, list) else ():
        _check_values(inner, source, key)


def _convert(raw: dict[str, Any], source: str) -> Settings:
    try:
        return msgspec.convert(raw, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{source}: {_explain(str(error), raw)}") from None


def _explain(error: str, raw: dict[str, Any]) -> str:
    """Return msgspec's message with the path as in TOML, the nearest right name, and what an enumeration allows."""
    message, _, path = error.partition(" - at `$")
    keys: list[str] = []
    holder: Any = raw
    for part in re.findall(r"\.\.\.|[^.\[\]`]+", path):
        if isinstance(holder, list):
            break
        keys.append(_culprit(error, raw, holder) if part == "..." else part)
        holder = holder.get(keys[-1])
    where = ".".join(f'"{key}"' if "." in key else key for key in keys)
    table = next((TABLES[name] for name in TABLES if name.split(".")[0] in keys[:1]), Settings)
    if unknown := re.search(r"unknown field `(.+)`", message):
        name = unknown.group(1)
        elsewhere = [f"{other}.{key}" for other in TABLES for key in TABLES[other].__struct_encode_fields__]
        near = _nearest(name, [*elsewhere, *table.__struct_encode_fields__])
        return f"unknown key {name!r}{f' in [{where}]' if where else ''}{near}"
    if wrong := re.match(r"Invalid enum value '(.*)'", message):
        allowed = _allowed(get_type_hints(table)[keys[-1]])
        message += f" (allowed: {', '.join(allowed)}){_nearest(wrong.group(1), allowed)}"
    return f"{where}: {message}"


def _culprit(error: str, raw: dict[str, Any], table: dict[str, Any]) -> str:
    """Return the key that msgspec writes as `...`, the first that alone in this table of `raw` causes the error."""
    for key, value in list(table.items()):
        table.clear()
        table[key] = value
        try:
            msgspec.convert(raw, Settings)
        except msgspec.ValidationError as other:
            if str(other) == error:
                return key
    raise AssertionError(error)


def _allowed(annotation: object) -> list[str]:
    """Return what an annotation enumerates, in whatever union or list it stands."""
    if annotation is int:
        return ["a number"]
    if isinstance(annotation, str):
        return [annotation]
    return [value for part in get_args(annotation) for value in _allowed(part)]


def _nearest(name: str, known: Iterable[str]) -> str:
    """Ask for the nearest of the known names, by the last part of a dotted one; "" if none is near."""
    names = {one.split(".")[-1]: one for one in known}
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {names[near[0]]!r}?" if near else ""
