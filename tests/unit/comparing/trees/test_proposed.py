"""Proposed changes, and the commits that they start from."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from plumbline.comparing.trees import base
from plumbline.comparing.trees.base import find_base, is_proposed
from plumbline.comparing.trees.git import NoBase
from tests.support.repository import Repository

QUEUE = {"GITHUB_EVENT_NAME": "merge_group", "GITHUB_REF": "refs/heads/gh-readonly-queue/release/1/pr-7-0a1b2c"}


@pytest.fixture(autouse=True)
def no_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the variables of a pipeline that runs these tests."""
    known = {*base.TARGETS, *(variable for variable, _ in base.IN_PULL_REQUEST.values())}
    for name in os.environ:
        if name in known or name.startswith(("GITHUB_", "CI_")):
            monkeypatch.delenv(name)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """One commit on main."""
    return Repository.create(tmp_path / "repository", {"app.py": "one"})


def set_all(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def set_event(monkeypatch: pytest.MonkeyPatch, folder: Path, event: object) -> None:
    file = folder / "event.json"
    file.write_text(json.dumps(event), encoding="utf-8")
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(file))


def feature(repository: Repository) -> str:
    """A branch with a commit that main lacks. Main has a later commit. Returns the commit between them."""
    start = repository.head()
    repository.git("switch", "--quiet", "--create", "feature")
    repository.commit({"app.py": "slower"})
    repository.git("switch", "--quiet", "main")
    repository.commit({"other.py": "meanwhile"})
    repository.git("switch", "--quiet", "feature")
    return start


