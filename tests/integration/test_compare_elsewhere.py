"""Paired comparisons with external servers, without pinning, and with a failing side."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest
import redis

from plumbline import held
from plumbline.comparing.workers.pair_servers import settings_of_both
from plumbline.judging.baseline import baseline_path, merge
from plumbline.results.files import read_results, write_results
from plumbline.services.services import Services
from plumbline.settings_file import load_settings
from tests.support.project import STEADY_SETTINGS, Done, Project
from tests.unit.services.test_embedded import query, server, started

BOTH: tuple[Literal["redis"], Literal["postgres"]] = ("redis", "postgres")
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
CACHED, ROW = "test_servers.py::test_cached", "test_servers.py::test_row"
SKIPPED, FIXED = "test_servers.py::test_skipped", "test_servers.py::test_fixed_key"

SETTINGS = STEADY_SETTINGS.replace('backend = "off"', 'backend = "embedded"')

# Sleeps take the same time on a busy machine.
CODE = """\
import asyncio
import time

DURATION_US = 2_000
HAS_IT = False


def cached(client, key):
    client.get(key)
    time.sleep(DURATION_US / 1e6)


async def row(connection, number):
    await connection.fetchval(f"SELECT one FROM ours_{number}")
    await asyncio.sleep(0.002)
"""

SUITE = '''\
"""Benchmarks on each server, with data that another side or pair on the same keys or database would trip over."""

import os

import asyncpg
import pytest
import redis
from code_under_test import HAS_IT, cached, row

from plumbline import Measure


@pytest.mark.parametrize("number", [1, 2])
def test_cached(number: int, redis_url: str, key_prefix: str, measure: Measure) -> None:
    """Read a key."""
    key = f"{key_prefix}{number}"
    with redis.Redis.from_url(redis_url) as client:
        assert client.set(key, "1", nx=True)
        assert len(os.sched_getaffinity(0)) == int(os.environ["CORES"])
        for timer in measure():
            with timer:
                cached(client, key)


@pytest.mark.parametrize("number", [1, 2])
async def test_row(number: int, postgres_url: str, measure: Measure) -> None:
    """Read a row."""
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(f"CREATE TABLE ours_{number} AS SELECT 1 AS one")
        async for timer in measure():
            with timer:
                await row(connection, number)
    finally:
        await connection.close()
'''

MORE = '''

async def test_skipped(postgres_url: str, measure: Measure) -> None:
    """Skip where the code is not there yet."""
    if not HAS_IT:
        pytest.skip("not yet")
    async for timer in measure():
        with timer:
            pass


def test_fixed_key(redis_url: str, key_prefix: str, measure: Measure) -> None:
    """Read a key of a fixed name, which both sides write."""
    with redis.Redis.from_url(os.environ["CACHE_URL"]) as client:
        client.set(f"{key_prefix}mine", "1")
        client.set("cache:answer", "1")
        for timer in measure():
            with timer:
                client.get("cache:answer")
'''


@pytest.fixture(scope="module")
def theirs(cache_home: Path) -> Iterator[Services]:
    """Redis and PostgreSQL servers of the user."""
    assert cache_home.is_dir()
    with started("embedded") as services:
        yield services


@pytest.fixture(scope="module")
def committed(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository with code, and its benchmarks on both servers."""
    project = Project.create(tmp_path_factory.mktemp("elsewhere") / "project", environments)
    (project.suite / "test_suite.py").unlink()
    project.write("settings.toml", SETTINGS)
    project.write("test_servers.py", SUITE)
    project.begin_repository(CODE)
    return project


@pytest.fixture
def project(committed: Project, tmp_path: Path) -> Project:
    """A copy of the project, to be changed."""
    return committed.copy(tmp_path / "project")


def compare(project: Project, *arguments: str, **environ: str) -> Done:
    """Compare the working tree with the last commit."""
    told = {"XDG_CACHE_HOME": str(cache_of(project)), "CORES": str(len(CORES))}
    return project.python("-m", "plumbline", "compare", "HEAD", "--limit=60", "--", *arguments, **(told | environ))


def cache_of(project: Project) -> Path:
    return project.environments.parent / "cache"


def edit(project: Project, old: str, new: str) -> None:
    """Change the code of head."""
    path = project.root / "code_under_test.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@contextlib.contextmanager
