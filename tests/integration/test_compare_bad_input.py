"""Errors of a paired comparison, with their messages and exit codes, and without remains."""

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from plumbline.cache import MADE
from plumbline.judging.baseline import baseline_path, merge
from plumbline.reporting.content import reason_text
from plumbline.results.files import read_results, write_results
from plumbline.results.schema import Reason
from tests.support.project import CONFTEST, STEADY_SETTINGS, Done, Project, finish
from tests.support.traces import GONE_LIMIT_S, WithoutNox, settings, traces_of, why_no_docker
from tests.support.traces import SUITE as TRACED

WORK, OTHER = "test_code.py::test_work", "test_code.py::test_other"
TOKEN = "hush-hush"
# For a run that ends by itself, after its sides. If Docker has to remove containers, this takes long.
ORDERLY_LIMIT_S = 45.0
ON_SERVERS = STEADY_SETTINGS.replace('backend = "off"', 'backend = "embedded"')

CODE = """\
import sys

IN_ARM = next((arg for arg in sys.argv if arg.startswith("--perf-worker=")), "")
ROUNDS = 2_000


def work() -> int:
    return sum(range(ROUNDS))


def other() -> list[int]:
    return sorted(range(2_000, 0, -1))
"""

SUITE = '''\
"""Two benchmarks of code that lives beside the suite."""

import code_under_test
import pytest

from plumbline import Measure


def test_work(measure: Measure) -> None:
    """Add up a range."""
    for timer in measure():
        with timer:
            code_under_test.work()


def test_other(measure: Measure) -> None:
    """Sort a list."""
    for timer in measure():
        with timer:
            code_under_test.other()
'''

APP = """\
import json
import os

import asyncpg
from redis.asyncio import Redis

COLUMN = "name"
ROUNDS = 1


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        app.pool = await asyncpg.create_pool(os.environ["APP_DATABASE_URL"], min_size=1, max_size=1)
        app.redis = Redis.from_url(os.environ["APP_CACHE_URL"])
        await receive()
        await app.pool.close()
        await app.redis.aclose()
        await send({"type": "lifespan.shutdown.complete"})
        return
    found = ""
    if scope["path"] != "/health":
        assert await app.redis.get("columns") == COLUMN.encode(), "the cache is somebody else's"
        for _ in range(ROUNDS):
            found = await app.pool.fetchval(f"SELECT {COLUMN} FROM item")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(found).encode()})
"""

PREPARE = """\
import asyncio
import os

import asyncpg
import redis

import app

MIGRATIONS = ["CREATE TABLE item AS SELECT 'old'::text AS name"]


async def migrate():
    connection = await asyncpg.connect(os.environ["APP_DATABASE_URL"])
    for statement in MIGRATIONS:
        await connection.execute(statement)
    await connection.close()


asyncio.run(migrate())
redis.Redis.from_url(os.environ["APP_CACHE_URL"]).set("columns", app.COLUMN)
"""

SERVED = '''\
"""One benchmark of an application that is served."""

import http.client
import urllib.parse

from plumbline import Measure


def test_item(api_url: str, measure: Measure) -> None:
    """Fetch the item."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(api_url).netloc)
    for timer in measure():
        with timer:
            connection.request("GET", "/item")
            response = connection.getresponse()
            response.read()
        assert response.status == 200
    connection.close()
'''

# The names of servers and databases in settings.toml, as applications read or hard-code them.
READ = """
[env]
APP_DATABASE_URL = "{postgres.url}"
APP_CACHE_URL = "redis://:{redis.password}@{redis.host}:{redis.port}/{redis.database}"
"""
HARD_CODED = """
[redis]
password = false

[postgres]
user = "shop"
database = "shop"
password = "shop"

[env]
APP_DATABASE_URL = "postgresql://shop:shop@{postgres.host}:{postgres.port}/shop"
APP_CACHE_URL = "redis://{redis.host}:{redis.port}/0"
"""

SERVED_SETTINGS = f"""
{READ}
[app]
asgi = "app:app"
"""

CACHE = """\
VALUE = b"old"


def answer(client):
    found = client.get("cache:answer")
    if found is None:
        client.set("cache:answer", VALUE)
    assert found in (None, VALUE), "that is of another version"
"""

