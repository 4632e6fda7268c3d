"""The remains of a run on this machine, separated from those of others, and suites that report their progress."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import psutil
import pytest

from plumbline.services.docker_engine import Engine
from plumbline.services.errors import Unavailable
from plumbline.services.reaper import LABEL, RUN_VARIABLE
from plumbline.services.run import MEMORY_FOLDER
from tests.support.project import SETTINGS, Done, Project, finish

# Time limit for the end of all processes and files after a SIGKILL.
GONE_LIMIT_S = 5.0
# The same with containers, on a busy machine, where more than 5 s were seen.
CONTAINERS_GONE_LIMIT_S = 20.0
# Time limit for the start of a run, on a busy machine.
MIDDLE_LIMIT_S = 60.0
REDIS_IMAGE, POSTGRES_IMAGE = "redis:8-alpine", "postgres:18-alpine"
RUN_FOLDERS = (MEMORY_FOLDER, Path(tempfile.gettempdir()))

SUITE = '''\
"""A suite on both servers; what it waits for never comes."""

import asyncio
import os
import time
from pathlib import Path

import asyncpg
import pytest
import redis


def mark() -> None:
    Path(os.environ["MARKS"], os.environ["PLUMBLINE_RUN"]).touch()


async def test_leaves_data(redis_url, postgres_url, key_prefix, measure):
    """A key and a table, which nobody removes."""
    with redis.Redis.from_url(redis_url) as client:
        client.set(f"{key_prefix}left", "1")
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE left_behind AS SELECT 1 AS one")
    await connection.close()
    for timer in measure():
        with timer:
            sum(range(1000))
    mark()
'''
FAILS = """

def test_fails(redis_url):
    assert redis_url == ""
"""
WAITS = """

@pytest.mark.timeout(100)
def test_waits(redis_url):
    Path(os.environ["MARKS"], "middle").touch()
    time.sleep(100)
"""
WAITS_IN_THE_LOOP = """

@pytest.mark.timeout(100)
async def test_waits_in_the_loop(redis_url):
    Path(os.environ["MARKS"], "middle").touch()
    await asyncio.sleep(100)
"""
SWALLOWS = """

@pytest.mark.timeout(100)
async def test_swallows(redis_url):
    Path(os.environ["MARKS"], "middle").touch()
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        pass


def test_next():
    Path("next").touch()
"""
LOSES = """

class Slow:
    def __del__(self):
        Path(os.environ["MARKS"], "middle").touch()
        time.sleep(100)


@pytest.mark.timeout(100)
def test_loses(redis_url):
    Slow()
    try:
        time.sleep(100)
    except BaseException as error:
        Path("told").write_text(repr(error))
        raise
"""
TEARS_DOWN = """

@pytest.fixture(scope="session")
async def table(postgres_url):
    connection = await asyncpg.connect(postgres_url, server_settings={"application_name": "perf"})
    yield
    await connection.execute("SELECT pg_sleep(SECONDS)")
    Path("torn down").touch()
    raise RuntimeError("this fixture is broken")


@pytest.mark.timeout(100)
async def test_waits(table):
    Path(os.environ["MARKS"], "middle").touch()
    await asyncio.sleep(100)
"""
ENDS_SLOWLY = """
import os
import time
from pathlib import Path


def pytest_unconfigure():
    Path(os.environ["MARKS"], "middle").touch()
    while not Path("go").exists():
        time.sleep(0.01)
"""
DOES_NOT_GIVE_UP = """

@pytest.mark.timeout(100)
def test_does_not_give_up(redis_url):
    Path(os.environ["MARKS"], "middle").touch()
    while True:
        try:
            time.sleep(100)
        except KeyboardInterrupt:
            pass
