import importlib.util
import os
import py_compile
import shutil
import struct
from pathlib import Path

import pytest

from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.sides import (
    describe,
    python_path,
)
from tests.support.repository import Repository
from tests.unit.comparing.trees.helpers import SUITE, asked, make


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A suite and a package in one commit."""
    return Repository.create(tmp_path / "repository", {**SUITE, "app/__init__.py": "", "app/core.py": "old"})


def texts(folder: Path) -> dict[str, str]:
    """What the files below a folder hold, by path."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_copies_hold_the_commit_and_the_working_tree(repository: Repository, cache: Path) -> None:
    """Uncommitted changes, untracked files and deletions are in head; ignored files in neither."""
    repository.commit({"app/gone.py": "", "app/moved.py": ""})
    repository.write({"app/core.py": "new", "app/untracked.py": "", "app/run.log": ""})
    (repository.root / "app" / "gone.py").unlink()
    repository.git("mv", "app/moved.py", "app/there.py")

    sides = make(repository.root, cache)

    assert texts(sides.head.root / "app") == {"__init__.py": "", "core.py": "new", "untracked.py": "", "there.py": ""}
    assert texts(sides.base.root / "app") == {"__init__.py": "", "core.py": "old", "gone.py": "", "moved.py": ""}
    assert sides.files == ["app/core.py", "app/gone.py", "app/moved.py", "app/there.py", "app/untracked.py"]
    assert sides.modules == ["app"]
    assert sides.differ


def test_copies_are_siblings_of_equal_length(repository: Repository, cache: Path) -> None:
    """Nothing that depends on the length of a path may differ between the sides, and nothing lies in .git."""
    before = repository.git("for-each-ref") + repository.git("worktree", "list")
    sides = make(repository.root, cache)
    assert len(str(sides.base.root)) == len(str(sides.head.root))
    assert sides.base.root.parents[1] == sides.head.root.parents[1] == cache / "trees"
    assert repository.git("for-each-ref") + repository.git("worktree", "list") == before
    assert repository.git("status", "--porcelain") == ""


def test_both_sides_have_heads_suite(repository: Repository, cache: Path) -> None:
    """A benchmark that head changes, adds or deletes is so in base, too, and differs in nothing."""
    repository.commit({"tests/performance/test_gone.py": "old"})
    (repository.root / "tests/performance/test_gone.py").unlink()
    (repository.root / "tests/__init__.py").unlink()
    repository.write({"tests/performance/test_it.py": "new", "tests/performance/test_new.py": "new"})
    repository.write({"conftest.py": "new"})

    sides = make(repository.root, cache)

    assert texts(sides.base.root / "tests") == {"performance/test_it.py": "new", "performance/test_new.py": "new"}
    assert (sides.base.root / "conftest.py").read_text() == "new"
    assert not sides.differ
    assert describe(sides) == ["nothing differs: the same files and the same packages"]


def test_a_base_from_before_the_suite_gets_it(tmp_path: Path, cache: Path) -> None:
    """A commit without performance tests can be measured by head's."""
    repository = Repository.create(tmp_path / "repository", {"app.py": "old"})
    base = repository.head()
    repository.commit(SUITE)
    sides = make(repository.root, cache, base)
    assert texts(sides.base.root) == {**{name: SUITE[name] for name in list(SUITE)[:3]}, "app.py": "old"}


def test_a_workspace_is_copied_around_its_project(tmp_path: Path, cache: Path) -> None:
    """The root of a side is the project's own folder; what lies beside it is in the copy, the suite only its own."""
    files = {f"services/api/{name}": text for name, text in SUITE.items()}
    repository = Repository.create(
        tmp_path / "repository", {**files, "libs/common.py": "old", "tests/performance/test_other.py": "old"}
    )
    repository.write({"libs/common.py": "new", "tests/performance/test_other.py": "new"})
    repository.write({"services/api/tests/performance/test_it.py": "new"})

    sides = make(repository.root / "services" / "api", cache, directories=["../../libs"])

    assert sides.base.root == cache / "trees" / sides.base.root.parts[-4] / "tree" / "services" / "api"
    assert (sides.base.root / "tests/performance/test_it.py").read_text() == "new"
    assert sides.files == ["libs/common.py", "tests/performance/test_other.py"]
    assert sides.import_from == [".", "../../libs"]
    assert sides.modules == ["common"]
    found = asked(sides.base.root, sides.base.python, python_path(sides.base, sides), ["common"])
    assert found == {"common": str(sides.base.root.parents[1] / "libs" / "common.py")}


