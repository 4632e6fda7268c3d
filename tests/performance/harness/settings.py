"""`settings.toml` as typed values, and the environment variables that override it for one run.

| variable | overrides |
| --- | --- |
| `PERF_SERVICES` | `services`, for Redis and PostgreSQL alike |
| `PERF_REDIS_URL`, `PERF_DATABASE_URL`, `PERF_API_URL` | mean `external` for that service |
| `PERF_PIN` | `pin` |
| `PERF_MACHINE` | `machine` |
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

BackendChoice = Literal["auto", "docker", "embedded", "external", "off"]
ServerOption = str | int | float | bool
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, lt=1)]


URL_VARIABLES = {"redis": "PERF_REDIS_URL", "postgres": "PERF_DATABASE_URL", "app": "PERF_API_URL"}


class SettingsError(Exception):
    """The settings or the environment can't be used as they are: wrong usage, exit code 2."""


class RedisSettings(Struct, frozen=True, forbid_unknown_fields=True):
    backend: BackendChoice | None = None
    """Where the server comes from; None: as `services` says."""
    image: str = "redis:8-alpine"
    minimum_version: str = "7.0"
    config: dict[str, ServerOption] = {}
    """Server options, as in redis.conf; for servers that we start."""


class PostgresSettings(Struct, frozen=True, forbid_unknown_fields=True):
    backend: BackendChoice | None = None
    image: str = "postgres:18-alpine"
    minimum_version: str = "14"
    config: dict[str, ServerOption] = {}
    """Server options, as in postgresql.conf; for servers that we start."""


Server = TypeVar("Server", RedisSettings, PostgresSettings)


class AppSettings(Struct, frozen=True, forbid_unknown_fields=True):
    asgi: str
    """The ASGI application, as `package.module:attribute`."""
    factory: bool = False
    """Whether `asgi` names a function that makes the application."""
    directory: str = "."
    """The folder that imports start from, below the repository's root: "src" for a src layout."""
    health_path: str = "/health"
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """0: a free one."""
    env: dict[str, str] = {}
    ready_limit_s: Positive = 20.0


class ProcessSettings(Struct, frozen=True, forbid_unknown_fields=True):
    command: Annotated[list[str], Meta(min_length=1)]
    directory: str = "."
    env: dict[str, str] = {}
    ready_output: str = ""
    """Ready when a line of its output contains this; where empty, when it has started."""
    ready_limit_s: Positive = 20.0


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    samples: Annotated[int, Meta(ge=7)]
    warmup: Annotated[int, Meta(ge=0)]
    timed_limit_s: Positive
    """A benchmark stops early once its samples add up to this, but never below 7 samples."""


class GateSettings(Struct, frozen=True, forbid_unknown_fields=True):
    tolerance: Share = 0.02
    """A slow-down up to this is never a regression."""
    minimum_effect: Share = 0.05
    """The slow-down that the gate promises to see."""
    false_alarms: Share = 0.01
    """Share of runs without any change that may fail, over all benchmarks together."""
    power: Share = 0.97
    """Share of slow-downs of `minimum_effect` that must be seen."""
    confirm_processes: Annotated[int, Meta(ge=2, le=20)] = 5
    """Fresh processes that measure a suspicious benchmark again before it fails."""
    baseline_processes: Annotated[int, Meta(ge=3, le=20)] = 5
    fail_on: list[Literal["inconclusive"]] = []
    """Verdicts that end the run with exit code 4 rather than with a loud warning."""
    time_limit_s: Positive = 900.0
    """A run that takes longer than this is ended."""


