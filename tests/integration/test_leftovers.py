"""A run leaves nothing behind: no process, container, directory or record, and no data on external servers."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from plumbline.services.address import Address
from plumbline.services.services import Services
from tests.support.fixtures import MakeServices
from tests.support.project import Project, copy_for_all, finish
from tests.support.traces import (
    FAILS,
    GONE_LIMIT_S,
    SUITE,
    WAITS,
    Traces,
    WithoutNox,
    poll,
    settings,
    skip_without_docker,
    traces_of,
)
from tests.unit.services.test_embedded import query, server

NEVER_READY = """
[app]
asgi = "never_ready:app"
ready_limit_s = 3
"""
NEVER_READY_CODE = """
import os
from pathlib import Path

Path(os.environ["MARKS"], os.environ["PLUMBLINE_RUN"]).touch()


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b"still warming up"})
"""
USES_THE_APPLICATION = '''
def test_api(api_url):
    """Never affected."""
'''


@pytest.fixture
def traces(project: Project, cache_home: Path) -> Iterator[Traces]:
    """A project with both servers."""
    project.write("settings.toml", settings())
    project.write("test_suite.py", SUITE)
    with traces_of(WithoutNox(project.root, project.environments), cache_home) as traces:
        yield traces


@pytest.fixture
def theirs(make_services: MakeServices) -> Services:
    """Redis and PostgreSQL servers of the user, with data."""
    services = make_services('backend = "embedded"')
    services.begin()
    services.wait_ready()
    with redis.Redis.from_url(server(services.redis).address.url) as client:
        client.set("theirs", "1")
    query(server(services.postgres).address, "CREATE DATABASE theirs")
    return services


@pytest.fixture(params=["embedded", "docker"])
def backend(request: pytest.FixtureRequest) -> str:
    """The backend of the servers."""
    if request.param == "docker":
        skip_without_docker()
    return str(request.param)


def test_success(traces: Traces, backend: str) -> None:
    """A run that passes has removed everything when it returns."""
    traces.project.write("settings.toml", settings(backend))

    done = traces.run()

    assert done.code == 0, done.output
    traces.assert_gone()


def test_failing_tests(traces: Traces) -> None:
    """So has a run whose tests fail."""
    traces.project.write("test_suite.py", SUITE + FAILS)

    done = traces.run()

    assert done.code == 1, done.output
    traces.assert_gone()


def test_never_ready(traces: Traces, backend: str) -> None:
    """So has a run whose application was never ready."""
    (traces.project.root / "never_ready.py").write_text(NEVER_READY_CODE)
    traces.project.write("settings.toml", settings(backend, NEVER_READY))
    traces.project.write("test_suite.py", USES_THE_APPLICATION)

    done = traces.run()

    assert done.code == 3, done.output
    assert "HTTP 503: still warming up" in done.output
    traces.assert_gone()


def test_the_next_run_cleans_up(traces: Traces) -> None:
    """If the reaper is killed too, the next run cleans up and reports it."""
    traces.project.write("test_suite.py", SUITE + WAITS)
    run = traces.start_to_middle()
    [reaper] = [one for one in traces.processes() if one.cmdline()[-1] == "plumbline.services.reaper"]
    pytest_process = traces.process("pytest")
    reaper.kill()
    pytest_process.kill()
    finish(run)
    assert traces.left()

    traces.project.write("test_suite.py", SUITE)
    done = traces.run()

    assert done.code == 0, done.output
    assert "cleaned up after run" in done.output
    traces.assert_gone()


# ---- external servers


def urls(theirs: Services) -> dict[str, str]:
    return {
        "PERF_REDIS_URL": server(theirs.redis).address.url,
        "PERF_DATABASE_URL": server(theirs.postgres).address.url,
    }


def stock(theirs: Services) -> tuple[list[object], object]:
    """Return all keys and databases on the servers."""
    with redis.Redis.from_url(server(theirs.redis).address.url) as client:
        keys = sorted(client.scan_iter())
    names = "SELECT array_agg(datname::text ORDER BY datname) FROM pg_database"
    return keys, query(server(theirs.postgres).address, names)


def test_external_servers_keep_their_own_data(traces: Traces, theirs: Services) -> None:
    """After a run, the keys and databases are those from before."""
    before = stock(theirs)

    done = traces.run(**urls(theirs))

    assert done.code == 0, done.output
    assert "external" in done.output
    assert stock(theirs) == before
    traces.assert_gone()


def test_external_servers_after_sigkill(traces: Traces, theirs: Services) -> None:
    """The run's data are removed within 5 s after a kill of pytest."""
    before = stock(theirs)
    traces.project.write("test_suite.py", SUITE + WAITS)
    run = traces.start_to_middle(**urls(theirs))
    keys, databases = stock(theirs)
    assert len(keys) == len(before[0]) + 1
    assert databases != before[1]

    traces.process("pytest").kill()
    poll(GONE_LIMIT_S, lambda: stock(theirs) == before)
    traces.assert_gone(GONE_LIMIT_S)

    done = finish(run)
    assert done.code == 3, done.output


