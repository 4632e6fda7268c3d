"""A trial of real applications on real servers: what it finds, and what it says of those that fail."""

import json
import socketserver
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from plumbline.adopting.asking import has_empty_list
from plumbline.adopting.files.sqlite import existing_files
from plumbline.adopting.trial import LOOK, try_application
from plumbline.adopting.tried import Tried
from plumbline.settings_file import load_settings

Try = Callable[..., Tried]
FASTAPI = """
    import os
    from contextlib import asynccontextmanager

    import asyncpg
    import redis.asyncio as redis
    from fastapi import FastAPI
    from pydantic import BaseModel, Field
    from pydantic_settings import BaseSettings, SettingsConfigDict

    class Mail(BaseModel):
        host: str = "localhost"

    class Settings(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="shop_", env_file=".env", env_nested_delimiter="__")
        database_url: str
        secret_key: str
        token: str = Field(validation_alias="API_TOKEN", default="")
        mail: Mail = Mail()

    settings = Settings()
    cache = redis.from_url(os.environ["CACHE"])
    level = os.getenv("LEVEL", "info")
    everything = dict(os.environ)

    @asynccontextmanager
    async def lifespan(app):
        connection = await asyncpg.connect(settings.database_url)
        await connection.execute("CREATE TABLE item (name text)")  # fails if it is done twice
        print("begins with", settings.secret_key)
        yield
        await connection.close()

    app = FastAPI(lifespan=lifespan)

    class Item(BaseModel):
        name: str = Field(examples=["pen"])
        count: int = 1

    @app.get("/up")
    async def up():
        return {}

    @app.get("/items")
    async def list_items(limit: int = 10):
        return {"pong": await cache.ping()}

    @app.get("/items/{item_id}")
    async def get_item(item_id: int):
        return {}

    @app.get("/search")
    async def search(q: str):
        return {}

    @app.post("/items")
    async def add_item(item: Item):
        os._exit(1)

    @app.get("/account/delete")
    async def delete_account():
        os._exit(1)

    @app.get("/broken")
    async def broken():
        raise RuntimeError("\\x1b[31m" + settings.secret_key)
"""


@pytest.fixture
def trial(tmp_path: Path, cache_home: Path) -> Try:
    """Write an application to app.py, and try it."""
    assert cache_home.is_dir()

    def run(
        source: str,
        settings: str = "",
        app: str = 'asgi = "app:app"',
        health_paths: tuple[str, ...] = (),
        *,
        examples: bool = False,
        protected: Sequence[str] = (),
    ) -> Tried:
        (tmp_path / "app.py").write_text(textwrap.dedent(source), encoding="utf-8")
        services = "" if "services" in settings else 'services = "off"\n'
        text = f"{services}{settings}\n[app]\n{app}\n"
        (tmp_path / "settings.toml").write_text(text, encoding="utf-8")
        settings_ = load_settings(tmp_path / "settings.toml")
        return try_application(settings_, tmp_path, health_paths=health_paths, examples=examples, protected=protected)

    return run


