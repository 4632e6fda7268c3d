"""Fills tables in the order of their foreign keys. No table stays empty without a line that says why."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from plumbline.seed.catalog import ForeignKey, Table, quoted
from plumbline.seed.values import NoValue, is_gone, is_left_out, value

if TYPE_CHECKING:
    import asyncpg


def in_order(tables: Sequence[Table], has_rows: Collection[str]) -> tuple[list[Table], list[Table]]:
    """Return tables with parents first, and those that a cycle of required foreign keys keeps out.

    `has_rows`: tables that need no row anymore. An optional key to a later table stays empty.
    """
    ordered, left, done = list[Table](), [one for one in tables if one.shown not in has_rows], {*has_rows}
    names = {one.shown for one in tables}

    def waits(table: Table, *, also_optional: bool) -> bool:
        keys = [one for one in table.keys if one.is_required or (also_optional and one.parent != table.shown)]
        return any(one.parent in names and one.parent not in done for one in keys)

    while left:
        ready = [one for one in left if not waits(one, also_optional=True)]
        ready = ready or [one for one in left if not waits(one, also_optional=False)][:1]
        if not ready:
            break
        ordered += ready
        done |= {one.shown for one in ready}
        left = [one for one in left if one.shown not in done]
    return ordered, left


def cycle_of(table: Table, tables: Sequence[Table]) -> list[str]:
    """Return the tables of the cycle that `table` is in, as in ["a", "b", "a"]; [] if it only needs one."""
    needs = {one.shown: [key.parent for key in one.keys if key.is_required] for one in tables}
    paths = [[table.shown]]
    seen = set[str]()
    for path in paths:
        for parent in needs.get(path[-1], ()):
            if parent == table.shown:
                return [*path, parent]
            if parent not in seen:
                seen.add(parent)
                paths.append([*path, parent])
    return []


async def fill(connection: asyncpg.Connection[Any], table: Table, count: int) -> tuple[int, str]:
    """Write up to `count` rows to an empty table. Return how many there are, and why there are none."""
    import asyncpg

    try:
        texts = await _texts(connection, table, count)
        await connection.execute(_statement(table, list(texts)), *(texts.values() or [count]))
        await connection.execute(f"ANALYZE {table.quoted}")
        written = await connection.fetchval(f"SELECT count(*) FROM {table.quoted}")  # noqa: S608
    except NoValue as error:
        return 0, str(error)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return 0, f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return written, "" if written else "PostgreSQL kept none of the rows"


async def _texts(connection: asyncpg.Connection[Any], table: Table, count: int) -> dict[str, list[str | None]]:
    """Return the values of the columns that the server does not set itself. Raises NoValue."""
    texts: dict[str, list[str | None]] = {}
    numbers, columns = range(1, count + 1), {one.name: one for one in table.columns}
    for place, key in enumerate(table.keys):
        new = [name for name in key.columns if name not in texts]
        parents = await _parents(connection, key, count) if new else []
        if new and not parents and key.is_required:
            raise NoValue(f"it needs a row of {key.parent}, which has none")
        if not parents or (not key.is_required and any(is_gone(name) for name in key.columns)):
            texts |= {name: [None] * count for name in new if not columns[name].is_required}
            continue
        # Several keys to the same table get different rows, and all pairs of rows that there are.
        size = len(parents)
        chosen = [parents[(row + place * (1 + row // size)) % size] for row in range(count)]
        texts |= {name: [one[key.columns.index(name)] for one in chosen] for name in new}
    for column in table.columns:
        if column.name not in texts and not is_left_out(column):
            texts[column.name] = [value(table.name, column, number) for number in numbers]
    return texts


async def _parents(connection: asyncpg.Connection[Any], key: ForeignKey, count: int) -> list[Any]:
    """Return the values of the referenced columns in the first rows of the parent."""
    names = [f"p.{quoted(one)}" for one in key.parent_columns]
    return await connection.fetch(
        f"SELECT {', '.join(f'{one}::text' for one in names)} FROM {key.parent_quoted} p"  # noqa: S608
        f" WHERE {' AND '.join(f'{one} IS NOT NULL' for one in names)} ORDER BY {', '.join(names)} LIMIT {count:d}"
    )


def _statement(table: Table, names: Sequence[str]) -> str:
    """Return the statement that inserts arrays of texts, one for each column."""
    if not names:
        return f"INSERT INTO {table.quoted} SELECT FROM generate_series(1, $1::int)"
    written = {one.name: one.written for one in table.columns}
    arrays = ", ".join(f"${number}::text[]" for number, _ in enumerate(names, 1))
    casts = ", ".join(f"r.c{number}::{written[name]}" for number, name in enumerate(names, 1))
    aliases = ", ".join(f"c{number}" for number, _ in enumerate(names, 1))
    # A value that breaks a unique index or an exclusion constraint is left out.
    return (
        f"INSERT INTO {table.quoted} ({', '.join(map(quoted, names))}) OVERRIDING SYSTEM VALUE SELECT {casts}"  # noqa: S608
        f" FROM unnest({arrays}) WITH ORDINALITY AS r({aliases}, n) ORDER BY n ON CONFLICT DO NOTHING"
    )