"""


class WithoutNox(Project):
    """Runs the commands of sessions without Nox."""

    start = Project.start_without_nox


class Traces:
    """The processes, containers and files of a project's runs.

    Each run writes its id to `folder`/marks, and its temporary files to `folder`/temp.
    """

    def __init__(self, project: Project, folder: Path, cache: Path) -> None:
        self.project = project
        self.marks = folder / "marks"
        self.temp = folder / "temp"
        self.records = cache / "plumbline" / "runs"
        self.earlier_records = set(self.records.glob("*"))  # runs of other tests
        for one in (self.marks, self.temp):
            one.mkdir(mode=0o755)
        self.environ = {"MARKS": str(self.marks), "TMPDIR": str(self.temp)}
        self.started: list[subprocess.Popen[str]] = []

    def start(self, session: str = "ci", *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """Start a session of the project."""
        self.started.append(self.project.start(session, *arguments, **self.environ, **environ))
        return self.started[-1]

    def start_to_middle(self, session: str = "ci", *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """Start a session and return during a test of its suite."""
        run = self.start(session, *arguments, **environ)
        poll(MIDDLE_LIMIT_S, lambda: (self.marks / "middle").exists() or run.poll() is not None)
        if run.poll() is not None:
            pytest.fail(f"ended before its middle:\n{finish(run).output}")
        return run

    def run(self, session: str = "ci", **environ: str) -> Done:
        """Run a session of the project to its end."""
        return finish(self.start(session, **environ))

    def mark_all(self) -> None:
        """Mark the new runs that run no test and so don't mark themselves."""
        for record in set(self.records.glob("*.json")) - self.earlier_records:
            (self.marks / record.stem).touch()

    def runs(self) -> set[str]:
        """Return the ids of the runs that have marked themselves."""
        return {path.name for path in self.marks.iterdir()} - {"middle"}

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the project, by environment or working directory."""
        runs = self.runs()
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                environ, cwd = process.environ(), Path(process.cwd())
                ours = environ.get("MARKS") == str(self.marks) or environ.get(RUN_VARIABLE) in runs
                below = [self.project.root, *self.directories()]
                if (ours or any(map(cwd.is_relative_to, below))) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def process(self, part: str) -> psutil.Process:
        """Return the process whose command contains these arguments. For a moment, its child has the same."""
        found = {
            process.pid: process for process in self.processes() if f" {part} " in f" {' '.join(process.cmdline())} "
        }
        [process] = [process for process in found.values() if process.ppid() not in found]
        return process

    def directories(self) -> list[Path]:
        """Return the directories of the runs, and everything in their folder for temporary files."""
        named = [path for run in self.runs() for folder in RUN_FOLDERS for path in folder.glob(f"plumbline-*{run}*")]
        return [*named, *self.temp.iterdir()]

    def left(self) -> list[str]:
        """Describe everything that is left now."""
        return [
            *(f"process {process.pid}: {_command(process)}" for process in self.processes()),
            *(f"directory {path}" for path in self.directories()),
            *(f"record {path}" for path in set(self.records.glob("*")) - self.earlier_records if not _is_by_us(path)),
            *(f"container {name}" for run in self.runs() for name in containers(run)),
        ]

    def assert_gone(self, within_s: float = 0.0, but: str = "nothing") -> None:
        """Fail if something is left after a limit, except what contains a given text."""
        assert self.runs(), "no run has marked itself: there is nothing to look for"
        deadline_s = time.monotonic() + within_s
        while (left := [one for one in self.left() if but not in one]) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert not left, "\n".join(["still there:", *left])


def settings(services: str = "embedded", more: str = "") -> str:
    """Return the project's settings with services."""
    return SETTINGS.replace('backend = "off"', f'backend = "{services}"') + more


def poll(limit_s: float, condition: Callable[[], object]) -> None:
    """Poll until a condition holds. Fails the test after a limit."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            pytest.fail(f"still not so after {limit_s:g} s")
        time.sleep(0.02)


def containers(run: str) -> list[str]:
    """Return the names of a run's containers."""
    if why_no_docker():
        return []
    with contextlib.closing(docker.from_env()) as client:
        found = client.containers.list(all=True, filters={"label": f"{LABEL}={run}"}, ignore_removed=True)
    return [str(container.name) for container in found]


def skip_without_docker() -> None:
    """Skip the test if Docker is unavailable."""
    if missing := why_no_docker():
        pytest.skip(f"Docker can't be tested: {missing}")


def require_image(name: str) -> None:
    """Skip the test if no Docker engine answers, or if the image is neither there nor can be pulled."""
    found = Engine()
    try:
        found.require_image(name)
    except Unavailable as error:
        pytest.skip(str(error))
    finally:
        found.close()


@functools.cache
def why_no_docker() -> str:
    """Return why Docker is unavailable, or "". Checked once."""
    engine = Engine()
    try:
        engine.require_image(REDIS_IMAGE)
        engine.require_image(POSTGRES_IMAGE)
    except Unavailable as error:
        return str(error)
    finally:
        engine.close()
    return ""


@contextlib.contextmanager
def traces_of(project: Project, cache: Path) -> Iterator[Traces]:
    """Traces of a project. The remains are removed at the end."""
    # Open to other users, because PostgreSQL does not run as root.
    folder = Path(tempfile.mkdtemp(prefix="traces-"))
    folder.chmod(0o755)
    traces = Traces(project, folder, cache)
    try:
        yield traces
    finally:
        for run in traces.started:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def _is_by_us(record: Path) -> bool:
    """Return whether a process is a server that this test has started."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return bool(json.loads(record.with_suffix(".json").read_text())["owner"] == os.getpid())
    return False


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return "gone"
