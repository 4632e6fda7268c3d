"""The call sites of statements and commands, with real clients, in the test's process and in applications."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psycopg
import psycopg2  # type: ignore[import-untyped]
import pytest
import redis
import sqlalchemy
from jinja2 import Environment, FileSystemLoader
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from plumbline.counting.counter import Counter
from plumbline.counting.families import kind_of
from plumbline.results.schema import CallSite, Counts
from plumbline.services.at_start.plumbline_probes import Probes
from plumbline.services.services import Services
from plumbline.settings_file import load_settings
from tests.unit.counting.conftest import Body, Pass
from tests.unit.counting.shop import clients

ROOT = Path(__file__).parents[3]
SHOP = "tests/unit/counting/shop"

WRAPPED = {"anyio", "asgiref", "asyncio", "asyncpg", "concurrent", "psycopg", "redis", "sqlalchemy", "uvloop"}
ENV = """
[env]
SHOP_DATABASE_URL = "{postgres.url}"
SHOP_REDIS_URL = "{redis.url}"
"""
FASTAPI = '[app]\nasgi = "tests.unit.counting.shop.app:app"\n'
DJANGO = (
    '[app]\ncommand = ["python", "-m", "gunicorn", "tests.unit.counting.shop.site:application", "--workers", "2",'
    ' "--bind", "{host}:{port}"]\n'
)
TABLES = """
    CREATE TABLE line (id int PRIMARY KEY, n int);
    INSERT INTO line SELECT id, id FROM generate_series(0, 9) AS id;
    CREATE TABLE copied (n int);
    CREATE TABLE orders (id int PRIMARY KEY);
    CREATE TABLE order_lines (id int PRIMARY KEY, order_id int REFERENCES orders);
    INSERT INTO orders SELECT generate_series(1, 3);
    INSERT INTO order_lines SELECT id, id FROM generate_series(1, 3) AS id;
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, cache_home: Path) -> Iterator[Services]:
    """Servers, tables, and the application of FastAPI."""
    assert cache_home.is_dir()
    settings = tmp_path_factory.mktemp("sites") / "settings.toml"
    settings.write_text(
        f'backend = "embedded"\ncounts.memory = false\n{ENV}[postgres.config]\nautovacuum = false\n{FASTAPI}'
    )
    services = Services(load_settings(settings, {}), ROOT, environ={})
    try:
        services.begin()
        services.wait_ready()
        assert services.postgres is not None
        with psycopg.connect(services.postgres.address.url) as connection:
            connection.execute(TABLES)
        services.start_application()
        yield services
    finally:
        services.stop()


@pytest.fixture(scope="module")
def counter(served: Services) -> Iterator[Counter]:
    with closing(Counter(served)) as counter:
        yield counter
        assert counter.notes == []


@pytest.fixture(scope="module")
def postgres_url(served: Services) -> str:
    assert served.postgres is not None
    return served.postgres.address.url


@pytest.fixture(scope="module")
def redis_url(served: Services) -> str:
    assert served.redis is not None
    return served.redis.address.url


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    try:
        yield connection
    finally:
        await connection.close()


async def count(counter: Counter, body: Body) -> Counts:
    await body()
    rounds = Pass(counter)
    for timer in rounds:
        with timer:
            await body()
    return rounds.counts


def count_sync(counter: Counter, body: Any) -> Counts:
    body()
    rounds = Pass(counter)
    for timer in rounds:
        with timer:
            body()
    return rounds.counts


def at(mark: str, function: str, count: float = 1, *, file: str = "clients.py", process: str = "") -> list[CallSite]:
    """Return the site of a line that ends with a comment."""
    lines = (ROOT / SHOP / file).read_text().splitlines()
    [line] = [number for number, text in enumerate(lines, start=1) if text.endswith(f"# {mark}")]
    return [CallSite(f"{SHOP}/{file}", line, function, count, process)]


