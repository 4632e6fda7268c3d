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


def load_sql(tree: Tree, services: Collection[ComposeService], *, postgres: bool, sqlite: str) -> list[FoundCommand]:
    """Return the command that loads the first kind of SQL files that the project has, none if it has none.

    `postgres`: whether the project uses PostgreSQL. `sqlite`: the file of SQLite that the runs use instead, or "".
    """
    if not postgres and not sqlite:
        return []
    alien = NOT_POSTGRES if postgres else NOT_SQLITE
    options = () if postgres else (f"--sqlite={sqlite}",)
    files = [file for file in tree.named(r".+\.sql", above=False) if not is_test(file)]
    fitting = [file for file in files if not alien.search(tree.text(file))]
    mounted = list(_mounted(services, fitting)) if postgres else []
    folders = (str(PurePosixPath(file).parent) for file in fitting)
    folder = next((one for one in folders if FOLDERS.fullmatch(one.rpartition("/")[2])), "")
    schema = next((file for file in fitting if re.fullmatch(SCHEMA, file.rpartition("/")[2], re.IGNORECASE)), "")
    if mounted:
        paths, seen = [path for path, _ in mounted], mounted[0][1]
    elif folder:
        paths, seen = [folder], f"{next(one for one in fitting if one.startswith(f'{folder}/'))}:1: migrations in SQL"
    elif schema:
        beside = [one for one in fitting if PurePosixPath(one).parent == PurePosixPath(schema).parent]
        paths = [schema, *(one for one in beside if ROWS.fullmatch(one.rpartition("/")[2]))]
        seen = f"{schema}:1: a schema in SQL"
    else:
        return []
    return [FoundCommand("sql", (*COMMAND, *options, *dict.fromkeys(paths)), seen)]


def _mounted(services: Collection[ComposeService], files: Collection[str]) -> Iterator[tuple[str, str]]:
    """Return the files and folders that PostgreSQL's container loads at its first start, and where this was seen."""
    mounts = [(one, source, target) for one in services for source, target in one.volumes]
    for service, source, target in sorted(mounts, key=lambda mount: mount[2]):
        path = (PurePosixPath(service.file).parent / source).as_posix()
        is_known = path in files or any(str(PurePosixPath(file).parent) == path for file in files)
        if target.startswith(AT_START) and is_known:
            yield path, f"{service.file}:{service.line}: {source}:{target}"
