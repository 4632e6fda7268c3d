"""Reads the tables of a database, with their columns and constraints, from PostgreSQL's catalog."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plumbline.seed.checks import Limits, limits_in

if TYPE_CHECKING:
    import asyncpg

# `search_path` comes from the URL if the run has only a schema of the database: the other schemas are not its own.
SCHEMAS = """
    SELECT nspname FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
      AND (nspname = ANY (current_schemas(false))
           OR (SELECT source FROM pg_settings WHERE name = 'search_path') <> 'client')
"""
TABLES = f"""
    SELECT c.oid, n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname IN ({SCHEMAS})
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND classid = 'pg_class'::regclass AND deptype = 'e')
    ORDER BY 2, 3
"""  # noqa: S608
COLUMNS = """
    SELECT a.attrelid AS "table", a.attnum AS number, a.attname AS name, a.atttypid AS type, a.attnotnull AS required,
      a.atttypmod AS modifier, format_type(a.atttypid, a.atttypmod) AS written,
      coalesce(pg_get_expr(d.adbin, d.adrelid), '') AS "default",
      a.attidentity <> '' OR a.attgenerated <> '' AS is_made
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY 1, 2
"""
TYPES = """
    SELECT t.oid, t.typname AS name, t.typtype::text AS kind, t.typbasetype AS base, t.typtypmod AS modifier,
      t.typnotnull AS required, coalesce(t.typdefault, '') AS "default",
      CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END AS element,
      ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) AS labels,
      ARRAY(SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contypid = t.oid AND contype = 'c') AS checks
    FROM pg_type t
"""
KEYS = """
    SELECT conrelid AS "table", contype::text AS kind, conkey AS columns, confrelid AS parent,
      confkey AS parent_columns, pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE conrelid = ANY ($1::oid[]) AND contype IN ('f', 'c') AND conparentid = 0
    ORDER BY cardinality(conkey) DESC, conname
"""
UNIQUE = 'SELECT indrelid AS "table", indkey::int2[] AS columns FROM pg_index WHERE indisunique AND indrelid = ANY ($1)'
NAMES = "SELECT attrelid AS table, attnum AS number, attname AS name FROM pg_attribute WHERE attrelid = ANY ($1::oid[])"
PARENTS = """
    SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY ($1::oid[])
"""


@dataclass(frozen=True)
class Column:
    """A column, with the type below its domain or array."""

    name: str
    type: str  # such as "int4"; of an array that of its elements
    written: str  # as in a cast, such as "character varying(20)"
    modifier: int  # that holds the length or precision; -1 if there is none
    is_array: bool
    is_required: bool
    is_unique: bool  # part of a unique index
    default: str
    is_made: bool  # by the server: an identity or a generated column
    labels: tuple[str, ...]  # of an enum
    limits: Limits


@dataclass(frozen=True)
class ForeignKey:
    columns: tuple[str, ...]
    parent: str  # the shown name of a table
    parent_quoted: str
    parent_columns: tuple[str, ...]
    is_required: bool


@dataclass
class Table:
    schema: str
    name: str
    columns: list[Column] = field(default_factory=list)
    keys: list[ForeignKey] = field(default_factory=list)

    @property
    def shown(self) -> str:
        return shown(self.schema, self.name)

    @property
    def quoted(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def shown(schema: str, name: str) -> str:
    return name if schema == "public" else f"{schema}.{name}"


async def tables_of(connection: asyncpg.Connection[Any]) -> list[Table]:
    """Return the tables that belong to the run, by name. Those of extensions are left out."""
    rows = await connection.fetch(TABLES)
    tables = {row["oid"]: Table(row["schema"], row["name"]) for row in rows}
    oids = list(tables)
    types = {row["oid"]: row for row in await connection.fetch(TYPES)}
    keys = await connection.fetch(KEYS, oids)
    parents = {row["parent"] for row in keys if row["kind"] == "f"}
    places = {oid: (schema, name) for oid, schema, name in await connection.fetch(PARENTS, list(parents))}
    names = {(row["table"], row["number"]): row["name"] for row in await connection.fetch(NAMES, [*oids, *parents])}
    checks: dict[int, list[str]] = defaultdict(list)
    for row in keys:
        if row["kind"] == "c":
            checks[row["table"]].append(row["definition"])
    unique = {(row["table"], number) for row in await connection.fetch(UNIQUE, oids) for number in row["columns"]}
    for row in await connection.fetch(COLUMNS, oids):
        is_unique = (row["table"], row["number"]) in unique
        tables[row["table"]].columns.append(_column(row, types, checks[row["table"]], is_unique=is_unique))
    for row in keys:
        if row["kind"] == "f":
            table, schema_and_name = tables[row["table"]], places[row["parent"]]
            columns = tuple(names[row["table"], one] for one in row["columns"])
            table.keys.append(
                ForeignKey(
                    columns,
                    shown(*schema_and_name),
                    ".".join(map(quoted, schema_and_name)),
                    tuple(names[row["parent"], one] for one in row["parent_columns"]),
                    all(one.is_required for one in table.columns if one.name in columns),
                )
            )
    return list(tables.values())


def _column(row: Any, types: dict[int, Any], checks: list[str], *, is_unique: bool) -> Column:
    kind, modifier, default, required = types[row["type"]], row["modifier"], row["default"], row["required"]
    limits, is_array = limits_in(checks, row["name"]), False
    while kind["base"] or kind["element"]:
        limits = limits.with_others(limits_in(kind["checks"], "VALUE"))
        required, default = required or (kind["required"] and not is_array), default or kind["default"]
        modifier = modifier if modifier >= 0 else kind["modifier"]
        is_array = is_array or bool(kind["element"])
        kind = types[kind["base"] or kind["element"]]
    return Column(
        row["name"],
        kind["name"],
        row["written"],
        modifier,
        is_array,
        required,
        is_unique,
        "" if default.startswith("NULL::") else default,
        row["is_made"],
        tuple(kind["labels"]),
        limits,
    )
