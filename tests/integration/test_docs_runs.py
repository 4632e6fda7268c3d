"""The benchmarks, containers, tox configuration and monorepo of the documentation are run."""

import importlib
import importlib.util
import itertools
import os
import re
import shlex
import sysconfig
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plumbline.adopting.benchmarks import route_benchmarks
from plumbline.services.docker_engine import Engine
from plumbline.services.errors import Unavailable
from plumbline.settings import Settings
from plumbline.settings_file import load_settings
from tests.support.documentation import BLOCKS, DOCS, SUITE, Block, blocks_of, name_of, names_of_tests, not_printed
from tests.support.documented import APPLICATIONS, MY_SERVICE
from tests.support.fixtures import Until
from tests.support.project import ROOT, Project, sessions, with_lax_budgets
from tests.support.traces import require_image

FEW_PROCESSES = "gate.baseline_processes = 3"
MAILER = "example/mailer:1"
SENT = """
def test_mailer(services):
    assert services.processes["mailer"].state() == "running"
"""
LIBRARY = """
    def price(cents: int) -> int:
        return cents * 119 // 100
"""
SHOP = """
    from pricing import price


    def test_price(measure):
        for timer in measure(operations=100):
            with timer:
                for cents in range(100):
                    price(cents)
"""


@pytest.fixture
def small(tmp_path: Path, cache_home: Path) -> Project:
    """The template without its examples, run by the tests' own Python."""
    assert cache_home.is_dir()
    project = Project.create(tmp_path / "project", tmp_path)
    (project.suite / "test_suite.py").unlink()
    for name in ("conftest.py", "pyproject.toml"):
        project.write(name, (ROOT / SUITE / name).read_text(encoding="utf-8"))
    return project


# tests/template/test_readme.py runs the README's.
RUN = sorted({block.page for block in BLOCKS if block.is_run and block.file.startswith(SUITE)} - {ROOT / "README.md"})


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_benchmarks_of_a_page(small: Project, page: Path) -> None:
    """All benchmarks of a page pass in one run of the gate, on real servers."""
    blocks = [block for block in blocks_of(page) if block.is_run]
    write_page(small, page)

    done = small.own_python("-m", "plumbline", "ci", PERF_SERVICES="embedded", COLUMNS="200")

    assert done.code == 0, done.output
    outcomes = {test["key"].partition("[")[0]: test["outcome"] for test in small.results()["tests"]}
    wanted = {
        f"{block.file.removeprefix(SUITE)}::{test}"
        for block in blocks
        if block.file.startswith(SUITE)
        for test in names_of_tests(block.text)
    }
    assert set(outcomes.values()) == {"passed"}
    assert wanted <= outcomes.keys()
    assert not_printed(page, done.output) == []
    for block in [block for block in blocks_of(page) if block.use == "executed"]:
        for line in block.text.splitlines():
            done = small.own_python("-m", *without_nox(shlex.split(line, comments=True)), PERF_SERVICES="embedded")
            assert done.code == 0, done.output


def write_page(project: Project, page: Path) -> None:
    """Write a page's settings, application and benchmarks."""
    blocks = [block for block in blocks_of(page) if block.is_run]
    used = [block.text for block in blocks_of(page) if block.use == "used"]
    project.write("settings.toml", with_lax_budgets("\n".join([FEW_PROCESSES, *used])))
    shown = {block.file for block in blocks}
    for file, text in APPLICATIONS.get(page.name, MY_SERVICE).items():
        if file not in shown:
            path = project.root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
    for block in blocks:
        add(replace(block, text=with_lax_budgets(block.text)), project)
    if page.parent.name == "tutorial" and (
        routes := re.findall(r"^get\[(\S+)\]", page.read_text(encoding="utf-8"), re.MULTILINE)
    ):
        project.write("test_routes.py", route_benchmarks(routes))  # as `init` does


def without_nox(words: list[str]) -> list[str]:
    """The module and arguments that a command comes down to."""
    match words:
        case ["uvx", "nox", "-s", session, "--", *rest]:
            return [*sessions()[session], *rest]
        case ["pytest", *rest]:
            return ["pytest", *rest]
    raise AssertionError(words)


def add(block: Block, project: Project) -> None:
    """Put a block at the end of the file that it belongs to."""
    path = project.root / block.file
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n\n{block.text}")


def test_regression_of_the_tutorial(small: Project) -> None:
    """The changed function of the page executes its statement as often as the page says."""
    page = DOCS / "tutorial" / "catch-a-regression.md"
    [change] = [block for block in blocks_of(page) if block.is_run]
    [shown] = [block for block in blocks_of(page) if block.use == "regression"]
    said = set(re.findall(r"(SELECT name .*): 0 → (\d+)", shown.text))
    write_page(small, DOCS / "tutorial" / "fastapi.md")
    add(change, small)  # its functions take the place of those before

    done = small.own_python("-m", "plumbline", "ci", "--", "-k", "newest_orders", PERF_SERVICES="embedded")

    assert done.code == 0, done.output
    [benchmark] = small.results()["benchmarks"]
    assert {(text, f"{benchmark['counts'][f'postgres.statement {text}']:g}") for text, _ in said} == said != set()


