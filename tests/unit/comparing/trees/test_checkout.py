"""The files of a commit in sparse and partial clones, with filters, links and Git LFS."""

import hashlib
import shutil
from pathlib import Path

import pytest

from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.sides import Sides
from tests.support.repository import Repository
from tests.unit.comparing.trees.helpers import make

SUITE = {"tests/performance/test_it.py": "a test"}


def sides_of(repository: Repository, commit: str = "HEAD") -> Sides:
    """Make both sides, with a cache beside the repository."""
    return make(repository.root, repository.root.parent / "cache", commit)


def pointer(contents: str) -> str:
    """Return the pointer of Git LFS to these contents."""
    digest = hashlib.sha256(contents.encode()).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(contents)}\n"


def keep_object(repository: Repository, contents: str) -> None:
    """Store contents in the folder of Git LFS."""
    digest = hashlib.sha256(contents.encode()).hexdigest()
    path = repository.root / ".git" / "lfs" / "objects" / digest[:2] / digest[2:4] / digest
    path.parent.mkdir(parents=True)
    path.write_text(contents, encoding="utf-8")


@pytest.fixture
def with_lfs(tmp_path: Path) -> Repository:
    """A change of one of two files in Git LFS. The working tree has the contents of both."""
    made = Repository.create(tmp_path / "repository", {"a.bin": pointer("a"), "b.bin": pointer("b"), **SUITE})
    made.commit({"a.bin": pointer("new a")})
    made.write({"a.bin": "new a", "b.bin": "b"})
    return made


def test_each_commit_has_its_own_attributes(tmp_path: Path) -> None:
    """Line ends are those of a checkout, and `export-ignore` leaves out no file."""
    before = {"a.txt": "one\n", "b.txt": "two\n", ".gitattributes": "*.txt export-ignore\n"}
    repository = Repository.create(tmp_path / "repository", before)
    repository.commit({".gitattributes": "a.txt eol=crlf\n"})
    repository.git("rm", "--quiet", "--cached", "a.txt")
    (repository.root / "a.txt").unlink()
    repository.git("checkout", "--quiet", "HEAD", "a.txt")

    sides = sides_of(repository, "HEAD~1")

    assert (sides.base.root / "a.txt").read_bytes() == b"one\n"
    assert sides.files == [".gitattributes", "a.txt"]


def test_both_sides_of_a_sparse_checkout_are_sparse(tmp_path: Path) -> None:
    """Files outside of it do not differ. A larger checkout has them."""
    before = {"in/a.py": "old", "out/b.py": "old", **SUITE}
    repository = Repository.create(tmp_path / "repository", before)
    repository.commit({"in/a.py": "new", "out/b.py": "new"})
    repository.git("sparse-checkout", "set", "in", "tests")
    assert sides_of(repository, "HEAD~1").files == ["in/a.py"]
    repository.git("sparse-checkout", "add", "out")
    assert sides_of(repository, "HEAD~1").files == ["in/a.py", "out/b.py"]


def test_a_partial_clone_fetches_the_files_of_the_base(tmp_path: Path) -> None:
    """If its remote does not answer, the message has advice."""
    repository = Repository.create(tmp_path / "repository", {"a.py": "old", **SUITE})
    repository.commit({"a.py": "new"})
    repository.git("config", "uploadpack.allowFilter", "true")
    clones = [repository.clone(tmp_path / name, f"--filter={name}") for name in ("blob:none", "tree:0")]
    for clone in clones:
        clone.git("remote", "set-url", "origin", "file:///gone")
        with pytest.raises(NoBase, match=r"`git read-tree` failed in .*This clone is partial .*without `--filter`"):
            sides_of(clone, "HEAD~1")
    clones[0].git("remote", "set-url", "origin", f"file://{repository.root}")
    assert (sides_of(clones[0], "HEAD~1").base.root / "a.py").read_text() == "old"


def test_contents_that_git_lfs_keeps_are_filled_in(with_lfs: Repository) -> None:
    """They come from the working tree and from the folder of Git LFS, which need not be installed."""
    keep_object(with_lfs, "a")
    sides = sides_of(with_lfs, "HEAD~1")
    assert [(sides.base.root / name).read_text() for name in ("a.bin", "b.bin")] == ["a", "b"]
    assert sides.files == ["a.bin"]


def test_contents_that_git_lfs_cannot_bring_are_named(with_lfs: Repository) -> None:
    """The message has the command that fetches them."""
    message = r"the base's a\.bin is a pointer of Git LFS, .*: `git lfs install && git lfs fetch origin "
    with pytest.raises(NoBase, match=message):
        sides_of(with_lfs, "HEAD~1")
    (with_lfs.root / "a.bin").unlink()
    with pytest.raises(NoBase, match=message):
        sides_of(with_lfs, "HEAD~1")


def test_pointers_stay_pointers_if_the_working_tree_has_no_contents(with_lfs: Repository) -> None:
    """As in a pipeline without Git LFS. After `git lfs pull` the copy is made again."""
    with_lfs.write({"a.bin": pointer("new a"), "b.bin": pointer("b")})
    assert sides_of(with_lfs, "HEAD~1").files == ["a.bin"]
    (with_lfs.root / "a.bin").unlink()
    assert sides_of(with_lfs, "HEAD~1").files == ["a.bin"]
    with_lfs.write({"a.bin": "new a", "b.bin": "b"})
    keep_object(with_lfs, "a")
    assert (sides_of(with_lfs, "HEAD~1").base.root / "a.bin").read_text() == "a"


