"""The application under test: start, readiness, failures and stop, with real uvicorn processes and servers."""

import http.server
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import pytest

from plumbline.services import base
from plumbline.services.application import Application
from plumbline.services.errors import NotReady
from plumbline.services.run import ServiceRun
from plumbline.services.services import Services
from plumbline.settings import AppSettings, Settings
from tests.support.code_under_test import HEALTHY, LIMIT_S, failure, start, until

ROOT = Path(__file__).resolve().parents[2]
StartApplication = Callable[..., Application]


@pytest.fixture
def start_application(tmp_path: Path, run: ServiceRun) -> Iterator[StartApplication]:
    """Write `source` to sample.py and start it."""
    started: list[Application] = []

    def start(source: str = HEALTHY, asgi: str = "sample:app", **settings: object) -> Application:
        (tmp_path / "sample.py").write_text(textwrap.dedent(source), encoding="utf-8")
        app = Application("app", AppSettings(asgi=asgi, **settings), tmp_path, {}, run)  # type: ignore[arg-type]
        started.append(app)
        app.start()
        return app

    yield start
    for app in started:
        app.stop()


def answers(url: str) -> bool:
    try:
        httpx.get(url)
    except httpx.TransportError:
        return False
    return True


# ---- an ASGI application


def test_an_application_answers_at_its_address_once_it_is_ready(start_application: StartApplication) -> None:
    app = start_application()

    app.wait_ready(LIMIT_S)

    assert httpx.get(f"{app.address.url}/health").text == "well"
    assert (app.name, app.backend, app.state()) == ("app", "process", "running")


def test_a_factory_is_called(start_application: StartApplication) -> None:
    app = start_application(HEALTHY + "\n    def make():\n        return app\n", asgi="sample:make", factory=True)

    app.wait_ready(LIMIT_S)


