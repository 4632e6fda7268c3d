"""Copies into an empty folder: their files, that they run, and that they fail if the user's code gets slower."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from plumbline.settings_file import load_settings
from tests.support.documentation import DOCS, not_printed
from tests.support.project import ROOT, Project
from tests.support.repository import Repository
from tests.support.slow import cases

from .copies import VENDOR, Copy, copy, git_files, write_files

NEVER_COPIED = (
    "copier.yml",
    "scripts",
    "src",
    "template",
    "tests/integration",
    "tests/support",
    "tests/template",
    "tests/unit",
    "tests/performance/baselines",
    "docs",
    ".ci",
    ".pre-commit-config.yaml",
)
ODD_NAME = "dépôt d'été №1"
FEW = ("-k", "test_list or test_read or test_whole_system")
# The user's two benchmarks.
TWO = ("-k", "test_total or test_cheapest")
# Without a baseline, a proposed change is compared with its target branch.
PULL_REQUEST = {"GITHUB_BASE_REF": "main"}


def mentioned_sessions(text: str) -> set[str]:
    return set(re.findall(r"nox (?:-f \S+ )?-s (\w+)", text))


@pytest.mark.timeout(480)
def test_the_whole_of_it(template: Repository, tmp_path: Path) -> None:
    """A default copy passes at once, records a baseline, and fails if its application gets slower."""
    first = Copy(tmp_path / "first")
    done = copy(template, first.root)
    assert done.code == 0, done.output
    assert "uvx nox -s ci" in done.output
    assert "Add to" not in done.output
    assert not [name for name in first.files() if name.startswith(NEVER_COPIED) or name.endswith(".jinja")]
    first.begin()
    # Elsewhere nothing is left of where the copy came from but what Copier remembers.
    assert first.git("grep", "--files-with-matches", str(tmp_path.parent)) == ".copier-answers.plumbline.yml"
    root = tmp_path / ODD_NAME
    first.git("clone", "--quiet", ".", str(root))
    first.root.rename(tmp_path / "gone")
    copied = Copy(root)

    copied.measure_little()
    copied.allow_for_noise()
    done = copied.nox("ci", COLUMNS="200")
    assert done.code == 0, done.output
    assert set(copied.verdicts().values()) == {"new"}
    assert {test["outcome"] for test in copied.results()["tests"]} <= {"passed", "skipped"}
    assert not_printed(DOCS / "tutorial" / "first-run.md", done.output) == []

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
    app.write_text(text.replace(fetch, f"    sum(range(300_000))\n{fetch}"), encoding="utf-8")
    done = copied.nox("ci", "-k", "test_list or test_read")
    assert done.code == 1, done.output
    assert copied.verdicts()["test_api_benchmarks.py::test_list"] == "regression"
    assert copied.verdicts()["test_api_benchmarks.py::test_read"] != "regression"


CHOICES: dict[str, dict[str, Any]] = {
    "redis": {"services": ["redis"], "ci": "none", "reports": False},
    "postgres": {"services": ["postgres"], "ci": "gitlab"},
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("choice", cases(CHOICES, slow={"redis"}))
def test_a_choice(template: Repository, tmp_path: Path, choice: str) -> None:
    """A copy has nothing of unchosen services. `ci` passes, and fails if the user's code gets slower."""
    answers = CHOICES[choice]
    root = tmp_path / "copy"
    done = copy(template, root, answers)
    assert done.code == 0, done.output
    copied = Copy(root)
    copied.begin()
    check_left_out(copied, {"redis", "postgres", "application"} - set(answers["services"]), answers)

    copied.measure_little()
    copied.allow_for_noise()
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
    """Check that no file, setting, dependency or import of these services is left."""
    files = copied.own_files()
    settings_text = (copied.suite / "settings.toml").read_text(encoding="utf-8")
    requirements = (copied.suite / "requirements.txt").read_text(encoding="utf-8")
    words = {
        "redis": ("[redis", "redis", "REDIS_URL ="),
        "postgres": ("[postgres", "postgres", "asyncpg", "DATABASE_URL ="),
        "application": ("[app]", "[processes", "uvicorn", "starlette", "SAMPLE_"),
    }
    settings_alone = re.sub(r"#.*|postgres\.backend = .*|redis\.backend = .*", "", settings_text)
    for one in unwanted:
        assert not [word for word in words[one] for text in (settings_alone, requirements) if word in text]
        assert not [name for name in files if one in name.replace("_api_", "_application_")]
    for one in {*words} - unwanted:
        assert words[one][0] in settings_text
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
    assert ("html" in requirements) == answers.get("reports", True)

    readme = (copied.suite / "README.md").read_text(encoding="utf-8")
    noxfile = (copied.root / "noxfile.py").read_text(encoding="utf-8")
    assert mentioned_sessions(readme) <= set(re.findall(r"^    \"(\w+)\": ", noxfile, re.MULTILINE))
    named = re.findall(r"^- `([\w.]+)`:", readme, re.MULTILINE)
    assert {"settings.toml"} < {*named}
    assert {f"tests/performance/{name}" for name in named} <= files


def lines_in(copied: Copy, names: set[str]) -> int:
    return sum(len((copied.root / name).read_text(encoding="utf-8").splitlines()) for name in names)


