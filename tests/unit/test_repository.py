"""Git in a repository of another user, for which git itself refuses to work."""

import os
import subprocess
from pathlib import Path

import pytest

from plumbline.comparing.trees.base import find_base, is_proposed
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.sides import make_sides
from plumbline.results.environment import git_state
from tests.support.repository import Repository

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A branch that changes a file and a submodule, in a worktree of another user."""
    monkeypatch.setenv("GITHUB_BASE_REF", "main")
    library = Repository.create(tmp_path / "library", {"lib.py": "old"})
    made = Repository.create(tmp_path / "repository", {"app.py": "old", "tests/performance/test_it.py": "old"})
    made.git("submodule", "--quiet", "add", str(library.root), "vendor")
    made.commit()
    made.git("switch", "--quiet", "--create", "feature")
    Repository(made.root / "vendor").commit({"lib.py": "new"})
    made.commit({"app.py": "new"})
    made.give_away()
    with pytest.raises(subprocess.CalledProcessError):
        made.git("status")
    return made


def test_the_checkout_of_another_user_is_compared(foreign: Repository, tmp_path: Path) -> None:
    """With its submodules."""
    assert is_proposed(foreign.root)
    base = find_base(foreign.root)

    sides = make_sides(foreign.root, base.commit, directories=[], cache=tmp_path / "cache")

    assert sides.files == ["app.py", "vendor/lib.py"]
    assert [(side.root / "vendor" / "lib.py").read_text() for side in (sides.base, sides.head)] == ["old", "new"]


def test_the_checkout_of_another_user_has_a_commit(foreign: Repository) -> None:
    """It is recorded with the results, as are changes, also in a submodule."""
    commit, dirty = git_state(foreign.root)
    assert (len(commit), dirty) == (40, False)
    (foreign.root / "vendor" / "lib.py").write_text("edited")
    assert git_state(foreign.root) == (commit, True)


def test_a_checkout_that_may_not_be_read_is_no_error(foreign: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third user, without access, sees no repository."""
    os.seteuid(54321)
    try:
        assert git_state(foreign.root) == ("", False)
        assert is_proposed(foreign.root)
        with pytest.raises(NoBase, match="Permission denied"):
            find_base(foreign.root)
        monkeypatch.delenv("GITHUB_BASE_REF")
        assert not is_proposed(foreign.root)
    finally:
        os.seteuid(0)


def test_nothing_in_the_checkout_of_another_user_changes_its_owner(foreign: Repository, tmp_path: Path) -> None:
    """Git would write a new index, which the owner could not replace."""
    git_state(foreign.root)
    make_sides(foreign.root, find_base(foreign.root).commit, directories=[], cache=tmp_path / "cache")
    assert {path.lstat().st_uid for path in foreign.root.rglob("*")} == {12345}


def test_a_worktree_of_another_user_is_compared(foreign: Repository, tmp_path: Path) -> None:
    """Its `.git` is a file with the path of the repository."""
    linked = tmp_path / "linked"
    subprocess.run(
        [
            "git",
            "-c",
            "safe.directory=*",
            "-C",
            str(foreign.root),
            "worktree",
            "add",
            "--quiet",
            str(linked),
            "--detach",
        ],
        check=True,
    )
    (linked / "app.py").write_text("newer")
    foreign.give_away()
    Repository(linked).give_away()

    sides = make_sides(linked, find_base(linked).commit, directories=[], cache=tmp_path / "cache")

    assert sides.files == ["app.py"]
    assert git_state(linked)[1]