CACHED = '''\
"""Benchmarks of code that names its key itself."""

import os

import redis
from cached import answer

from plumbline import Measure


def test_answer(redis_url: str, measure: Measure) -> None:
    """GET from the cache."""
    with redis.Redis.from_url(os.environ["APP_CACHE_URL"]) as client:
        for timer in measure():
            with timer:
                answer(client)
'''


@pytest.fixture(scope="module")
def committed(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository with code and its benchmarks."""
    project = create(tmp_path_factory.mktemp("bad") / "project", environments)
    project.git("init", "--quiet", "--initial-branch=main")
    project.commit()
    return project


@pytest.fixture(scope="module")
def baselined(committed: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same with a committed baseline of another machine, so all benchmarks are compared in pairs."""
    project = committed.copy(tmp_path_factory.mktemp("baselined") / "project")
    done = compare(project, PERF_MACHINE="yesterday's")
    assert done.code == 0, done.output
    assert project.verdicts() == {WORK: "pass", OTHER: "pass"}
    assert "nothing differs" in done.output
    assert "pairs of fresh processes" not in done.output
    results = read_results(project.root / "perf-results" / "results.json")
    baseline = baseline_path(project.suite / "baselines", results.environment)
    baseline.parent.mkdir()
    write_results(baseline, merge([results] * 3))
    project.commit()
    return project


@pytest.fixture
def project(committed: Project, tmp_path: Path) -> Project:
    """A copy without a baseline, to be changed."""
    return committed.copy(tmp_path / "project")


@pytest.fixture
def gated(baselined: Project, tmp_path: Path) -> Project:
    """A copy with a baseline, to be changed."""
    return baselined.copy(tmp_path / "project")


@pytest.fixture(autouse=True)
def nothing_left(environments: Path, tmp_path: Path) -> Iterator[None]:
    """Fails if a process, or an incomplete copy or environment of a comparison is left."""
    yield
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if any(Path(process.cwd()).is_relative_to(folder) for folder in (tmp_path, cache_of(environments))):
                left.append(str(process.cmdline()))
    sides = cache_of(environments) / "plumbline" / "sides"
    kept = [*sides.glob("trees/*"), *sides.glob("environments/*")]
    left += [str(path) for path in kept if not (path / MADE).exists()]
    assert not left


def create(root: Path, environments: Path) -> Project:
    project = Project.create(root, environments)
    (project.suite / "test_suite.py").unlink()
    project.write("settings.toml", STEADY_SETTINGS)
    project.write("conftest.py", CONFTEST)
    project.write("test_code.py", SUITE)
    write(project, "code_under_test.py", CODE)
    return project


def write(project: Project, name: str, text: str) -> None:
    (project.root / name).write_text(text, encoding="utf-8")


def edit(project: Project, name: str, old: str, new: str) -> None:
    text = (project.root / name).read_text(encoding="utf-8")
    assert old in text
    write(project, name, text.replace(old, new))


def slow_down(project: Project) -> None:
    """Three times the work, as an uncommitted change."""
    edit(project, "code_under_test.py", "2_000\n", "6_000\n")


def cache_of(environments: Path) -> Path:
    return environments.parent / "cache"


def run(project: Project, command: str, *arguments: str, **environ: str) -> Done:
    """A command with its own cache, on a machine that always has the same name."""
    # In a wide terminal: long paths would break the lines.
    cache = {"XDG_CACHE_HOME": str(cache_of(project.environments)), "PERF_MACHINE": "today's", "COLUMNS": "400"}
    return project.python("-m", "plumbline", command, *arguments, **(cache | environ))


def compare(project: Project, *arguments: str, **environ: str) -> Done:
    """Compare the working tree with the last commit."""
    return run(project, "compare", "HEAD", "--limit=60", *arguments, **environ)


def reasons(project: Project, key: str) -> str:
    [found] = [one["reasons"] for one in project.results()["benchmarks"] if one["key"] == key]
    return "\n".join(reason_text(msgspec.convert(one, Reason)) for one in found)


# ---- git and the disk


def test_a_missing_base_commit(gated: Project, tmp_path: Path) -> None:
    """The clone has one commit and its remote is gone. The report shows the attempts, and timings are inconclusive."""
    edit(gated, "code_under_test.py", "import sys\n", "import sys  # noqa\n")
    gated.commit()
    subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{gated.root}", tmp_path / "clone"], check=True)
    clone = Project(tmp_path / "clone", gated.environments)
    clone.git("remote", "set-url", "origin", f"file://{tmp_path}/gone")
    done = run(clone, "ci")
    assert done.code == 0, done.output
    assert set(clone.verdicts().values()) == {"inconclusive"}
    assert "no paired comparison: " in done.output
    assert "that this shallow clone lacks (tried: `git fetch --deepen=50" in " ".join(done.output.split())


def test_a_machine_without_git(gated: Project, tmp_path: Path) -> None:
    """The gate works without a base. `compare` is wrong usage and measures nothing."""
    done = run(gated, "ci", PATH=str(tmp_path))
    assert done.code == 0, done.output
    assert set(gated.verdicts().values()) == {"inconclusive"}
    assert "no paired comparison: git is not installed" in done.output
    done = compare(gated, PATH=str(tmp_path))
    assert done.code == 2, done.output
    assert "git is not installed" in done.output
    assert "test session starts" not in done.output


def test_no_room_for_the_copies(project: Project, full_disk: Path) -> None:
    """`compare` is invalid."""
    slow_down(project)
    (project.root / "large.bin").write_bytes(bytes(100_000))
    done = compare(project, XDG_CACHE_HOME=str(full_disk))
    assert done.code == 3, done.output
    assert "no paired comparison: the sides of the comparison can't be made in" in done.output
    assert "No space left on device" in done.output
    assert project.results()["verdict"] == "invalid"
    assert not list(full_disk.glob("plumbline/sides/*/*"))


def test_no_room_for_temporary_files(project: Project, full_disk: Path) -> None:
    """A full TMPDIR does not matter, because results are passed through the cache. Nothing is left in it."""
    (full_disk / "fill").write_bytes(bytes(60_000))
    done = compare(project, TMPDIR=str(full_disk))
    assert done.code == 0, done.output
    assert [path.name for path in full_disk.iterdir()] == ["fill"]


def test_no_room_for_the_results(project: Project, full_disk: Path) -> None:
    """The verdict is shown, but the run is invalid without its file."""
    project.write("settings.toml", f'results = "{full_disk}"\n{STEADY_SETTINGS}')
    (full_disk / "fill").write_bytes(bytes(65_536))
    done = compare(project)
    assert done.code == 3, done.output
    assert "results.json can't be written: No space left on device" in done.output
    assert "Traceback" not in done.output
    assert [path.name for path in full_disk.iterdir()] == ["fill"]


# ---- packages


def test_a_version_that_can_no_longer_be_installed(gated: Project) -> None:
    """The gate works without a base. No message or file shows the token of the index."""
    path = gated.baseline()
    data = json.loads(path.read_text())
    data["environment"]["packages"]["starlette"] = "0.0.1"
    path.write_text(json.dumps(data))
    gated.commit()
    index = f"http://me:{TOKEN}@127.0.0.1:9/{TOKEN}/simple"
    variables = dict.fromkeys(("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"), index)
    done = run(gated, "ci", **variables, PIP_RETRIES="0", UV_HTTP_RETRIES="0")
    assert done.code == 0, done.output
    assert set(gated.verdicts().values()) == {"inconclusive"}
    assert "no paired comparison: starlette 0.0.1 of the base can't be installed" in done.output
    assert TOKEN not in done.output
    done = compare(gated, **variables, PIP_RETRIES="0", UV_HTTP_RETRIES="0")
    assert done.code == 3, done.output
    assert "no paired comparison: starlette 0.0.1 of the base can't be installed" in done.output
    assert "Next: nox -s compare -- " in done.output
    assert TOKEN not in done.output
    files = [*(gated.root / "perf-results").iterdir(), *cache_of(gated.environments).rglob("*")]
    assert not [path for path in files if path.is_file() and TOKEN.encode() in path.read_bytes()]


# ---- differences between the sides


def test_one_run_of_a_workspace(environments: Path, tmp_path: Path) -> None:
    """The project is two folders below the repository's root, and the base is not the last commit.

    A slow-down in an untracked file fails, and the report names the file. A benchmark that skips in base is invalid. A
    benchmark that base neither has nor can run is new. The others are compared.
    """
    project = create(tmp_path / "repository" / "services" / "api", environments)
    edit(project, "code_under_test.py", "ROUNDS = ", "HAS_IT = False\nROUNDS = ")
    skip = '    if not code_under_test.HAS_IT:\n        pytest.skip("not yet")\n'
    skipping = SUITE.partition("def test_other")[0].replace("test_work", "test_skips")
    project.write("test_skips.py", skipping.replace('    """Add up a range."""\n', f'    """Add up."""\n{skip}'))
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "repository")], check=True)
    project.commit()
    (project.root / "README.md").write_text("more")
    project.commit()

    write(project, "untracked.py", "ROUNDS = 6_000\n")
    edit(project, "code_under_test.py", "HAS_IT = False\n", "HAS_IT = True\n")
    edit(project, "code_under_test.py", "ROUNDS = 2_000\n", "from untracked import ROUNDS\n")
    edit(project, "code_under_test.py", "def other", "def new() -> int:\n    return work()\n\n\ndef other")
    imports = "from code_under_test import new\n"
    project.write("test_new.py", imports + SUITE.replace("code_under_test.work", "new").partition("def test_other")[0])
    done = run(project, "compare", "HEAD~1", "--limit=60", "--", "-q")

    assert done.code == 3, done.output
    new, skips = "test_new.py::test_work", "test_skips.py::test_skips"
    assert project.verdicts() == {WORK: "regression", OTHER: "pass", skips: "invalid", new: "new"}
    assert "3 files differ: README.md, code_under_test.py, untracked.py" in done.output
    assert re.search(r"Compared in pairs with [0-9a-f]{10}, as asked: HEAD~1", " ".join(done.output.split()))
    assert reasons(project, skips) == "could not be compared with the base: in base: skipped: not yet"
    assert "in base: tests/performance/test_new.py can't be collected: " in reasons(project, new)
    assert "cannot import name 'new'" in reasons(project, new)