class Budget(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A service-level objective; None: not limited. All per operation."""

    median_ms: Positive | None = None
    mean_ms: Positive | None = None
    p95_ms: Positive | None = None
    p99_ms: Positive | None = None
    max_ms: Positive | None = None
    rate_per_s: Positive | None = None
    """The least number of operations a second."""


class BenchmarkSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds of one benchmark, where they differ from `[gate]`."""

    tolerance: Share | None = None
    minimum_effect: Share | None = None


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    services: BackendChoice = "auto"
    pin: Annotated[int, Meta(ge=0)] | Literal["auto", "off"] = "auto"
    machine: str = ""
    """Your name for this machine; where empty, its machine id and hardware are its name."""
    allow_external: list[str] = []
    """Hosts other than loopback that a PERF_…_URL may point at."""
    results: str = "perf-results"
    ready_limit_s: Positive = 60.0
    """How long the services may take to become ready."""
    test_limit_s: Positive = 30.0
    """How long one coroutine test may take."""
    prepare: list[str] = []
    """A command that prepares the database (migrations, seed data) before the application starts."""
    env: dict[str, str] = {}
    """For the application, the processes, `prepare` and the tests: names that your code reads to templates."""
    redis: RedisSettings = RedisSettings()
    postgres: PostgresSettings = PostgresSettings()
    app: AppSettings | None = None
    processes: dict[str, ProcessSettings] = {}
    profiles: dict[str, Profile] = field(
        default_factory=lambda: {
            "ci": Profile(samples=100, warmup=20, timed_limit_s=0.2),
            "full": Profile(samples=1000, warmup=100, timed_limit_s=2.0),
        }
    )
    gate: GateSettings = GateSettings()
    budgets: dict[str, Budget] = {}
    """By the key of the benchmark."""
    benchmarks: dict[str, BenchmarkSettings] = {}
    """By the key of the benchmark."""

    external_urls: dict[Literal["redis", "postgres", "app"], str] = {}
    """From the PERF_…_URL variables, never from the file: they may hold passwords."""

    def backend(self, service: Literal["redis", "postgres"]) -> BackendChoice:
        """What is wished for one server, before `auto` is resolved."""
        return getattr(self, service).backend or self.services

    def profile(self, name: str) -> Profile:
        """The profile of that name; raises SettingsError where there is none."""
        if name not in self.profiles:
            known = ", ".join(sorted(self.profiles))
            raise SettingsError(
                f"there is no profile {name!r} in settings.toml{_nearest(name, self.profiles)}: {known}"
            )
        return self.profiles[name]


def load_settings(path: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the settings; raises SettingsError that names the key and the nearest right one."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except FileNotFoundError:
        raise SettingsError(f"{path.name} is missing: expected at {path}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path.name} can't be read: {error}") from None
    if "external_urls" in raw:
        raise SettingsError(f"{path.name}: URLs may hold passwords: set {', '.join(URL_VARIABLES.values())} instead")
    for variable, key in (("PERF_SERVICES", "services"), ("PERF_PIN", "pin"), ("PERF_MACHINE", "machine")):
        if value := environ.get(variable):
            raw[key] = int(value) if key == "pin" and value.isdigit() else value
    raw["external_urls"] = {
        name: environ[variable] for name, variable in URL_VARIABLES.items() if environ.get(variable)
    }
    try:
        settings = msgspec.convert(raw, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path.name}: {_explain(error)}") from None
    backend = settings.services if environ.get("PERF_SERVICES") else None
    return msgspec.structs.replace(
        settings,
        redis=_with_backend(settings.redis, "external" if "redis" in settings.external_urls else backend),
        postgres=_with_backend(settings.postgres, "external" if "postgres" in settings.external_urls else backend),
    )


def _with_backend(server: Server, backend: BackendChoice | None) -> Server:
    return msgspec.structs.replace(server, backend=backend) if backend else server


def _explain(error: msgspec.ValidationError) -> str:
    """msgspec's message with the path in TOML's spelling and the nearest right key."""
    message, _, path = str(error).partition(" - at `$")
    where = path.rstrip("`").lstrip(".")
    where = f" in [{where}]" if where else ""
    if unknown := re.search(r"unknown field `(.+)`", message):
        name = unknown.group(1)
        return f"unknown key {name!r}{where}{_nearest(name, _all_keys())}"
    return message + where.replace("[", "").replace("]", "")


def _all_keys() -> list[str]:
    structs = [Settings, RedisSettings, PostgresSettings, AppSettings, ProcessSettings, Profile, GateSettings, Budget]
    return sorted({name for struct in structs for name in struct.__struct_encode_fields__})


def _nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