def cores_held(folder: Path) -> Iterator[None]:
    """All cores are locked, as by other runs."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        for core in CORES:
            lock = held.lock(folder / f"{core}.lock")
            assert lock is not None
            stack.callback(held.unlock, lock)
        yield


def left_in(theirs: Services) -> tuple[set[bytes], object]:
    """Return the keys and databases on the external servers."""
    with redis.Redis.from_url(server(theirs.redis).address.url) as client:
        keys = set(client.keys("*"))
    databases = query(server(theirs.postgres).address, "SELECT array_agg(datname::text ORDER BY 1) FROM pg_database")
    return keys, databases


# The verdicts if `cached` takes three times as long.
EACH = {
    **{f"{CACHED}[{number}]": "regression" for number in (1, 2)},
    **{f"{ROW}[{number}]": "pass" for number in (1, 2)},
}


def test_external_servers(project: Project, theirs: Services) -> None:
    """Each side has its own keys and database, and removes them. A benchmark that base skips is reported.

    The report says that both sides share Redis, so a fixed key stays. All cores are locked: the report says that
    nothing is pinned, and shows the minimum detectable effect.
    """
    project.write("settings.toml", f'{SETTINGS}\n[env]\nCACHE_URL = "{{redis.url}}"\n')
    project.write("test_servers.py", SUITE + MORE)
    project.commit("More")
    keys, databases = left_in(theirs)
    edit(project, "2_000", "6_000")
    edit(project, "HAS_IT = False", "HAS_IT = True")
    redis_url, database_url = server(theirs.redis).address.url, server(theirs.postgres).address.url
    with cores_held(cache_of(project) / "plumbline" / "cores"):
        done = compare(project, PERF_PIN="auto", PERF_REDIS_URL=redis_url, PERF_DATABASE_URL=database_url)
    assert done.code == 3, done.output
    found = project.verdicts()
    assert found.pop(FIXED) in {"pass", "inconclusive"}  # by a few microseconds
    assert found == {**EACH, SKIPPED: "invalid"}
    output = " ".join(done.output.split())
    assert "could not be compared with the base: in base: skipped: not yet" in output
    assert "Redis is external, and base and head use the same database of it: " in output
    assert left_in(theirs) == (keys | {b"cache:answer"}, databases)
    for what in ("Redis commands", "SQL statements, rows and buffers read"):
        assert f"{what} can't be counted: this run did not start the server" in output
    assert not CORES or "not pinned to one core: another run has locked core" in output
    assert all(one["minimum_detectable_effect"] > 0 for one in project.results()["benchmarks"] if one["key"] in EACH)


def test_one_external_server_and_one_of_the_run(tmp_path: Path) -> None:
    """The other server is started by the run, with a database for each side."""
    path = tmp_path / "settings.toml"
    path.write_text('backend = "embedded"\n')
    for name, variable in (("redis", "PERF_REDIS_URL"), ("postgres", "PERF_DATABASE_URL")):
        shared = settings_of_both(load_settings(path, {variable: "anything://127.0.0.1"}))
        assert {one: shared.backend_of(one) for one in BOTH} == {**dict.fromkeys(BOTH, "embedded"), name: "off"}


def test_a_comparison_that_measured_nothing_is_invalid(project: Project) -> None:
    """As for the gate."""
    edit(project, "2_000", "3_000")
    done = compare(project, "-k", "nothing_of_that_name")
    assert done.code == 3, done.output
    assert "INVALID: nothing was measured" in done.output


API = "test_api.py::test_api"
API_SUITE = '''\
from urllib.request import urlopen

from plumbline import Measure


def test_api(api_url: str, measure: Measure) -> None:
    """Ask for the health of an application that is served elsewhere."""
    for timer in measure():
        with timer, urlopen(f"{api_url}/health") as response:
            response.read()
'''


class Application(ThreadingHTTPServer):
    """An application whose response time may grow."""

    answers_after_s = 0.01

    class RequestHandlerClass(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert isinstance(self.server, Application)
            time.sleep(self.server.answers_after_s)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""


@pytest.fixture
def application() -> Iterator[Application]:
    """An application that runs elsewhere, such as a deployed one."""
    with Application(("127.0.0.1", 0), Application.RequestHandlerClass) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.shutdown()


def test_an_external_application(project: Project, application: Application) -> None:
    """Both sides use the same application, so it cannot be compared. Its baseline on the same machine fails it."""
    project.write("settings.toml", STEADY_SETTINGS)
    (project.suite / "test_servers.py").unlink()
    project.write("test_api.py", API_SUITE)
    project.commit("Application")
    elsewhere = {
        "PERF_API_URL": f"http://127.0.0.1:{application.server_port}",
        "XDG_CACHE_HOME": str(cache_of(project)),
    }
    edit(project, "2_000", "3_000")
    done = compare(project, **elsewhere)
    assert done.code == 3, done.output
    assert project.verdicts() == {API: "invalid"}
    assert "not compared with the base: PERF_API_URL is one application for both" in done.output

    results = read_results(project.root / "perf-results" / "results.json")
    baseline = baseline_path(project.suite / "baselines", results.environment)
    baseline.parent.mkdir()
    write_results(baseline, merge([results] * 3))
    application.answers_after_s *= 10
    done = project.run("ci", **elsewhere)
    assert done.code == 1, done.output
    assert project.verdicts() == {API: "regression"}
    assert "slower than the baseline: test_api.py::test_api" in done.output