@pytest.mark.parametrize("name", [*base.TARGETS, "CI_PIPELINE_SOURCE"])
def test_a_pipeline_says_that_a_change_is_proposed_even_without_git(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure of git is then the reason for no base."""
    assert not is_proposed(tmp_path)
    monkeypatch.setenv(name, "merge_request_event" if name == "CI_PIPELINE_SOURCE" else "main")
    assert is_proposed(tmp_path)
    with pytest.raises(NoBase, match=r"not a git repository .*`git clone`, with all of its `.git`"):
        find_base(tmp_path)
    (tmp_path / ".git").write_text("gitdir: /gone\n")
    assert is_proposed(tmp_path)
    with pytest.raises(NoBase, match=r"not a git repository: /gone.*`git clone`, with all of its `.git`"):
        find_base(tmp_path)


@pytest.mark.parametrize(
    ("variables", "pushed"),
    [
        ({"APPVEYOR_PULL_REQUEST_NUMBER": "7", "APPVEYOR_REPO_BRANCH": "main"}, ""),
        (
            {"CODEBUILD_WEBHOOK_EVENT": "PULL_REQUEST_UPDATED", "CODEBUILD_WEBHOOK_BASE_REF": "refs/heads/main"},
            "PUSH",
        ),
        ({"DRONE_BUILD_EVENT": "pull_request", "DRONE_TARGET_BRANCH": "main"}, "push"),
        ({"SEMAPHORE_GIT_REF_TYPE": "pull-request", "SEMAPHORE_GIT_BRANCH": "main"}, "branch"),
        ({"TRAVIS_PULL_REQUEST": "7", "TRAVIS_BRANCH": "main"}, "false"),
    ],
)
def test_a_variable_names_the_target_only_in_a_pull_request(
    repository: Repository, variables: dict[str, str], pushed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a push the same variable names the pushed branch."""
    start = feature(repository)
    repository.git("checkout", "--quiet", "--detach")
    set_all(monkeypatch, variables)
    shows, names = variables
    assert is_proposed(repository.root)
    found = find_base(repository.root)
    assert (found.commit, found.why) == (start, f"merge base with main ({names})")
    monkeypatch.delenv(names)
    with pytest.raises(NoBase, match=f"the target of this {names} is unknown"):
        find_base(repository.root)
    monkeypatch.setenv(names, "main")
    monkeypatch.setenv(shows, pushed)
    repository.git("switch", "--quiet", "main")
    assert not is_proposed(repository.root)


@pytest.mark.parametrize("variables", [QUEUE, {**QUEUE, "GITHUB_EVENT_NAME": "push"}])
def test_a_merge_queue_names_its_target_in_the_branch(
    repository: Repository, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target's name may have slashes. The queue's commit is on no branch."""
    repository.git("branch", "release/1")
    repository.commit({"app.py": "slower"})
    repository.git("checkout", "--quiet", "--detach")
    set_all(monkeypatch, variables)
    assert is_proposed(repository.root)
    found = find_base(repository.root)
    assert (found.commit, found.why) == (
        repository.git("rev-parse", "release/1"),
        "merge base with release/1 (merge queue)",
    )


def test_a_merge_queue_builds_on_the_change_before(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event names that commit. It is fetched by its hash, because main does not have it yet."""
    repository.git("switch", "--quiet", "--create", "queue")
    before = repository.commit({"app.py": "the change before"})
    repository.commit({"app.py": "slower"})
    clone = repository.clone(tmp_path / "clone", "--depth=1", "--branch=queue")
    set_all(monkeypatch, QUEUE)
    set_event(monkeypatch, tmp_path, {"merge_group": {"base_sha": before, "base_ref": "refs/heads/main"}})
    assert is_proposed(clone.root)
    assert find_base(clone.root).commit == before


@pytest.mark.parametrize("event", [{}, {"merge_group": None}, ["merge_group"], {"merge_group": {"base_sha": 7}}])
def test_a_merge_queue_without_a_target_has_no_base(
    repository: Repository, tmp_path: Path, event: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a proposed change, and the message names the variable to set."""
    set_event(monkeypatch, tmp_path, event)
    set_all(monkeypatch, {"GITHUB_EVENT_NAME": "merge_group", "GITHUB_REF": "refs/heads/other"})
    assert is_proposed(repository.root)
    with pytest.raises(NoBase, match=r"the target of this merge queue is unknown: .*PERF_BASE"):
        find_base(repository.root)


def test_a_review_of_a_pull_request_has_its_target_in_the_event(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub sets GITHUB_BASE_REF for some events only."""
    start = feature(repository)
    set_event(monkeypatch, tmp_path, {"pull_request": {"base": {"ref": "main"}}})
    assert is_proposed(repository.root)
    assert find_base(repository.root).commit == start


def test_a_branch_that_is_ahead_of_the_default_branch_is_proposed(repository: Repository) -> None:
    """The base is its merge base with the default branch, which has later commits."""
    start = feature(repository)
    assert is_proposed(repository.root)
    found = find_base(repository.root)
    assert (found.commit, found.why) == (start, "merge base with main (default branch)")
    repository.git("checkout", "--quiet", "--detach")
    assert is_proposed(repository.root)


def test_the_default_branch_is_not_proposed(repository: Repository, tmp_path: Path) -> None:
    """Not with unpushed commits, at an old commit, or without commits."""
    assert not is_proposed(repository.root)
    clone = repository.clone(tmp_path / "clone")
    clone.commit({"app.py": "not pushed"})
    assert not is_proposed(clone.root)
    clone.git("switch", "--quiet", "--create", "feature")
    assert not is_proposed(clone.root)
    clone.git("checkout", "--quiet", "--detach", "HEAD~1")
    assert not is_proposed(clone.root)


def test_the_remote_says_which_its_default_branch_is(repository: Repository, tmp_path: Path) -> None:
    """A local branch called main is not it. A clone that does not know asks the remote."""
    start = feature(repository)
    repository.git("branch", "--quiet", "--move", "main", "trunk")
    repository.git("symbolic-ref", "HEAD", "refs/heads/trunk")
    clone = repository.clone(tmp_path / "clone")
    clone.git("branch", "--quiet", "main", "origin/feature")
    clone.git("switch", "--quiet", "feature")
    assert find_base(clone.root).commit == start
    clone.git("branch", "--quiet", "--delete", "--force", "main")
    clone.git("remote", "set-head", "origin", "--delete")
    assert is_proposed(clone.root)
    assert find_base(clone.root).commit == start


@pytest.mark.parametrize(
    "variables",
    [
        {"GITHUB_REF_NAME": "feature", "GITHUB_REF_TYPE": "branch"},
        {"CI_COMMIT_BRANCH": "feature", "CI_DEFAULT_BRANCH": "main"},
        {},
    ],
)
def test_a_shallow_push_build_of_a_branch_fetches_the_default_branch(
    repository: Repository, tmp_path: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The branch names suffice. Without names the remote is asked."""
    start = feature(repository)
    repository.git("symbolic-ref", "HEAD", "refs/heads/main")
    clone = repository.clone(tmp_path / "clone", "--depth=1", "--branch=feature")
    clone.git("checkout", "--quiet", "--detach")
    clone.git("branch", "--quiet", "--delete", "--force", "feature")
    set_all(monkeypatch, variables)
    if "GITHUB_REF_NAME" in variables:
        set_event(monkeypatch, tmp_path, {"repository": {"default_branch": "main"}})
    url = clone.git("remote", "get-url", "origin")
    clone.git("remote", "set-url", "origin", "file:///gone")
    assert is_proposed(clone.root)
    with pytest.raises(NoBase, match=r"tried: `git fetch|PERF_BASE"):
        find_base(clone.root)
    clone.git("remote", "set-url", "origin", url)
    assert is_proposed(clone.root)
    assert find_base(clone.root).commit == start


@pytest.mark.parametrize(
    "variables",
    [
        {"GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "branch", "CI_DEFAULT_BRANCH": "main"},
        {"CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main"},
        {"CI_COMMIT_TAG": "v1", "CI_DEFAULT_BRANCH": "main"},
    ],
)
def test_a_push_to_the_default_branch_or_of_a_tag_is_not_proposed(
    repository: Repository, tmp_path: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline checks it out on no branch, possibly without other branches."""
    repository.commit({"app.py": "two"})
    clone = repository.clone(tmp_path / "clone", "--depth=1")
    clone.git("checkout", "--quiet", "--detach")
    for ref in clone.git("for-each-ref", "--format=%(refname)").split():
        clone.git("update-ref", "-d", ref)
    set_all(monkeypatch, variables)
    assert not is_proposed(clone.root)


def test_a_pipeline_that_checks_out_another_commit_is_judged_by_that(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a comment, GitHub runs the workflow of the default branch."""
    start = feature(repository)
    repository.git("checkout", "--quiet", "--detach")
    set_all(monkeypatch, {"GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "branch", "CI_DEFAULT_BRANCH": "main"})
    monkeypatch.setenv("GITHUB_SHA", repository.git("rev-parse", "main"))
    assert is_proposed(repository.root)
    assert find_base(repository.root).commit == start


def test_a_repository_without_history_is_not_proposed(tmp_path: Path) -> None:
    """A folder without git, an empty repository, and one with a single branch."""
    assert not is_proposed(tmp_path)
    repository = Repository.create(tmp_path / "repository", {"app.py": "one"})
    repository.git("branch", "--quiet", "--move", "trunk")
    assert not is_proposed(repository.root)
    repository.git("update-ref", "-d", "HEAD")
    assert not is_proposed(repository.root)
