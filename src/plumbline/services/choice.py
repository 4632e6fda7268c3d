"""The backend of each server: as settings.toml says, or for `auto` the first that is to be had."""

import re
from collections.abc import Callable, Mapping
from typing import Literal

from plumbline.services.base import Context, Service
from plumbline.services.docker import DockerPostgres, DockerRedis
from plumbline.services.embedded import INSTALL, EmbeddedPostgres, EmbeddedRedis, find_postgres, find_valkey
from plumbline.services.errors import NotReady, Unavailable
from plumbline.services.external import ExternalPostgres, ExternalRedis
from plumbline.settings import URL_VARIABLES

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
# PostgreSQL's own words in the output of `prepare` or the application: another program's errors are only text.
EXTENSION_MISSING = re.compile(r'extension "([^"]+)" is not available')


def source(choice: str, environ: Mapping[str, str]) -> str:
    """Return where the choice of a backend was made."""
    return f"PERF_SERVICES={choice}" if environ.get("PERF_SERVICES") else "settings.toml says so"


def choose(name: ServerName, context: Context, preferred: str | None, environ: Mapping[str, str]) -> Service:
    """Return a server, not started yet. `auto` prefers the baseline's backend. Raises NotReady and ServiceError."""
    choice = context.settings.backend(name)
    if choice != "auto":
        return BACKENDS[choice, name](source(choice, environ), context)
    problems: dict[str, str] = {}
    for backend in ("embedded", "docker") if preferred == "embedded" else ("docker", "embedded"):
        try:
            _require(backend, name, context)
        except Unavailable as error:
            problems[backend] = str(error)
            continue
        reason = "as in the baseline" if backend == preferred else "a Docker engine answers"
        return BACKENDS[backend, name]("; ".join(problems.values()) or reason, context)
    lines = [
        f"{name} is not ready: neither Docker nor an embedded server is to be had",
        *(f"  {backend:<11} {problem}" for backend, problem in problems.items()),
        f"  next        start Docker; or {INSTALL.partition(',')[0]}; or set {URL_VARIABLES[name]}",
    ]
    raise NotReady("\n".join(lines))


def with_advice_on_extension(error: NotReady, postgres: Service | None) -> NotReady:
    """Return the error, with a way out if the embedded PostgreSQL lacks an extension."""
    found = EXTENSION_MISSING.search(str(error))
    if not found or postgres is None or postgres.backend != "embedded":
        return error
    advice = f"the embedded PostgreSQL has no extension {found[1]}: use docker, with an image that has it"
    return NotReady(f"{error}\n  also        {advice}")


def _require(backend: str, name: ServerName, context: Context) -> None:
    if backend == "embedded":
        find_valkey() if name == "redis" else find_postgres()
    else:
        context.engine.require_image(getattr(context.settings, name).image)