def test_the_import_path_needs_no_current_folder(
    start_application: StartApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")

    start_application().wait_ready(LIMIT_S)


def test_several_workers_are_never_started(
    start_application: StartApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    app = start_application()

    app.wait_ready(LIMIT_S)

    assert len(app.pids()) == 1


def test_a_failing_import_is_reported_at_once_with_its_traceback(start_application: StartApplication) -> None:
    message = failure(start_application("raise RuntimeError('no licence key')"))

    assert message.startswith("app is not ready: exited with code 1")
    assert "RuntimeError: no licence key" in message
    assert "next        correct sample.py:1, or [app] or [env] in tests/performance/settings.toml" in message


def test_a_failing_lifespan_is_reported_at_once_with_its_traceback(start_application: StartApplication) -> None:
    source = """
        from starlette.applications import Starlette

        async def lifespan(app):
            raise RuntimeError("the pool can't be opened")
            yield

        app = Starlette(lifespan=lifespan)
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "ignore")
        message = failure(start_application(source))

    assert message.startswith("app is not ready: exited with code 3")
    assert "RuntimeError: the pool can't be opened" in message
    assert "next        correct sample.py:5, or [app]" in message


@pytest.mark.parametrize("asgi", ["smaple:app", "sample:apq"])
def test_a_wrong_name_of_the_application_is_reported(start_application: StartApplication, asgi: str) -> None:
    message = failure(start_application(asgi=asgi))

    assert "Error loading ASGI app" in message
    assert f"check `asgi` and `directory` of [app] in settings.toml: asgi is '{asgi}'" in message


def test_a_package_outside_the_folder_is_reported(start_application: StartApplication) -> None:
    """As with a src layout. uvicorn prints only the traceback of the failed import."""
    message = failure(start_application(asgi="shop.main:app"))

    assert "No module named 'shop'" in message
    assert "check `asgi` and `directory` of [app] in settings.toml: asgi is 'shop.main:app'" in message


def test_a_missing_package_of_the_application_is_reported(start_application: StartApplication) -> None:
    message = failure(start_application("import not_installed"))

    assert "add the package of the module not_installed to tests/performance/requirements.txt" in message


def test_a_missing_uvicorn_is_reported(
    start_application: StartApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare/bin/python"))

    assert "add uvicorn to tests/performance/requirements.txt" in failure(start_application())


def test_a_missing_health_route_is_final_and_named(start_application: StartApplication) -> None:
    message = failure(start_application(health_path="/healthz"))

    assert "final error" in message
    assert "BadStatus: HTTP 404" in message
    assert "there is no route /healthz: correct health_path of [app]" in message


def test_an_unhealthy_application_fails_at_the_limit(start_application: StartApplication) -> None:
    source = HEALTHY.replace('"well"', '"the cache is away", status_code=503') + "\n    print('warming up')\n"
    app = start_application(source)
    until(lambda: answers(f"{app.address.url}/health"))

    message = failure(app, limit_s=0.3)

    assert "gave up after" in message
    assert "HTTP 503: the cache is away" in message
    assert "raise ready_limit_s of [app] in settings.toml" in message
    assert "warming up" in message
    assert "state       running" in message


def test_a_taken_port_is_reported_with_the_process_that_has_it(start_application: StartApplication) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotReady) as caught:
            start_application(port=port)

    assert f"port {port} is taken by {psutil.Process().name()} (process {os.getpid()})" in str(caught.value)
    assert "set port = 0" in str(caught.value)


def test_a_fixed_port_is_used(start_application: StartApplication) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    app = start_application(port=port)

    app.wait_ready(LIMIT_S)

    assert app.address.port == port


class OtherServer(http.server.BaseHTTPRequestHandler):
    """Answers every GET like a healthy application."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def other_server() -> Iterator[int]:
    """The port of another server on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OtherServer)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_after_a_lost_race_for_the_port_another_one_is_tried(
    start_application: StartApplication, other_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = base.reserve_port
    found_free = [SimpleNamespace(getsockname=lambda: ("127.0.0.1", other_server), close=lambda: None)]
    monkeypatch.setattr(base, "reserve_port", lambda wanted: found_free.pop() if found_free else reserve(wanted))
    app = start_application()

    app.wait_ready(LIMIT_S)

    assert app.address.port != other_server
    assert httpx.get(f"{app.address.url}/health").text == "well"


# ---- failures and restarts


def test_a_paused_application_hangs_until_it_is_resumed(start_application: StartApplication) -> None:
    app = start_application()
    app.wait_ready(LIMIT_S)

    app.pause()

    assert app.state() == "stopped by a signal (paused)"
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{app.address.url}/health", timeout=0.2)

    app.resume()

    assert httpx.get(f"{app.address.url}/health", timeout=LIMIT_S).text == "well"


def test_a_killed_application_restarts_at_its_old_address(start_application: StartApplication) -> None:
    app = start_application()
    app.wait_ready(LIMIT_S)
    address = app.address

    app.kill()

    assert app.state() == "killed by SIGKILL"
    assert app.pids() == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address.url}/health")

    app.restart()
    app.wait_ready(LIMIT_S)

    assert app.address == address
    assert httpx.get(f"{address.url}/health").text == "well"


def test_a_port_taken_while_the_application_was_down_is_reported(start_application: StartApplication) -> None:
    app = start_application()
    app.wait_ready(LIMIT_S)
    app.kill()

    with (
        socket.create_server(("127.0.0.1", app.address.port)),
        pytest.raises(NotReady, match=f"port {app.address.port} is taken by"),
    ):
        app.restart()


# ---- with real servers


SHOP = {
    "config.py": """
        from pydantic import BaseModel, PostgresDsn, RedisDsn
        from pydantic_settings import BaseSettings, SettingsConfigDict


        class Database(BaseModel):
            dsn: PostgresDsn
            pool_size: int = 5


        class Cache(BaseModel):
            url: RedisDsn


        class Settings(BaseSettings):
            model_config = SettingsConfigDict(env_prefix="APP_", env_nested_delimiter="__")

            db: Database
            cache: Cache


        settings = Settings()
    """,
    "main.py": """
        from contextlib import asynccontextmanager

        import asyncpg
        from fastapi import FastAPI, Request
        from redis.asyncio import Redis

        from shop.config import settings


        @asynccontextmanager
        async def lifespan(app: FastAPI):
            dsn = str(settings.db.dsn).replace("+asyncpg", "")
            async with (
                asyncpg.create_pool(dsn, min_size=1, max_size=settings.db.pool_size) as pool,
                Redis.from_url(str(settings.cache.url)) as redis,
            ):
                yield {"pool": pool, "redis": redis}


        app = FastAPI(lifespan=lifespan)


        @app.get("/health")
        async def health(request: Request):
            await request.state.redis.ping()
            database = await request.state.pool.fetchval("SELECT current_database()")
            return {"database": database, "pool_size": settings.db.pool_size}
    """,
}


@pytest.mark.parametrize("directory", ["src", "."])
def test_a_fastapi_application_runs_unchanged(tmp_path: Path, directory: str) -> None:
    """Its nested pydantic settings are read at import."""
    package = tmp_path / directory / "shop"
    package.mkdir(parents=True)
    for name, source in SHOP.items():
        (package / name).write_text(textwrap.dedent(source), encoding="utf-8")
    dsn = "{postgres.user}:{postgres.password}@{postgres.host}:{postgres.port}/{postgres.database}"
    settings = Settings(
        backend="embedded",
        env={"APP_DB__DSN": f"postgresql+asyncpg://{dsn}", "APP_CACHE__URL": "{redis.url}"},
        app=AppSettings("shop.main:app", directory=directory, env={"APP_DB__POOL_SIZE": "3"}),
    )
    services = Services(settings, tmp_path)

    try:
        start(services)

        assert services.postgres is not None
        assert services.app is not None
        health = httpx.get(f"{services.app.address.url}/health").json()
        assert health == {"database": services.postgres.address.database, "pool_size": 3}
    finally:
        services.stop()