def test_own_container(small: Project, engine: Any, until: Until) -> None:
    """A container of a fixture's, and one that is a process's: they run, and nothing is left of them."""
    blocks = [block for block in blocks_of(DOCS / "how-to" / "containers.md") if block.use == "docker"]
    [settings] = [block.text for block in blocks if block.language == "toml"]
    assert MAILER in settings
    here = f"{Settings().redis.image} sh -c 'echo mailer ready; exec sleep 600'"
    small.write("settings.toml", f'backend = "embedded"\npostgres.backend = "off"\n{settings.replace(MAILER, here)}')
    small.write("test_mailer.py", SENT)
    for block in blocks:
        if block.language == "python":
            add(block, small)
    before = names_of_containers(engine)

    done = small.own_python("-m", "plumbline", "ci", TESTCONTAINERS_RYUK_DISABLED="true")

    assert done.code == 0, done.output
    assert [test["outcome"] for test in small.results()["tests"]] == ["passed", "passed"]
    left = names_of_containers(engine) - before
    until(lambda: not left & names_of_containers(engine))  # those of other tests, which go by themselves


@pytest.mark.parametrize(("service", "package"), [("rabbitmq", "celery"), ("mysql", "pymysql")])
def test_recipes_of_other_services(small: Project, service: str, package: str, tmp_path: Path) -> None:
    """Each recipe runs with its image, and the messages of its benchmark are counted."""
    importlib.import_module(package)
    blocks = [block for block in blocks_of(DOCS / "how-to" / "other-services.md") if block.use == "docker"]
    starts = [number for number, block in enumerate(blocks) if block.language == "toml"]
    recipes = [blocks[one:other] for one, other in itertools.zip_longest(starts, starts[1:])]
    [recipe] = [one for one in recipes if f"[services.{service}]" in one[0].text]
    (tmp_path / "settings.toml").write_text(recipe[0].text, encoding="utf-8")
    require_image(load_settings(tmp_path / "settings.toml", {}).services[service].image)
    small.write("settings.toml", 'redis.backend = "off"\npostgres.backend = "off"\n' + recipe[0].text)
    for block in recipe[1:]:
        add(block, small)

    done = small.own_python("-m", "plumbline", "ci", TESTCONTAINERS_RYUK_DISABLED="true")

    assert done.code == 0, done.output
    [benchmark] = small.results()["benchmarks"]
    assert f"{service}.bytes_sent" in {**benchmark["counts"], **benchmark.get("counts_varying", {})}


@pytest.fixture
def engine() -> Iterator[Any]:
    """A client of the Docker engine; skips where none answers, or the image of Redis isn't there."""
    found = Engine()
    try:
        found.require_image(Settings().redis.image)
    except Unavailable as error:
        pytest.skip(str(error))
    yield found.client()
    found.close()


def names_of_containers(client: Any) -> set[str]:
    return {container.name for container in client.containers.list(all=True, ignore_removed=True)}


def test_tox(small: Project) -> None:
    """tox runs the gate by the page's tox.ini, on packages that are there already, with its exit code."""
    if importlib.util.find_spec("tox") is None:
        pytest.skip("tox is not installed")
    [block] = [block for block in BLOCKS if block.file == "tox.ini"]
    (small.root / "tox.ini").write_text(block.text, encoding="utf-8")
    small.write("settings.toml", 'backend = "off"')
    small.write("test_sum.py", textwrap.dedent(SHOP).replace("from pricing import price", "price = abs"))
    here = f"set_env=PYTHONPATH={sysconfig.get_path('purelib')}{os.pathsep}{ROOT / 'src'}"
    tox = ["-m", "tox", "run", "--skip-env-install", "-x", f"testenv:perf.{here}", "-e", "perf"]

    done = small.own_python(*tox, "--", "-k", "price")
    nothing = small.own_python(*tox, "--", "-k", "nothing")

    assert done.code == 0, done.output
    assert nothing.code == 3, nothing.output
    [file] = re.findall(r"^deps = -r (\S+)$", block.text, re.MULTILINE)
    assert (ROOT / file).is_file()
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    assert f'REQUIREMENTS = "{file}"' in noxfile
    assert 'session.install("-r", REQUIREMENTS)' in noxfile


def test_monorepo(small: Project, tmp_path: Path) -> None:
    """The suite in a folder of a repository, with a library beside that folder, started from the repository's root."""
    shop = tmp_path / "repository" / "services" / "shop"
    library = tmp_path / "repository" / "libraries" / "pricing" / "src" / "pricing"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text(textwrap.dedent(LIBRARY), encoding="utf-8")
    project = small.copy(shop)
    project.write("settings.toml", 'backend = "off"')
    project.write("test_prices.py", textwrap.dedent(SHOP))
    [block] = [block for block in BLOCKS if block.file == f"services/shop/{SUITE}pyproject.toml"]
    [line] = [line for line in block.text.splitlines() if line.startswith("pythonpath")]
    project.edit("pyproject.toml", 'pythonpath = ["../.."]', line)

    done = project.own_python("-m", "plumbline", "ci")

    assert done.code == 0, done.output
    assert project.verdicts() == {"test_prices.py::test_price": "new"}
