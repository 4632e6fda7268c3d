"""Applications that are slowed down or profiled in their own processes, and slow-downs in PostgreSQL."""

import math
import os
import socket
import statistics
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec
import pytest

from plumbline.cache import digest
from plumbline.comparing.statistics.controls import CONTROLS, IN_SERVER
from plumbline.comparing.statistics.inference import difference
from plumbline.comparing.statistics.plan import BenchmarkPlan, Pair
from plumbline.comparing.trees.sides import make_sides
from plumbline.comparing.workers import in_application
from plumbline.comparing.workers.in_application import with_hook
from plumbline.comparing.workers.in_application.plumbline_profiling import REQUESTS, STEPS, TIMED, shared_numbers
from plumbline.comparing.workers.pair_runner import pair_runner
from plumbline.comparing.workers.profiles import Profile
from plumbline.comparing.workers.timers import ProfilingTimer
from plumbline.judging.evidence import Thresholds
from plumbline.services.application import Application
from plumbline.services.run import ServiceRun
from plumbline.settings import AppSettings
from plumbline.settings_file import load_settings
from tests.support.project import SETTINGS, Project

LIMIT_S = 30.0
# More work than any request of these tests.
MANY_STEPS = 1_000_000
# Look for three pairs in a row without other load.
MOST_PAIRS = 9
LIMITS = Thresholds(tolerance=0.1, minimum_effect=0.5, false_alarms=0.01, power=0.97)

APPLICATION = """
    from contextlib import asynccontextmanager

    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    @asynccontextmanager
    async def lifespan(app):
        yield {"word": "well"}

    async def health(request):
        return PlainTextResponse(request.state.word)

    def make():
        return Starlette(routes=[Route("/health", health)], lifespan=lifespan)

    app = make()
"""
SOURCES = {
    "sample.py": APPLICATION,
    "fast.py": """
        from fastapi import FastAPI
        from fastapi.responses import PlainTextResponse

        app = FastAPI()

        @app.get("/health", response_class=PlainTextResponse)
        def health():
            return "well"
    """,
    "lite.py": """
        from litestar import Litestar, MediaType, get

        @get("/health", media_type=MediaType.TEXT)
        async def health() -> str:
            return "well"

        app = Litestar([health])
    """,
    "flasks.py": """
        from flask import Flask

        app = Flask(__name__)

        @app.get("/health")
        def health():
            return "well"
    """,
    "shop.py": """
        from django.http import HttpResponse
        from django.urls import path

        SECRET_KEY = "only for tests"
        ALLOWED_HOSTS = ["*"]
        ROOT_URLCONF = "shop"

        def health(request):
            return HttpResponse("well")

        urlpatterns = [path("health", health)]
    """,
    "djangos.py": """
        from django.core.asgi import get_asgi_application
        from django.core.wsgi import get_wsgi_application

        wsgi, asgi = get_wsgi_application(), get_asgi_application()
    """,
    "plain.py": """
        def health():
            return [b"well"]

        def wsgi(environ, start_response):
            start_response("200 OK", [("Content-Length", "4")])
            return health()

        async def asgi(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": health()[0]})
    """,
}
GREENLETS = """
    import asyncio

    from fastapi import FastAPI
    from sqlalchemy.util import await_only, greenlet_spawn

    app = FastAPI()

    def work(times):
        for number in range(times * 20_000):
            str(number)

    def statement():
        work(20)
        execute()

    def execute():
        send()

    def send():
        await_only(asyncio.sleep(0))

    def compare():
        work(1)

    @app.get("/health")
    async def health():
        compare()
        await greenlet_spawn(statement)
        return "well"
"""
BIND = ["--bind", "{host}:{port}"]
GRANIAN = ["granian", "--interface", "asgi", "--host", "{host}", "--port", "{port}"]
SERVED: dict[str, dict[str, Any]] = {
    "Starlette from a factory": {"asgi": "sample:make", "factory": True},
    "Starlette on uvicorn": {"asgi": "sample:app"},
    "FastAPI on granian": {"command": [*GRANIAN, "fast:app"]},
    "Litestar on hypercorn": {"command": ["hypercorn", "lite:app", *BIND]},
    "Flask on gunicorn": {"wsgi": "flasks:app"},
    "Flask on two workers": {"command": ["gunicorn", "flasks:app", "--workers", "2", *BIND]},
    "Django on gunicorn": {"command": ["gunicorn", "djangos:wsgi", *BIND]},
    "Django on uvicorn": {"asgi": "djangos:asgi"},
    "WSGI alone": {"wsgi": "plain:wsgi"},
    "ASGI alone": {"asgi": "plain:asgi"},
}
SUITE = '''
    """One benchmark that sends two requests in a sample, and one that sends its requests elsewhere."""

    import httpx


    def test_asking(api_url, measure):
        with httpx.Client(base_url=api_url, trust_env=False) as client:
            for timer in measure():
                with timer:
                    client.get("/health")
                    client.get("/health")


    def test_asking_outside(api_url, measure):
        with httpx.Client(base_url=api_url, trust_env=False) as client:
            for timer in measure():
                with timer:
                    sum(range(10_000))
                client.get("/health")
'''
TABLES = """
[app]
asgi = "sample:make"
factory = true
directory = "src"

[postgres]
backend = "embedded"
"""
ASKING, OUTSIDE = "test_suite.py::test_asking", "test_suite.py::test_asking_outside"


