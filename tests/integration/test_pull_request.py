"""Pull requests in a pipeline: a shallow clone of the merge commit that belongs to another user, without a baseline.

Each change makes something slower. It is compared with its base, or the run is not green.
"""

import os
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from plumbline.comparing.trees.installers import find_uv
from tests.support.project import PYPROJECT, ROOT, STEADY_SETTINGS, Done, Project

KEY = "test_shop.py::test_total"
SOMEBODY = 1234
SETTINGS = f'{STEADY_SETTINGS}\n[app]\nasgi = "shop.web:app"\n'

WEB = """\
import json
import pathlib
import time

import orders_pb2

TARIFFS = json.loads((pathlib.Path(__file__).parent / "tariffs.json").read_text())


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"].endswith("shutdown"):
                return
    time.sleep(0.002 * orders_pb2.VERSION * TARIFFS["a"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""
SUITE = """\
import httpx

from plumbline import Measure


def test_total(api_url: str, measure: Measure) -> None:
    with httpx.Client(base_url=api_url) as client:
        for timer in measure():
            with timer:
                response = client.get("/health")
            assert response.status_code == 200
"""
IGNORED = {"orders_pb2.py": "VERSION = 1\n", "shop/tariffs.json": '{"a": 1}'}


@pytest.fixture
def origin(environments: Path, tmp_path: Path) -> Project:
    """The repository of an application that reads a generated module and a data file, both ignored by git."""
    project = Project.create(tmp_path / "origin", environments)
    (project.suite / "test_suite.py").unlink()
    project.write("settings.toml", SETTINGS)
    project.write("test_shop.py", SUITE)
    write(project.root, {".gitignore": "/perf-results/\n__pycache__/\n*_pb2.py\ntariffs.json\n"})
    write(project.root, {"shop/__init__.py": "", "shop/web.py": WEB})
    project.git("init", "--quiet", "--initial-branch=main")
    project.commit()
    return project


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def checked_out(origin: Project, folder: Path, ignored: Mapping[str, str] = IGNORED) -> tuple[Project, dict[str, str]]:
    """The checkout of the merge of branch `change` into `main`, with GitHub's variables."""
    origin.git("checkout", "--quiet", "--detach", "main")
    origin.git("merge", "--quiet", "--no-ff", "--message=Merge", "change")
    origin.git("update-ref", "refs/pull/7/merge", "HEAD")
    bare, clone = folder / "bare.git", Project(folder / "clone", origin.environments)
    subprocess.run(["git", "clone", "--quiet", "--mirror", str(origin.root), str(bare)], check=True)
    clone.root.mkdir()
    clone.git("init", "--quiet")
    clone.git("remote", "add", "origin", f"file://{bare}")
    clone.git("fetch", "--quiet", "--depth=1", "origin", "+refs/pull/7/merge:refs/remotes/pull/7/merge")
    clone.git("checkout", "--quiet", "--detach", "refs/remotes/pull/7/merge")
    write(clone.root, ignored)
    commit = clone.git("rev-parse", "HEAD")
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", f"{SOMEBODY}:{SOMEBODY}", str(clone.root)], check=True)
    names = {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_BASE_REF": "main", "GITHUB_REF": "refs/pull/7/merge"}
    return clone, {**names, "GITHUB_SHA": commit, "XDG_CACHE_HOME": str(folder / "cache")}


def change(origin: Project, path: str, old: str, new: str) -> None:
    """Commit an edit on a branch."""
    origin.git("checkout", "--quiet", "-b", "change")
    text = (origin.root / path).read_text()
    assert old in text
    (origin.root / path).write_text(text.replace(old, new))
    origin.commit()


def compared(clone: Project, done: Done) -> None:
    """Fails unless the change was compared with its base and failed."""
    assert done.code == 1, done.output
    assert clone.verdicts() == {KEY: "regression"}, done.output
    assert "Compared in pairs with" in done.output


ORDERS = """\
SCHEMA = "CREATE TABLE orders (id int, customer int, note text); CREATE INDEX by_customer ON orders (customer)"
ROWS = "INSERT INTO orders SELECT id, id, repeat('x', 500) FROM generate_series(1, 2000) AS id"


async def find(connection, customer):
    return await connection.fetch("SELECT id FROM orders WHERE customer = $1", customer)
"""
ORDERS_SUITE = """\
import asyncpg

from plumbline import Measure
from shop.orders import ROWS, SCHEMA, find


async def test_total(postgres_url: str, measure: Measure) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"DROP TABLE IF EXISTS orders; {SCHEMA}; {ROWS}")
    await connection.execute("VACUUM ANALYZE orders")
    async for timer in measure():
        with timer:
            await find(connection, 7)
    await connection.close()
"""


def test_a_lost_index(origin: Project, tmp_path: Path) -> None:
    """Rows, buffers and the plan show it, with the line of the query."""
    settings = STEADY_SETTINGS.replace('backend = "off"', 'backend = "embedded"')
    tables = '[redis]\nbackend = "off"\n[postgres.config]\nautovacuum = false\n'
    origin.write("settings.toml", f"{settings}\n{tables}")
    origin.write("test_shop.py", ORDERS_SUITE)
    write(origin.root, {"shop/orders.py": ORDERS})
    origin.commit()
    change(origin, "shop/orders.py", "; CREATE INDEX by_customer ON orders (customer)", "")
    clone, environ = checked_out(origin, tmp_path)

    done = clone.run("ci", **environ)

    compared(clone, done)
    [benchmark] = clone.results()["benchmarks"]
    grown = {one["name"]: (one["old"], one["new"]) for one in benchmark["count_changes"] if one["gated"]}
    statement = "SELECT id FROM orders WHERE customer = $1"
    assert grown[f"postgres.rows_read {statement}"] == (1, 2_000)
    before, now = grown[f"postgres.buffers {statement}"]
    assert now > 10 * before
    texts = [cause["text"] for cause in clone.results()["problems"][0]["causes"]]
    assert texts[0] == f"{statement}: rows read 1 → 2,000, shop/orders.py:6 in find"
    assert f"plan of {statement}: Index Scan by_customer on orders → Seq Scan on orders" in texts


def test_a_slower_handler_beside_ignored_files(origin: Project, tmp_path: Path) -> None:
    """Both sides have the ignored files. The report lists them, but not their content."""
    change(origin, "shop/web.py", "0.002 *", "0.01 *")
    clone, environ = checked_out(origin, tmp_path)

    done = clone.run("ci", **environ)

    compared(clone, done)
    report = (clone.root / "perf-results/report.md").read_text()
    assert clone.results()["environment"]["commit"] == environ["GITHUB_SHA"]
    for text in (report, " ".join(done.output.split())):
        assert "orders" in text, done.output
        assert "tariffs.json" in text
        assert "VERSION" not in text


def test_a_base_that_does_not_run_is_not_green(origin: Project, tmp_path: Path) -> None:
    """It lacks a file of the change. The report shows the reason and the next step. A setting makes it a warning."""
    write(origin.root, {"shop/web.py": "import not_there\n"})
    origin.commit()
    change(origin, "shop/web.py", "import not_there\n", WEB)
    clone, environ = checked_out(origin, tmp_path)

    done = clone.run("ci", **environ)

    assert done.code == 3, done.output
    assert "no paired comparison: the base can't be run" in done.output
    assert "No module named 'not_there'" in done.output
    assert "allow_unmeasured" in done.output

    clone.edit("settings.toml", "[gate]", "[gate]\nallow_unmeasured = true")
    allowed = clone.run("ci", **environ)
    assert allowed.code == 0, allowed.output
    assert "NEW, NOT COMPARED: not compared with the base, as allow_unmeasured permits" in allowed.output
    assert (clone.root / "perf-results/report.md").read_text().startswith("## ⚠️ New, not compared\n")


def test_a_copy_that_does_not_run_is_not_green(origin: Project, tmp_path: Path) -> None:
    """The working tree reads a file outside the repository. The report names it, and the setting that copies it."""
    change(origin, "shop/web.py", 'parent / "tariffs.json"', 'parents[2] / "tariffs.json"')
    write(tmp_path, {"tariffs.json": '{"a": 5}'})
    clone, environ = checked_out(origin, tmp_path)

    done = clone.run("ci", **environ)

    assert done.code == 3, done.output
    assert "the copy of the working tree can't be run, although the working tree can" in " ".join(done.output.split())
    assert "It lacks ../tariffs.json: add it to also_copy under [compare]" in " ".join(done.output.split())

    clone.write("settings.toml", f'{SETTINGS}\n[compare]\nalso_copy = ["../tariffs.json"]\n')
    compared(clone, clone.run("ci", **environ))


def test_generated_code_of_the_working_tree_is_not_green_in_the_base(origin: Project, tmp_path: Path) -> None:
    """Git ignores the generated code, and its source differs."""
    write(origin.root, {"orders.proto": "1"})
    origin.commit()
    change(origin, "orders.proto", "1", "2")
    clone, environ = checked_out(origin, tmp_path)

    done = clone.run("ci", **environ)

    assert done.code == 3, done.output
    assert "It may be generated from orders.proto" in " ".join(done.output.split())


def test_copies_that_run_without_a_file_are_not_green(origin: Project, tmp_path: Path) -> None:
    """Both copies would be as fast as without the file of the working tree."""
    tariffs = 'TARIFFS = {"a": 1}\nif (f := pathlib.Path(__file__).parents[2] / "tariffs.json"):\n'
    tariffs += "    try:\n        TARIFFS = json.loads(f.read_text())\n    except OSError:\n        pass\n"
    old = 'TARIFFS = json.loads((pathlib.Path(__file__).parent / "tariffs.json").read_text())\n'
    change(origin, "shop/web.py", old, tariffs)
    write(tmp_path, {"tariffs.json": '{"a": 5}'})
    clone, environ = checked_out(origin, tmp_path)

    done = clone.run("ci", **environ)

    assert done.code == 3, done.output
    assert "the copy of the working tree tries to read ../tariffs.json, which it lacks" in " ".join(done.output.split())


INHERITING = "class Shape:\n    def test_total(self, measure):\n        for timer in measure():\n            with timer:\n                self.work()\n"  # noqa: E501


def test_an_inherited_benchmark_is_not_new(origin: Project, tmp_path: Path) -> None:
    """Another file defines it. The base has the benchmark's file but cannot run it."""
    (origin.suite / "test_shop.py").unlink()
    origin.write("settings.toml", STEADY_SETTINGS)
    origin.write("shapes.py", INHERITING)
    work = "    def work(self):\n        from shop.orders import work\n\n        work()\n"
    origin.write("test_orders.py", f"from .shapes import Shape\n\n\nclass TestOrders(Shape):\n{work}")
    write(origin.root, {"shop/orders.py": "def work_before():\n    pass\n"})
    origin.commit()
    change(origin, "shop/orders.py", "work_before", "work")
    clone, environ = checked_out(origin, tmp_path)

    done = clone.run("ci", **environ)

    assert done.code == 3, done.output
    assert "cannot import name 'work'" in done.output


# ---- packages

LIBRARY = """\
import time

try:
    import plumbspeedups as _
except ImportError:
    DURATION_S = {slow_s}
else:
    DURATION_S = 0.002


def work():
    time.sleep(DURATION_S)
"""
OF_LIBRARY = """\
from library import work

from plumbline import Measure


def test_total(measure: Measure) -> None:
    for timer in measure():
        with timer:
            work()
"""
PROJECT = '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["library"]\n'
POETRY = '[tool.poetry]\npackage-mode = false\n\n[tool.poetry.dependencies]\npython = ">=3.11"\nlibrary = "*"\n'
POETRY_LOCK = """\
[[package]]
name = "library"
version = "1.0"
description = ""
optional = false
python-versions = "*"
groups = ["main"]
files = []

[metadata]
lock-version = "2.1"
python-versions = ">=3.11"
content-hash = "0"
"""


def write_wheel(folder: Path, name: str, version: str, code: str, extra: str = "") -> None:
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{extra}"
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{about}/METADATA": metadata,
        f"{about}/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{about}/RECORD": "".join(f"{path},,\n" for path in files)}.items():
            wheel.writestr(path, text)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package index with a library whose version 2 is slower, as it is without its extra."""
    folder = tmp_path_factory.mktemp("wheels")
    extra = 'Provides-Extra: fast\nRequires-Dist: plumbspeedups; extra == "fast"\n'
    for version, slow_s in (("1.0", 0.002), ("2.0", 0.01)):
        write_wheel(folder, "library", version, LIBRARY.format(slow_s=slow_s), extra)
    write_wheel(folder, "plumbspeedups", "1.0", "")
    return folder


@pytest.fixture(scope="module")
def own_environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for Nox's environment, which one pull request leaves to the next."""
    return tmp_path_factory.mktemp("environments")