def statements(counts: Counts) -> dict[str, list[CallSite]]:
    """Return the sites of statements and commands: as many as the server has counted."""
    assert counts.sites.keys() <= counts.same.keys() | counts.varying.keys()
    # Whether a lock blocks depends on the machine.
    all_sites = {name: sites for name, sites in counts.sites.items() if not name.startswith("blocking ")}
    assert {name: sum(one.count for one in sites) for name, sites in all_sites.items()} == {
        name: number for name, number in counts.same.items() if name in all_sites
    }
    found = {name.partition(" "): sites for name, sites in all_sites.items()}
    return {text: sites for (kind, _, text), sites in found.items() if kind in ("postgres.statement", "redis.command")}


def functions() -> dict[tuple[Any, str], Any]:
    """Return the functions of the drivers and of asyncio."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in WRAPPED]
    classes = {one for module in modules for one in vars(module).values() if isinstance(one, type)}
    return {(one, name): value for one in [*modules, *classes] for name, value in vars(one).items() if callable(value)}


async def test_asyncpg(counter: Counter, connection: asyncpg.Connection) -> None:
    """Each statement has its line, those of the driver too, through methods that await one another."""
    found = statements(await count(counter, lambda: clients.with_asyncpg(connection)))

    assert found == {
        **dict.fromkeys(["BEGIN", "COMMIT"], at("begin", "with_asyncpg")),
        "UPDATE line SET n = ? WHERE id = ?": at("execute", "with_asyncpg"),
        "UPDATE line SET n = $1 WHERE id = ?": at("executemany", "with_asyncpg", 2),
        "SELECT id FROM line WHERE id < ? ORDER BY id": at("cursor", "with_asyncpg"),
        'COPY "copied" FROM STDIN (FORMAT binary)': at("copy", "with_asyncpg"),
    }
    found = statements(await count(counter, clients.Repository(connection).all))
    assert found == {"SELECT n FROM line WHERE id = $1": at("one", "one", 3)}


async def test_asyncpg_without_a_cache_and_prepared(counter: Counter, connection: asyncpg.Connection) -> None:
    """A statement is prepared at one line and executed at another."""
    found = (await count(counter, lambda: clients.with_asyncpg_prepared(connection))).sites

    assert {
        name: sites for name, sites in found.items() if name.startswith(("postgres.parse", "postgres.statement"))
    } == {
        "postgres.parse SELECT n + ? FROM line WHERE id = $1": at("prepare", "with_asyncpg_prepared"),
        "postgres.statement SELECT n + ? FROM line WHERE id = $1": at("prepared", "with_asyncpg_prepared"),
    }


async def test_a_pool_of_asyncpg(counter: Counter, postgres_url: str) -> None:
    """asyncpg resets a connection in another task. A task of the driver's code alone has the line that began it."""
    async with asyncpg.create_pool(postgres_url, min_size=2, max_size=2) as pool:
        found = await count(counter, lambda: clients.with_pool(pool))
        assert statements(found)["SELECT ? + ?"] == at("fetch", "with_pool")
        [reset] = [name for name in found.sites if "pg_advisory_unlock_all" in name]
        assert found.sites[reset] == at("release", "with_pool")

        found = await count(counter, lambda: clients.together(pool))
        assert statements(found)["SELECT ? * ?"] == at("gather", "together", 2)


async def test_new_connections(counter: Counter, postgres_url: str, redis_url: str) -> None:
    """Also the rows and buffers that a statement reads have its line."""
    found = await count(counter, lambda: clients.with_new_connections(postgres_url, redis_url))
    of_postgres = [at(mark, "with_new_connections")[0] for mark in ("asyncpg", "psycopg", "async psycopg")]
    assert found.sites["postgres.connections"] == of_postgres
    assert found.sites["redis.connections"] == [
        at(mark, "with_new_connections")[0] for mark in ("redis", "async redis")
    ]
    assert (found.same["postgres.connections"], found.same["redis.connections"]) == (3, 2)