def test_variables_of_the_hook_come_before_the_import_path() -> None:
    """A sitecustomize.py of the user would hide it."""
    environ = with_hook({"MODE": "test", "PYTHONPATH": "/shop"}, "slowed", "/folder")
    assert environ["MODE"] == "test"
    assert environ["PYTHONPATH"] == f"{Path(in_application.__file__).parent}{os.pathsep}/shop"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Application]]:
    """Start an application of the test's folder with the hook. The folder also has the shared numbers."""
    for name, text in SOURCES.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    started: list[tuple[Application, ServiceRun]] = []

    def begin(mode: Literal["slowed", "profiled"], settings: dict[str, Any]) -> Application:
        run = ServiceRun(child_environ=lambda _, __, environ: with_hook(environ, mode, str(tmp_path)))
        run.begin()
        app = Application("app", AppSettings(**settings), tmp_path, {"DJANGO_SETTINGS_MODULE": "shop"}, run)
        started.append((app, run))
        app.start()
        app.wait_ready(LIMIT_S)
        return app

    yield begin
    for app, run in started:
        app.stop()
        run.end()


@pytest.mark.parametrize("settings", SERVED.values(), ids=SERVED)
def test_an_application_does_more_for_requests_in_timed_blocks_alone(
    tmp_path: Path, serve: Callable[..., Application], settings: dict[str, Any]
) -> None:
    """In any framework on any server. Each request is found once, also if server and framework find it."""
    shared = shared_numbers(tmp_path)
    app = serve("slowed", settings)
    with httpx.Client(base_url=app.address.url, trust_env=False) as client:
        assert client.get("/health").text == "well"
        assert shared[REQUESTS] == 0
        took_s = {}
        shared[TIMED] = 1
        for steps in (0, MANY_STEPS):
            shared[STEPS] = steps
            began_s = time.perf_counter()
            for _ in range(4):
                assert client.get("/health").text == "well"
            took_s[steps] = time.perf_counter() - began_s
        shared[TIMED] = 0
    assert shared[REQUESTS] == 8
    assert took_s[MANY_STEPS] > took_s[0]


@pytest.mark.parametrize("settings", SERVED.values(), ids=SERVED)
def test_an_application_is_profiled_while_it_answers_timed_requests(
    tmp_path: Path, serve: Callable[..., Application], settings: dict[str, Any]
) -> None:
    """In all its processes and threads. Requests between timed blocks are left out. Each benchmark has a profile."""
    app = serve("profiled", settings)
    keys = ["test_shop.py::test_total", "test_shop.py::test_next"]
    for key in keys:
        timer = ProfilingTimer(key, [], 1, tmp_path)
        for _ in range(5):
            with timer:
                assert httpx.get(f"{app.address.url}/health", trust_env=False).text == "well"
            httpx.get(f"{app.address.url}/health", trust_env=False)
        timer.end()
    for key in keys:
        found = msgspec.json.decode((tmp_path / digest(key) / "app.json").read_bytes(), type=Profile)
        health = [seen for part in found.parts for seen in part if seen.name == "health"]
        assert {Path(seen.file).parent for seen in health} == {tmp_path}
        assert sum(seen.calls for seen in health) == 5


