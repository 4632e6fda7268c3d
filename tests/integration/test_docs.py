"""The documentation: each code block is run or checked by its kind, and what pages quote is what the code says.

A block's kind is its language; its first line may name the file that it belongs to. A comment may stand before it:

    <!-- test: used -->      settings that the page's benchmarks are run with
    <!-- test: executed -->  commands that are executed after the page's benchmarks
    <!-- test: docker -->    run where a Docker engine answers
"""

import ast
import functools
import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from packaging.requirements import Requirement

import plumbline
from plumbline.results.schema import Verdict
from plumbline.services import variables
from plumbline.services.docker_engine import Engine
from plumbline.services.errors import Unavailable
from plumbline.settings import OVERRIDES, URL_VARIABLES, GateSettings, Settings, load_settings
from tests.support.fixtures import Until
from tests.support.project import ROOT, Project, sessions, with_lax_budgets

SUITE = "tests/performance/"
WITH_TESTS_OF_ITS_OWN = {"migrating-from-pytest-benchmark.md"}
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in WITH_TESTS_OF_ITS_OWN)
FENCE = re.compile(
    r"^(?:<!-- test: (?P<use>.*) -->\n)?```(?P<language>.*)\n(?P<text>(?:.*\n)*?)```$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: Path
    line: int
    language: str
    use: str
    """What the comment before it says."""
    text: str

    @property
    def file(self) -> str:
        """The file that it belongs to, by its first line."""
        found = re.match(r"# (\S+\.\w+)\n", self.text)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, one.start()) + 1, one["language"], one["use"] or "", one["text"])
        for one in FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


# ---- each block


def test_blocks_are_found() -> None:
    """No fence is left that isn't the begin or the end of a block, or indented."""
    for page in PAGES:
        assert not re.search(r"^\s*(```|~~~)", prose(page), re.MULTILINE), page


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block(block: Block, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """It is of a kind that is known here, and right."""
    assert block.use in ("", "used", "executed", "docker"), f"{block}: nobody knows what {block.use!r} means"
    match block.language:
        case "python":
            check_python(block)
        case "toml" if block.file.endswith("pyproject.toml"):
            check_pyproject(block, pytestconfig)
        case "toml":
            check_settings(block, tmp_path)
        case "console":
            for line in block.text.splitlines():
                check_command(shlex.split(line, comments=True), block)
        case "yaml":
            check_workflow(block)
        case "ini":
            assert block.file == "tox.ini"  # test_tox runs it
        case "text" if block.file.endswith("requirements.txt"):
            check_requirements(block)
        case "text":
            check_tree(block)
        case other:
            pytest.fail(f"{block}: no test knows blocks of {other!r}")


def check_python(block: Block) -> None:
    """Files of the suite and of the service are run with their page; elsewhere a constant is set that is there."""
    tree = ast.parse(block.text)
    if block.file.endswith("noxfile.py"):
        theirs = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
        assert constants(tree) <= constants(theirs)
    else:
        assert block.file.startswith((f"{SUITE}test_", f"{SUITE}conftest.py", "src/my_service/")), f"{block} isn't run"


def constants(tree: ast.Module) -> set[str]:
    targets = [[one.target] if isinstance(one, ast.AnnAssign) else one.targets for one in assignments(tree)]
    return {name.id for some in targets for name in some if isinstance(name, ast.Name)}


def assignments(tree: ast.Module) -> list[ast.Assign | ast.AnnAssign]:
    return [one for one in tree.body if isinstance(one, ast.Assign | ast.AnnAssign)]


def check_pyproject(block: Block, pytestconfig: pytest.Config) -> None:
    """Requirements are such, and options of pytest exist."""
    fragment = tomllib.loads(block.text)
    groups, tool = fragment.pop("dependency-groups", {}), fragment.pop("tool", {})
    options = tool.pop("pytest", {})
    options = options.pop("ini_options", options)
    assert not fragment
    assert not tool
    for requirement in [one for group in groups.values() for one in group]:
        Requirement(requirement)
    for option in options:
        pytestconfig.getini(option)  # raises where there is none


def check_requirements(block: Block) -> None:
    """Each line is a requirement, or a folder to install editable."""
    for line in block.text.splitlines()[1:]:
        if not line.startswith("-e "):
            Requirement(line)


def check_settings(block: Block, tmp_path: Path) -> None:
    """They are loaded as they are, and name placeholders and benchmarks that exist."""
    settings = settings_of(block.text, tmp_path)
    ours = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / SUITE).glob("test_*.py")}
    files = [*ours.items(), *((one.file.removeprefix(SUITE), one.text) for one in BLOCKS if one.language == "python")]
    known = {f"{file}::{name}" for file, text in files for name in names_of_tests(text)}
    assert {*settings.budgets, *settings.benchmarks} <= known


