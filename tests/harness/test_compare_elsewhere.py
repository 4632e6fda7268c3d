"""Paired comparisons where servers are somebody else's, where nothing can be pinned, and where an arm goes wrong."""

import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import filelock
import pytest
import redis

from tests.harness.project import STEADY_SETTINGS, Done, Project
from tests.harness.test_services_embedded import query, server, started
from tests.performance.harness.services import Services

CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
LIMIT_S = 15
CACHED, ROW = "test_servers.py::test_cached", "test_servers.py::test_row"

CODE = """\
GETS = 2


def before():
    pass


def cached(client, key):
    for _ in range(GETS):
        client.get(key)


async def row(connection, number):
    await connection.fetchval(f"SELECT one FROM ours_{number}")
"""

SUITE = '''\
"""Benchmarks on each server, with data that another arm or pair on the same keys or database would trip over."""

import os

import asyncpg
import pytest
import redis
from code_under_test import before, cached, row

from tests.performance.harness.measure import Measure


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
    before()
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(f"CREATE TABLE ours_{number} AS SELECT 1 AS one")
        async for timer in measure():
            with timer:
                await row(connection, number)
    finally:
        await connection.close()
'''


@pytest.fixture(scope="module")
def theirs(cache_home: Path) -> Iterator[Services]:
    """A Redis and a PostgreSQL that stand for somebody's own."""
    assert cache_home.is_dir()
    with started("embedded") as services:
        yield services