# ---- data


@pytest.mark.parametrize(
    "names", [pytest.param(READ, id="read", marks=pytest.mark.slow), pytest.param(HARD_CODED, id="hard-coded")]
)
def test_data_of_each_side(project: Project, names: str) -> None:
    """Each side has its own database on each server, filled by its own `prepare`.

    Head's migration adds a column that head's code reads, and fills the cache differently. This also holds for an
    application that hard-codes all names and numbers.
    """
    served = SERVED_SETTINGS.replace(READ, names)
    project.write("settings.toml", f'prepare = ["python", "prepare.py"]\n{ON_SERVERS}{served}')
    project.write("test_code.py", CACHED)
    project.write("test_served.py", SERVED)
    write(project, "app.py", APP)
    write(project, "cached.py", CACHE)
    write(project, "prepare.py", PREPARE)
    project.commit()
    edit(project, "prepare.py", 'AS name"]', 'AS name", "ALTER TABLE item ADD COLUMN price int DEFAULT 1"]')
    edit(project, "app.py", 'COLUMN = "name"\nROUNDS = 1\n', 'COLUMN = "price"\nROUNDS = 20\n')
    edit(project, "cached.py", 'b"old"', 'b"new"')
    done = compare(project)
    assert done.code == 1, done.output
    cached, item = "test_code.py::test_answer", "test_served.py::test_item"
    assert project.verdicts() == {cached: "pass", item: "regression"}
    assert reasons(project, cached).endswith(" pairs with the base")
    assert reasons(project, item).endswith(" pairs with the base")