def test_names_links_and_modes_survive(repository: Repository, cache: Path) -> None:
    """Spaces, letters beyond ASCII and beyond UTF-8, symbolic links and the executable bit are the same in both."""
    repository.write({"app/a file.txt": "1", "app/ümläut.txt": "2", "run.sh": "3"})
    Path(os.fsdecode(os.fsencode(repository.root) + b"/app/latin-\xe9.txt")).write_text("4")
    (repository.root / "run.sh").chmod(0o755)
    (repository.root / "link").symlink_to("app")
    (repository.root / "dangling").symlink_to("nowhere")
    repository.commit()

    sides = make(repository.root, cache)

    assert not sides.differ
    for side in (sides.base, sides.head):
        found = sorted(os.fsencode(path.name) for path in (side.root / "app").iterdir())
        assert found == [b"__init__.py", b"a file.txt", b"core.py", b"latin-\xe9.txt", "ümläut.txt".encode()]
        assert os.access(side.root / "run.sh", os.X_OK)
        assert (side.root / "link").readlink() == Path("app")
        assert (side.root / "dangling").readlink() == Path("nowhere")

    (repository.root / "run.sh").chmod(0o644)
    Path(os.fsdecode(os.fsencode(repository.root) + b"/app/latin-\xe9.txt")).write_text("5")
    changed = make(repository.root, cache)
    assert describe(changed) == ["2 files differ: app/latin-\\udce9.txt, run.sh"]


def test_a_folder_that_became_a_link_is_not_written_through(
    repository: Repository, cache: Path, tmp_path: Path
) -> None:
    """A tracked folder whose place a link has taken is a link in head, and what it leads to stays as it was."""
    outside = tmp_path / "outside"
    shutil.move(repository.root / "app", outside)
    (repository.root / "app").symlink_to(outside)
    sides = make(repository.root, cache)
    assert (sides.head.root / "app").readlink() == outside
    assert (sides.base.root / "app" / "core.py").read_text() == "old"
    assert texts(outside) == {"__init__.py": "", "core.py": "old"}


def test_files_that_an_archive_omits_are_copied(repository: Repository, cache: Path) -> None:
    """`export-ignore` is about releases: base's copy is whole all the same."""
    repository.commit({".gitattributes": "app export-ignore\n"})
    assert not make(repository.root, cache).differ


def test_submodules_are_at_the_commit_of_their_side(repository: Repository, tmp_path: Path, cache: Path) -> None:
    """Base's copy has the files of the commit that base names, head's those that are checked out."""
    library = Repository.create(tmp_path / "library", {"library.py": "old"})
    repository.git("submodule", "--quiet", "add", f"file://{library.root}", "vendor/a library")
    repository.commit()
    submodule = Repository(repository.root / "vendor" / "a library")
    submodule.commit({"library.py": "new"})

    sides = make(repository.root, cache, directories=["vendor/a library"])

    assert texts(sides.base.root / "vendor" / "a library") == {"library.py": "old"}
    assert (sides.head.root / "vendor" / "a library" / "library.py").read_text() == "new"
    assert sides.files == ["vendor/a library/library.py"]
    assert sides.modules == ["library"]


def test_a_missing_commit_of_a_submodule_is_named(repository: Repository, tmp_path: Path, cache: Path) -> None:
    """If base names a commit of a submodule that isn't here, the message says which and what to do."""
    library = Repository.create(tmp_path / "library", {"library.py": "old"})
    repository.git("submodule", "--quiet", "add", f"file://{library.root}", "vendor")
    repository.commit()
    shutil.rmtree(repository.root / "vendor")
    Repository.create(repository.root / "vendor", {"library.py": "another"})
    with pytest.raises(NoBase, match="of the submodule vendor is not here: `git submodule update"):
        make(repository.root, cache)


def test_a_submodule_that_is_not_checked_out_is_empty(repository: Repository, tmp_path: Path, cache: Path) -> None:
    """Both copies have what the working tree has of it: an empty folder, and no difference."""
    library = Repository.create(tmp_path / "library", {"library.py": "old"})
    repository.git("submodule", "--quiet", "add", f"file://{library.root}", "vendor")
    repository.commit()
    clone = repository.clone(tmp_path / "clone")
    sides = make(clone.root, cache)
    assert not sides.differ
    assert texts(sides.base.root / "vendor") == {}


def test_generated_code_is_in_both(repository: Repository, cache: Path) -> None:
    """A version file or a compiled extension that git ignores is copied and reported; other ignored files are not."""
    repository.commit({".gitignore": "_version.py\n*.so\n*.log\n_made/\n.venv/\n__pycache__/\n"})
    repository.write({"app/_version.py": "1", "app/fast.so": "2", "app/run.log": "3", "stray.so": "4"})
    repository.write({"app/_made/__init__.py": "5", "app/_made/data.bin": "6", "app/__pycache__/core.py": "7"})
    repository.write({".venv/lib/app/__init__.py": "8"})
    reported: list[str] = []

    sides = make(repository.root, cache, reported=reported)

    assert not sides.differ
    for side in (sides.base, sides.head):
        assert sorted(texts(side.root / "app")) == [
            "__init__.py",
            "_made/__init__.py",
            "_version.py",
            "core.py",
            "fast.so",
        ]
        assert not (side.root / ".venv").exists()
        assert not (side.root / "stray.so").exists()
    [line] = reported
    assert line.endswith("in both copies as the code may need it: app/_made/__init__.py, app/_version.py, app/fast.so")


