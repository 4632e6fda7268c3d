"""`copier update` over two tagged versions: the user gets a newer Plumbline and keeps all edits."""

import re
import shutil
from pathlib import Path

import pytest

from tests.support.repository import Repository

from .copies import Copy, copier, copy, make_template, tag, write_files

ANSWERS = ".copier-answers.plumbline.yml"
HISTORY = ".github/workflows/performance-history.yml"
ARCHIVE = "src/plumbline/services/postgres-18.tar.xz"
ALL = {"store_tests": True}
UPDATE = ("update", "--defaults", f"--answers-file={ANSWERS}")
OWN_FILES = {
    "pyproject.toml": """
        [project]
        name = "theirs"
        version = "3"
        """,
    "noxfile.py": '"""Their sessions."""\n',
    "tests/test_theirs.py": "def test_theirs(): ...\n",
    ".gitignore": "*.log\n",
}


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The template with a second version, in which files of all kinds have changed."""
    template = make_template(tmp_path_factory.mktemp("versions") / "plumbline")
    # Copier is slow with many files, and an update of a few of them takes the same path.
    for folder in ("adopting", "commands", "comparing", "loading", "reporting"):
        shutil.rmtree(template.root / "src" / "plumbline" / folder)
    template.commit()
    template.git("tag", "--force", "v0.1.0")
    changes = {
        "src/plumbline/measuring/loop.py": (r"\Z", "\n# newer\n"),
        "template/tests/performance/settings.toml.jinja": (r"\A", "# newer settings\n"),
        "template/tests/performance/requirements.txt.jinja": (r"uvicorn>=0.27", "uvicorn>=0.28"),
        "template/noxfile.py": (r"terminate_timeout=20", "terminate_timeout=21"),
        "tests/performance/settings.toml": (r"\A", "# newer settings\n"),
        "tests/performance/conftest.py": (r"POOL_SIZE = 20", "POOL_SIZE = 21"),
        "tests/performance/test_redis_benchmarks.py": (r"\Z", "\n# newer\n"),
        "tests/performance/test_postgres_benchmarks.py": (r"\Z", "\n# newer\n"),
        "tests/sample_service/app.py": (r"\Z", "\n# newer\n"),
        "tests/performance/pyproject.toml": (r'timeout = "120"', 'timeout = "121"'),
        ".github/workflows/performance.yml": (r"timeout-minutes: 30", "timeout-minutes: 31"),
    }
    for name, (old, new) in changes.items():
        path = template.root / name
        text, count = re.subn(old, new, path.read_text(encoding="utf-8"), count=1)
        assert count == 1, name
        path.write_text(text, encoding="utf-8")
    template.write({"src/plumbline/added.py": "NEWER = True\n"})
    (template.root / "src" / "plumbline" / "py.typed").unlink()
    archive = template.root / ARCHIVE
    archive.write_bytes(archive.read_bytes() + b"\xffnewer")
    template.commit()
    tag(template, "v0.2.0")
    return template


def edited(copied: Copy) -> dict[str, str]:
    """Edit settings, fixtures and benchmarks as a user would, delete examples, and return the files."""
    copied.edit("settings.toml", "samples = 100", "samples = 50")
    suite = "tests/performance"
    for name in (f"{suite}/{file}" for file in ("conftest.py", "test_redis_benchmarks.py")):
        path = copied.root / name
        path.write_text(path.read_text(encoding="utf-8") + "\n# the owner's\n", encoding="utf-8")
    write_files(copied.root, {f"{suite}/test_mine.py": "def test_mine(): ...\n"})
    for name in ("test_postgres_benchmarks.py", "test_resource_usage.py"):
        (copied.suite / name).unlink(missing_ok=True)  # a copy beside code has no sample
    (copied.root / "tests" / "sample_service" / "worker.py").unlink(missing_ok=True)
    kept = [name for name in copied.own_files() if name.startswith((suite, "tests/sample_service"))]
    kept = [name for name in kept if name.endswith(".py")]
    return {name: (copied.root / name).read_text(encoding="utf-8") for name in [*kept, f"{suite}/settings.toml"]}


def check_updated(copied: Copy, before: dict[str, str]) -> None:
    """Check that Plumbline is newer, that the user's files are unchanged, and that there is no conflict."""
    for name, text in before.items():
        assert (copied.root / name).read_text(encoding="utf-8") == text, name
    for name in ("test_postgres_benchmarks.py", "test_resource_usage.py", "../sample_service/worker.py"):
        assert not (copied.suite / name).exists()
    package = copied.suite / "vendor" / "src" / "plumbline"
    assert (package / "measuring" / "loop.py").read_text(encoding="utf-8").endswith("# newer\n")
    assert (package / "added.py").exists()
    assert (copied.suite / "vendor" / ARCHIVE).read_bytes().endswith(b"\xffnewer")
    assert not (package / "py.typed").exists()
    assert 'timeout = "121"' in (copied.suite / "pyproject.toml").read_text(encoding="utf-8")
    assert "timeout-minutes: 31" in (copied.root / ".github/workflows/performance.yml").read_text(encoding="utf-8")
    assert not [name for name in copied.files() if name.endswith((".rej", ".orig"))]
    assert copied.git("diff", "--name-only", "--diff-filter=U") == ""
    for name in copied.files():
        assert b"<<<<<<<" not in (copied.root / name).read_bytes(), name
    assert "_commit: v0.2.0" in (copied.root / ANSWERS).read_text(encoding="utf-8")


