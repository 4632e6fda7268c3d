"""The wrapper that slows down or profiles an application, and slow-downs in PostgreSQL."""

import math
import os
import socket
import statistics
import textwrap
import time
from pathlib import Path

import httpx
import msgspec
import pytest

from plumbline.cache import digest
from plumbline.comparing.statistics.inference import difference
from plumbline.comparing.statistics.plan import CONTROLS, IN_SERVER, BenchmarkPlan, Pair
from plumbline.comparing.trees.sides import make_sides
from plumbline.comparing.workers.in_application import plumbline_asgi_wrapper
from plumbline.comparing.workers.in_application.plumbline_asgi_wrapper import (
    REQUESTS,
    STEPS,
    TIMED,
    profiled,
    shared_numbers,
    slowed,
    wrapped,
)
from plumbline.comparing.workers.pair_runner import pair_runner
from plumbline.comparing.workers.profiles import Profile
from plumbline.comparing.workers.worker import ProfilingTimer
from plumbline.judging.evidence import Thresholds
from plumbline.services.application import Application
from plumbline.services.run import ServiceRun
from plumbline.services.variables import render
from plumbline.settings import AppSettings
from plumbline.settings_file import load_settings
from tests.support.project import ROOT, SETTINGS, Project

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


def test_the_wrapper_finds_the_application_in_its_own_environment() -> None:
    """Its variables are added to those of the settings. This process's environment does not change."""
    before = dict(os.environ)
    app = wrapped(AppSettings("shop:app", env={"MODE": "test"}), slowed, "/a/{odd}")
    assert (app.asgi, app.factory) == ("plumbline_asgi_wrapper:slowed", True)
    assert render(app.env, {}, "") == {
        "MODE": "test",
        "PERF_WRAPPED_ASGI": "shop:app",
        "PERF_WRAPPED_IS_FACTORY": "False",
        "PERF_WRAPPED_FOLDER": "/a/{odd}",
        "PERF_IMPORT_FROM": str(Path(plumbline_asgi_wrapper.__file__).parent),
    }
    assert os.environ == before


@pytest.mark.parametrize("asgi", ["sample:app", "sample:make"])
def test_an_application_does_more_for_requests_in_timed_blocks_alone(tmp_path: Path, asgi: str) -> None:
    """Its lifespan runs, too, and it may come from a factory."""
    (tmp_path / "sample.py").write_text(textwrap.dedent(APPLICATION))
    wanted = wrapped(AppSettings(asgi=asgi, factory=asgi.endswith("make")), slowed, str(tmp_path))
    shared = shared_numbers(tmp_path)
    run = ServiceRun()
    run.begin()
    app = Application("app", wanted, ROOT, {"PYTHONPATH": str(tmp_path), **wanted.env}, run)
    try:
        app.start()
        app.wait_ready(LIMIT_S)
        client = httpx.Client(base_url=app.address.url, trust_env=False)
        assert client.get("/health").text == "well"
        assert shared[REQUESTS] == 0
        took_s = {}
        shared[TIMED] = 1
        for steps in (0, MANY_STEPS):
            shared[STEPS] = steps
            began_s = time.perf_counter()
            for _ in range(4):
                client.get("/health")
            took_s[steps] = time.perf_counter() - began_s
        assert shared[REQUESTS] == 8
        assert took_s[MANY_STEPS] > took_s[0]
        client.close()
    finally:
        app.stop()
        run.end()


def test_an_application_is_profiled_while_it_answers_timed_requests(tmp_path: Path) -> None:
    """Requests between timed blocks are left out, and each benchmark has its own profile."""
    (tmp_path / "sample.py").write_text(textwrap.dedent(APPLICATION))
    wanted = wrapped(AppSettings(asgi="sample:make", factory=True), profiled, str(tmp_path))
    run = ServiceRun()
    run.begin()
    app = Application("app", wanted, ROOT, {"PYTHONPATH": str(tmp_path), **wanted.env}, run)
    keys = ["test_shop.py::test_total", "test_shop.py::test_next"]
    try:
        app.start()
        app.wait_ready(LIMIT_S)
        for key in keys:
            timer = ProfilingTimer(key, [], 1, tmp_path)
            for _ in range(3):
                with timer:
                    assert httpx.get(f"{app.address.url}/health").text == "well"
                httpx.get(f"{app.address.url}/health")
            timer.end()
    finally:
        app.stop()
        run.end()
    for key in keys:
        found = msgspec.json.decode((tmp_path / digest(key) / "app.json").read_bytes(), type=Profile)
        health = [seen for part in found.parts for seen in part if seen.name == "health"]
        assert [(Path(seen.file).name, seen.calls) for seen in health] == [("sample.py", 1)] * 3


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