# ---- killed during a comparison


WAITS_IN_ARM = """

def test_waits(redis_url, postgres_url, measure):
    for timer in measure():
        with timer:
            sum(range(1000))
        if IN_ARM:
            mark()
            Path(os.environ["MARKS"], "middle").touch()
            time.sleep(100)
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, None), (signal.SIGINT, 130)],
)
def test_killed_in_the_middle_of_a_pair(
    project: Project, cache_home: Path, number: signal.Signals, code: int | None
) -> None:
    """Both sides, their servers and their files are gone with the coordinator.

    After SIGKILL, with servers in Docker if that is available.
    """
    services = "docker" if number == signal.SIGKILL and not why_no_docker() else "embedded"
    project.write("settings.toml", settings(services))
    project.write(
        "test_code.py",
        TRACED.replace("import redis\n", "import redis\nfrom code_under_test import IN_ARM\n") + WAITS_IN_ARM,
    )
    project.commit()
    slow_down(project)
    with traces_of(WithoutNox(project.root, project.environments), cache_home) as traces:
        run = traces.start_to_middle("compare", "HEAD")
        traces.mark_all()
        traces.process("plumbline compare").send_signal(number)
        orderly = services == "docker" or number == signal.SIGINT
        traces.assert_gone(ORDERLY_LIMIT_S if orderly else GONE_LIMIT_S)
        done = finish(run)
        assert code is None or done.code == code, done.output
