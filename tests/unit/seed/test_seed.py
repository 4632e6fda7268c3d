"""Made-up rows in the empty tables of a real PostgreSQL."""

import asyncio
import itertools
import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest

from plumbline.load_sql import URL
from plumbline.seed.__main__ import main
from plumbline.services.address import Address
from plumbline.services.services import Services
from plumbline.settings_file import load_settings
from tests.support.fixtures import MakeServices
from tests.unit.services.test_embedded import POSTGRES_ONLY, query, server

NUMBERS = itertools.count(1)


class Seeded(NamedTuple):
    """The end of the command, its output by table, its errors, and a way to ask the database."""

    code: int
    tables: dict[str, str]
    error: str
    ask: Callable[[str], Any]


Seed = Callable[..., Seeded]


@pytest.fixture(scope="module")
def postgres(cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    assert cache_home.is_dir()
    file = tmp_path_factory.mktemp("seed") / "settings.toml"
    file.write_text(POSTGRES_ONLY, encoding="utf-8")
    services = Services(load_settings(file, {}), file.parent, environ={})
    services.begin()
    services.wait_ready()
    yield server(services.postgres).address
    services.stop()


@pytest.fixture
def seed(postgres: Address, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Seed:
    """Make tables in a new database, and fill them."""
    name = f"shop_{next(NUMBERS)}"
    query(postgres, f"CREATE DATABASE {name}")
    address = Address("postgresql", postgres.host, postgres.port, postgres.user, postgres.password, name)
    monkeypatch.setenv(URL, address.url)

    async def make(schema: str) -> None:
        connection = await asyncpg.connect(address.url)
        await connection.execute(schema)
        await connection.close()

    def run(schema: str, *arguments: str) -> Seeded:
        asyncio.run(make(schema or "SELECT 1"))
        code = main([*arguments])
        output, error = capsys.readouterr()
        tables = dict(line.split(": ", 1) for line in output.splitlines())
        return Seeded(code, tables, error, lambda statement: query(address, statement))

    return run


TYPES = """
    CREATE TYPE mood AS ENUM ('calm', 'busy');
    CREATE DOMAIN percent AS numeric(5, 2) CHECK (VALUE >= 0 AND VALUE <= 100) NOT NULL;
    CREATE EXTENSION citext;
    CREATE TABLE kinds (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a smallint NOT NULL, b bigint NOT NULL, c numeric NOT NULL,
        d numeric(3, 2) NOT NULL, e real NOT NULL, f double precision NOT NULL, g money NOT NULL, h boolean NOT NULL,
        i text NOT NULL, j varchar(5) NOT NULL UNIQUE, k char(2) NOT NULL, l citext NOT NULL, m uuid NOT NULL,
        n date NOT NULL, o timestamp NOT NULL, p timestamptz NOT NULL DEFAULT now(), q time NOT NULL,
        r interval NOT NULL, s json NOT NULL, t jsonb NOT NULL, u bytea NOT NULL, v inet NOT NULL, w macaddr NOT NULL,
        x mood NOT NULL, y mood[] NOT NULL, z text[] NOT NULL, aa percent, ab tsvector NOT NULL, ac int4range NOT NULL,
        ad bit(8) NOT NULL, ae numeric(4, -2) NOT NULL, af "char" NOT NULL, ag point NOT NULL,
        ai int NOT NULL GENERATED ALWAYS AS (a * 2) STORED, "select" text NOT NULL, "Mixed ""Case" text NOT NULL,
        aj tstzrange NOT NULL, ak cidr NOT NULL, al varbit NOT NULL, am timetz NOT NULL, an name NOT NULL
    );
"""


def test_types(seed: Seed) -> None:
    done = seed(TYPES)

    assert (done.code, done.tables, done.error) == (0, {"kinds": "50 rows"}, "")
    assert done.ask("SELECT count(DISTINCT j) FROM kinds") == 50
    assert done.ask("SELECT count(DISTINCT m) FROM kinds") == 50
    assert done.ask("SELECT array_agg(DISTINCT x ORDER BY x)::text FROM kinds") == "{calm,busy}"
    assert done.ask("SELECT max(y::text) || max(z::text) FROM kinds") == '{calm}{"z 9"}'


def test_all_runs_write_the_same_rows(seed: Seed) -> None:
    """Base and head are compared. Defaults such as the time and random values are replaced."""
    schema = """
        CREATE TABLE item (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, made timestamptz NOT NULL DEFAULT now(), n float8,
            rank float8 DEFAULT random()
        );
    """
    rows = "SELECT md5(string_agg(concat_ws(',', id, name, made, n, rank), ';' ORDER BY id)) FROM item"
    first = seed(schema).ask(rows)

    assert seed("DROP TABLE item;" + schema).ask(rows) == first
    # Other columns do not change the values of these.
    other = schema.replace("name text", "note text, name text")
    assert seed("DROP TABLE item; CREATE TABLE first ();" + other).ask(rows) == first


def test_parents_come_first(seed: Seed) -> None:
    """Each row refers to rows that are there, by keys of one and of several columns."""
    done = seed("""
        CREATE TABLE a_line (order_id int NOT NULL, number int, PRIMARY KEY (order_id, number));
        CREATE TABLE customer (id serial PRIMARY KEY, email varchar(40) NOT NULL UNIQUE, boss int REFERENCES customer);
        CREATE TABLE orders (id serial PRIMARY KEY, customer int NOT NULL REFERENCES customer);
        CREATE TABLE part (order_id int, number int, FOREIGN KEY (order_id, number) REFERENCES a_line);
        CREATE TABLE follows (a int REFERENCES customer, b int REFERENCES customer, PRIMARY KEY (a, b), CHECK (a <> b));
        ALTER TABLE a_line ADD FOREIGN KEY (order_id) REFERENCES orders;
    """)

    assert (done.code, {*done.tables.values()}, len(done.tables)) == (0, {"50 rows"}, 5)
    assert done.ask("SELECT count(DISTINCT customer) FROM orders") == 50
    assert done.ask("SELECT count(DISTINCT (order_id, number)) FROM part") == 50
    assert done.ask("SELECT count(boss) FROM customer") == 0  # lists often begin with rows that have no parent
    assert done.ask("SELECT email FROM customer WHERE id = 1") == "email1@example.com"
    assert done.ask("INSERT INTO customer (email) VALUES ('new') RETURNING id") == 51
    assert done.ask("SELECT bool_and(reltuples = 50) FROM pg_class WHERE relname IN ('orders', 'part')")  # ANALYZE


def test_tables_that_have_rows_stay(seed: Seed) -> None:
    """New rows refer to theirs. Tables of tools stay empty."""
    done = seed("""
        CREATE TABLE team (id int PRIMARY KEY);
        INSERT INTO team VALUES (3), (4);
        CREATE TABLE member (id int PRIMARY KEY, team_id int NOT NULL REFERENCES team);
        CREATE TABLE lead (team_id int PRIMARY KEY REFERENCES team);
        CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
    """)

    assert (done.code, done.tables) == (
        0,
        {
            "team": "has rows already",
            "member": "50 rows",
            "lead": "2 rows",
            "alembic_version": "left empty: a table of migrations, sessions or queues",
        },
    )
    assert done.ask("SELECT array_agg(DISTINCT team_id ORDER BY team_id) FROM member") == [3, 4]


def test_simple_checks(seed: Seed) -> None:
    done = seed("""
        CREATE DOMAIN word AS text CHECK (char_length(VALUE) >= 12);
        CREATE TABLE item (
            stars int NOT NULL CHECK (stars BETWEEN 1 AND 5), price numeric(8, 2) CHECK (price > 100),
            state varchar(9) NOT NULL CHECK (state IN ('new', 'it''s old')), low int CHECK (low < 0),
            share float8 CHECK (share > 0 AND share < 1), kind text CHECK (kind = 'a' OR kind = 'b'),
            code text CHECK (length(code) = 3), one int CHECK (one = 1), name word, level int CHECK (level IN (10, 20)),
            CONSTRAINT several CHECK (price > 0 AND stars >= 2)
        );
    """)

    assert (done.code, done.tables) == (0, {"item": "50 rows"})
    assert done.ask("SELECT array_agg(DISTINCT stars ORDER BY stars) FROM item") == [2, 3, 4, 5]
    assert done.ask("SELECT count(DISTINCT (state, kind, level)) FROM item") == 2


def test_values_that_lists_show(seed: Seed) -> None:
    """Columns may be optional in the database although the application wants values."""
    done = seed("""
        CREATE TABLE item (
            title varchar, "ownerUrl" text, deleted_at timestamptz, is_active boolean, is_deleted boolean, data json,
            expires_at timestamp, public_id char(36), country_code varchar(2), stock int DEFAULT 7, old text
        );
    """)

    assert done.code == 0
    assert json.loads(done.ask("SELECT to_json(i) FROM item i LIMIT 1")) | {"public_id": ""} == {
        "title": "title 1",
        "ownerUrl": "https://example.com/1",
        "deleted_at": None,
        "is_active": True,
        "is_deleted": False,
        "data": {},
        "expires_at": "2124-01-02T00:00:00",
        "public_id": "",
        "country_code": "DE",
        "stock": 7,
        "old": "old 1",
    }
    assert done.ask("SELECT count(DISTINCT public_id::uuid) FROM item") == 50


def test_each_table_that_stays_empty_is_named(seed: Seed) -> None:
    """The other tables are filled."""
    done = seed("""
        CREATE TABLE good (made_by int DEFAULT 1);
        CREATE TABLE bare (id serial PRIMARY KEY);
        CREATE TABLE odd (n int CONSTRAINT is_odd CHECK (n % 2 = 3));
        CREATE TABLE needs_odd (n int NOT NULL);
        ALTER TABLE odd ADD PRIMARY KEY (n);
        ALTER TABLE needs_odd ADD FOREIGN KEY (n) REFERENCES odd;
        CREATE TABLE egg (id int PRIMARY KEY, hen int NOT NULL);
        CREATE TABLE hen (id int PRIMARY KEY, egg int NOT NULL REFERENCES egg);
        ALTER TABLE egg ADD FOREIGN KEY (hen) REFERENCES hen;
        CREATE TABLE omelette (egg int NOT NULL REFERENCES egg);
        CREATE TABLE place (p polygon NOT NULL);
        CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TABLE lost (n int);
        CREATE TRIGGER lose BEFORE INSERT ON lost FOR EACH ROW EXECUTE FUNCTION nothing();
    """)

    assert (done.code, done.tables) == (
        0,
        {
            "good": "50 rows",
            "bare": "50 rows",
            "odd": 'left empty: CheckViolationError: new row for relation "odd" violates check constraint "is_odd"',
            "needs_odd": "left empty: it needs a row of odd, which has none",
            "egg": "left empty: its required foreign keys form a cycle, egg → hen → egg",
            "hen": "left empty: its required foreign keys form a cycle, hen → egg → hen",
            "omelette": "left empty: it needs a row of egg",
            "place": "left empty: there is no made-up value for the type polygon of the column p",
            "lost": "left empty: PostgreSQL kept none of the rows",
        },
    )


def test_schemas_and_partitions(seed: Seed) -> None:
    schema = """
        CREATE SCHEMA shop;
        CREATE TYPE shop.size AS ENUM ('s', 'm');
        CREATE TABLE shop.item (id int, size shop.size NOT NULL, PRIMARY KEY (id)) PARTITION BY RANGE (id);
        CREATE TABLE shop.first PARTITION OF shop.item FOR VALUES FROM (0) TO (40);
        CREATE TABLE shop.rest PARTITION OF shop.item DEFAULT;
        CREATE TABLE item (item_id int REFERENCES shop.item);
        CREATE VIEW shown AS SELECT * FROM item;
        CREATE EXTENSION hstore;
    """
    done = seed(schema, "--rows", "60")

    assert (done.code, done.tables) == (0, {"item": "60 rows", "shop.item": "60 rows"})
    assert done.ask("SELECT count(*) FROM shop.first") == 39


def test_options(seed: Seed) -> None:
    tables = "CREATE TABLE a (n int); CREATE TABLE b (n int); CREATE TABLE c (n int);"
    done = seed(tables, "--rows=3", "--without", "b", "public.c")
    assert (done.code, done.tables) == (0, {"a": "3 rows", "b": "left empty: --without", "c": "left empty: --without"})

    done = seed("", "--only", "b")
    assert (done.code, done.tables) == (0, {"a": "has rows already", "b": "50 rows", "c": "left empty: --only"})


@pytest.mark.parametrize(
    ("schema", "arguments", "code", "error"),
    [
        ("CREATE TABLE item ()", ["--without", "itme"], 2, "--without: there is no table itme; did you mean item?"),
        ("CREATE TABLE item ()", ["--only", "xyz"], 2, "--only: there is no table xyz; there are item"),
        ("", [], 3, "the database has no table to fill: let the commands before it in `prepare` make the tables"),
        (
            "CREATE TABLE item (p polygon NOT NULL)",
            [],
            3,
            "no table could be filled: see the lines above",
        ),
    ],
)
def test_errors(seed: Seed, schema: str, arguments: list[str], code: int, error: str) -> None:
    done = seed(schema, *arguments)

    assert (done.code, done.error.startswith(f"plumbline.seed: {error}")) == (code, True)


def test_without_a_database(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No password is shown."""
    monkeypatch.delenv(URL, raising=False)
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("plumbline.seed: there is no database: `prepare` in settings.toml runs")

    monkeypatch.setenv(URL, "postgresql://perf:hush@127.0.0.1:1/perf")
    assert main([]) == 3
    assert capsys.readouterr().err.startswith("plumbline.seed: no connection to the PostgreSQL of the run: Connection")


@pytest.mark.parametrize("rows", ["0", "-1", "many", "1000001", "²"])
def test_a_number_of_rows_that_is_none(rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--rows={rows}"])

    assert (ended.value.code, f"{rows!r} is not a whole number from 1 to" in capsys.readouterr().err) == (2, True)


def test_a_schema_in_the_database_of_others(postgres: Address, seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an external server, the run may have only a schema."""
    done = seed("CREATE TABLE theirs (n int); CREATE SCHEMA own; CREATE TABLE own.item (n int);", "--only", "own.item")
    assert done.tables == {"own.item": "50 rows", "theirs": "left empty: --only"}
    name = done.ask("SELECT current_database()")
    address = Address("postgresql", postgres.host, postgres.port, postgres.user, postgres.password, str(name))
    monkeypatch.setenv(URL, f"{address.url}?options=-csearch_path%3Down")

    assert main([]) == 0
    assert done.ask("SELECT count(*) FROM theirs") == 0


def test_as_a_command_of_prepare(make_services: MakeServices) -> None:
    """It gets the PostgreSQL of the run, whatever variables there are."""
    commands = [["psql", "-c", "CREATE TABLE item (n int)"], ["python", "-m", "plumbline.seed", "--rows", "4"]]
    services = make_services(f"{POSTGRES_ONLY}prepare = {json.dumps(commands)}\n")
    services.begin()
    services.wait_ready()

    services.start_application()

    assert query(server(services.postgres).address, "SELECT count(*) FROM item") == 4


APPLICATION = """
    import os
    from contextlib import asynccontextmanager

    import asyncpg

    @asynccontextmanager
    async def lifespan():
        connection = await asyncpg.connect(os.environ["PLUMBLINE_LOAD_SQL_URL"])
        await connection.execute("CREATE TABLE made_at_start (n int)")
        yield
        await connection.execute("CREATE TABLE made_at_end (n int)")
        await connection.close()

    async def app(scope, receive, send):
        await receive()
        async with lifespan():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def broken(scope, receive, send):
        await receive()
        message = "Traceback\\n  line\\nValueError: no postgresql://perf:hush@host/shop"
        await send({"type": "lifespan.startup.failed", "message": message})

    async def without_lifespan(scope, receive, send):
        raise AssertionError("only HTTP")

    def make_app():
        return app

    class Wsgi:
        def __call__(self, environ, start_response):
            raise RuntimeError
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with applications."""
    name = f"shop_of_seed_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(APPLICATION))
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize("application", ["app", "make_app()"])
def test_tables_that_an_application_makes_at_its_start(seed: Seed, module: str, application: str) -> None:
    """The application ends as servers end it."""
    done = seed("", f"--start={module}:{application}")

    assert (done.code, done.tables) == (0, {"made_at_start": "50 rows"})
    assert done.ask("SELECT count(*) FROM made_at_end") == 0


@pytest.mark.parametrize("application", ["without_lifespan", "Wsgi()"])
def test_an_application_that_knows_no_start(seed: Seed, module: str, application: str) -> None:
    done = seed("CREATE TABLE item (n int)", f"--start={module}:{application}")

    assert (done.code, done.tables) == (0, {"item": "50 rows"})


@pytest.mark.parametrize(
    ("application", "error"),
    [
        ("broken", "ValueError: no postgresql://host/…"),
        ("none", "AttributeError: module '{}' has no attribute 'none'"),
        ("app()", "TypeError: app() missing 3 required positional arguments: 'scope', 'receive', and 'send'"),
    ],
)
def test_an_application_that_does_not_start(seed: Seed, module: str, application: str, error: str) -> None:
    """Passwords are not shown."""
    done = seed("", f"--start={module}:{application}")

    start = f"plumbline.seed: --start: {module}:{application} did not start: "
    assert (done.code, done.error) == (3, f"{start}{error.format(module)}\n")