def test_a_copy_is_thin(template: Repository, tmp_path: Path) -> None:
    """The files that a user reviews and edits are few and short, with the sample service, too."""
    default, beside = Copy(tmp_path / "default"), Copy(tmp_path / "beside", "perf-noxfile.py")
    assert copy(template, default.root).code == 0
    theirs = {"pyproject.toml": "", "noxfile.py": "", ".gitignore": "", "tests/test_theirs.py": "", "main.py": ""}
    write_files(beside.root, theirs)
    done = copy(template, beside.root, {"application": "main:app"})
    assert done.code == 0, done.output

    assert len(default.own_files()) <= 25
    assert lines_in(default, default.own_files()) <= 1_500
    assert len(beside.own_files() - theirs.keys()) <= 12
    assert lines_in(default, {"noxfile.py"}) <= 110
    assert not load_settings(beside.suite / "settings.toml", {}).budgets  # how fast its routes should be is not known


def test_the_template_is_small() -> None:
    """At most six files are rendered, and no rendering edits the text of another file."""
    rendered = [path for path in tracked() if path.suffix == ".jinja"]
    assert len(rendered) <= 6
    for path in rendered:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"regex|\| *replace|\{% (set text|macro|import|from)", text), path


# Files that name this repository's package, and the line with the name.
BY_NATURE = {"requirements.txt": "-e .[docker,embedded,html,init,memory,postgres,redis]"}


def test_this_repository_is_an_instance_of_its_template(template: Repository, tmp_path: Path) -> None:
    """With all examples, each file of a copy is the root's own; of the noxfile, the part above the owner's sessions.

    Files that only the root has, such as pyproject.toml of the package, have no counterpart in a copy.
    """
    copied = Copy(tmp_path / "copy")
    done = copy(template, copied.root, {"store_tests": True, "ci": "both"})
    assert done.code == 0, done.output
    for name in copied.own_files() - {".copier-answers.plumbline.yml"}:
        theirs, ours = ((root / name).read_text(encoding="utf-8") for root in (copied.root, ROOT))
        if name == "noxfile.py":
            assert ours.startswith(theirs)
            assert theirs.endswith("# Your own sessions go below this line.\n")
        elif line := BY_NATURE.get(Path(name).name):
            vendored = line.replace("-e .", "-e ./tests/performance/vendor")
            assert theirs.replace(vendored, line) == ours
        else:
            assert theirs == ours, name
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("src/", "tests/performance/", "tests/sample_service/")):
            copies = [copied.root / name, copied.root / VENDOR / name]
            assert any(one.is_file() and one.read_bytes() == path.read_bytes() for one in copies) or (
                path.name in BY_NATURE
            ), name


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"services": []}, "choose at least one"),
        ({"services": ["redis", "mysql"]}, "mysql"),
        ({"services": ["redis", "application"]}, "the sample service needs Redis and PostgreSQL"),
        ({"application": "my_service/main.py"}, "write module:attribute, such as my_service.main:app"),
        ({"application": 'main:app" \nx = 1'}, "write module:attribute, such as my_service.main:app"),
        ({"application": "main:app", "routes": "health"}, "a route begins with /"),
        ({"application": "main:app", "routes": '/health" x'}, "a route begins with /"),
        ({"ci": "jenkins"}, "jenkins"),
        ({"plumbline": "git"}, "a template in a local folder"),
    ],
)
def test_answers_that_make_no_project(template: Repository, tmp_path: Path, answers: dict[str, Any], said: str) -> None:
    """A wrong answer is refused with the reason, and nothing is written."""
    done = copy(template, tmp_path / "copy", answers)
    assert done.code != 0
    assert said in done.output.splitlines()[-1]
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("file", ["main.py", "src/app/main.py", "services/shop/src/main.py"])
def test_code_gets_no_sample_service(template: Repository, tmp_path: Path, file: str) -> None:
    """A repository with code gets no sample service, whatever its root has."""
    copied = Copy(tmp_path / "copy")
    write_files(copied.root, {file: "app = None\n"})
    done = copy(template, copied.root)
    assert done.code == 0, done.output
    assert not (copied.root / "tests" / "sample_service").exists()


def test_what_is_there_already_is_not_overwritten(template: Repository, tmp_path: Path) -> None:
    """Copying fails before it writes anything if a suite or pipeline exists."""
    for number, name in enumerate(("tests/performance/test_mine.py", ".github/workflows/performance.yml")):
        root = tmp_path / str(number)
        file = root / name
        file.parent.mkdir(parents=True)
        file.write_text("mine\n", encoding="utf-8")
        done = copy(template, root, {"ci": "github"})  # by default there are no pipelines beside those
        assert done.code != 0
        assert "exists already" in done.output
        assert [path for path in root.rglob("*") if path.is_file()] == [file]


def test_files_that_windows_can_have() -> None:
    """No file name is invalid on Windows or differs from another only in case."""
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
    """A copy of git's files, as made by "Use this template" on GitHub, runs as it is."""
    root = tmp_path / "plain"
    git_files(root)
    project = Project(root, environments)
    done = project.nox("ci", *FEW, PERF_SERVICES="embedded")
    assert done.code == 0, done.output
    assert len(project.verdicts()) == 3
    assert set(project.verdicts().values()) == {"new"}
