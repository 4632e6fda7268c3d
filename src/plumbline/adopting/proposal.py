"""The settings that `plumbline init` proposes, from its findings."""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from plumbline.adopting.files.sqlite import own_files
from plumbline.adopting.files.templates import OFF_IF_EMPTY
from plumbline.adopting.findings import Findings, FoundApplication, FoundCommand, FoundService, FoundVariable

PORT_VARIABLE = "PGPORT"
FIRST_USER = "createsuperuser"  # the command of Django that writes one
SEED = "seed"  # the command that writes made-up rows
NOWHERE = "plumbline"  # a host without an address


class Proposed(Struct, frozen=True):
    """One setting to write."""

    table: str  # as in its header: "app", "env", "processes.worker", or "" for the top of the file
    key: str
    value: Any
    seen: str = ""  # why
    replaces: tuple[Any, ...] = ()  # values that `init` has written earlier, when it knew less


def propose(
    findings: Findings,
    application: FoundApplication | None,
    *,
    health_path: str = "",
    variables: Mapping[str, str] = {},
    env: Mapping[str, str] = {},
    own_environment: bool = False,
    sqlite: Sequence[str] = (),
) -> list[Proposed]:
    """Return the settings for an application, or for a library if it is None.

    `variables` are values for variables that have no template in the findings. `env`: what settings.toml has under
    [env] so far. `own_environment`: whether no environment can hold the packages of the application and those of
    Plumbline. `sqlite`: files of SQLite that the application has made, and that no variable names.
    """
    install = findings.install
    found = [Proposed("", "python", install.python, install.python_seen)] if install.python else []
    if sqlite:
        seen = "the application keeps its data in this file of SQLite, which no variable names"
        found.append(Proposed("", "also_allowed", [f"./{file}" for file in sqlite], seen))
    unused = [name for name in ("redis", "postgres") if name not in findings.services]
    found += [Proposed(name, "backend", "off", "nothing uses it") for name in unused]
    if "redis" in findings.services and not findings.redis_password:
        found.append(Proposed("redis", "password", False, "nothing gives the application a password for Redis"))
    if prepare := (*_emptied(findings), *findings.prepare):
        seen = "; ".join(one.seen for one in prepare)
        found.append(Proposed("", "prepare", _prepare(prepare), seen, _fewer(prepare)))
    found += [_variable(one, findings) for one in findings.variables if one.template or _is_off_if_empty(one)]
    found += [Proposed("env", name, text, "required, with no default") for name, text in variables.items()]
    found += _port(findings, env)
    if application:
        found += _application(application, health_path)
        if own_environment:
            found.append(Proposed("app", "environment", "own", "its packages conflict with those of Plumbline"))
    served = served_by(findings, env)
    for one in findings.stack:
        found += _service(one) if one.name in served else []
    for process in findings.processes:
        if process.needs and process.needs not in served:
            continue
        table = f"processes.{process.name}"
        found.append(Proposed(table, "command", [*process.command], process.seen))
        if process.directory != ".":
            found.append(Proposed(table, "directory", process.directory, process.seen))
        if process.ready_output:
            found.append(Proposed(table, "ready_output", process.ready_output, process.seen))
    if install.application != "auto":
        found.append(Proposed("install", "application", install.application, install.seen))
    for key in ("extras", "groups", "requirements"):
        if names := getattr(install, key):
            found.append(Proposed("install", key, [*names], install.seen))
    return found


def _variable(one: FoundVariable, findings: Findings) -> Proposed:
    at_nowhere = nowhere(one.template, findings)
    if at_nowhere == one.template:
        return Proposed("env", one.name, one.template, one.seen)
    if findings.no_docker:
        return Proposed("env", one.name, at_nowhere, f"{one.seen}; without Docker, nothing may answer there")
    return Proposed("env", one.name, one.template, one.seen, replaces=(at_nowhere,))


def _is_off_if_empty(one: FoundVariable) -> bool:
    return one.required and bool(OFF_IF_EMPTY.search(one.name))