def settings_of(text: str, folder: Path) -> Settings:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    settings = load_settings(path, {})
    variables.check(settings)
    return settings


def names_of_tests(code: str) -> list[str]:
    functions = [one for one in ast.parse(code).body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [one.name for one in functions if one.name.startswith("test_")]


ON = True
"""How YAML 1.1 reads the key `on`."""


def check_workflow(block: Block) -> None:
    """A workflow of GitHub, whose commands exist."""
    workflow = yaml.safe_load(block.text)
    assert re.fullmatch(r"\.github/workflows/[\w-]+\.yml", block.file)
    assert workflow[ON]
    for job in workflow["jobs"].values():
        assert set(job.get("env", {})) <= set(known_variables())
        for step in job["steps"]:
            for line in step.get("run", "").splitlines():
                check_command(shlex.split(line, comments=True), block)


def check_tree(block: Block) -> None:
    """A tree of folders: what it names of the suite is in this repository."""
    named = [name for name in re.findall(r"[\w./-]+", block.text) if name.startswith("tests/") or name.endswith(".py")]
    assert named
    for name in named:
        assert (ROOT / name).exists(), name


# ---- commands


def check_command(words: list[str], block: Block) -> None:
    """A command that exists, with sessions, options, files and variables that exist."""
    while words and re.fullmatch(r"\w+=.*", words[0]):
        variable = words.pop(0).partition("=")[0]
        assert variable in known_variables(), f"{block}: there is no variable {variable}"
    while words and words[0] in ("uvx", "pipx", "run"):
        words.pop(0)
    match words:
        case []:
            pass
        case ["nox", *rest]:
            check_nox(rest)
        case ["python", "-m", module, *rest] if module.startswith("scripts."):
            check_script(module, rest)
        case ["plumbline", name, *rest] | ["python", "-m", "plumbline", name, *rest]:
            check_script(f"plumbline {name}", rest)
        case ["pytest", *rest]:
            check_pytest(rest)
        case ["tox", "run", "-e", name, *rest]:
            assert f"[testenv:{name}]" in "".join(one.text for one in blocks_of(block.page) if one.language == "ini")
            check_pytest(rest[1:])
        case ["git", "add", path]:
            assert path == f"{SUITE}baselines"
        case ["git", "commit", "-m", _]:
            pass
        case ["copier", "copy", _, _]:
            assert (ROOT / "copier.yml").exists()
        case ["copier", "update", "--defaults", "--answers-file", name]:
            assert yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))["_answers_file"] == name
        case ["pre-commit", "run", "-a"]:
            assert (ROOT / ".pre-commit-config.yaml").exists()
        case _:
            pytest.fail(f"{block}: no test knows the command {shlex.join(words)}")


def check_nox(words: list[str]) -> None:
    options, _, rest = " ".join(words).partition(" -- ")
    words, session = options.split(), ""
    if words[:1] == ["-f"]:
        assert words[1].endswith("/noxfile.py")
        del words[:2]
    assert words[:1] == ["-s"]
    for session in words[1:]:
        assert session in sessions(), f"there is no session {session}"
    arguments = shlex.split(rest)
    command = sessions()[session]
    if command and "--" not in command:
        check_script(" ".join(command), arguments)
    else:
        check_pytest(arguments)


def check_script(module: str, words: list[str]) -> None:
    ours, theirs = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    wrong = {word.partition("=")[0] for word in ours if word.startswith("--")} - options_of(module)
    assert not wrong, f"{module} has no {wrong}"
    check_pytest(theirs)


def check_pytest(words: list[str]) -> None:
    wrong = {word.partition("=")[0] for word in words if word.startswith("-")} - options_of("pytest")
    assert not wrong, f"pytest has no {wrong}"
    for word in words:
        assert "/" not in word or (ROOT / word).exists(), f"there is no {word}"


