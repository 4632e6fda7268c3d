"""`python -m plumbline.seed [--rows N] [--without TABLE …] [--only TABLE …] [--start APP]`: a command of `prepare`.

Exit codes: 0 if each table is filled, or a line says why it is not; 2 for wrong usage; 3 if there is no table to fill,
or none could be filled.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import importlib.util
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from plumbline.load_sql import URL
from plumbline.processes import without_secrets
from plumbline.project import EXIT_INVALID, EXIT_PASS, EXIT_USAGE
from plumbline.seed import LEFT_EMPTY, MODULE
from plumbline.seed.catalog import Table, tables_of
from plumbline.seed.rows import cycle_of, fill, in_order
from plumbline.seed.start import Application, NotStarted, application_at, started

if TYPE_CHECKING:
    import asyncpg

TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(\))?")
ROWS, MOST_ROWS = 50, 1_000_000
# Tables in which tools keep the state of migrations, sessions and queues.
OF_TOOLS = re.compile(
    r"alembic_version\w*|django_(migrations|content_type|session|site|admin_log|celery_\w+|q_\w+)|auth_permission|aerich"
    r"|flyway_schema_history|schema_(migrations|version)|goose_db_version|_sqlx_migrations|_?yoyo_\w+|migration"
    r"|atlas_schema_revisions|databasechangelog(lock)?|_prisma_migrations|knex_migrations\w*|procrastinate_\w+"
    r"|pgqueuer\w*|saq_\w+|apscheduler_\w+"
)


class Refused(Exception):
    """The command can't do what it is asked to. `code` is its exit code."""

    def __init__(self, message: str, code: int = EXIT_INVALID) -> None:
        super().__init__(message)
        self.code = code


def main(arguments: list[str] | None = None) -> int:
    """Fill the tables, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        url = _url()
        application = application_at(options.start) if options.start else None
        asyncio.run(_seed(url, application, options))
    except NotStarted as error:
        sys.stderr.write(f"{MODULE}: --start: {options.start} did not start: {without_secrets(str(error))}\n")
        return EXIT_INVALID
    except Refused as error:
        sys.stderr.write(f"{MODULE}: {error}\n")
        return error.code
    return EXIT_PASS


def _parser() -> argparse.ArgumentParser:
    text = "Fill the empty tables of the run's PostgreSQL with made-up rows, as a command of `prepare`."
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=text, allow_abbrev=False)
    parser.add_argument("--rows", type=_count, default=ROWS, metavar="N", help=f"rows of each table (default: {ROWS})")
    for option, what in {"--without": "tables to leave empty", "--only": "tables to fill, and no others"}.items():
        parser.add_argument(option, nargs="+", action="extend", default=[], metavar="TABLE", help=what)
    text = "an application to start first, if it makes its tables itself: shop.main:app, or shop.main:make_app()"
    parser.add_argument("--start", type=_target, metavar="APP", help=text)
    return parser


def _target(text: str) -> str:
    if not TARGET.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not written as module:attribute, such as shop.main:app")
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST_ROWS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MOST_ROWS}")
    return int(text)


def _url() -> str:
    """Return the address of the run's PostgreSQL. Raises Refused."""
    if not (url := os.environ.get(URL)):
        message = f"there is no database: `prepare` in settings.toml runs this command, as python -m {MODULE}"
        raise Refused(f"{message}, and gives it the PostgreSQL of the run", EXIT_USAGE)
    if importlib.util.find_spec("asyncpg") is None:
        raise Refused("asyncpg is missing: install the extra `postgres` of pytest-plumbline", EXIT_USAGE)
    return url


async def _seed(url: str, application: Application | None, options: argparse.Namespace) -> None:
    import asyncpg

    try:
        connection = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Refused(f"no connection to the PostgreSQL of the run: {type(error).__name__}") from None
    try:
        async with started(application):
            await _fill_all(connection, options)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Refused(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}") from None
    finally:
        await connection.close()


async def _fill_all(connection: asyncpg.Connection[Any], options: argparse.Namespace) -> None:
    """Fill the tables, and print a line about each. Raises Refused."""
    tables = await tables_of(connection)
    without, only = _named("--without", options.without, tables), _named("--only", options.only, tables)
    has_rows, chosen = set[str](), list[Table]()
    for table in tables:
        if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table.quoted})"):  # noqa: S608
            has_rows.add(table.shown)
            _say(table, "has rows already")
        elif OF_TOOLS.fullmatch(table.name):
            _say(table, f"{LEFT_EMPTY}a table of migrations, sessions or queues")
        elif table.shown in without or (only and table.shown not in only):
            _say(table, f"{LEFT_EMPTY}{'--without' if table.shown in without else '--only'}")
        else:
            chosen.append(table)
    if not chosen and not has_rows:
        raise Refused("the database has no table to fill: let the commands before it in `prepare` make the tables")
    ordered, in_cycles = in_order(chosen, has_rows)
    filled = 0
    for table in ordered:
        written, why = await fill(connection, table, options.rows)
        filled += bool(written)
        _say(table, f"{LEFT_EMPTY}{why}" if why else f"{written} rows")
    for table in in_cycles:
        cycle = cycle_of(table, in_cycles)
        why = f"its required foreign keys form a cycle, {' → '.join(cycle)}" if cycle else _needed(table, in_cycles)
        _say(table, f"{LEFT_EMPTY}{why}")
    if chosen and not filled:
        raise Refused("no table could be filled: see the lines above, or write the rows with a command of your own")


def _needed(table: Table, empty: list[Table]) -> str:
    names = {one.shown for one in empty}
    return f"it needs a row of {next(key.parent for key in table.keys if key.is_required and key.parent in names)}"


def _say(table: Table, what: str) -> None:
    sys.stdout.write(f"{table.shown}: {what}\n")


def _named(option: str, names: list[str], tables: list[Table]) -> set[str]:
    """Return the shown names of tables that an option names. Raises Refused if there is no such table."""
    known = {name: one.shown for one in tables for name in (f"{one.schema}.{one.name}", one.shown)}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            guess = (
                f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted({*known.values()})) or 'none'}"
            )
            raise Refused(f"{option}: there is no table {name}; {guess}", EXIT_USAGE)
    return {known[name] for name in names}


if __name__ == "__main__":
    sys.exit(main())