async def test_what_is_read(counter: Counter, connection: asyncpg.Connection) -> None:
    """Rows and buffers have the line of the statement that read them."""
    found = await count(counter, clients.Repository(connection).read)
    one, many = at("one", "one"), at("many", "read")
    read = {name: rows for name, rows in found.same.items() if kind_of(name) == "postgres.rows_read"}
    assert sorted(read.values()) == [1, 4]
    for name, rows in read.items():
        [site] = found.sites[name]
        assert (site.line, site.count) == ((many if rows == 4 else one)[0].line, rows)
        assert [again.line for again in found.sites[name.replace("rows_read", "buffers")]] == [site.line]


def test_psycopg(counter: Counter, postgres_url: str) -> None:
    """The text of the client, with %s and %(name)s, is found by the text that the server logs."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        found = statements(count_sync(counter, lambda: clients.with_psycopg(connection)))
        assert found == {
            **dict.fromkeys(["BEGIN", "COMMIT"], at("sync begin", "with_psycopg")),
            "SELECT n FROM line WHERE id = $1": at("sync execute", "with_psycopg"),
            "SELECT n FROM line WHERE n = $1": at("sync named", "with_psycopg"),
            "UPDATE line SET n = $1 WHERE id = ?": at("sync executemany", "with_psycopg", 2),
            "DECLARE ? CURSOR FOR SELECT id FROM line WHERE id < ?": at("sync declare", "with_psycopg"),
            "FETCH FORWARD ALL FROM ?": at("sync fetch", "with_psycopg"),
            "CLOSE ?": at("sync close", "with_psycopg"),
        }
        found = statements(count_sync(counter, lambda: clients.with_psycopg_pipeline(connection)))
        assert found["SELECT n FROM line WHERE id = $1"] == at("sync pipeline", "with_psycopg_pipeline")


def test_psycopg2(counter: Counter, postgres_url: str) -> None:
    """Also of a connection that was there before, of one that the round opens, and of another kind of cursor."""
    with closing(psycopg2.connect(postgres_url)) as connection:
        connection.autocommit = True
        found = statements(count_sync(counter, lambda: clients.with_psycopg2(connection, postgres_url)))
        assert connection.cursor_factory is None
    assert {name: sites for name, sites in found.items() if sites} == {
        "SELECT n FROM line WHERE id = ?": at("old execute", "with_psycopg2"),
        "UPDATE line SET n = ? WHERE id = ?": at("old executemany", "with_psycopg2", 2),
        "SELECT n FROM line WHERE n = ?": at("old dictionary", "with_psycopg2"),
        "SELECT id FROM line": at("old connection", "with_psycopg2"),
    }


async def test_async_psycopg(counter: Counter, postgres_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        found = statements(await count(counter, lambda: clients.with_async_psycopg(connection)))
    assert found == {
        **dict.fromkeys(["BEGIN", "COMMIT"], at("async begin", "with_async_psycopg")),
        "SELECT n FROM line WHERE id = $1": at("async execute", "with_async_psycopg"),
        "(empty statement)": at("async ping", "with_async_psycopg"),
    }


LAZY = "SELECT … FROM order_lines WHERE $1::INTEGER = order_lines.order_id ORDER BY order_lines.id"


def lines_of(counts: dict[str, list[CallSite]], *words: str) -> list[CallSite]:
    """Return the sites of the one statement with these words."""
    [sites] = [sites for name, sites in counts.items() if all(word in name for word in words)]
    return sites


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_sqlalchemy(counter: Counter, postgres_url: str, driver: str) -> None:
    """A lazy load has the line that reads the attribute."""
    engine = sqlalchemy.create_engine(postgres_url.replace("postgresql://", f"postgresql+{driver}://"))

    def work() -> None:
        with Session(engine) as session:
            clients.with_sqlalchemy(session)

    found = statements(count_sync(counter, work))
    engine.dispose()

    assert lines_of(found, "FROM orders") == at("orders", "totals", file="models.py")
    assert lines_of(found, "FROM order_lines") == at("lines", "totals", 3, file="models.py")


def test_a_template(counter: Counter, postgres_url: str, tmp_path: Path) -> None:
    """The lines of Jinja's code are not those of the template: its statements have the line that renders it."""
    (tmp_path / "orders.html").write_text("{% for order in orders %}{{ order.lines|length }}{% endfor %}")
    template = Environment(loader=FileSystemLoader(tmp_path)).get_template("orders.html")  # noqa: S701
    engine = sqlalchemy.create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))

    def work() -> None:
        with Session(engine) as session:
            clients.rendered(session, template)

    found = statements(count_sync(counter, work))
    engine.dispose()

    assert lines_of(found, "FROM order_lines") == at("render", "rendered", 3)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
