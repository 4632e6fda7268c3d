"""`python -m plumbline.load_sql [--sqlite=DATABASE] PATH …`: load plain SQL files, as a command of `prepare`.

A path is a file or a folder, whose files are loaded in the order of their names and numbers. Migrations that undo
others are left out. The database is the run's PostgreSQL, or the given file of SQLite.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

URL = "PLUMBLINE_LOAD_SQL_URL"  # environment variable: the address of the run's PostgreSQL
# Of flyway, golang-migrate, sqlx and others. goose, dbmate and others keep both directions in one file.
UNDOES = re.compile(r"U\d.*|(.*[._-])?(down|undo|rollback|revert)\.sql", re.IGNORECASE)
DOWN = re.compile(
    r"^--+\s*((\+goose|\+migrate|migrate:)\s*down\b|down( migration)?:?\s*$).*",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
# The run has one database, and its user owns everything, as with `pg_restore --no-owner`.
LEFT_OUT = re.compile(
    r"^\s*((CREATE|DROP)\s+DATABASE\b[^;]*;|ALTER\s[^;]*\sOWNER\s+TO\b[^;]*;|\\(c|connect)\b.*$)",
    re.IGNORECASE | re.MULTILINE,
)
# What only psql can do, and what PostgreSQL does not do within the transaction of a whole file.
FOR_PSQL = re.compile(r"^\s*\\\w|\bFROM\s+stdin\b|\bCONCURRENTLY\b|^\s*VACUUM\b", re.IGNORECASE | re.MULTILINE)


def main(arguments: list[str]) -> None:
    options = [one for one in arguments if one.startswith("--")]
    database = options[0].partition("=")[2] if options else ""
    for file in (file for name in arguments if name not in options for file in files_in(Path(name))):
        try:
            _load(file, database)
        except Exception as error:
            sys.exit(f"{file}: {type(error).__name__}: {error}")


def _load(file: Path, database: str) -> None:
    text = LEFT_OUT.sub("", DOWN.sub("", file.read_text(encoding="utf-8-sig")))
    if database:
        _by_sqlite(text, database)
    elif FOR_PSQL.search(text) or importlib.util.find_spec("asyncpg") is None:
        _by_psql(text)
    else:
        _by_asyncpg(text)


def files_in(path: Path) -> list[Path]:
    """Return a file, or the files of a folder in their order."""
    if not path.is_dir():
        return [path]
    return sorted((one for one in path.glob("*.sql") if not UNDOES.fullmatch(one.name)), key=_order)


def _order(file: Path) -> list[tuple[str, int]]:
    """Return a key by which V2 comes before V10."""
    return [(text, int(number or 0)) for number, text in re.findall(r"(\d+)|(\D+)", file.name)]


def _by_sqlite(text: str, database: str) -> None:
    import sqlite3

    connection = sqlite3.connect(database)
    connection.executescript(text)
    connection.close()


def _by_asyncpg(text: str) -> None:
    import asyncio

    import asyncpg

    async def load() -> None:
        connection = await asyncpg.connect(os.environ[URL])
        try:
            await connection.execute(text)
        finally:
            await connection.close()

    asyncio.run(load())


def _by_psql(text: str) -> None:
    from plumbline.services.embedded import find_postgres

    command = [str(find_postgres() / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    subprocess.run(command, input=text, text=True, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
