"""A copy into a repository with its own pyproject.toml, noxfile.py, conftest.py, scripts and tests."""

import json
import re
import subprocess
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from plumbline.adopting import benchmarks
from plumbline.adopting.login_benchmarks import login_benchmarks, login_to_write
from plumbline.adopting.tools import lines_to_add, shown
from plumbline.adopting.tried import FailedLogin, Login, Route
from tests.support.project import ROOT, Done, make_environment, pip_install
from tests.support.repository import Repository

from .copies import Copy, copy, write_files

THEIR_TOOLS = ("anyio>=4", "black>=25", "flake8>=7", "isort>=6", "mypy>=1.18", "pytest-cov>=6", "pytest-xdist>=3.8", "ruff>=0.13")
FORMATTERS = ((".venv/bin/black", "--diff", "--quiet"), (".venv/bin/isort", "--profile=black", "--diff", "--quiet"))
LIMIT_S = 300.0


def lowest_versions() -> list[str]:
    """Return the oldest supported releases of the packages that Plumbline and an application share."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    drivers = [*project["optional-dependencies"]["redis"], *project["optional-dependencies"]["postgres"]]
    requirements = map(Requirement, {*project["dependencies"], *drivers, "starlette>=1.0", "uvicorn>=0.27"})
    # The embedded servers ask for a newer one.
    return sorted(f"{one.name}=={lowest(one)}.*" for one in requirements if one.name != "platformdirs")


def lowest(requirement: Requirement) -> str:
    [version] = [one.version for one in requirement.specifier if one.operator == ">="]
    return version


PYPROJECT = """
    [build-system]
    requires = ["setuptools>=69"]
    build-backend = "setuptools.build_meta"

    [project]
    name = "shop"
    version = "3.1"
    requires-python = ">=3.11"
    dependencies = {dependencies}

    [tool.pytest.ini_options]
    addopts = "-n 1 --cov=. --cov-report=json"
    asyncio_mode = "strict"
    testpaths = ["tests"]

    [tool.ruff.lint]
    select = ["D1", "E", "F", "I", "S"]

    [tool.mypy]
    files = ["."]
    strict = true
    """
FILES = {
    "src/shop/__init__.py": '''
        """A shop."""

        import os

        PRICES = list(range(20_000))
        CACHE_URL = os.environ.get("SHOP_CACHE_URL", "redis://127.0.0.1:1/0")


        def total() -> int:
            """Add up all prices."""
            return sum(PRICES)
        ''',
    "src/shop/web.py": '''
        """Its API."""

        from redis.asyncio import Redis
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        from shop import CACHE_URL, total


        async def health(_request: Request) -> JSONResponse:
            """Ask the cache."""
            async with Redis.from_url(CACHE_URL) as cache:
                await cache.ping()
            return JSONResponse({"total": total()})


        app = Starlette(routes=[Route("/health", health)])
        ''',
    "tests/test_shop.py": '''
        """Tests of the shop."""

        import asyncio

        import anyio
        import pytest

        import shop


        @pytest.mark.asyncio
        async def test_by_asyncio(prices):
            await asyncio.sleep(0)
            assert shop.total() == sum(prices)


        @pytest.mark.anyio
        async def test_by_anyio():
            await anyio.sleep(0)


        def test_plain(prices):
            assert prices
        ''',
    "tests/test_units.py": '''
        """Tests of the shop, for unittest."""

        import unittest

        import shop


        class TestShop(unittest.TestCase):
            """The shop."""

            def test_total(self) -> None:
                """It adds up."""
                self.assertEqual(shop.total(), sum(range(20_000)))
        ''',
    "tests/conftest.py": '"""None of theirs."""\n',
    "conftest.py": '''
        """Fixtures of theirs."""

        import pytest


        @pytest.fixture
        def prices():
            return list(range(20_000))


        @pytest.fixture
        def anyio_backend():
            return "asyncio"
        ''',
    "noxfile.py": '''
        """Sessions of theirs."""

        import nox


        @nox.session
        def tests(session):
            session.run("pytest")
        ''',
    "scripts/deploy.py": 'print("deployed")\n',
    "scripts/__init__.py": "",
    ".gitignore": ".nox/\n.venv/\n.coverage\ncoverage.json\n__pycache__/\n*.egg-info/\n",
    "tox.ini": "[tox]\nskipsdist = true\n",
    "Makefile": "lint:\n\tblack .\n\tisort .\n\tflake8\n\tmypy\n",
    ".gitlab-ci.yml": "deploy:\n  script: [python -m scripts.deploy]\n",
}


UNCHANGED = '''
"""A benchmark of code that does not change."""


def test_sorting(measure):
    """Sort a list that is in reverse order."""
    for timer in measure():
        with timer:
            ordered = sorted(range(2000, 0, -1))
    assert ordered[0] == 1
'''.lstrip()


@pytest.fixture
def theirs(tmp_path: Path) -> Copy:
    """The user's repository and environment before the copy."""
    root = tmp_path / "shop"
    write_files(root, {**FILES, "pyproject.toml": PYPROJECT.format(dependencies=json.dumps(lowest_versions()))})
    repository = Copy(root, "perf-noxfile.py")
    repository.begin()
    run(*make_environment(".venv"), cwd=root)
    run(*pip_install(".venv/bin/python"), "--quiet", *THEIR_TOOLS, "-e", ".", cwd=root)
    return repository