async def test_async_sqlalchemy(counter: Counter, postgres_url: str, driver: str) -> None:
    """The engine runs the code of the session in greenlets: the line inside of them is found, or else that outside."""
    engine = create_async_engine(postgres_url.replace("postgresql://", f"postgresql+{driver}://"))

    async def work() -> None:
        async with AsyncSession(engine) as session:
            await clients.with_async_sqlalchemy(session)

    found = statements(await count(counter, work))
    await engine.dispose()

    inside = at("lines", "totals", 3, file="models.py"), at("orders", "totals", file="models.py")
    assert lines_of(found, "FROM order_lines", "= order_lines.order_id") == inside[0]
    assert lines_of(found, "FROM orders") == at("async select", "with_async_sqlalchemy") + inside[1]
    assert lines_of(found, "FROM order_lines", "IN (") == at("async select", "with_async_sqlalchemy")
    assert lines_of(found, "ROLLBACK") == at("rollback", "with_async_sqlalchemy")


def test_redis(counter: Counter, redis_url: str) -> None:
    """The commands of a pipeline have the lines that add them."""
    with redis.Redis.from_url(redis_url) as client:
        found = statements(count_sync(counter, lambda: clients.with_redis(client)))
        assert found == {
            "GET": at("get", "with_redis", 3),
            "CONFIG GET": at("config", "with_redis"),
            "OBJECT ENCODING": at("object", "with_redis"),
        }
        counts = count_sync(counter, lambda: clients.with_redis_pipeline(client))
        assert counts.sites["redis.messages"] == at("sent", "with_redis_pipeline")
        assert statements(counts) == {
            "SET": at("queued", "with_redis_pipeline", 3),
            **dict.fromkeys(["MULTI", "EXEC"], at("sent", "with_redis_pipeline")),
        }


@pytest.mark.parametrize("body", [clients.generated, clients.in_thread])
def test_without_a_line(counter: Counter, redis_url: str, body: Callable[[redis.Redis], None]) -> None:
    """Code from a string, and a thread that runs nothing but the library: the command is counted all the same."""
    with redis.Redis.from_url(redis_url) as client:
        counts = count_sync(counter, lambda: body(client))
    assert counts.same["redis.command GET"] == 1
    assert counts.sites == {}


async def test_tasks_and_threads_of_libraries(counter: Counter, redis_url: str) -> None:
    """They belong to the line that begins them."""
    async with Redis.from_url(redis_url) as client:
        with redis.Redis.from_url(redis_url) as other:
            found = statements(await count(counter, lambda: clients.elsewhere(client, other)))
    assert found == {
        "GET": at("wait_for", "elsewhere"),
        "STRLEN": at("create_task", "elsewhere"),
        "INCRBY": at("to_thread", "elsewhere"),
        "APPEND": at("threadpool", "elsewhere"),
        "DEL": at("submit", "elsewhere"),
    }