def nowhere(template: str, findings: Findings) -> str:
    """Return the template of a variable without containers: with a host that does not exist."""
    for one in findings.stack:
        template = template.replace(f"{{{one.name}.host}}", NOWHERE).replace(f"{{{one.name}.port}}", str(one.port))
    return template


def served_by(findings: Findings, env: Mapping[str, str]) -> set[str]:
    """Return the servers of the run that the application and its workers find.

    `env`: what settings.toml has under [env] so far.
    """
    texts = [one.template for one in findings.variables if not _is_set(one, findings, env)]
    texts += env.values()
    return {*findings.services, *(() if findings.no_docker else named_in(texts, findings))}


def named_in(texts: Collection[str], findings: Findings) -> set[str]:
    """Return the servers of `findings.stack` that templates name."""
    return {one.name for one in findings.stack if any(f"{{{one.name}." in text for text in texts)}


def _is_set(one: FoundVariable, findings: Findings, env: Mapping[str, str]) -> bool:
    return env.get(one.name, "") not in ("", nowhere(one.template, findings))


def _service(one: FoundService) -> list[Proposed]:
    """Return the table of a server in a container."""
    keys = {"image": one.image, "port": one.port, "ready": one.ready}
    return [Proposed(f"services.{one.name}", key, value, one.seen) for key, value in keys.items() if value]


def _application(application: FoundApplication, health_path: str) -> list[Proposed]:
    seen = application.seen
    served: Any = [*application.command] if application.kind == "command" else application.target
    found = [Proposed("app", application.kind, served, seen)]
    if application.factory:
        found.append(Proposed("app", "factory", True, seen))
    if application.directory != ".":
        found.append(Proposed("app", "directory", application.directory, seen))
    if health_path:
        found.append(Proposed("app", "health_path", health_path, "answers 200"))
    return found


def _port(findings: Findings, env: Mapping[str, str]) -> list[Proposed]:
    """Return the variable from which asyncpg and libpq take the port, if the application takes only the host."""
    used = [*(one.template for one in findings.variables), *env.values()]
    if not any("{postgres.host}" in one for one in used) or takes_port("postgres", used):
        return []
    return [
        Proposed("env", PORT_VARIABLE, "{postgres.port}", "no variable has the port; asyncpg and libpq read this one")
    ]


def takes_port(server: str, templates: Iterable[str]) -> bool:
    """Return whether one of these values has the port of a server, by itself or in a URL."""
    return any(f"{{{server}.{part}}}" in one for one in templates for part in ("port", "url"))


def _emptied(findings: Findings) -> list[FoundCommand]:
    """Return the command that removes what earlier runs have left in SQLite files of their own."""
    files = own_files(one.template for one in findings.variables)
    # With the files that SQLite may write beside them.
    names = shlex.join(f"{file}{end}" for file in files for end in ("", "-wal", "-shm"))
    seen = "each run begins with an empty file of SQLite"
    return [FoundCommand("sqlite", ("sh", "-c", f"rm -f {names}"), seen)] if files else []


def _prepare(commands: Sequence[FoundCommand]) -> list[str] | list[list[str]]:
    """Return one command, or several to run in their order."""
    each = [
        [*one.command]
        if one.directory == "."
        else ["sh", "-c", f"cd {shlex.quote(one.directory)} && {shlex.join(one.command)}"]
        for one in commands
    ]
    return each[0] if len(each) == 1 else each


def _fewer(prepare: Sequence[FoundCommand]) -> tuple[list[str] | list[list[str]], ...]:
    """Return `prepare` without the commands that only a trial calls for."""
    found = list[list[FoundCommand]]()
    for names in ((FIRST_USER,), (SEED,), (FIRST_USER, SEED)):
        commands = [one for one in prepare if one.name not in names]
        if commands and len(commands) < len(prepare) and commands not in found:
            found.append(commands)
    return tuple(map(_prepare, found))
