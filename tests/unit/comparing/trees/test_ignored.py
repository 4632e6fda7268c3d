"""Files that git ignores and files outside of the repository, in both copies."""

import os
import sys
from pathlib import Path

import pytest

from plumbline.comparing.trees import ignored
from plumbline.comparing.trees.git import Git
from plumbline.comparing.trees.ignored import (
    CopyFailed,
    Extras,
    changed_in_working_tree,
    env_files_above,
    find_extras,
    made_from_changes,
    missing_in_copy,
    read_extras,
)
from tests.support.repository import Repository
from tests.unit.comparing.trees.helpers import SUITE, make

IGNORED = "*_pb2.py\n*.so\n*.sqlite3\ndata/\nmade/\n.venv/\n.cache/\n.env*\nresults/\n__pycache__/\n*.link\n"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    files = {**SUITE, "app/__init__.py": "", "app/core.py": "old", ".gitignore": IGNORED}
    return Repository.create(tmp_path / "repository", files)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def extras(repository: Repository, *also_copy: str) -> Extras:
    return find_extras(Git(repository.root), [], repository.root / "results", also_copy)


def test_both_copies_have_what_git_ignores(repository: Repository, cache: Path) -> None:
    """Code, data and folders, anywhere in the repository."""
    names = ["orders_pb2.py", "app/_fast.so", "app/made/table.bin", "db.sqlite3", "data/a/b.txt"]
    repository.write({name: name for name in names})

    sides = make(repository.root, cache)

    assert not sides.differ
    for side in (sides.base, sides.head):
        assert {name: (side.tree / name).read_text() for name in names} == {name: name for name in names}
        assert not any((side.tree / name).is_symlink() for name in names)
    assert sides.extras == Extras(sorted(names), [])


def test_what_an_installation_writes_is_no_change(repository: Repository, cache: Path) -> None:
    """Both copies have it, whether git ignores it or not."""
    repository.write({"shop.egg-info/PKG-INFO": "Name: shop"})

    sides = make(repository.root, cache)

    assert not sides.differ
    for side in (sides.base, sides.head):
        assert (side.tree / "shop.egg-info" / "PKG-INFO").read_text() == "Name: shop"


def test_a_side_that_writes_to_an_ignored_file_does_not_change_the_working_tree(
    repository: Repository, cache: Path
) -> None:
    """It does not change the other side either."""
    repository.write({"db.sqlite3": "rows"})
    sides = make(repository.root, cache)
    (sides.head.tree / "db.sqlite3").write_text("more rows")
    assert (sides.base.tree / "db.sqlite3").read_text() == (repository.root / "db.sqlite3").read_text() == "rows"


def test_generated_code_is_not_added_to_a_package_that_base_does_not_have(repository: Repository, cache: Path) -> None:
    """Base would have only the generated part of the package."""
    repository.write({"new/__init__.py": "", "new/a_pb2.py": "1", "made/__init__.py": "", "made/b.py": "2"})
    sides = make(repository.root, cache)
    assert (sides.head.tree / "new/a_pb2.py").is_file()
    assert not (sides.base.tree / "new").exists()
    assert (sides.base.tree / "made/b.py").is_file()  # git ignores all of this package


def test_environments_caches_and_results_are_left_out(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """So are the current environment and compiled modules."""
    repository.write({".venv/pyvenv.cfg": "", ".venv/lib/a.py": "", ".cache/CACHEDIR.TAG": "", ".cache/a": ""})
    repository.write({".pytest_cache/CACHEDIR.TAG": "", ".pytest_cache/.gitignore": "*", ".pytest_cache/v/a": ""})
    repository.write({"made/ci/pyvenv.cfg": "", "results/a.json": "", "app/__pycache__/core.pyc": "", "data/a": ""})
    repository.write({"app/.venv/pyvenv.cfg": "", "app/b_pb2.py": ""})
    assert extras(repository) == Extras(["app/b_pb2.py", "data/a"], [])

    monkeypatch.setattr(sys, "prefix", str(repository.root / "data/environment"))
    assert extras(repository) == Extras(["app/b_pb2.py"], [])


def test_large_files_folders_and_secrets_are_linked(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with too many bytes or files is linked as a whole. Links keep their targets."""
    monkeypatch.setattr(ignored, "MOST_BYTES", 4)
    monkeypatch.setattr(ignored, "MOST_FILES", 1)
    repository.write({"db.sqlite3": "12345", "data/a": "1", "data/b": "2", "app/a_pb2.py": "1"})
    repository.write({"made/.env": "1", "app/.env.local": "1"})
    (repository.root / "a.link").symlink_to("app")
    linked = ["a.link", "app/.env.local", "data", "db.sqlite3", "made/.env"]
    assert extras(repository) == Extras(["app/a_pb2.py"], linked)


def test_many_small_files_are_linked_beyond_a_total(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ignored, "MOST_BYTES_IN_TOTAL", 3)
    repository.write({"a_pb2.py": "12", "b_pb2.py": "12", "c_pb2.py": "1"})
    assert extras(repository) == Extras(["a_pb2.py", "c_pb2.py"], ["b_pb2.py"])


def test_also_copy_takes_what_is_large_or_left_out(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files outside of the repository are linked."""
    monkeypatch.setattr(ignored, "MOST_BYTES", 1)
    repository.write({"data/a": "12", ".cache/CACHEDIR.TAG": "1", "../beside/shared.json": "{}"})
    found = extras(repository, "data", ".cache", "../beside", str(repository.root.parent / "beside"))
    assert found == Extras([".cache/CACHEDIR.TAG", "data/a"], ["../beside"])


def test_what_is_outside_of_the_repository_is_found_from_both_copies(repository: Repository, cache: Path) -> None:
    """The relative path from the root of the repository works in both copies."""
    repository.write({"../beside/shared.json": "{}"})
    sides = make(repository.root, cache, also_copy=["../beside"])
    for side in (sides.base, sides.head):
        assert (side.tree / "../beside/shared.json").read_text() == "{}"
    assert make(repository.root, cache).head.tree != sides.head.tree


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("data/none", "data/none does not exist: correct also_copy under \\[compare\\] in settings.toml"),
        ("../../../../../..", "is more than 3 folders above the root of the repository"),
    ],
)
def test_also_copy_names_what_cannot_be_copied(repository: Repository, name: str, problem: str) -> None:
    with pytest.raises(CopyFailed, match=problem):
        extras(repository, name)