def test_a_copy_is_updated(two_versions: Repository, tmp_path: Path) -> None:
    """Files that both sides have changed keep the user's lines and get the newer ones."""
    root = tmp_path / "copy"
    assert copy(two_versions, root, ALL).code == 0
    copied = Copy(root)
    copied.begin()
    before = edited(copied)
    noxfile, requirements = root / "noxfile.py", copied.suite / "requirements.txt"
    session = '@nox.session(default=False)\ndef mine(session: nox.Session) -> None:\n    """Mine."""\n'
    mark = "# Your own sessions go below this line.\n"
    text = noxfile.read_text(encoding="utf-8")
    assert mark in text
    noxfile.write_text(text.replace(mark, f"{mark}\n\n{session}"), encoding="utf-8")
    requirements.write_text("orjson\n" + requirements.read_text(encoding="utf-8"), encoding="utf-8")
    copied.commit("Ours")

    done = copier(*UPDATE, cwd=root)

    assert done.code == 0, done.output
    check_updated(copied, before)
    text = noxfile.read_text(encoding="utf-8")
    assert session in text
    assert "terminate_timeout=21" in text
    lines = requirements.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "orjson"
    assert "uvicorn>=0.28" in lines


@pytest.mark.slow
def test_a_suite_beside_other_files_is_updated(two_versions: Repository, tmp_path: Path) -> None:
    """The update leaves files alone that were there before the first copy. A new answer adds a workflow."""
    root = tmp_path / "theirs"
    write_files(root, OWN_FILES)
    assert copy(two_versions, root, ALL).code == 0
    copied = Copy(root, "perf-noxfile.py")
    copied.begin()
    before = edited(copied)
    before |= {name: (root / name).read_text(encoding="utf-8") for name in OWN_FILES}
    copied.commit("Ours")

    done = copier(*UPDATE, "-d", "history=true", cwd=root)

    assert done.code == 0, done.output
    check_updated(copied, before)
    assert (root / HISTORY).is_file()
    assert "uvicorn>=0.28" in (copied.suite / "requirements.txt").read_text(encoding="utf-8")
    assert "terminate_timeout=21" in (root / "perf-noxfile.py").read_text(encoding="utf-8")
    assert not (root / "conftest.py").exists()


def test_an_update_of_uncommitted_changes_is_refused(two_versions: Repository, tmp_path: Path) -> None:
    """The update says so and changes nothing. So is an answer that would overwrite a workflow of the user."""
    root = tmp_path / "copy"
    assert copy(two_versions, root, {"services": ["redis"]}).code == 0
    copied = Copy(root)
    copied.begin()
    copied.edit("settings.toml", "samples = 100", "samples = 50")
    status = copied.git("status", "--porcelain")

    done = copier(*UPDATE, cwd=root)

    assert done.code != 0
    assert "dirty" in done.output
    assert copied.git("status", "--porcelain") == status
    loop = copied.suite / "vendor" / "src" / "plumbline" / "measuring" / "loop.py"
    assert "# newer" not in loop.read_text(encoding="utf-8")

    (root / HISTORY).write_text("theirs\n", encoding="utf-8")
    copied.commit("A workflow of theirs")

    done = copier(*UPDATE, "-d", "history=true", cwd=root)

    assert done.code != 0
    assert f"{HISTORY} exists already: rename it first, or answer no" in done.output
    assert copied.git("status", "--porcelain") == ""


@pytest.mark.slow
def test_one_of_two_suites_in_a_repository_is_updated(two_versions: Repository, tmp_path: Path) -> None:
    """In a monorepo each service has a suite: an update in its folder changes that suite only, and adds a pipeline."""
    whole = Repository.create(tmp_path / "repository", {"services/README.md": "Two.\n"})
    answers = {"services": ["redis"], "ci": "none", "plumbline": "index"}
    for name in ("shop", "cart"):
        assert copy(two_versions, whole.root / "services" / name, answers).code == 0
    (whole.root / "services" / "answers.json").unlink()
    whole.commit()

    done = copier(*UPDATE, "-d", "ci=gitlab", cwd=whole.root / "services" / "shop")

    assert done.code == 0, done.output
    changed = {line.split()[-1] for line in whole.git("status", "--porcelain").splitlines()}
    assert f"services/shop/{ANSWERS}" in changed
    assert "services/shop/.gitlab/" in changed
    assert all(path.startswith("services/shop/") for path in changed)


@pytest.mark.slow
def test_workflows_of_a_monorepo_stay_at_its_root(two_versions: Repository, tmp_path: Path) -> None:
    """The copy says where pipelines belong. An update does not bring back those that have been moved there.

    A new one comes into the folder.
    """
    whole = Repository.create(tmp_path / "repository", {"services/README.md": "Two.\n"})
    for name in ("shop", "cart"):
        done = copy(two_versions, whole.root / "services" / name, {"services": ["redis"], "ci": "both"})
        assert done.code == 0, done.output
        assert "Pipelines are read at the root of the repository only." in done.output
    (whole.root / "services" / "answers.json").unlink()
    whole.commit()
    (whole.root / ".github").mkdir()
    (whole.root / "services" / "shop" / ".github" / "workflows").rename(whole.root / ".github" / "workflows")
    whole.commit()

    done = copier(*UPDATE, "-d", "history=true", cwd=whole.root / "services" / "shop")

    assert done.code == 0, done.output
    assert "run `nox -s init`: it moves the workflow to the root" in done.output
    [added] = (whole.root / "services" / "shop" / ".github" / "workflows").iterdir()
    assert added.name == Path(HISTORY).name