@pytest.mark.parametrize(("name", "variable"), [("redis", "PERF_REDIS_URL"), ("postgres", "PERF_DATABASE_URL")])
def test_wrong_password(traces: Traces, theirs: Services, name: str, variable: str) -> None:
    """It fails at once, and no password is shown."""
    address: Address = getattr(theirs, name).address
    wrong = replace(address, password="neither-this-nor-that")

    done = traces.run(**{**urls(theirs), variable: wrong.url})

    assert done.code == 3, done.output
    assert f"{name} is not ready" in done.output
    assert "and 1 attempt" in done.output
    assert f"{address.host}:{address.port}" in done.output
    assert done.output.count("check user and password") == 1, "the whole message is shown once"
    assert variable in done.output
    assert "neither-this-nor-that" not in done.output
    assert address.password not in done.output


def test_a_server_on_another_machine(traces: Traces) -> None:
    """A staging server must be allowed by name."""
    done = traces.run(PERF_REDIS_URL="redis://:hush@redis.staging.example.org/0")

    assert done.code == 2, done.output
    assert 'allow_external = ["redis.staging.example.org"]' in done.output
    assert "hush" not in done.output


def test_external_without_url(traces: Traces) -> None:
    """PERF_SERVICES=external requires a URL."""
    done = traces.run(PERF_SERVICES="external")

    assert done.code == 2, done.output
    assert "set PERF_REDIS_URL to its URL" in done.output


@contextlib.contextmanager
def visitors() -> Iterator[tuple[int, list[object]]]:
    """A port on loopback, and the connections to it."""
    came: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    visitor, address = listener.accept()
                    came.append(address)
                    visitor.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1], came
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_plain_variables_are_never_used(traces: Traces) -> None:
    """DATABASE_URL and similar variables may name a staging server. They are listed, and hidden from the run."""
    more = """
def test_plain_variables():
    assert os.environ["DATABASE_URL"].startswith("postgresql+asyncpg://perf:")
    assert "@127.0.0.1:" in os.environ["REDIS_URL"]
    assert "PGPASSWORD" not in os.environ
    assert "PGHOST" not in os.environ
"""
    traces.project.write("test_suite.py", SUITE + more)
    with visitors() as (port, came):
        done = traces.run(
            DATABASE_URL=f"postgresql+asyncpg://staging:hush@127.0.0.1:{port}/production",
            REDIS_URL=f"redis://:hush@127.0.0.1:{port}/0",
            PGHOST="127.0.0.1",
            PGPORT=str(port),
            PGPASSWORD="hush",
        )

    assert done.code == 0, done.output
    assert came == []
    assert "DATABASE_URL, PGHOST, PGPASSWORD, PGPORT, REDIS_URL are set: ignored" in done.output
    assert "hush" not in done.output
    assert "production" not in done.output
    results = [path for path in (traces.project.root / "perf-results").rglob("*") if path.is_file()]
    assert results
    assert not any("hush" in path.read_text() for path in results)


# ---- users


@pytest.fixture
def open_project(traces: Traces, environments: Path) -> Iterator[Traces]:
    """A project with its environment and an interpreter that every user can access."""
    if os.getuid() != 0:
        pytest.skip("not root: every test here runs as an ordinary user")
    folder = Path(tempfile.mkdtemp(prefix="open-"))
    try:
        environment = copy_for_all(environments, folder)
        (environment / "pyvenv.cfg").write_text(f"home = {folder / 'python' / 'bin'}\n")  # Nox stops its search here
        shutil.copytree(traces.project.root, folder / "project")
        traces.project = Project(folder / "project", folder / "environments")
        yield traces
    finally:
        shutil.rmtree(folder)


def run_as(traces: Traces, uid: int) -> subprocess.CompletedProcess[str]:
    """Run `nox -s ci` as a user who owns the project and its home."""
    home = traces.project.root.parent / "home"
    home.mkdir()
    traces.records = home / ".cache" / "plumbline" / "runs"
    environments = traces.project.environments
    for path in (home, traces.temp, traces.marks, environments, traces.project.root, *traces.project.root.rglob("*")):
        os.chown(path, uid, uid)
    python = environments / "ci" / "bin" / "python"
    command = [str(python), "-m", "nox", "--script-mode=none", "-R", "--envdir", str(environments), "-s", "ci"]
    libraries = str(environments.parent / "python" / "lib")
    environ = {"PATH": os.defpath, "HOME": str(home), "COLUMNS": "120", "LD_LIBRARY_PATH": libraries, **traces.environ}
    return subprocess.run(
        command,
        cwd=traces.project.root,
        env=environ,
        user=uid,
        group=uid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    "named", [pytest.param(True, id="named"), pytest.param(False, id="without a name", marks=pytest.mark.slow)]
)
def test_ordinary_user(open_project: Traces, named: bool) -> None:
    """The embedded servers run as the user of the suite, with or without an entry in /etc/passwd."""
    known = {user.pw_uid for user in pwd.getpwall()}
    uid = 65534 if named else next(uid for uid in range(54321, 60000) if uid not in known)
    assert named == (uid in known)

    done = run_as(open_project, uid)

    assert done.returncode == 0, done.stdout
    assert "embedded PostgreSQL" in done.stdout
    open_project.assert_gone()
