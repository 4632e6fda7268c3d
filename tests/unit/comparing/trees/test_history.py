"""The commits between two revisions, on real repositories."""

from pathlib import Path

import pytest

from plumbline.comparing.trees.git import Git, NoBase
from plumbline.comparing.trees.history import describe_commit, history
from tests.support.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "repository", {"a.txt": ""})


def test_commits_come_from_the_oldest_to_the_newest(repository: Repository) -> None:
    """GOOD is the first. An older BAD has nothing that GOOD lacks."""
    commits = [repository.head(), *(repository.commit({"a.txt": text}) for text in "123")]
    git = Git(repository.root)

    assert history(git, commits[0], commits[-1]) == commits
    assert history(git, commits[-1], commits[0]) == [commits[0]]


def test_a_merge_is_one_commit(repository: Repository) -> None:
    """The commits that it has merged lack what the branch has, so they can't be compared with GOOD."""
    good = repository.head()
    repository.git("switch", "--quiet", "--create", "feature")
    feature = repository.commit({"b.txt": "1"})
    repository.git("switch", "--quiet", "main")
    main = repository.commit({"a.txt": "1"})
    repository.git("merge", "--quiet", "--no-ff", "--message=Merge it", "feature")
    git = Git(repository.root)

    assert history(git, good, "HEAD") == [good, main, repository.head()]
    merge = describe_commit(git, repository.head())
    assert (merge.subject, merge.author, merge.parents) == ("Merge it", "Tester", (main, feature))
    assert history(git, feature, "HEAD")[0] == good  # `feature` itself is no first parent


def test_a_shallow_clone_is_deepened(repository: Repository, tmp_path: Path) -> None:
    good = repository.head()
    commits = [good, *(repository.commit({"a.txt": text}) for text in "123")]
    clone = repository.clone(tmp_path / "clone", "--depth=1")

    assert history(Git(clone.root), good, commits[-1]) == commits


def test_commits_without_a_common_one(repository: Repository) -> None:
    good = repository.head()
    repository.git("switch", "--quiet", "--orphan", "other")
    other = repository.commit({"b.txt": ""})

    with pytest.raises(NoBase, match="have no common history here"):
        history(Git(repository.root), good, other)