@functools.cache
def options_of(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-m", *module.split(), "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", done.stdout))


@functools.cache
def known_variables() -> set[str]:
    return {*OVERRIDES, *URL_VARIABLES.values()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sessions_and_scripts_in_the_text_exist(page: Path) -> None:
    """`nox -s NAME` and `python -m scripts.NAME` outside of blocks as well."""
    for name in re.findall(r"nox -s (\w+)", prose(page)):
        assert name in sessions(), name
    for name in re.findall(r"scripts\.(\w+)", prose(page)):
        assert (ROOT / "scripts" / f"{name}.py").exists(), name


PATH = re.compile(r"(?:src|tests|docs|scripts|template|\.github|\.gitlab)/[\w./-]*")
OF_USERS = {"tests/benchmarks", "src/shop", "src/my_service", "tests/performance/vendor", "tests/performance/baselines"}
"""Folders that a user's repository has, or a copy of the template."""


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_paths_in_the_text_exist(page: Path) -> None:
    """In this repository; the changelog also names files of earlier versions."""
    for path in [span.rstrip("/") for span in quoted(prose(page).replace("\n", " ")) if PATH.fullmatch(span)]:
        of_a_benchmark = path in {block.file for block in BLOCKS}
        assert (ROOT / path).exists() or path in OF_USERS or of_a_benchmark, path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_extras_in_the_text_exist(page: Path) -> None:
    """The package has each extra that a page names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {name for some in re.findall(r"extras? ((?:`\w+`(?:, | and )?)+)", prose(page)) for name in quoted(some)}

    assert named <= set(project["optional-dependencies"])


# ---- benchmarks, run

MAIN = """
    import os
    from contextlib import asynccontextmanager

    import asyncpg
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route


    @asynccontextmanager
    async def lifespan(app):
        async with asyncpg.create_pool(os.environ["SHOP_DB_URL"], min_size=1) as pool:
            yield {"pool": pool}


    async def well(request):
        return JSONResponse("well")


    async def log_in(request):
        return JSONResponse({"token": (await request.json())["name"]})


    async def items(request):
        assert request.headers["Authorization"] == "Bearer ada"
        rows = await request.state.pool.fetch("SELECT * FROM item LIMIT $1", int(request.query_params["limit"]))
        return JSONResponse([dict(row) for row in rows])


    def make_app():
        routes = [Route("/healthz", well), Route("/login", log_in, methods=["POST"]), Route("/items", items)]
        return Starlette(lifespan=lifespan, routes=routes)
"""
WORKER = """
    import os

    import redis

    client, queue = redis.Redis.from_url(os.environ["SHOP_REDIS_URL"]), os.environ["SHOP_QUEUE"]
    client.ping()
    print("worker ready")
    while True:
        job = client.blpop([queue], timeout=1)
        if job:
            client.rpush(f"{queue}:done", job[1])
"""
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


@pytest.mark.parametrize("name", ["README.md", "writing-benchmarks.md", "recipes.md"])
def test_benchmarks_of_a_page(small: Project, name: str) -> None:
    """All of a page in one run of the gate, on real servers: each of its tests passes."""
    page = next(page for page in PAGES if page.name == name)
    code = [block for block in blocks_of(page) if block.language == "python" and block.use != "docker"]
    blocks = [block for block in code if not block.file.endswith("noxfile.py")]
    used = [block.text for block in blocks_of(page) if block.use == "used"]
    small.write("settings.toml", with_lax_budgets("\n".join([FEW_PROCESSES, *used])))
    for file, text in {"__init__": "", "main": MAIN, "worker": WORKER}.items():
        path = small.root / "src" / "my_service" / f"{file}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    for block in blocks:
        add(replace(block, text=with_lax_budgets(block.text)), small)

    done = small.own_python("-m", "plumbline", "ci", PERF_SERVICES="embedded")

    assert done.code == 0, done.output
    outcomes = {test["key"].partition("[")[0]: test["outcome"] for test in small.results()["tests"]}
    wanted = {
        f"{block.file.removeprefix(SUITE)}::{test}"
        for block in blocks
        if block.file.startswith(SUITE)
        for test in names_of_tests(block.text)
    }
    assert outcomes == dict.fromkeys(wanted, "passed")
    for block in [block for block in blocks_of(page) if block.use == "executed"]:
        for line in block.text.splitlines():
            done = small.own_python("-m", *without_nox(shlex.split(line, comments=True)), PERF_SERVICES="embedded")
            assert done.code == 0, done.output


def without_nox(words: list[str]) -> list[str]:
    """The module and arguments that a command comes down to."""
    match words:
        case ["nox", "-s", session, "--", *rest]:
            return [*sessions()[session], *rest]
        case ["pytest", *rest]:
            return ["pytest", *rest]
    raise AssertionError(words)


def add(block: Block, project: Project) -> None:
    """Put a block at the end of the file that it belongs to."""
    with (project.root / block.file).open("a", encoding="utf-8") as file:
        file.write(f"\n\n{block.text}")


def test_own_container(small: Project, engine: Any, until: Until) -> None:
    """A container of a fixture's, and one that is a process's: they run, and nothing is left of them."""
    blocks = [block for block in BLOCKS if block.use == "docker"]
    [settings] = [block.text for block in blocks if block.language == "toml"]
    assert MAILER in settings
    here = f"{Settings().redis.image} sh -c 'echo mailer ready; exec sleep 600'"
    small.write("settings.toml", f'services = "embedded"\npostgres.backend = "off"\n{settings.replace(MAILER, here)}')
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


def test_every_benchmark_is_on_a_page_that_is_run() -> None:
    """A page with Python on it is among those above."""
    run = {"README.md", "writing-benchmarks.md", "recipes.md"}

    assert {block.page.name for block in BLOCKS if block.language == "python"} == run


def test_tox(small: Project) -> None:
    """tox runs the gate by the page's tox.ini, on packages that are there already, with its exit code."""
    if importlib.util.find_spec("tox") is None:
        pytest.skip("tox is not installed")
    [block] = [block for block in BLOCKS if block.file == "tox.ini"]
    (small.root / "tox.ini").write_text(block.text, encoding="utf-8")
    small.write("settings.toml", 'services = "off"')
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
    project.write("settings.toml", 'services = "off"')
    project.write("test_prices.py", textwrap.dedent(SHOP))
    [block] = [block for block in BLOCKS if block.file == f"services/shop/{SUITE}pyproject.toml"]
    [line] = [line for line in block.text.splitlines() if line.startswith("pythonpath")]
    project.edit("pyproject.toml", 'pythonpath = ["../.."]', line)

    done = project.own_python("-m", "plumbline", "ci")

    assert done.code == 0, done.output
    assert project.verdicts() == {"test_prices.py::test_price": "new"}


# ---- what pages say of the code


@functools.cache
def texts_of_the_code() -> list[str]:
    """Each string of the package, with … in place of what is filled in."""
    files = (ROOT / "src").rglob("*.py")
    return [text for file in files for text in texts_in(ast.parse(file.read_text(encoding="utf-8")))]


def texts_in(tree: ast.AST) -> Iterator[str]:
    for one in ast.walk(tree):
        if isinstance(one, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in one.values)
        elif isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value


def quoted(line: str) -> list[str]:
    """The spans of code in a line of Markdown."""
    return [found[2].strip() for found in re.finditer(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", line)]


def messages() -> list[str]:
    """The headings of the page on troubleshooting, and what else it quotes that is neither a command nor a setting."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    found = [message for line in page.splitlines() if line.startswith("### ") for message in quoted(line)]
    texts = re.sub("^### .*", "", page, flags=re.MULTILINE).replace("\n", " ")
    return found + [text for text in quoted(texts) if re.match(r"(?!nox )\w+ \w+ \w+", text)]


@pytest.mark.parametrize("message", messages())
def test_message_is_the_codes_own(message: str) -> None:
    """Each message that the page on troubleshooting lists is one that the code can print."""
    pattern = re.compile(".*".join(map(re.escape, filter(None, re.split(r"\s*…\s*", message)))), re.DOTALL)

    assert any(pattern.search(text) for text in texts_of_the_code())


def table(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    _, _, below = page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    lines = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert lines
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[0].splitlines()[2:]]


GATE_PAGE = ROOT / "docs" / "how-the-gate-decides.md"


@pytest.mark.parametrize(("what", "figure", "where"), table(GATE_PAGE, "The figures"))
def test_figure_is_the_codes_own(what: str, figure: str, where: str) -> None:
    """The table of figures says what the settings' defaults and the constants are."""
    assert what
    [expression] = quoted(where)
    one_minus, name = expression.startswith("1 - "), expression.removeprefix("1 - ")
    module, _, constant = name.rpartition(".")
    holder: Any = GateSettings() if module == "gate" else importlib.import_module(f"plumbline.{module}")
    value = getattr(holder, constant)

    assert number(figure) == pytest.approx(1 - value if one_minus else value)


def number(figure: str) -> float | tuple[float, ...]:
    """2 % is 0.02; 60 s is 60; 4, 8 are both."""
    if ", " in figure:
        return tuple(float(one) for one in figure.split(", "))
    value = float(figure.split()[0].replace(",", ""))
    return value / 100 if figure.endswith("%") else value


def test_verdicts() -> None:
    """The table has each verdict that there is, and no other."""
    assert [quoted(row[0])[0] for row in table(GATE_PAGE, "Verdicts")] != []
    assert {quoted(row[0])[0] for row in table(GATE_PAGE, "Verdicts")} == set(get_args(Verdict))


# ---- links, versions, hooks


def anchors(page: Path) -> set[str]:
    """What GitHub calls a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """What a page links to in the repository is there, heading and all."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", target):
            assert target.startswith("https://"), target
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file) if file else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_version() -> None:
    """The package's version is the one that the changelog begins with."""
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert headings[0] == plumbline.__version__
    assert len(set(headings)) == len(headings)


def test_pre_commit_hooks() -> None:
    """One version of ruff, and sessions that exist."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = {hook["id"]: hook for repository in config["repos"] for hook in repository["hooks"]}

    assert list(hooks) == ["ruff", "ruff-format", "mypy"]
    assert hooks["ruff"]["additional_dependencies"] == hooks["ruff-format"]["additional_dependencies"]
    assert hooks["mypy"]["entry"].split()[:3] == ["uvx", "nox", "-s"]
    assert hooks["mypy"]["entry"].split()[3] in sessions()