async def test_async_redis(counter: Counter, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        found = statements(await count(counter, lambda: clients.with_async_redis(client)))
        assert found == {"GET": at("async get", "with_async_redis", 3)}
        found = statements(await count(counter, lambda: clients.with_async_redis_pipeline(client)))
        assert found == {"SET": at("async queued", "with_async_redis_pipeline", 3)}
        found = statements(await count(counter, lambda: clients.redis_together(client)))
        assert found == {"GET": at("async gather", "redis_together", 3)}


async def test_an_application(counter: Counter, served: Services) -> None:
    """Endpoints that await, behind a middleware with a task of its own, and endpoints in threads."""
    assert served.app is not None
    async with httpx.AsyncClient(base_url=served.app.address.url, trust_env=False) as client:

        async def get(path: str) -> None:
            (await client.get(path)).raise_for_status()

        found = statements(await count(counter, lambda: get("/orders")))
        assert found["SELECT n FROM line WHERE id = $1"] == at("one", "one", 3, process="app")
        assert found["INCRBY"] == at("served redis", "orders", file="app.py", process="app")

        found = statements(await count(counter, lambda: get("/lines")))
        assert found["SELECT n FROM line WHERE n = $1"] == at("thread", "lines", 3, file="app.py", process="app")


async def test_a_background_task(counter: Counter, served: Services) -> None:
    """The work of an application after its answer belongs to the round, too."""
    assert served.app is not None
    async with httpx.AsyncClient(base_url=served.app.address.url, trust_env=False) as client:

        async def get() -> None:
            (await client.get("/mailed")).raise_for_status()

        counts = await count(counter, get)
    assert counts.same["redis.command INCRBY"] == 20
    assert statements(counts)["SELECT n FROM line WHERE id = $1"] == at(
        "mail", "mail", 20, file="app.py", process="app"
    )


async def test_a_process_that_is_forked_during_a_pass(counter: Counter, served: Services) -> None:
    """Its drivers are as they were: nobody asks it in this pass."""
    assert served.app is not None
    async with httpx.AsyncClient(base_url=served.app.address.url, trust_env=False) as client:

        async def wrapped() -> list[bool]:
            found: list[bool] = (await client.get("/forked")).raise_for_status().json()
            return found

        during = []
        for timer in Pass(counter):
            with timer:
                during.append(await wrapped())
        assert during[-1] == [True, False]
        assert not any(in_child for _, in_child in during)
        assert await wrapped() == [False, False]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_django_in_two_processes(served: Services, tmp_path: Path, driver: str) -> None:
    """gunicorn forks its workers: each answers about itself. Django's asynchronous queries run in threads."""
    assert served.redis is not None
    assert served.postgres is not None
    (tmp_path / "settings.toml").write_text(f'{ENV}SHOP_DRIVER = "{driver}"\n{DJANGO}')
    shared = {"redis": served.redis.address, "postgres": served.postgres.address}
    services = Services(load_settings(tmp_path / "settings.toml", {}), ROOT, environ={}, shared=shared)
    processes = set[str]()

    def get(path: str) -> None:
        answer = httpx.get(url + path, trust_env=False)  # a new connection, which either process may accept
        assert answer.status_code == 200
        processes.add(answer.text.rpartition(" ")[2])

    try:
        services.begin()
        services.start_application()
        assert services.app is not None
        url = services.app.address.url
        with closing(Counter(services)) as counter:
            while len(processes) < 2:
                get("/orders")
            processes.clear()
            while len(processes) < 2:
                counts = count_sync(counter, lambda: get("/orders"))
                lines = at("django lines", "orders", 3, file="site.py", process="app")
                assert lines_of(counts.sites, 'FROM "order_lines"') == lines
                assert lines_of(counts.sites, 'FROM "orders"') == at(
                    "django orders", "orders", file="site.py", process="app"
                )
            counts = count_sync(counter, lambda: get("/later"))
            assert lines_of(counts.sites, "COUNT") == at("django async", "orders_later", file="site.py", process="app")
    finally:
        services.stop()


@pytest.mark.usefixtures("served")
def test_all_functions_are_restored() -> None:
    """A pass leaves the drivers and asyncio as they were."""
    before = functions()
    probes = Probes([str(ROOT)])
    assert probes.begin(["sites"]) == {}
    assert len([name for name, one in functions().items() if one is not before.get(name)]) > 15
    probes.end()
    assert functions() == before
