"""Services that are unavailable, die or hang: exit codes and messages."""

import contextlib
import errno
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from plumbline.services.errors import NotReady
from tests.support.fixtures import MakeServices
from tests.support.project import Project
from tests.support.traces import settings, skip_without_docker

NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
SUITE = '''\
"""A suite that uses a service, and one more test."""


def test_redis(redis_url, measure):
    assert redis_url.startswith("redis://")
    for timer in measure():
        with timer:
            sum(range(1000))
'''
FAULTS = '''\
"""A suite that does harm to its Redis."""

import pytest
import redis
import redis.asyncio


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client
'''
IS_KILLED_AFTERWARDS = """
def test_kills(services):
    services.redis.kill()
"""
IS_KILLED_IN_THE_MIDDLE = """
def test_works(services, client):
    client.ping()
    services.redis.kill()
    client.ping()
"""
IS_PAUSED = """
async def test_works(services):
    async with redis.asyncio.Redis.from_url(services.redis.address.url, socket_timeout=None) as client:
        await client.ping()
        services.redis.pause()
        await client.ping()
"""
FOLLOWS = """
def test_next(client):
    client.ping()
"""
APP = """
[app]
asgi = "application:app"
ready_limit_s = {limit_s}
port = {port}
"""
USES_THE_APPLICATION = """\
def test_api(api_url):
    assert api_url
"""
IMPORT_FAILS = """\
from no_such_module import anything
"""
LIFESPAN_FAILS = """\
from starlette.applications import Starlette


async def lifespan(app):
    raise RuntimeError("the migrations have not been run")
    yield


app = Starlette(lifespan=lifespan)
"""
NEVER_READY = """\
print("waiting for a feature flag that nobody sets", flush=True)


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b"no flag"})
"""


@pytest.fixture
def project(project: Project, cache_home: Path) -> Project:
    """A project that uses only Redis."""
    assert cache_home.is_dir()
    project.write("settings.toml", settings(more='\n[postgres]\nbackend = "off"\n'))
    project.write("test_suite.py", SUITE)
    return project


@contextlib.contextmanager
def hung_engine() -> Iterator[str]:
    """A socket that accepts connections and never answers."""
    # Not in the test's own folder, whose path may be too long for a socket.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/docker.sock")
        listener.listen()
        taken: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(listener.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"unix://{folder}/docker.sock"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in taken:
                one.close()


# ---- Docker


def test_engine_named_but_absent(project: Project) -> None:
    """`docker` is requested without an engine."""
    done = project.nox("ci", PERF_SERVICES="docker", **NO_ENGINE)

    assert done.code == 3, done.output
    assert "redis is not ready: no Docker engine answers" in done.output
    assert "docker (PERF_SERVICES=docker)" in done.output
    assert "start Docker, or set PERF_SERVICES=embedded" in done.output


def test_engine_hung(project: Project) -> None:
    """`docker` is requested and the engine does not answer: the run ends within seconds."""
    with hung_engine() as engine:
        done = project.nox("ci", PERF_SERVICES="docker", DOCKER_HOST=engine)

    assert done.code == 3, done.output
    assert "the Docker engine doesn't answer within 2 s" in done.output
    assert "start Docker, or set PERF_SERVICES=embedded" in done.output


def test_image_missing(project: Project) -> None:
    """The image is missing and cannot be pulled."""
    skip_without_docker()
    image = "127.0.0.1:1/no-such/redis:8"
    project.write("settings.toml", settings("docker", f'\n[postgres]\nbackend = "off"\n[redis]\nimage = "{image}"\n'))

    done = project.nox("ci")

    assert done.code == 3, done.output
    assert f"the image {image} is missing and can't be pulled" in done.output
    assert "correct its name in settings.toml" in done.output


def test_auto_uses_embedded_servers_without_an_engine(project: Project) -> None:
    """`auto` works without Docker and gives the reason."""
    done = project.nox("ci", PERF_SERVICES="auto", **NO_ENGINE)

    assert done.code == 0, done.output
    assert "embedded Valkey" in done.output
    assert "(no Docker engine answers)" in done.output


def test_auto_uses_embedded_servers_if_the_engine_hangs(project: Project) -> None:
    with hung_engine() as engine:
        done = project.nox("ci", PERF_SERVICES="auto", DOCKER_HOST=engine)

    assert done.code == 0, done.output
    assert "embedded Valkey" in done.output
    assert "(the Docker engine doesn't answer within 2 s)" in done.output


# ---- server options


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('\n[redis.config]\nmaxmemory-policy = "no-such-policy"\n', "argument(s) must be one of"),
        ('\n[postgres.config]\nno_such_option = "1"\n', 'unrecognized configuration parameter "no_such_option"'),
    ],
    ids=["redis", "postgres"],
)
def test_bad_server_option(project: Project, more: str, said: str) -> None:
    """The server's own message is shown."""
    project.write("settings.toml", settings(more=more))

    done = project.nox("ci")

    assert done.code == 3, done.output
    assert said in done.output


