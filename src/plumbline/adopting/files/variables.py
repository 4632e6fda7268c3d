"""The environment variables to set: addresses of the run's servers, and what the application can't start without."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from plumbline.adopting.files import sqlite
from plumbline.adopting.files.examples import Example, examples, names_in_git, schemes_of_env_files
from plumbline.adopting.files.pydantic_settings import COMPUTED, read_by_pydantic
from plumbline.adopting.files.reads import Read, read_by_code, read_by_dynaconf, schemes
from plumbline.adopting.files.starts import ComposeService, Docker
from plumbline.adopting.files.templates import (
    MODE_NAME,
    OTHERS,
    RESULT_BACKEND,
    TORTOISE,
    Place,
    engine,
    harmless,
    mode,
    place_of,
    raised_limit,
    template_of,
)
from plumbline.adopting.files.tree import Module, Tree
from plumbline.adopting.findings import FoundVariable
from plumbline.adopting.logins import OF_EMAIL, OF_NAME, PASSWORD_VARIABLE
from plumbline.adopting.made_up import EMAIL, NAME, PASSWORD

LIBPQ = re.compile(r"PG(HOST|PORT|USER|PASSWORD|DATABASE)")
BROKER = re.compile(r"(\w+_)?BROKER(_URL|_URI)?")
OF_PLACE = re.compile(r"PATH|HOST|PORT|MODULE")  # where the container has something
OWN_SECRET = re.compile(  # not that of another service, such as STRIPE_SECRET_KEY
    r"((APP|DJANGO|FLASK|API|JWT|SESSION|AUTH|TOKEN|CSRF|COOKIE|ACCESS|REFRESH)_)*(SECRET(_KEY)?|SALT|SIGNING_KEY)"
)
REDIRECT = re.compile(r"(\w+_)?SSL_REDIRECT|(\w+_)?FORCE_(HTTPS|SSL)|(\w+_)?HTTPS_ONLY")
NOT_OURS = {"PATH", "HOME", "USER", "PWD", "SHELL", "TERM", "LANG", "TZ", "HOSTNAME", "PYTHONPATH", "VIRTUAL_ENV", "CI"}


def variables(
    tree: Tree,
    files: Collection[str],
    services: list[ComposeService],
    servers: set[str],
    dockers: Iterable[Docker] = (),
) -> list[FoundVariable]:
    """Return the variables to set, those of servers first.

    `files` are the modules that read them. `servers` are those that the project uses. `dockers`: Dockerfiles, those of
    production first.
    """
    shown = examples(tree, services)
    modules = [module for file, module in tree.modules.items() if file in files]
    by_code = [*read_by_code(modules), *schemes(modules), *read_by_dynaconf(tree, modules)]
    reads = _merged([*read_by_pydantic(modules), *by_code])
    for name, example in shown.items():
        if LIBPQ.fullmatch(name) or (not reads and example.value):
            reads.setdefault(name, Read(name, False, None, "", example.seen))
    secret, in_git = schemes_of_env_files(tree), names_in_git(tree)
    driver = _driver(modules)
    places: dict[str, Place] = {}
    own_files: dict[str, str] = {}
    for name, read in reads.items():
        values = [read.default or "", shown[name].value if name in shown else "", f"{secret.get(name, '')}://"]
        values = [value for value in values if value not in ("", "://", "None", COMPUTED)]
        if not values and (scheme := _scheme(read, servers)):
            values = [f"{scheme}://"]
        if place := place_of(read, values, servers):
            places[name] = place
        elif template := sqlite.template_of(read, values):
            own_files[name] = template
    found = [
        FoundVariable(name, template_of(place, driver), reads[name].required, reads[name].seen)
        for name, place in places.items()
        if not _is_needless(reads[name], place, places)
    ]
    found.sort(key=lambda one: (places[one.name].server != "postgres", not one.required))
    texts = {module.path: module.text for module in modules}
    for name, read in reads.items():
        text = texts.get(read.seen.partition(":")[0], "")
        if name in own_files:
            found.append(FoundVariable(name, own_files[name], read.required, read.seen))
        elif name not in places and "postgres" in servers and (value := engine(read, text)):
            found.append(FoundVariable(name, value, False, read.seen))
        elif name not in places and (
            one := _other(read, shown.get(name), is_set=name in in_git) or _in_image(read, dockers)
        ):
            found.append(one)
    known = {one.name for one in found}
    return found + [one for one in _first_user(reads) if one.name not in known]


def _merged(reads: list[Read]) -> dict[str, Read]:
    """Return one read for each name: it is required if one of them is; what is known of it comes from all."""
    found: dict[str, Read] = {}
    for read in reads:
        if read.name in NOT_OURS or read.name.startswith(("XDG_", "GITHUB_", "PYTEST_")):
            continue
        known = found.get(read.name)
        if known is None:
            found[read.name] = read
        else:
            found[read.name] = known._replace(
                required=(known.required or read.required) and not (known.is_set or read.is_set),
                is_set=known.is_set or read.is_set,
                is_fallback=known.is_fallback and read.is_fallback,
                default=known.default if known.default not in (None, "", "None") else read.default,
                kind=known.kind or read.kind,
                choices=known.choices or read.choices,
                is_json=known.is_json or read.is_json,
            )
    return found


def _is_needless(read: Read, place: Place, places: Mapping[str, Place]) -> bool:
    """Return whether other variables give the same address.

    That is so for a variable that is read in place of another, for an optional URL beside a host, and for the name of
    a database beside a URL.
    """
    parts = {one.part for one in places.values() if one.server == place.server}
    if read.is_fallback:
        return sum((one.server, one.part) == (place.server, place.part) for one in places.values()) > 1
    if place.part == "url":
        return not read.required and read.default in (None, "", "None", COMPUTED) and "host" in parts
    return place.part == "database" and not read.required and "url" in parts and "host" not in parts


def _other(read: Read, example: Example | None, *, is_set: bool) -> FoundVariable | None:
    """Return a variable that names no server, if the application needs it. `is_set`: by a `.env` file in git."""
    value = example.value if example else ""
    if REDIRECT.fullmatch(read.name) and (read.default or "True").lower() not in ("false", "0"):
        return FoundVariable(read.name, "false", read.required, read.seen)
    if limit := raised_limit(read, read.default or value):
        return FoundVariable(read.name, limit, read.required, read.seen)
    is_unset = read.default in (None, "", "None")
    if is_set and not MODE_NAME.fullmatch(read.name):
        return None
    if read.required or (is_unset and OWN_SECRET.fullmatch(read.name)):
        return FoundVariable(read.name, harmless(read, value), read.required, read.seen)
    if re.fullmatch(r"(\w+_)?ALLOWED_HOSTS", read.name) and not re.search(r"127\.0\.0\.1|\*", read.default or ""):
        hosts = '["127.0.0.1", "localhost"]' if read.is_json else "127.0.0.1,localhost"
        return FoundVariable(read.name, hosts, False, read.seen)
    if example and not example.is_compose and (local := mode(read, value)):
        return FoundVariable(read.name, local, False, read.seen)
    return None


def _first_user(reads: Mapping[str, Read]) -> Iterator[FoundVariable]:
    """Yield the variables of a user whom the application creates, so that the login is known."""
    for password in reads:
        if (user := PASSWORD_VARIABLE.fullmatch(password)) is None or OTHERS.search(password):
            continue
        values = dict.fromkeys(OF_NAME, NAME) | {"": EMAIL, "_PASSWORD": PASSWORD} | dict.fromkeys(OF_EMAIL, EMAIL)
        for end, value in values.items():
            if read := reads.get(user[1] + end):
                yield FoundVariable(read.name, value, read.required, read.seen)


def _in_image(read: Read, dockers: Iterable[Docker]) -> FoundVariable | None:
    """Return a switch that a Dockerfile sets. What names a place, such as a folder, differs here."""
    docker = next((one for one in dockers if read.name in one.variables), None)
    value = docker.variables[read.name] if docker else ""
    is_other = MODE_NAME.fullmatch(read.name) or OF_PLACE.search(read.name) or re.search(r"[$/{]", value)
    if docker is None or value in ("", read.default) or is_other:
        return None
    return FoundVariable(read.name, value, False, f"{docker.file}: {read.name}")


def _scheme(read: Read, servers: set[str]) -> str:
    """Return the scheme for a queue or a cache whose URL no file shows; "" if the variable names none."""
    if BROKER.fullmatch(read.name) and "rabbitmq" in servers:
        return "amqp"
    is_backend = RESULT_BACKEND.fullmatch(read.name) and "rabbitmq" not in servers
    is_other = read.required and (is_backend or read.kind in ("cache", "cache_url", "dj_cache_url"))
    return "redis" if "redis" in servers and (is_other or BROKER.fullmatch(read.name)) else ""


def _driver(modules: Collection[Module]) -> str:
    """Return the driver that SQLAlchemy's URLs must name, "" if the code adds it or needs none; or TORTOISE."""
    if any(one.module.partition(".")[0] == TORTOISE for module in modules for one in module.imports.values()):
        return TORTOISE
    texts = [module.text for module in modules]
    if not any("create_async_engine" in text or "SQLAlchemyAsyncConfig" in text for text in texts):
        return ""
    if any(re.search(r"postgres(ql)?\+\w+", text) for text in texts):
        return ""
    return (
        "psycopg" if any(re.search(r"^\s*(import|from) psycopg\b", text, re.MULTILINE) for text in texts) else "asyncpg"
    )