def test_fastapi(trial: Try, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its servers, variables, routes and answers. It creates its tables at its start."""
    (tmp_path / ".env").write_text("SHOP_SECRET_KEY=hush-hush-42\n")
    monkeypatch.setenv("API_TOKEN", "of-this-shell")
    servers = 'services = "embedded"\nprepare = ["python", "prepare.py"]'
    env = '[env]\nSHOP_DATABASE_URL = "{postgres.url}"\nCACHE = "{redis.url}"'
    (tmp_path / "prepare.py").write_text(
        "import asyncio, os, asyncpg\n\n\nasync def main():\n"
        "    await (await asyncpg.connect(os.environ['SHOP_DATABASE_URL'])).close()\n\n\nasyncio.run(main())\n"
    )

    tried = trial(FASTAPI, f"{servers}\n{env}", health_paths=("/health", "/up", "/items"))

    assert (tried.failed, tried.message) == (None, "")
    assert tried.touched == {"prepare": ("postgres",), "app": ("redis", "postgres")}
    assert tried.health_path == "/up"
    assert {(one.name, one.set_by, one.required, one.file, one.seen) for one in tried.variables} == {
        ("SHOP_DATABASE_URL", "env", True, "", "app.Settings.database_url"),
        ("SHOP_SECRET_KEY", ".env", True, ".env", "app.Settings.secret_key"),
        ("API_TOKEN", "environment", False, "", "app.Settings.token"),
        ("SHOP_MAIL__HOST", "default", False, "", "app.Settings.mail.host"),
        ("CACHE", "env", True, "", "app.py:22"),
        ("LEVEL", "default", False, "", "app.py:23"),
    }
    assert {(one.method, one.path, one.has_parameters, one.name) for one in tried.routes} == {
        ("GET", "/up", False, "up"),
        ("GET", "/items", False, "list_items"),
        ("GET", "/items/{item_id}", True, "get_item"),
        ("GET", "/search", True, "search"),
        ("POST", "/items", False, "add_item"),
        ("GET", "/account/delete", False, "delete_account"),
        ("GET", "/broken", False, "broken"),
    }
    assert [one.body for one in tried.routes if one.method == "POST"] == [{"name": "pen", "count": 1}]
    assert {one.route.path: one.status for one in tried.answers} == {"/up": 200, "/items": 200, "/broken": 500}
    [error] = [one.error for one in tried.answers if one.error]
    assert error.startswith("RuntimeError: ")
    assert "\x1b" not in error
    assert [one.path for one in tried.left_out] == ["/account/delete"]


def test_django(trial: Try, tmp_path: Path) -> None:
    """Its routes come from its URL resolver, and its variables by way of django-environ."""
    (tmp_path / "urls.py").write_text(
        textwrap.dedent("""
            from django.contrib.contenttypes.models import ContentType
            from django.http import JsonResponse
            from django.urls import include, path, re_path
            from django.views import View

            def ping(request, **values):
                return JsonResponse({"types": ContentType.objects.count()})

            class Orders(View):
                def get(self, request):
                    return JsonResponse({}, status=401)

                def post(self, request):
                    raise SystemExit(1)

            inner = [path("types/<int:pk>/", ping), path("orders/", Orders.as_view(), name="orders")]
            urlpatterns = [path("ping/", ping), path("api/", include(inner))]
            urlpatterns += [re_path(r"^old/(?P<year>[0-9]{4})/$", ping, name="old"), re_path(r"^plain/$", ping)]
        """)
    )
    (tmp_path / "manage.py").write_text(
        "import sys\nimport app\nfrom django.core.management import call_command\ncall_command(*sys.argv[1:])\n"
    )
    source = """
        import environ
        from django.conf import settings
        from django.core.asgi import get_asgi_application

        env = environ.Env()
        settings.configure(
            SECRET_KEY=env("SECRET", default="none"),
            ALLOWED_HOSTS=["*"],
            DATABASES={"default": {**env.db("DATABASE_URL"), "CONN_MAX_AGE": None}},  # short connections may be missed
            INSTALLED_APPS=["django.contrib.contenttypes"],
            ROOT_URLCONF="urls",
        )
        app = get_asgi_application()
    """
    settings = 'services = "embedded"\nprepare = ["python", "manage.py", "migrate"]\nredis.backend = "off"'
    settings += '\n[env]\nDATABASE_URL = "{postgres.url}"'

    tried = trial(source, settings, 'asgi = "app:app"\nhealth_path = "/ping/"')

    assert (tried.failed, tried.message) == (None, "")
    assert tried.touched == {"prepare": ("postgres",), "app": ("postgres",)}
    assert {(one.name, one.set_by) for one in tried.variables} == {("SECRET", "default"), ("DATABASE_URL", "env")}
    assert [(one.method, one.path, one.has_parameters, one.name) for one in tried.routes] == [
        ("GET", "/ping/", False, ""),
        ("GET", "/api/types/{pk}/", True, ""),
        ("GET", "/api/orders/", False, "orders"),
        ("POST", "/api/orders/", False, "orders"),
        ("GET", "/old/{year}/", True, "old"),
        ("GET", "/plain/", False, ""),
    ]
    assert [one.status for one in tried.answers] == [200, 401, 200]


LITESTAR = """
    from litestar import Litestar, get, post

    @get("/health")
    async def health() -> str:
        return ""

    @get("/items/{item_id:int}")
    async def item(item_id: int) -> str:
        return ""

    @post("/items")
    async def add() -> str:
        return ""

    app = Litestar([health, item, add])
"""
FLASK = """
    from a2wsgi import WSGIMiddleware
    from flask import Flask

    flask = Flask(__name__)

    @flask.get("/health")
    def health():
        return ""

    @flask.get("/items/<int:item_id>")
    def item(item_id):
        return ""

    @flask.post("/items")
    def add():
        return ""

    def app():
        return WSGIMiddleware(flask)
"""
GUNICORN = '["gunicorn", "app:flask", "--bind", "{host}:{port}"]'
STARLETTE = """
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def answer(request):
        return PlainTextResponse("")

    items = Mount("/items", routes=[Route("/{item_id:int}", answer)])
    app = Starlette(routes=[Route("/health", answer), Route("/items", answer, methods=["POST"]), items])
"""


@pytest.mark.parametrize(
    ("source", "app"),
    [
        (LITESTAR, 'asgi = "app:app"'),
        (STARLETTE, 'asgi = "app:app"'),
        (FLASK, 'asgi = "app:app"\nfactory = true'),
        (FLASK, 'wsgi = "app:flask"'),
        (FLASK, f'command = {GUNICORN}\nenv.OWN_URL = "http://{{host}}:{{port}}"'),
    ],
    ids=["litestar", "starlette", "flask in a factory", "wsgi", "command"],
)
def test_routes(trial: Try, source: str, app: str) -> None:
    """Each framework lists its routes, even inside other applications. Its own, such as static files, are left out."""
    tried = trial(source, app=app)

    assert (tried.failed, tried.message) == (None, "")
    assert {(one.method, one.path, one.has_parameters) for one in tried.routes} == {
        ("GET", "/health", False),
        ("GET", "/items/{item_id}", True),
        ("POST", "/items", False),
    }
    assert [(one.route.path, one.status) for one in tried.answers] == [("/health", 200)]


PYDANTIC = """
    from pydantic import BaseModel
    from pydantic_settings import BaseSettings

    class Database(BaseModel):
        host: str

    class Settings(BaseSettings, env_prefix="SHOP_", env_nested_delimiter="__", env_file=".env"):
        key: str
        database: Database

    Settings(database={})
"""


@pytest.mark.parametrize(
    ("stage", "source", "missing"),
    [
        ("prepare", PYDANTIC, ("SHOP_KEY", "SHOP_DATABASE__HOST")),
        ("application", PYDANTIC, ("SHOP_KEY", "SHOP_DATABASE__HOST")),
        ("application", "import os\n\nos.environ['SHOP_KEY']", ("SHOP_KEY",)),
        ("prepare", "import environ\n\nenviron.Env()('SHOP_KEY')", ("SHOP_KEY",)),
        ("prepare", "from decouple import config\n\nconfig('SHOP_KEY')", ("SHOP_KEY",)),
        ("application", "from starlette.config import Config\n\nConfig()('SHOP_KEY')", ("SHOP_KEY",)),
        ("prepare", "{}['SHOP_KEY']", ()),
    ],
    ids=["pydantic in prepare", "pydantic", "os", "environ", "decouple", "starlette", "a dict"],
)
def test_missing_variables(trial: Try, stage: str, source: str, missing: tuple[str, ...]) -> None:
    """A failure names the variables that are missing, in `prepare` as well."""
    tried = trial(source, 'prepare = ["python", "app.py"]' if stage == "prepare" else "")

    assert tried.failed == stage
    assert "exited with code 1" in tried.message
    assert tried.missing_variables == missing
    assert {one.name for one in tried.variables if one.set_by == ""} == {*missing}


@pytest.mark.parametrize("health_paths", [("/health", "/"), ()])
def test_only_a_route_of_its_own_answers(trial: Try, health_paths: tuple[str, ...]) -> None:
    """With candidates for the path, a route that answers 200 is one, too. `doctor` has none."""
    source = """
        from fastapi import FastAPI

        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


        @app.get("/orders/delete")
        def delete():
            return 0


        @app.get("/orders")
        def orders():
            return 1
    """

    tried = trial(source, health_paths=health_paths)

    assert (tried.failed, tried.health_path) == ((None, "/orders") if health_paths else ("application", ""))


def test_an_application_that_waits_for_ever(trial: Try) -> None:
    """The message has its last output, the line, and the hosts that it asked for."""
    source = """
        import contextlib, socket, threading

        print("looks for its flags", flush=True)
        with contextlib.suppress(OSError):
            socket.getaddrinfo("flags.invalid", 443)
        threading.Event().wait()
    """
    tried = trial(source, app='asgi = "app:app"\nready_limit_s = 1')

    assert tried.failed == "application"
    assert "looks for its flags" in tried.message
    assert "slow at     app.py:7, while it is imported" in tried.message
    assert "flags.invalid:443: not a server of this run" in tried.message
    assert "in [env] of tests/performance/settings.toml" in tried.message


def test_an_application_that_hangs_in_code_without_a_file(trial: Try) -> None:
    """The message has the line of the project that runs it, as for an import that takes long."""
    source = """
        import threading

        exec("threading.Event().wait()")
    """
    tried = trial(source, app='asgi = "app:app"\nready_limit_s = 1')

    assert "slow at     app.py:4, while it is imported" in tried.message


DYING = """
    import os
    import socket
    from pathlib import Path
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def answer(request):
        return PlainTextResponse("")

    async def die(request):
        print(Path(".env").read_text(), flush=True)
        os._exit(9)

    async def connect(request):
        socket.create_connection(("127.0.0.1", int(os.environ["ELSEWHERE"]))).close()
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/health", answer), Route("/PATH", PATH), Route("/next", answer)])
"""


def test_an_application_that_a_request_ends(trial: Try, tmp_path: Path) -> None:
    """The message names the request, and hides the secrets of a `.env` file."""
    (tmp_path / ".env").write_text("SIGNING_KEY=hush-hush-42\nA_URL=amqp://me:quiet-please@localhost\n")

    tried = trial(DYING.replace("PATH", "die"))

    assert tried.failed == "answers"
    assert "app ended at GET /die: exited with code 9" in tried.message
    assert tried.message.endswith("in `prepare` or [env] of tests/performance/settings.toml")
    assert "SIGNING_KEY=***" in tried.message
    assert "quiet-please" not in tried.message
    assert [(one.status, one.error) for one in tried.answers] == [(200, ""), (0, "the application ended")]
    assert [one.path for one in tried.left_out] == ["/next"]


def test_another_server(trial: Try, other_redis: int) -> None:
    """A connection to a server that is not the run's is a failure, although the route answers."""
    tried = trial(DYING.replace("PATH", "connect"), f'[env]\nELSEWHERE = "{other_redis}"')

    assert tried.failed == "answers"
    assert "app connects to a Redis server that does not belong to this run" in tried.message
    assert f"127.0.0.1:{other_redis}" in tried.message.replace("localhost", "127.0.0.1")


@pytest.fixture
def other_redis() -> Iterator[int]:
    """The port of a server that answers as Redis does."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if self.request.recv(64):
                self.request.sendall(b"+PONG\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_the_environment_of_the_application_may_lack_plumbline(tmp_path: Path) -> None:
    """Only the standard library is there."""
    (tmp_path / "app.py").write_text("app = object()\n")
    command = [sys.executable, "-I", "-S", str(LOOK), str(tmp_path / "found.json"), str(tmp_path)]
    subprocess.run([*command, ".", "app:app", "0", "10"], check=True)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["error"] == ""
    assert found["routes"] == found["settings"] == []


EXAMPLES = """
    from fastapi import FastAPI
    from pydantic import BaseModel, Field

    app = FastAPI()


    class Item(BaseModel):
        name: str = Field(examples=["pen"])


    class Page(BaseModel):
        size: int = 10


    @app.get("/health")
    async def health():
        return {}


    @app.post("/refused", status_code=409)
    async def refused(item: Item):
        return item


    @app.post("/without-example")
    async def without_example(page: Page):
        raise RuntimeError("this was not documented as an example")


    @app.post("/items", status_code=201)
    async def add_item(item: Item):
        return item


    @app.post("/later")
    async def later(item: Item):
        return item
"""


def test_hidden_routes_of_included_routers(trial: Try) -> None:
    """No document has them."""
    source = """
        from fastapi import APIRouter, FastAPI

        inner, outer, app = APIRouter(), APIRouter(), FastAPI()
        inner.get("/up", include_in_schema=False)(lambda: {})
        outer.websocket("/live")(lambda socket: None)
        outer.include_router(inner, prefix="/inner")
        app.include_router(outer, prefix="/outer")
    """
    tried = trial(source)

    assert [(one.method, one.path) for one in tried.routes] == [("GET", "/outer/inner/up")]
    assert [one.status for one in tried.answers] == [200]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"[]", True),
        (b'{"count": 0, "results": []}', True),
        (b"[1]", False),
        (b'{"results": [{"tags": []}]}', False),
        (b"{}", False),
        (b"<ul></ul>", False),
        (b"\xff", False),
        (b"[" * 100_000, False),
    ],
)
def test_answers_with_an_empty_list(content: bytes, found: bool) -> None:
    assert has_empty_list(content) is found


def test_documented_examples_are_posted_if_asked(trial: Try) -> None:
    """They are sent up to the first that is accepted."""
    tried = trial(EXAMPLES, examples=True)

    posted = {one.route.path: one.status for one in tried.answers if one.route.method == "POST"}
    assert posted == {"/refused": 409, "/items": 201}


def test_the_database_that_the_user_works_with(trial: Try) -> None:
    """SQLite's file is named, unless it is one of [env] or in memory."""
    source = """
        import sqlite3
        from starlette.applications import Starlette
        [sqlite3.connect(name).execute("CREATE TABLE item (name)") for name in ("work.db", "perf.db", ":memory:")]
        app = Starlette()
    """
    assert trial(source, settings='[env]\nDATABASE = "sqlite:///perf.db"').sqlite == ("work.db",)


def test_the_database_that_the_user_works_with_is_not_opened(trial: Try, tmp_path: Path) -> None:
    """Unless the settings allow that."""
    sqlite3.connect(tmp_path / "work.db").execute("CREATE TABLE item (name)").connection.close()
    before = (tmp_path / "work.db").read_bytes()
    source = """
        import sqlite3
        from starlette.applications import Starlette
        try:
            sqlite3.connect("file:work.db?mode=rwc", uri=True).execute("CREATE TABLE more (name)")
        except PermissionError as error:
            print(error)
        app = Starlette()
    """
    assert existing_files(tmp_path) == ["work.db"]

    tried = trial(source, protected=["work.db"])

    assert (tried.failed, tried.sqlite, (tmp_path / "work.db").read_bytes()) == ("settings", (), before)
    assert 'also_allowed = ["./work.db"]' in tried.message
    assert trial(source, settings='also_allowed = ["./work.db"]', protected=["work.db"]).failed != "settings"
    assert (tmp_path / "work.db").read_bytes() != before
