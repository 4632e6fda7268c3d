"""Plain SQL files that make the tables: migrations, a schema, and what a compose file mounts for PostgreSQL."""

import re
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

from plumbline.adopting.files.starts import ComposeService
from plumbline.adopting.files.tree import Tree, is_test
from plumbline.adopting.findings import FoundCommand

COMMAND = ("python", "-m", "plumbline.load_sql")
AT_START = "/docker-entrypoint-initdb.d"  # in PostgreSQL's image
FOLDERS = re.compile(r"(.*[_-])?(migrations?|migrate)", re.IGNORECASE)
SCHEMA = r".*schema.*\.sql|(db_?|database_?)?init([_-].*)?\.sql|create.*\.sql|(structure|database|tables|ddl)\.sql"
ROWS = re.compile(r"(.*[_-])?(seeds?|data|fixtures?|samples?|inserts?)([_-].*)?\.sql", re.IGNORECASE)
NOT_POSTGRES = re.compile(r"\bAUTO_INCREMENT\b|\bENGINE\s*=|`", re.IGNORECASE)
NOT_SQLITE = re.compile(r"\bSERIAL\b|\bAUTO_INCREMENT\b|\bCREATE\s+EXTENSION\b|\$\$", re.IGNORECASE)


def load_sql(found: tuple[list[str], str], *, postgres: bool, sqlite: str) -> list[FoundCommand]:
    """Return the command that loads what `sql_files` has found, none if the runs have no database for it.

    `postgres`: whether the project uses PostgreSQL. `sqlite`: the file of SQLite that the runs use instead, or "".
    """
    paths, seen = found
    options = () if postgres else (f"--sqlite={sqlite}",)
    return [FoundCommand("sql", (*COMMAND, *options, *paths), seen)] if paths and (postgres or sqlite) else []


def sql_files(tree: Tree, services: Collection[ComposeService], *, postgres: bool) -> tuple[list[str], str]:
    """Return the first kind of SQL files that the project has, and where they were seen; none if it has none."""
    alien = NOT_POSTGRES if postgres else NOT_SQLITE
    files = [file for file in tree.named(r".+\.sql", above=False) if not is_test(file)]
    fitting = [file for file in files if not alien.search(tree.text(file))]
    if postgres and (mounted := list(_mounted(services, fitting))):
        return list(dict.fromkeys(path for path, _ in mounted)), mounted[0][1]
    for file in fitting:
        folder = str(PurePosixPath(file).parent)
        if FOLDERS.fullmatch(folder.rpartition("/")[2]):
            return [folder], f"{file}:1: migrations in SQL"
    for file in fitting:
        if re.fullmatch(SCHEMA, file.rpartition("/")[2], re.IGNORECASE):
            beside = [one for one in fitting if PurePosixPath(one).parent == PurePosixPath(file).parent and one != file]
            rows = [one for one in beside if ROWS.fullmatch(one.rpartition("/")[2])]
            return [file, *rows], f"{file}:1: a schema in SQL"
    return [], ""


def _mounted(services: Collection[ComposeService], files: Collection[str]) -> Iterator[tuple[str, str]]:
    """Return the files and folders that PostgreSQL's container loads at its first start, and where this was seen."""
    mounts = [(one, source, target) for one in services for source, target in one.volumes]
    for service, source, target in sorted(mounts, key=lambda mount: mount[2]):
        path = (PurePosixPath(service.file).parent / source).as_posix()
        is_known = path in files or any(str(PurePosixPath(file).parent) == path for file in files)
        if target.startswith(AT_START) and is_known:
            yield path, f"{service.file}:{service.line}: {source}:{target}"