@pytest.fixture(scope="module")
def committed(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository with code and its benchmarks on both servers."""
    project = Project.create(tmp_path_factory.mktemp("elsewhere") / "project", environments)
    (project.suite / "test_suite.py").unlink()
    project.write("settings.toml", STEADY_SETTINGS.replace('services = "off"', 'services = "embedded"'))
    project.write("test_servers.py", SUITE)
    project.begin_repository(CODE)
    return project


@pytest.fixture
def project(committed: Project, tmp_path: Path) -> Project:
    """A copy of it to change."""
    return committed.copy(tmp_path / "project")


def compare(project: Project, *arguments: str, **environ: str) -> Done:
    """Compare the working tree with the last commit."""
    told = {"XDG_CACHE_HOME": str(cache_of(project)), "CORES": str(len(CORES))}
    return project.python("-m", "scripts.compare", "HEAD", f"--limit={LIMIT_S}", "--", *arguments, **(told | environ))


def cache_of(project: Project) -> Path:
    return project.environments.parent / "cache"


def verdicts(project: Project) -> dict[str, set[str]]:
    """Of each test function: all with the same, if all is well."""
    found: dict[str, set[str]] = {}
    for key, verdict in project.verdicts().items():
        found.setdefault(key.partition("[")[0], set()).add(verdict)
    return found


def edit(project: Project, old: str, new: str) -> None:
    """Change the code of head."""
    path = project.root / "code_under_test.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def left_in(theirs: Services) -> tuple[list[bytes], object]:
    """Keys and databases of the external servers."""
    with redis.Redis.from_url(server(theirs.redis).address.url) as client:
        keys = client.keys("*")
    databases = query(server(theirs.postgres).address, "SELECT array_agg(datname::text ORDER BY 1) FROM pg_database")
    return keys, databases


@pytest.mark.parametrize("names", [("redis", "postgres"), ("redis",)], ids="+".join)
def test_external_servers(project: Project, theirs: Services, names: tuple[str, ...]) -> None:
    """Each arm has keys and a database of its own there, or on ours beside them, and takes them with it."""
    before = left_in(theirs)
    urls = {"redis": "PERF_REDIS_URL", "postgres": "PERF_DATABASE_URL"}
    edit(project, "GETS = 2", "GETS = 8")
    done = compare(project, **{urls[name]: server(getattr(theirs, name)).address.url for name in names})
    assert done.code == 1, done.output
    found = verdicts(project)
    assert {"regression"} <= found[CACHED] <= {"regression", "inconclusive"}
    assert "regression" not in found[ROW]  # with nothing pinned there may be no telling in so short a time
    assert left_in(theirs) == before


@pytest.mark.skipif(not CORES, reason="only Linux has pinning")
def test_where_other_runs_hold_all_cores(project: Project) -> None:
    """Nothing is pinned: told, and what could have been seen is told with it."""
    edit(project, "GETS = 2", "GETS = 8")
    folder = cache_of(project) / "plumbline" / "cores"
    folder.mkdir(parents=True, exist_ok=True)
    locks = [filelock.FileLock(folder / f"{core}.lock") for core in CORES]
    for lock in locks:
        lock.acquire()
    try:
        done = compare(project, PERF_PIN="auto", CORES=str(len(CORES)))
    finally:
        for lock in locks:
            lock.release()
    assert done.code == 1, done.output
    found = verdicts(project)
    assert {"regression"} <= found[CACHED] <= {"regression", "inconclusive"}
    assert "regression" not in found[ROW]
    assert "not pinned to one core: another run holds core" in done.output
    told = [one for one in project.results()["benchmarks"] if one["verdict"] in ("regression", "pass")]
    assert all(one["resolution"] > 0 for one in told)  # what is inconclusive may be so for want of time


def test_one_that_the_base_skips_is_told(project: Project) -> None:
    """Skipped in both, and the other one is compared."""
    edit(project, "    pass", '    import pytest\n\n    pytest.skip("not yet")')
    project.git("commit", "--quiet", "--all", "--message=Skip")
    edit(project, '    pytest.skip("not yet")', "    pass")
    done = compare(project)
    assert done.code == 0, done.output
    found = verdicts(project)
    assert found[CACHED] <= {"pass", "inconclusive"}
    assert found[ROW] == {"inconclusive"}
    assert "not to be compared with the base: in base: skipped: not yet" in done.output


def test_where_nothing_was_measured_nothing_is_compared(project: Project) -> None:
    """Invalid, as the gate is."""
    edit(project, "GETS = 2", "GETS = 3")
    done = compare(project, "-k", "nothing_of_that_name")
    assert done.code == 3, done.output
    assert "INVALID: nothing was measured" in done.output


API = "test_api.py::test_api"
API_SUITE = '''\
from urllib.request import urlopen

from tests.performance.harness.measure import Measure


def test_api(api_url: str, measure: Measure) -> None:
    """Ask for the health of an application that is served elsewhere."""
    for timer in measure():
        with timer, urlopen(f"{api_url}/health") as response:
            response.read()
'''


class Application(ThreadingHTTPServer):
    """Takes its time, which may become more."""

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
    """An application that is served elsewhere, as a deployed one is."""
    with Application(("127.0.0.1", 0), Application.RequestHandlerClass) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.shutdown()


def test_an_application_that_is_served_elsewhere(project: Project, application: Application) -> None:
    """It is the same one for both arms: never acquitted by pairs, and convicted by its baseline on the same machine."""
    project.write("settings.toml", STEADY_SETTINGS)
    (project.suite / "test_servers.py").unlink()
    project.write("test_api.py", API_SUITE)
    project.commit("Application")
    elsewhere = {
        "PERF_API_URL": f"http://127.0.0.1:{application.server_port}",
        "XDG_CACHE_HOME": str(cache_of(project)),
    }
    assert project.run("baseline", **elsewhere).code == 0
    application.answers_after_s *= 10

    done = project.run("ci", **elsewhere)
    assert done.code == 1, done.output
    assert project.verdicts() == {API: "regression"}
    assert "slower than the baseline: test_api.py::test_api" in done.output

    edit(project, "GETS = 2", "GETS = 3")
    done = compare(project, **elsewhere)
    assert done.code == 0, done.output
    assert project.verdicts() == {API: "inconclusive"}
    assert "not compared with the base: PERF_API_URL is one application for both" in done.output