def test_statements_of_an_async_engine_count_as_time_of_the_function_that_awaits_them(
    tmp_path: Path, serve: Callable[..., Application]
) -> None:
    """SQLAlchemy executes them in greenlets, which have stacks of calls of their own."""
    (tmp_path / "greenlets.py").write_text(textwrap.dedent(GREENLETS))
    app = serve("profiled", {"asgi": "greenlets:app"})
    timer = ProfilingTimer(ASKING, [], 1, tmp_path)
    for _ in range(5):
        with timer:
            assert httpx.get(f"{app.address.url}/health", trust_env=False).is_success
    timer.end()
    found = msgspec.json.decode((tmp_path / digest(ASKING) / "app.json").read_bytes(), type=Profile)
    total_s = {
        name: sum(seen.total_s for part in found.parts for seen in part if seen.name == name)
        for name in ("health", "compare", "run_endpoint_function")
    }
    resumes = {seen.name for part in found.parts for seen in part if seen.resumes}
    assert "health" in resumes
    assert "compare" not in resumes
    assert total_s["health"] > 2 * total_s["compare"] > 0
    assert total_s["run_endpoint_function"] < 2 * total_s["health"]


def test_the_sitecustomize_of_the_user_is_imported(tmp_path: Path, serve: Callable[..., Application]) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('mine is imported')")
    app = serve("profiled", SERVED["Starlette on uvicorn"])
    assert "mine is imported" in app.log_tail()


def test_pairs_read_what_was_added(tmp_path: Path, environments: Path) -> None:
    """Both processes get twice as slow. A benchmark that cannot be slowed down is reported."""
    project = Project.create(tmp_path / "project", environments)
    (project.root / "src").mkdir()
    (project.root / "src" / "sample.py").write_text(textwrap.dedent(APPLICATION))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # which only one of both sides could have
    project.write("settings.toml", SETTINGS + TABLES.replace("[app]", f"[app]\nport = {port}"))
    project.write("test_suite.py", textwrap.dedent(SUITE))
    project.git("init", "--quiet")
    settings = load_settings(project.suite / "settings.toml", {})
    plans = [
        BenchmarkPlan(ASKING, 0.002, LIMITS, slow_down=1.0, slowed_in="application"),
        BenchmarkPlan(OUTSIDE, 0.001, LIMITS, slow_down=1.0, slowed_in="application"),
        BenchmarkPlan(IN_SERVER, 0.1, LIMITS, slow_down=1.0, slowed_in="server"),
    ]
    (tmp_path / "cache").mkdir()
    sides = make_sides(project.root, None, directories=["src"], cache=tmp_path / "cache")
    with pair_runner(settings, sides, plans, "ci") as both:
        pairs: list[Pair] = []
        while len(pairs) < MOST_PAIRS and not (len(pairs) >= 3 and as_added(pairs[-3:])):
            pairs.append(both.run_pair(plans))
    found = pairs[0]
    assert set(found.block_differences) == {*CONTROLS, ASKING, IN_SERVER}
    assert set(found.failures) == {OUTSIDE}
    assert "MeasureError" in found.failures[OUTSIDE]
    assert as_added(pairs[-3:]), [[read(pair, key) for key in (ASKING, IN_SERVER)] for pair in pairs]


def read(pair: Pair, key: str) -> float:
    return difference(pair.block_differences[key])


def as_added(pairs: list[Pair]) -> bool:
    """Allow for one disturbed pair of three, and for a request that slows down with the machine."""
    asking, in_server = (statistics.median(read(one, key) for one in pairs) for key in (ASKING, IN_SERVER))
    return math.log(1.4) < asking < math.log(4) and in_server == pytest.approx(math.log(2), abs=0.3)
