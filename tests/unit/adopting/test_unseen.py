"""Files that git ignores and that pipelines need."""

from pathlib import Path

import pytest

from plumbline.adopting.unseen import ignored_files, ignored_lock, lock_notes, made_lines, suite_lines
from tests.support.repository import Repository

REQUIREMENTS = "tests/performance/requirements.txt"


@pytest.mark.parametrize(
    ("ignored", "place", "path", "line"),
    [
        ("requirements.txt", ".gitignore", REQUIREMENTS, f"!{REQUIREMENTS}"),
        ("requirements.txt", ".git/info/exclude", REQUIREMENTS, f"!{REQUIREMENTS}"),
        ("requirements.txt", "tests/.gitignore", REQUIREMENTS, "!performance/requirements.txt"),
        ("tests/", ".gitignore", "tests/", "!/tests/"),
        ("tests", ".gitignore", "tests/", "!/tests/"),
        ("*.txt\nnoxfile.py", ".gitignore", REQUIREMENTS, f"!{REQUIREMENTS}"),
    ],
)
def test_the_line_makes_git_list_the_file(tmp_path: Path, ignored: str, place: str, path: str, line: str) -> None:
    repository = Repository.create(tmp_path / "repository", {place: ignored + "\n"})
    repository.write({REQUIREMENTS: "httpx", "tests/performance/__pycache__/a.pyc": "", "noxfile.py": ""})
    found = next(one for one in ignored_files(repository.root) if one.path == path)
    assert found.line == line
    assert f"add the line `{line}` to the end of {found.file}" in "\n".join(suite_lines(repository.root))

    for one in ignored_files(repository.root):
        with (repository.root / one.file).open("a") as file:
            file.write(f"{one.line}\n")
    assert ignored_files(repository.root) == []
    assert REQUIREMENTS in repository.git("ls-files", "--others", "--exclude-standard")


def test_a_folder_of_a_larger_repository(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repository", {".gitignore": "*.txt\n*.lock\n"})
    repository.write({f"shop/{REQUIREMENTS}": "", REQUIREMENTS: "", "shop/uv.lock": ""})
    assert [one.path for one in ignored_files(repository.root / "shop")] == [f"shop/{REQUIREMENTS}"]
    lock = ignored_lock(repository.root / "shop")
    assert lock is not None
    assert (lock.path, lock.line) == ("shop/uv.lock", "!shop/uv.lock")
    assert "git ignores shop/uv.lock, so base has its versions" in "".join(lock_notes(repository.root / "shop"))
    assert ignored_lock(repository.root) is None
    assert lock_notes(repository.root) == []


def test_a_folder_without_a_repository(tmp_path: Path) -> None:
    assert ignored_files(tmp_path) == []
    assert ignored_lock(tmp_path) is None
    assert made_lines(tmp_path) == []


def test_what_git_should_ignore(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repository", {".gitignore": ".venv/\n"})
    repository.write({"shop/web/__pycache__/a.pyc": "", "shop/shop.egg-info/PKG-INFO": "", "cart/a.py": ""})

    assert made_lines(repository.root / "shop") == [
        "`git add .` would add shop/web/__pycache__/: add the line `__pycache__/` to .gitignore",
        "`git add .` would add shop/shop.egg-info/: add the line `*.egg-info/` to .gitignore",
    ]
    assert made_lines(repository.root / "cart") == []
    repository.write({".gitignore": "__pycache__/\n*.egg-info/\n"})
    assert made_lines(repository.root) == []