def test_a_tracked_file_of_base_is_not_overwritten(repository: Repository, cache: Path) -> None:
    """A file that head generates and base has in git keeps base's content there."""
    base = repository.commit({"app/_version.py": "tracked"})
    repository.git("rm", "--quiet", "--cached", "app/_version.py")
    repository.commit({".gitignore": "_version.py\n"})
    repository.write({"app/_version.py": "generated"})
    sides = make(repository.root, cache, base)
    assert (sides.base.root / "app" / "_version.py").read_text() == "tracked"
    assert sides.files == [".gitignore", "app/_version.py"]


@pytest.mark.parametrize("ignored", [".env*\n", "*.log\n"])
def test_secrets_outside_of_git_are_linked(repository: Repository, cache: Path, ignored: str) -> None:
    """`.env`, ignored or forgotten, can be read in both sides, and is stored in neither."""
    repository.commit({".gitignore": ignored})
    repository.write({".env": "TOKEN=hush", ".env.local": "TOKEN=hush"})
    sides = make(repository.root, cache)
    for side in (sides.base, sides.head):
        assert (side.root / ".env").read_text() == "TOKEN=hush"
        assert (side.root / ".env.local").is_symlink()
    assert not sides.differ
    stored = [path for path in cache.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in stored if "hush" in path.read_text()]


def test_an_identical_copy_is_used_again(repository: Repository, cache: Path) -> None:
    """A second run with the same trees makes nothing, and a change makes a new copy of head alone."""
    first = make(repository.root, cache)
    made = {path: path.stat().st_ctime_ns for path in cache.rglob("core.py")}
    assert make(repository.root, cache) == first
    assert {path: path.stat().st_ctime_ns for path in cache.rglob("core.py")} == made
    repository.write({"app/core.py": "new"})
    changed = make(repository.root, cache)
    assert changed.base.root == first.base.root
    assert changed.head.root != first.head.root


def test_compiled_files_are_copied_and_stay_valid(repository: Repository, cache: Path) -> None:
    """Of files that are the working tree's, as good as new there, and neither listed nor compared."""
    for name in ("tests/performance/test_it.py", "app/core.py"):
        py_compile.compile(str(repository.root / name), doraise=True)
    sides = make(repository.root, cache)
    assert [name for name in sides.files if "__pycache__" in name] == []
    copies = [
        (sides.head, "app/core.py"),
        *((side, "tests/performance/test_it.py") for side in (sides.base, sides.head)),
    ]
    for side, name in copies:
        source = side.root / name
        header = Path(importlib.util.cache_from_source(source)).read_bytes()[:16]
        stat = source.stat()
        assert struct.unpack("<III", header[4:]) == (0, int(stat.st_mtime), stat.st_size)


def test_a_copy_that_was_changed_is_made_again(repository: Repository, cache: Path) -> None:
    """Files that code under test wrote over are as they were in the next run."""
    first = make(repository.root, cache)
    (first.base.root / "app" / "core.py").write_text("changed")
    (first.head.root / "app" / "core.py").unlink()
    second = make(repository.root, cache)
    assert second == first
    assert (second.base.root / "app" / "core.py").read_text() == "old"
    assert (second.head.root / "app" / "core.py").read_text() == "old"


def test_leftovers_of_a_killed_run_are_swept(repository: Repository, cache: Path) -> None:
    """Half a copy is made again under its name, and removed under any other."""
    sides = make(repository.root, cache)
    (sides.base.root.parent / "made").unlink()
    (sides.base.root / "app" / "core.py").unlink()
    (cache / "trees" / "head-half" / "tree").mkdir(parents=True)
    (cache / "environments" / "half").mkdir(parents=True)
    make(repository.root, cache)
    assert (sides.base.root / "app" / "core.py").read_text() == "old"
    assert sorted((cache / "trees").iterdir()) == sorted([sides.base.root.parent, sides.head.root.parent])
    assert list((cache / "environments").iterdir()) == []


def test_a_missing_commit_is_named(repository: Repository, cache: Path) -> None:
    """A base that is in no repository ends with its name."""
    with pytest.raises(NoBase, match="the base commit 012345678901 is not in this repository"):
        make(repository.root, cache, "0123456789" * 4)