def test_a_repository_in_the_repository_is_in_both_copies(repository: Repository, cache: Path) -> None:
    """Git lists neither files nor ignored files of a nested repository that is no submodule."""
    Repository.create(repository.root / "libs/prices", {"prices.py": "1"})
    sides = make(repository.root, cache)
    assert [(side.tree / "libs/prices/prices.py").read_text() for side in (sides.base, sides.head)] == ["1", "1"]
    assert not (sides.head.tree / "libs/prices/.git").exists()


def test_env_files_above_the_repository_are_found(tmp_path: Path) -> None:
    top = tmp_path / "a/b/repository"
    top.mkdir(parents=True)
    (tmp_path / "a/.env").touch()
    assert env_files_above(top) == ["../../.env"]


def test_what_a_copy_lacks_is_what_was_looked_for_and_is_in_the_repository(tmp_path: Path) -> None:
    """Paths in the repository, or up to some levels above it."""
    tree, top = tmp_path / "1/2/3/tree", tmp_path / "work/repository"
    for file in (tree / "here", top / "here", top / "gone", tmp_path / "work/.env"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    looked_for = {tree / "here", tree / "gone", tree / "nowhere", tree / "../.env", tree.parent / ".env", Path("/etc")}
    assert missing_in_copy(looked_for, tree, top) == ["../.env", "gone"]


def test_extras_that_were_read_are_listed(tmp_path: Path) -> None:
    """A file counts for the linked folder that contains it."""
    paths = {tmp_path / "a_pb2.py", tmp_path / "data/x/y", tmp_path / "app.py", Path("/etc/hosts")}
    assert read_extras(Extras(["a_pb2.py", "b_pb2.py"], ["data", "more"]), paths, tmp_path) == ["a_pb2.py", "data"]


def test_changed_files_that_are_read_from_the_working_tree(tmp_path: Path) -> None:
    paths = {tmp_path / "a.json", tmp_path / "same.json", Path("/a.json")}
    assert changed_in_working_tree(paths, ["a.json", "b.json"], tmp_path) == ["a.json"]
    (tmp_path / "link").symlink_to(tmp_path)
    assert changed_in_working_tree([tmp_path / "link" / "b.json"], ["a.json", "b.json"], tmp_path) == ["b.json"]


@pytest.mark.parametrize(
    ("read", "changed", "anew", "found"),
    [
        ("a_pb2.py", "a.proto", False, True),
        ("a_pb2.py", "README.md", False, False),
        ("a_pb2.py", "a.proto", True, False),
        ("data.json", "a.proto", False, False),
        ("fast/a.cpython-311.so", "src/lib.rs", False, True),
        ("fast/a.cpython-311.so", "fast/a.py", False, True),
        ("fast/a.cpython-311.so", "fast/b.py", False, False),
    ],
)
def test_code_that_base_has_from_the_working_tree_may_be_made_from_changes(
    read: str, changed: str, anew: bool, found: bool, tmp_path: Path
) -> None:
    """Code that was generated again in the copy does not count."""
    for number, side in enumerate(("base", "top")):
        path = tmp_path / side / read
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, ns=(0, number if anew else 0))
    expected = ([read], [changed]) if found else ([], [])
    assert made_from_changes([read], [changed], tmp_path / "base", tmp_path / "top") == expected