def test_a_filter_that_fails_is_reported(tmp_path: Path) -> None:
    """Git itself would keep the file as it is."""
    before = {"a.txt": "one", ".gitattributes": "*.txt filter=odd\n", **SUITE}
    repository = Repository.create(tmp_path / "repository", before)
    repository.git("config", "filter.odd.smudge", "tr o e")
    assert (sides_of(repository).base.root / "a.txt").read_text() == "ene"
    repository.git("config", "filter.odd.smudge", "./gone.sh")
    with pytest.raises(NoBase, match=r"a filter of \.gitattributes has failed for the base: .*gone\.sh"):
        sides_of(repository)
    repository.git("config", "filter.odd.required", "true")
    with pytest.raises(NoBase, match=r"smudge filter odd failed\. See `git config --get-regexp"):
        sides_of(repository)


def test_links_lead_into_the_copy_or_to_what_is_outside(tmp_path: Path) -> None:
    """Absolute links would lead base into the working tree, and relative ones to nowhere."""
    (tmp_path / "outside").mkdir()
    repository = Repository.create(tmp_path / "repository", {"part/a.py": "old", **SUITE})
    for name, target in (("full", repository.root / "part"), ("outside", "../outside"), ("part/b.py", "a.py")):
        (repository.root / name).symlink_to(target)
    repository.commit()
    repository.commit({"part/a.py": "new"})

    sides = sides_of(repository, "HEAD~1")

    assert sides.files == ["part/a.py"]
    for side, text in ((sides.base, "old"), (sides.head, "new")):
        assert (side.root / "full" / "a.py").read_text() == (side.root / "part" / "b.py").read_text() == text
        assert (side.root / "outside").resolve() == tmp_path / "outside"


def test_a_repository_is_one_by_whichever_path(tmp_path: Path) -> None:
    """Links can lead to the repository and to the cache."""
    repository = Repository.create(tmp_path / "real" / "repository", {"app.py": "old", **SUITE})
    repository.commit({"app.py": "new"})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    sides = sides_of(Repository(tmp_path / "link" / "repository"), "HEAD~1")
    assert (sides.files, sides.top) == (["app.py"], repository.root)
    assert sides.base.tree.is_relative_to(tmp_path / "real" / "cache")


def test_a_linked_worktree_has_its_own_head(tmp_path: Path) -> None:
    """Its `.git` is a file, and it has its own ignored files and sparse checkout."""
    repository = Repository.create(tmp_path / "repository", {"app.py": "old", **SUITE})
    repository.git("worktree", "add", "--quiet", str(tmp_path / "linked"))
    linked = Repository(tmp_path / "linked")
    linked.commit({"app.py": "new"})
    assert sides_of(linked, "main").files == ["app.py"]
    assert sides_of(repository, "main").files == []


@pytest.mark.parametrize("linked", ["tests", "tests/performance"])
def test_a_linked_suite_is_the_working_trees_on_both_sides(tmp_path: Path, linked: str) -> None:
    """Base may have the same link, or a folder."""
    repository = Repository.create(tmp_path / "repository", {"app.py": "old", **SUITE})
    (repository.root / "common").mkdir()
    (repository.root / linked).rename(repository.root / "common" / "suite")
    (repository.root / linked).symlink_to(Path("../" * linked.count("/"), "common", "suite"))
    repository.commit()
    repository.commit({"tests/performance/test_it.py": "new"})
    for commit in ("HEAD~1", "HEAD~2"):
        sides = sides_of(repository, commit)
        assert (sides.base.root / "tests" / "performance" / "test_it.py").read_text() == "new"
        assert not sides.differ


def test_a_submodule_is_fetched_if_the_base_has_another_commit_of_it(tmp_path: Path) -> None:
    """Pipelines check out only the newest commit."""
    library = Repository.create(tmp_path / "library", {"lib.py": "old"})
    repository = Repository.create(tmp_path / "repository", SUITE)
    repository.git("submodule", "--quiet", "add", f"file://{library.root}", "vendor")
    repository.commit()
    library.commit({"lib.py": "new"})
    shutil.rmtree(repository.root / "vendor")
    library.clone(repository.root / "vendor", "--depth=1")
    repository.commit()
    assert (sides_of(repository, "HEAD~1").base.root / "vendor" / "lib.py").read_text() == "old"


def test_a_link_of_a_submodule_leads_into_the_copy(tmp_path: Path) -> None:
    """The link leads out of the submodule."""
    library = Repository.create(tmp_path / "library", {"lib.py": "old"})
    (library.root / "app.py").symlink_to("../../app.py")
    library.commit()
    repository = Repository.create(tmp_path / "repository", {"app.py": "old", **SUITE})
    repository.git("submodule", "--quiet", "add", f"file://{library.root}", "vendor/library")
    repository.commit()
    repository.commit({"app.py": "new"})
    sides = sides_of(repository, "HEAD~1")
    texts = [(side.root / "vendor" / "library" / "app.py").read_text() for side in (sides.base, sides.head)]
    assert (texts, sides.files) == (["old", "new"], ["app.py"])


def test_a_submodule_that_the_change_removes_is_named(tmp_path: Path) -> None:
    """A submodule that is not checked out is on neither side."""
    library = Repository.create(tmp_path / "library", {"lib.py": "old"})
    repository = Repository.create(tmp_path / "repository", SUITE)
    repository.git("submodule", "--quiet", "add", f"file://{library.root}", "vendor")
    repository.commit({"app.py": "old"})
    repository.git("submodule", "--quiet", "deinit", "--force", "vendor")
    repository.write({"app.py": "new"})
    assert sides_of(repository).files == ["app.py"]
    repository.git("rm", "--quiet", "--force", "vendor")
    with pytest.raises(NoBase, match=r"the base has the submodule vendor, .*PERF_BASE=REV"):
        sides_of(repository)