@pytest.mark.skipif(not find_uv(), reason="uv is not installed")
@pytest.mark.parametrize("changed", ["uv.lock", "poetry.lock", "requirements.txt", "an extra"])
def test_a_slower_package(changed: str, wheels: Path, own_environments: Path, tmp_path: Path) -> None:
    """An upgrade in a lock file, or an extra that was dropped, in a reused environment."""
    project = Project.create(tmp_path / "origin", own_environments)
    (project.suite / "test_suite.py").unlink()
    project.write("requirements.txt", f"-e {ROOT}\n")
    project.write("settings.toml", STEADY_SETTINGS)
    project.write("test_shop.py", OF_LIBRARY)
    old, new, before, after, files = {
        "uv.lock": ("", "", "1.0", "2.0", {"pyproject.toml": f"{PROJECT}\n{PYPROJECT}"}),
        "poetry.lock": (
            '"1.0"',
            '"2.0"',
            "",
            "",
            {"pyproject.toml": f"{POETRY}\n{PYPROJECT}", "poetry.lock": POETRY_LOCK},
        ),
        "requirements.txt": ("==1.0", "==2.0", "", "", {"requirements.txt": "library==1.0\n"}),
        "an extra": ("[fast]", "", "", "", {"requirements.txt": "library[fast]==2.0\n"}),
    }[changed]
    write(project.root, files)
    environ = {"UV_FIND_LINKS": str(wheels)}

    def lock(version: str) -> None:
        command = [*find_uv(), "lock", "--quiet", f"--upgrade-package=library=={version}"]
        subprocess.run(command, cwd=project.root, env={**os.environ, **environ}, check=True)

    if before:
        lock(before)
    project.git("init", "--quiet", "--initial-branch=main")
    project.commit()
    if after:
        project.git("checkout", "--quiet", "-b", "change")
        lock(after)
        project.commit()
    else:
        change(project, [*files][-1], old, new)
    clone, of_github = checked_out(project, tmp_path, {})

    done = clone.fresh_nox("ci", **environ, **of_github)

    compared(clone, done)
    expected = "plumbspeedups 1.0" if changed == "an extra" else "library 1.0 → 2.0"
    assert expected in done.output, done.output
