"""Each code block of the documentation is checked by its kind: its commands, settings and requirements exist."""

import ast
import functools
import inspect
import itertools
import json
import math
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import testcontainers.core.config
import yaml
from packaging.requirements import Requirement

from plumbline.adopting.pipelines import GITLAB, gitlab_include
from plumbline.comparing.trees.base import TARGETS
from plumbline.judging.chain import Level
from plumbline.reporting.content import count_text
from plumbline.reporting.history import summary
from plumbline.results.files import dump_results
from plumbline.results.schema import CallSite, CountGrowth
from plumbline.services import variables
from plumbline.settings import OVERRIDES, URL_VARIABLES, Settings, address_variable
from plumbline.settings_file import load_settings
from tests.support.documentation import BLOCKS, PAGES, SUITE, Block, blocks_of, names_of_tests, prose
from tests.support.project import ROOT, results_validator, sessions
from tests.support.report_samples import results


def test_blocks_are_found() -> None:
    """No fence is left that isn't the begin or the end of a block, or indented."""
    for page in PAGES:
        assert not re.search(r"^\s*(```|~~~)", prose(page), re.MULTILINE), page


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block(block: Block, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """It is of a kind that is known here, and right."""
    assert block.use in ("", "used", "executed", "output", "regression", "docker"), (
        f"{block}: nobody knows what {block.use!r} means"
    )
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
        case "yaml" if block.file == ".gitlab-ci.yml":
            check_gitlab(block)
        case "yaml" if block.file == "otava.yaml":
            pass  # test_otava uses it
        case "yaml":
            check_workflow(block)
        case "json":
            check_results(block)
        case "sh":
            for line in block.text.splitlines():
                if line.startswith("uvx"):
                    check_command(shlex.split(line.partition("||")[0]), block)
        case "sql":
            pass  # tests/unit/services/test_extensions.py runs it
        case "ini":
            assert block.file == "tox.ini"  # test_tox runs it
        case "text" if block.page == ROOT / "README.md":
            pass  # tests/template/test_readme.py compares it with what a run prints
        case "text" if block.use in ("output", "regression"):
            pass  # a run of the page compares it
        case "text" if block.file.endswith("requirements.txt"):
            check_requirements(block)
        case "text" if block.text.startswith("problem 1 of "):
            pass  # test_llm renders it
        case "text" if block.text.startswith("SELECT … "):
            check_counts(block)
        case "text" if block.text.startswith("History of "):
            check_history(block)
        case "text" if block.text.startswith("usage: plumbline "):
            pass  # test_pages_are_as_new compares it with the command
        case "text" if block.text.startswith("plan of "):
            pass  # test_format compares it with what reports show
        case "text":
            check_tree(block)
        case "{eval-rst}":
            pass  # Sphinx checks it
        case other:
            pytest.fail(f"{block}: no test knows blocks of {other!r}")


def check_python(block: Block) -> None:
    """Files of the suite and of the service are run with their page; elsewhere a constant is set that is there."""
    tree = ast.parse(block.text)
    if block.file.endswith("noxfile.py"):
        theirs = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
        assert constants(tree) <= constants(theirs)
    else:
        assert block.file.startswith((SUITE, "src/", "orders/")), f"{block} isn't run"


def constants(tree: ast.Module) -> set[str]:
    targets = [[one.target] if isinstance(one, ast.AnnAssign) else one.targets for one in assignments(tree)]
    return {name.id for some in targets for name in some if isinstance(name, ast.Name)}


def assignments(tree: ast.Module) -> list[ast.Assign | ast.AnnAssign]:
    return [one for one in tree.body if isinstance(one, ast.Assign | ast.AnnAssign)]


def check_pyproject(block: Block, pytestconfig: pytest.Config) -> None:
    """Requirements are such, and options of pytest exist."""
    fragment = tomllib.loads(block.text)
    dependencies = fragment.pop("project", {}).get("dependencies", [])
    groups, tool = fragment.pop("dependency-groups", {}), fragment.pop("tool", {})
    options = tool.pop("pytest", {})
    options = options.pop("ini_options", options)
    assert not fragment
    assert not tool
    for requirement in [*dependencies, *(one for group in groups.values() for one in group)]:
        Requirement(requirement)
    for option in options:
        pytestconfig.getini(option)  # raises where there is none


def check_results(block: Block) -> None:
    """Parts of results are as the published schema says."""
    run = json.loads(dump_results(results()))
    results_validator().validate(run | json.loads(block.text))


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


ON = True  # how YAML 1.1 reads the key `on`


def check_workflow(block: Block) -> None:
    """A workflow of GitHub, whose commands exist."""
    if "gh run" in block.text:
        return  # tests/template/test_pipeline_jobs.py runs it
    workflow = yaml.safe_load(block.text)
    assert re.fullmatch(r"\.github/workflows/[\w-]+\.yml", block.file)
    assert workflow[ON]
    for job in workflow["jobs"].values():
        assert set(job.get("env", {})) <= set(known_variables())
        for step in job["steps"]:
            for line in step.get("run", "").splitlines():
                check_command(shlex.split(line, comments=True), block)


def check_gitlab(block: Block) -> None:
    """It is in the pipeline that comes along, or in the remark at its end, or `init` prints it."""
    if "parallel:" in block.text:
        return  # tests/template/test_pipeline_jobs.py runs it
    files = [ROOT / ".gitlab-ci.yml", ROOT / ".gitlab" / "performance.yml"]
    lines = {line.lstrip("# ") for file in files for line in file.read_text(encoding="utf-8").splitlines()}
    for folder in re.findall(r"folder: (\S+)/ }", block.text):
        lines |= {line.strip() for line in gitlab_include({GITLAB: "jobs"}, {}, folder).splitlines()}
    assert {line.strip() for line in block.text.splitlines()[1:]} <= lines


def check_counts(block: Block) -> None:
    """Counts that have grown, with their lines, as reports show them."""
    statement = CallSite("shop/orders.py", 28, "list_orders", 51)
    command = CallSite("shop/stock.py", 12, "price_of", 50)
    assert block.text.splitlines() == [
        count_text(CountGrowth("postgres.statement SELECT … FROM items WHERE id = $1", 1, 51, site=statement)),
        count_text(CountGrowth("redis.command GET", 0, 50, site=command)),
    ]


def check_history(block: Block) -> None:
    """A benchmark that has moved along the default branch, as reports show it."""
    level = Level("f17dae848f", "", "4f73e4b129", math.log(1.16), 0.0065)
    assert f"- test_cart.py::test_items: {summary([level] * 57)}; statements 1 → 5 at 803bedb\n" in block.text
    check_command(shlex.split(block.text.splitlines()[-1]), block)


def check_tree(block: Block) -> None:
    """A tree of folders: what it names of the suite is in this repository."""
    named = [name for name in re.findall(r"[\w./-]+", block.text) if name.startswith("tests/") or name.endswith(".py")]
    assert named
    for name in named:
        assert (ROOT / name).exists(), name


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
        case [name, *rest] if re.fullmatch(r"nox(==[\d.]+)?", name):
            check_nox(rest)
        case ["python", "-m", "scripts.busy_loops", _, *rest]:
            check_command(rest, block)
        case ["python", "-m", module, *rest] if module.startswith("scripts."):
            check_script(module, rest)
        case [".nox/ci/bin/python", "-c", code]:
            subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        case ["plumbline", name, *rest] | ["python", "-m", "plumbline", name, *rest]:
            check_script(f"plumbline {name}", rest)
        case ["pytest", *rest]:
            check_pytest(rest)
        case ["tox", "run", "-e", name, *rest]:
            assert f"[testenv:{name}]" in "".join(one.text for one in blocks_of(block.page) if one.language == "ini")
            check_pytest(rest[1:])
        case (
            ["cd", _] | ["git", "clone", "PLUMBLINE", _] | ["git", "push"] | ["git", "init" | "switch", "-b" | "-c", _]
        ):
            pass
        case ["git", "commit", *options] if options[-2:-1] == ["-m"]:
            pass
        case ["git", "checkout", "main", "--", path]:
            assert path in {one.file for one in BLOCKS}
        case ["git", "fetch", "origin", branch]:
            assert f'branch = "{branch}"' in "".join(one.text for one in blocks_of(block.page))
        case ["git", "add", path]:
            assert path in (".", f"{SUITE}baselines")
        case ["copier", "copy" | "update", *rest]:
            check_copier(rest)
        case ["pip", "install", "-e", extras, "--group", group]:
            check_install(extras, group)
        case ["--from", "apache-otava", "otava", *_]:
            pass  # test_otava runs it
        case ["pre-commit", "run", "-a"]:
            assert (ROOT / ".pre-commit-config.yaml").exists()
        case _:
            pytest.fail(f"{block}: no test knows the command {shlex.join(words)}")


def check_copier(words: list[str]) -> None:
    """Answers are to questions of copier.yml, and its answers file is the one that it writes."""
    questions = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
    for option, value in itertools.pairwise(words):
        if option == "-d":
            name, _, answer = value.partition("=")
            choices = questions[name].get("choices", {}).values()
            assert not choices or set(answer.strip("[]").split(",")) <= {*choices}, value
        assert option != "--answers-file" or value == questions["_answers_file"]
    options = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert options <= {"-d", "--defaults", "--answers-file", "--vcs-ref"}


def check_install(extras: str, group: str) -> None:
    """The package has these extras and this dependency group."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(extras.strip(".[]").split(",")) <= {*pyproject["project"]["optional-dependencies"]}
    assert group in pyproject["dependency-groups"]


def check_nox(words: list[str]) -> None:
    whole = " ".join(words)
    options, _, rest = whole.partition(" -- ")
    words, session = options.split(), ""
    if words[:1] == ["-f"]:
        assert words[1] == "$NOXFILE" or words[1].endswith("/noxfile.py")
        del words[:2]
    assert words[:1] == ["-s"]
    for session in words[1:]:
        assert session in sessions(), f"there is no session {session}"
    arguments = shlex.split(rest)
    command = sessions()[session]
    if command and "--" not in command:
        check_script(" ".join(command), arguments)
    else:
        check_pytest(arguments, options_of(f"plumbline {session}") if command else set())


def check_script(module: str, words: list[str]) -> None:
    ours, theirs = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    wrong = {word.partition("=")[0] for word in ours if word.startswith("--")} - options_of(module)
    assert not wrong, f"{module} has no {wrong}"
    check_pytest(theirs)


def check_pytest(words: list[str], own: set[str] = set()) -> None:  # noqa: B006
    """`own`: options of Plumbline's command, which may be among those of pytest."""
    wrong = {word.partition("=")[0] for word in words if word.startswith("-")} - options_of("pytest") - own
    assert not wrong, f"pytest has no {wrong}"
    for word in words:
        is_shard = re.fullmatch(r"\d/\d", word)
        assert "/" not in word or is_shard or (ROOT / word).exists(), f"there is no {word}"


@functools.cache
def options_of(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-m", *module.split(), "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", done.stdout))


@functools.cache
def known_variables() -> set[str]:
    of_testcontainers = re.findall(r"TESTCONTAINERS_\w+", inspect.getsource(testcontainers.core.config))
    services = {name for block in BLOCKS for name in re.findall(r"^\[services\.(\w+)\]", block.text, re.MULTILINE)}
    return {*OVERRIDES, *URL_VARIABLES.values(), *map(address_variable, services), *TARGETS, *of_testcontainers}
