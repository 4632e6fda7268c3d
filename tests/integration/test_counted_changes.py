"""Changes that counts find in a pull request: without a baseline, on any machine, with the line that is to blame."""

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.project import SETTINGS, Project

PREPARE = """
    import asyncio
    import os

    import asyncpg

    TABLES = '''
        CREATE TABLE item (id int PRIMARY KEY, owner int NOT NULL, name text NOT NULL);
        INSERT INTO item SELECT n, n % 100, 'item ' || n FROM generate_series(1, 5000) AS n;
        CREATE INDEX item_owner ON item (owner);
        ANALYZE item
    '''


    async def prepare():
        connection = await asyncpg.connect(os.environ["DATABASE_URL"])
        await connection.execute(TABLES)
        await connection.close()


    asyncio.run(prepare())
"""
SHOP = """
    import asyncio
    import contextlib
    import json
    import os

    import asyncpg
    import psycopg
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route


    async def names(pool):
        ids = range(1, 11)
        rows = await pool.fetch("SELECT name FROM item WHERE id = ANY($1::int[])", [*ids])
        return len(rows)


    async def owned(pool):
        return len(await pool.fetch("SELECT name FROM item WHERE owner = $1", 7))


    async def first(pool):
        return await pool.fetchval("SELECT name FROM item WHERE id = 1")


    async def cached(pool):
        async with pool.acquire() as connection:
            return await connection.fetchval("SELECT name FROM item WHERE id = 2")


    async def kept(pool):
        await asyncio.sleep(0.005)  # so that few rounds run before the counts
        cursor = await kept.connection.execute("SELECT name FROM item WHERE id = %s", [3])
        return await cursor.fetchone()


    async def total(pool):
        return sum(number % 7 for number in range(20_000))


    async def pay(pool):
        await asyncio.sleep(0.001)
        return 1


    async def encoded(pool):
        text = json.dumps([{"id": number, "name": "item"} for number in range(500)])
        return len(text)


    def route(work):
        async def answer(request):
            return PlainTextResponse(str(await work(request.app.state.pool)))

        return Route(f"/{work.__name__}", answer)


    @contextlib.asynccontextmanager
    async def lifespan(app):
        async with (
            asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=1) as app.state.pool,
            await psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"], autocommit=True) as kept.connection,
        ):
            yield


    WORK = (names, owned, first, cached, kept, total, pay, encoded)
    app = Starlette(routes=[route(work) for work in WORK], lifespan=lifespan)
"""
SUITE = """
    import httpx
    import pytest


    @pytest.mark.parametrize("path", ["names", "owned", "first", "cached", "kept", "total", "pay", "encoded"])
    def test_get(api_url, measure, path):
        with httpx.Client(base_url=api_url, trust_env=False) as client:
            for timer in measure():
                with timer:
                    response = client.get(f"/{path}")
                assert response.status_code == 200
"""
LIMITS = "tolerance = 0.9\nminimum_effect = 0.99\npairs_limit_s = 15\n"
TABLES = """
[postgres.config]
autovacuum = false

[env]
DATABASE_URL = "{postgres.url}"

[app]
asgi = "shop:app"
health_path = "/total"
"""


class Change(NamedTuple):
    file: str
    old: str
    new: str
    counted: str  # the start of a count's name
    line: str  # the start of the line that it comes from, in the changed `shop.py`