def run(*command: str, cwd: Path, code: int | None = 0) -> Done:
    """Run a command in the user's repository."""
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert code is None or done.returncode == code, done.stdout
    return Done(done.returncode, done.stdout)


@dataclass
class Found:
    """The results of the user's own tools."""

    pytest: str
    covered: list[str]
    unittest: str
    ruff: str
    ruff_format: str
    mypy: str
    flake8: str


def own_tools(theirs: Copy) -> Found:
    """Run the user's own tools."""
    pytest = run(".venv/bin/pytest", cwd=theirs.root).output
    covered = sorted(json.loads((theirs.root / "coverage.json").read_text(encoding="utf-8"))["files"])
    unittest = run(".venv/bin/python", "-m", "unittest", "discover", "tests", cwd=theirs.root).output
    ruff = run(".venv/bin/ruff", "check", "--output-format=concise", cwd=theirs.root, code=None).output
    ruff_format = run(".venv/bin/ruff", "format", "--diff", "--quiet", cwd=theirs.root, code=None).output
    mypy = run(".venv/bin/mypy", cwd=theirs.root, code=None).output
    flake8 = run(".venv/bin/flake8", "--exclude=.venv,.nox", cwd=theirs.root, code=None).output
    [passed] = re.findall(r"\d+ passed[^=]*(?= in )", pytest)
    [ran] = re.findall(r"Ran \d+ tests?", unittest)
    mypy = re.sub(r"checked \d+ source files", "", mypy)
    return Found(passed, covered, ran, ruff, ruff_format, mypy, flake8)


def add_by_hand(theirs: Copy, printed: str) -> None:
    """Add the lines that are printed after copying, and those of `init`, to the files that the messages name."""
    printed += f"\n{shown(lines_to_add(theirs.root))}\n"
    parts = re.findall(r"^Add to (\S+?)[,:].*\n\n((?:    .*\n|\n)+)", printed, re.MULTILINE)
    assert [name for name, _ in parts] == [".gitlab-ci.yml", "pyproject.toml", ".flake8"]
    for name, lines in parts:
        text = re.sub(r"^    ", "", lines, flags=re.MULTILINE).rstrip() + "\n"
        path = theirs.root / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if name == "pyproject.toml":
            head = "[tool.mypy]\n"
            [excluded] = re.findall(r"^exclude = .*\n", text, re.MULTILINE)
            before = before.replace(head, head + excluded)
            text = text.replace(head + excluded, "")
        path.write_text(f"{before}\n{text}", encoding="utf-8")
    assert lines_to_add(theirs.root) == []


