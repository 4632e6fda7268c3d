"""A copy into a repository that has its own pyproject.toml, noxfile.py, conftest.py, scripts and tests."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.project import ROOT, Done, make_environment, pip_install
from tests.support.repository import Repository

from .copies import Copy, copy, write_files

GROUPS = ("perf", "embedded", "service")
THEIR_TOOLS = ("anyio>=4", "pytest-cov>=6", "pytest-xdist>=3.8", "ruff>=0.13")
LIMIT_S = 300.0


def lowest_versions() -> list[str]:
    """The oldest releases of all that the suite declares: what the owner's project is held to."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    declared = {one.partition(";")[0].strip() for name in GROUPS for one in groups[name]}
    return sorted(one.replace(">=", "==") for one in declared if not one.startswith("nox>="))


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
    addopts = "-n auto --cov=. --cov-report=json"
    asyncio_mode = "strict"
    testpaths = ["tests"]

    [tool.ruff.lint]
    select = ["D1", "E", "F", "I", "S"]
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
    ".gitlab-ci.yml": "deploy:\n  script: [python -m scripts.deploy]\n",
}


@pytest.fixture
def theirs(tmp_path: Path) -> Copy:
    """The owner's repository and environment, before the suite comes."""
    root = tmp_path / "shop"
    write_files(root, {**FILES, "pyproject.toml": PYPROJECT.format(dependencies=json.dumps(lowest_versions()))})
    repository = Copy(root, "perf-noxfile.py")
    repository.begin()
    run(*make_environment(".venv"), cwd=root)
    run(*pip_install(".venv/bin/python"), "--quiet", *THEIR_TOOLS, "-e", ".", cwd=root)
    return repository


def run(*command: str, cwd: Path, code: int | None = 0) -> Done:
    """Run a command in the owner's repository."""
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


def own_tests(theirs: Copy) -> list[str]:
    """Run the owner's pytest, as they do; the files whose coverage it tells."""
    done = run(".venv/bin/pytest", cwd=theirs.root)
    assert re.search(r"\b3 passed\b", done.output), done.output
    return sorted(json.loads((theirs.root / "coverage.json").read_text(encoding="utf-8"))["files"])


def add_by_hand(theirs: Copy, printed: str) -> None:
    """Do what is printed after copying: put lines at the end of the files named."""
    parts = re.findall(r"^to (\S+?)[,:].*\n\n((?:    .*\n|\n)+)", printed, re.MULTILINE)
    assert [name for name, _ in parts] == [".gitignore", ".gitlab-ci.yml", "pyproject.toml"]
    for name, lines in parts:
        with (theirs.root / name).open("a", encoding="utf-8") as file:
            file.write("\n" + re.sub(r"^    ", "", lines, flags=re.MULTILINE).rstrip() + "\n")


@pytest.mark.timeout(300)
def test_a_repository_with_everything_of_its_own(theirs: Copy, template: Repository) -> None:
    """Nothing of theirs changes and their tests pass; the suite runs with the oldest packages and judges their code."""
    covered = own_tests(theirs)
    files = theirs.files()

    done = copy(template, theirs.root, {"application": "shop.web:app", "ci": "both"})

    assert done.code == 0, done.output
    status = theirs.git("status", "--porcelain", "--untracked-files=all").splitlines()
    assert {line[:2] for line in status} == {"??"}
    assert files < theirs.files()
    added = theirs.files() - files
    assert {"perf-noxfile.py", "perf-scripts/gate.py", "tests/performance/pytest.toml"} <= added
    assert not {"conftest.py", "pyproject.toml", "tests/__init__.py", "tests/sample_service/app.py"} & added

    add_by_hand(theirs, done.output)
    assert own_tests(theirs) == covered
    found = run(".venv/bin/ruff", "check", "--output-format=json", cwd=theirs.root, code=None)
    checked = {Path(one["filename"]).relative_to(theirs.root).as_posix() for one in json.loads(found.output)}
    assert "tests/test_shop.py" in checked
    assert not [name for name in checked if name.startswith(("perf-", "tests/performance/harness"))]
    assert "perf-results/" in theirs.git("check-ignore", "perf-results/")

    theirs.edit("settings.toml", '# MY_SERVICE_REDIS_URL = "{redis.url}"', 'SHOP_CACHE_URL = "{redis.url}"')
    theirs.measure_little()
    theirs.allow_for_noise()
    theirs.commit("The suite")
    done = theirs.nox("ci")
    assert done.code == 0, done.output
    assert set(theirs.verdicts().values()) == {"new"}
    installed = theirs.results()["environment"]["packages"]
    assert [one for one in lowest_versions() if not is_installed(one, installed)] == []

    shop = theirs.root / "src" / "shop" / "__init__.py"
    text = shop.read_text(encoding="utf-8")
    shop.write_text(text.replace("return sum(PRICES)", "return sum(PRICES * 200) // 200"), encoding="utf-8")
    done = theirs.nox("ci", "-k", "test_health or test_publish_latency", GITHUB_BASE_REF="main")
    assert done.code == 1, done.output
    verdicts = theirs.verdicts()
    assert verdicts.pop("test_api_benchmarks.py::test_health") == "regression"
    assert list(verdicts) == ["test_redis_benchmarks.py::test_publish_latency"]
    assert "regression" not in verdicts.values()
    assert "nox -f perf-noxfile.py -s ci" in done.output


def is_installed(requirement: str, packages: dict[str, str]) -> bool:
    name, _, version = requirement.partition("==")
    return packages.get(name, "").startswith(version)