CHANGES = {
    "names": Change(  # an N+1
        "shop.py",
        'rows = await pool.fetch("SELECT name FROM item WHERE id = ANY($1::int[])", [*ids])',
        'rows = [await pool.fetchrow("SELECT name FROM item WHERE id = $1", one) for one in ids]',
        "postgres.statement SELECT name FROM item WHERE id = $1",
        "rows = [await",
    ),
    "owned": Change(  # a lost index
        "prepare.py",
        "CREATE INDEX item_owner ON item (owner);",
        "",
        "postgres.rows_read SELECT name FROM item WHERE owner = $1",
        'return len(await pool.fetch("SELECT name FROM item WHERE owner',
    ),
    "first": Change(  # a dropped pool
        "shop.py",
        'return await pool.fetchval("SELECT name FROM item WHERE id = 1")',
        'connection = await asyncpg.connect(os.environ["DATABASE_URL"])\n'
        '    name = await connection.fetchval("SELECT name FROM item WHERE id = 1")\n'
        "    await connection.close()\n"
        "    return name",
        "postgres.connections",
        "connection = await asyncpg.connect(",
    ),
    "cached": Change(  # a cached prepared statement lost
        "shop.py",
        'return await connection.fetchval("SELECT name FROM item WHERE id = 2")',
        'statement = await connection.prepare("SELECT name FROM item WHERE id = 2")\n'
        "        return await statement.fetchval()",
        "postgres.parse SELECT name FROM item WHERE id = ?",
        "statement = await connection.prepare(",
    ),
    "kept": Change(  # psycopg no longer prepares a statement
        "shop.py",
        'id = %s", [3])',
        'id = %s", [3], prepare=False)',
        "postgres.parse SELECT name FROM item WHERE id = $1",
        "cursor = await kept",
    ),
    "total": Change(  # a list instead of a generator
        "shop.py",
        "sum(number % 7 for number in range(20_000))",
        "sum([number % 7 for number in range(20_000)])",
        "app.peak_bytes",
        "return sum([",
    ),
    "pay": Change(  # a blocking call
        "shop.py",
        "await asyncio.sleep(0.001)",
        'time = __import__("time")\n    time.sleep(0.001)',
        "blocking time.sleep",
        "time.sleep(",
    ),
    "encoded": Change(  # a doubled JSON encode
        "shop.py",
        "return len(text)",
        "return len(json.dumps(json.loads(text)))",
        "app.allocations",
        "return len(json.dumps(",
    ),
}


@pytest.fixture(scope="module")
def compared(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, Any]]:
    """A comparison that has all changes: the project, and its benchmarks by route."""
    project = Project.create(tmp_path_factory.mktemp("counted") / "project", environments)
    (project.suite / "test_suite.py").unlink()
    for name, text in {"shop.py": SHOP, "prepare.py": PREPARE}.items():
        (project.root / name).write_text(textwrap.dedent(text))
    servers = SETTINGS.replace('"off"', '"embedded"', 1).replace("memory = false", "memory = true")
    project.write("settings.toml", 'prepare = ["python", "prepare.py"]\n' + servers + LIMITS + TABLES)
    project.write("test_suite.py", textwrap.dedent(SUITE))
    project.git("init", "--quiet", "--initial-branch=main")
    project.commit("Start")
    for change in CHANGES.values():
        path = project.root / change.file
        text = path.read_text()
        assert change.old in text
        path.write_text(text.replace(change.old, change.new))

    done = project.own_python("-m", "plumbline", "compare", "HEAD", "--limit=12")

    assert done.code == 1, done.output
    return project, {one["key"].partition("[")[2][:-1]: one for one in project.results()["benchmarks"]}


@pytest.mark.parametrize("route", CHANGES)
def test_a_change_is_found_by_a_count_and_its_line(compared: tuple[Project, dict[str, Any]], route: str) -> None:
    project, benchmarks = compared
    change, found = CHANGES[route], benchmarks[route]
    assert found["verdict"] == "regression"
    assert found["reasons"][0]["kind"] == "count_grown"
    [grown] = [one for one in found["count_changes"] if one.get("gated") and one["name"].startswith(change.counted)]
    lines = (project.root / "shop.py").read_text().splitlines()
    [line] = [number for number, text in enumerate(lines, 1) if text.strip().startswith(change.line)]
    site = grown["sites"][0]
    assert (site["file"], site["line"], site["function"], site["process"]) == ("shop.py", line, route, "app")