def starters_of_init() -> dict[str, str]:
    """Return benchmarks as `init` writes them."""
    login = Login("/login", "data", {"username": 'USER["name"]'}, ("token",), "/users", user={"name": "ada"})
    return {
        "test_logged_in.py": login_benchmarks(["/a", "/b"], login),
        "test_to_log_in.py": login_to_write(["/a"], [], [FailedLogin(login, "ReadTimeout")]),
        "test_post.py": benchmarks.post_benchmark(Route("POST", "/a", body={"tags": ["a", {"b": None}]})),
        "test_get.py": benchmarks.route_benchmarks(["/a", "/b"]),
        **dict([benchmarks.library_benchmarks("shop")]),
    }


@pytest.mark.timeout(600)
def test_a_repository_with_everything_of_its_own(theirs: Copy, template: Repository) -> None:
    """No file of the user changes, and the suite judges code on old packages."""
    found = own_tools(theirs)
    assert (found.pytest, found.unittest) == ("4 passed", "Ran 1 test")
    files = theirs.files()

    done = copy(template, theirs.root, {"application": "shop.web:app", "ci": "both"})

    assert done.code == 0, done.output
    status = theirs.git("status", "--porcelain", "--untracked-files=all").splitlines()
    assert {line[:2] for line in status} == {"??"}
    assert files < theirs.files()
    added = theirs.own_files() - files
    assert {"perf-noxfile.py", "tests/performance/pyproject.toml"} <= added
    assert not {"conftest.py", "noxfile.py", "tests/__init__.py", "tests/sample_service/app.py"} & added
    assert not [name for name in added if re.search("test_(redis|postgres)_", name)]

    starters = starters_of_init()
    for name, text in starters.items():
        theirs.write(name, text)
    ours = sorted(name for name in theirs.own_files() - files if name.endswith(".py"))
    for command in *FORMATTERS, (".venv/bin/flake8",):
        assert run(*command, *ours, cwd=theirs.root, code=None).output == ""
    # What is added by hand is for mypy and coverage, and for Plumbline's source in `vendor`.
    now = own_tools(theirs)
    assert replace(now, covered=found.covered, mypy=found.mypy, flake8=found.flake8) == found
    add_by_hand(theirs, done.output)
    assert own_tools(theirs) == found
    assert [run(*one, ".", cwd=theirs.root, code=None).output for one in FORMATTERS] == ["", ""]
    for name in starters:
        (theirs.suite / name).unlink()

    theirs.edit("settings.toml", '# MY_SERVICE_REDIS_URL = "{redis.url}"', 'SHOP_CACHE_URL = "{redis.url}"')
    theirs.measure_little()
    theirs.allow_for_noise()
    theirs.write("test_unchanged.py", UNCHANGED)
    theirs.commit("The suite")
    done = theirs.nox("ci")
    assert done.code == 0, done.output
    assert set(theirs.verdicts().values()) == {"new"}
    assert "perf-results" not in theirs.git("status", "--porcelain")
    installed = theirs.results()["environment"]["packages"]
    assert [one for one in lowest_versions() if not is_installed(one, installed)] == []

    shop = theirs.root / "src" / "shop" / "__init__.py"
    text = shop.read_text(encoding="utf-8")
    shop.write_text(text.replace("return sum(PRICES)", "return sum(PRICES * 40) // 40"), encoding="utf-8")
    done = theirs.nox("ci", "-k", "test_get or test_sorting", GITHUB_BASE_REF="main")
    assert done.code == 1, done.output
    verdicts = theirs.verdicts()
    assert verdicts.pop("test_routes.py::test_get[/health]") == "regression"
    assert list(verdicts) == ["test_unchanged.py::test_sorting"]
    assert "regression" not in verdicts.values()
    assert "nox -f perf-noxfile.py -s ci" in done.output


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_repository_whose_tests_are_a_package(theirs: Copy, template: Repository) -> None:
    """The user's tools find the same as before."""
    (theirs.root / "tests" / "__init__.py").touch()
    theirs.commit("A package")
    found = own_tools(theirs)

    done = copy(template, theirs.root, {"application": "shop.web:app", "ci": "both"})

    assert done.code == 0, done.output
    add_by_hand(theirs, done.output)
    assert own_tools(theirs) == found


def is_installed(requirement: str, packages: dict[str, str]) -> bool:
    name, _, version = requirement.partition("==")
    return packages.get(name, "").startswith(version.removesuffix(".*"))