# ---- the application


def with_application(project: Project, code: str, *, limit_s: float = 20, port: int = 0) -> None:
    (project.root / "application.py").write_text(code, encoding="utf-8")
    project.write("settings.toml", settings("off", APP.format(limit_s=limit_s, port=port)))
    project.write("test_suite.py", USES_THE_APPLICATION)


def test_port_taken(project: Project) -> None:
    """Another process has the port of the settings."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with_application(project, NEVER_READY, port=port)
        done = project.nox("ci")

    assert done.code == 3, done.output
    assert f"port {port} is taken by" in done.output
    assert "set port = 0 in [app] of settings.toml" in done.output


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (IMPORT_FAILS, "No module named 'no_such_module'"),
        (LIFESPAN_FAILS, "RuntimeError: the migrations have not been run"),
        (NEVER_READY, "waiting for a feature flag that nobody sets"),
    ],
    ids=["at import", "in its lifespan", "never ready"],
)
def test_application_fails(project: Project, code: str, said: str) -> None:
    """The application's output is shown."""
    with_application(project, code, limit_s=20 if code != NEVER_READY else 2)

    done = project.nox("ci")

    assert done.code == 3, done.output
    assert "app is not ready" in done.output
    assert said in done.output


# ---- death and hanging


@pytest.mark.parametrize(
    "tests",
    [IS_KILLED_AFTERWARDS + FOLLOWS, IS_KILLED_IN_THE_MIDDLE + FOLLOWS, IS_KILLED_IN_THE_MIDDLE],
    ids=["between tests", "during a test", "during the last test"],
)
def test_service_dies(project: Project, tests: str) -> None:
    """If Redis has died, the run is invalid and shows its last output."""
    project.write("test_suite.py", FAULTS + tests)

    done = project.nox("ci")

    assert done.code == 3, done.output
    assert "redis is not ready: it has died" in done.output
    assert "killed by SIGKILL" in done.output
    assert "Ready to accept connections" in done.output
    assert project.results()["verdict"] == "invalid"


def test_service_hangs(project: Project) -> None:
    """A test on a stopped Redis fails at its limit. The run is invalid because Redis does not answer."""
    text = settings(more='\n[postgres]\nbackend = "off"\n').replace("test_limit_s = 10", "test_limit_s = 3")
    project.write("settings.toml", text)
    project.write("test_faults.py", FAULTS + IS_PAUSED)

    done = project.nox("ci")

    assert done.code == 3, done.output
    assert "redis is not ready: it no longer answers" in done.output
    assert "not done after 3 s; the position of every task" in done.output
    said = "redis: stopped by a signal (paused), when test_faults.py::test_works failed"
    assert said in done.output
    assert said in (project.root / "perf-results" / "report.md").read_text(encoding="utf-8")


def test_a_start_without_more_threads_leaves_nothing(
    make_services: MakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under `ulimit -u`. The services then start and stop one after another."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    services = make_services('backend = "embedded"\npostgres.backend = "off"\n')
    monkeypatch.setattr(threading.Thread, "start", refuse)
    services.begin()
    services.wait_ready()
    services.stop()
    assert not services.directory.exists()


def test_a_start_without_more_processes_leaves_nothing(
    make_services: MakeServices, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    services = make_services('backend = "embedded"\n')
    runs = cache_home / "plumbline" / "runs"
    before = set(runs.glob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", refuse)
        with pytest.raises(NotReady, match="can't be started: Resource temporarily unavailable"):
            services.begin()
    services.stop()
    assert not services.directory.exists()
    assert set(runs.glob("*")) == before
