"""The branch of the history: concurrent pushes to a real repository."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from plumbline.comparing.trees import data_branch
from plumbline.comparing.trees.base import is_default_branch
from plumbline.comparing.trees.data_branch import PushFailed, push_file, read_branch
from tests.support.repository import Repository

BRANCH = "plumbline-data"


@pytest.fixture
def clones(tmp_path: Path) -> list[Repository]:
    """Two clones of a bare repository. The second one is shallow, as in a pipeline."""
    first = Repository.create(tmp_path / "first", {"a.py": "", "b.py": ""})
    first.commit({"a.py": "1"})
    first.git("init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "hub"))
    first.git("remote", "add", "origin", f"file://{tmp_path / 'hub'}")
    first.git("push", "--quiet", "--set-upstream", "origin", "main")
    return [first, Repository(tmp_path / "hub").clone(tmp_path / "second", "--depth=1")]


def names(clone: Repository) -> list[str]:
    clone.git("fetch", "--quiet", "origin", f"+refs/heads/{BRANCH}:refs/remotes/origin/{BRANCH}")
    return [name.partition(":")[2] for name, _ in read_branch(clone.root, BRANCH)]


def test_concurrent_pushes_all_arrive(clones: list[Repository]) -> None:
    """Also the first ones, which create the branch. Neither working trees nor other branches change."""

    def push(name: str, clone: Repository) -> list[bool]:
        return [push_file(clone.root, BRANCH, f"2026-11/{number}-{name}.jsonl", b"{}\n") for number in range(3)]

    with ThreadPoolExecutor() as pool:
        assert [*pool.map(push, "ab", clones)] == [[True] * 3] * 2

    assert names(clones[0]) == [f"2026-11/{number}-{name}.jsonl" for number in range(3) for name in "ab"]
    assert clones[0].git("rev-list", "--count", f"refs/remotes/origin/{BRANCH}") == "6"
    for folder in ("services", "services/shop"):  # suites of a larger repository, each of which sees its own files only
        clones[0].write({f"{folder}/.gitkeep": ""})
        push_file(clones[0].root / folder, BRANCH, "2026-11/0.jsonl", b"{}\n")
        assert [*read_branch(clones[0].root / folder, BRANCH)] == [(f"{BRANCH}:{folder}/2026-11/0.jsonl", b"{}\n")]
        (clones[0].root / folder / ".gitkeep").unlink()
    assert len(names(clones[0])) == 6
    for clone in clones:
        assert clone.git("status", "--porcelain") == ""
        assert clone.git("branch", "--list", "--format=%(refname:short)") == "main"
    assert clones[1].git("rev-parse", "--is-shallow-repository") == "true"
    assert clones[0].git("rev-parse", "--is-shallow-repository") == "false"


def test_a_name_with_a_line_break_hides_no_other_file(clones: list[Repository]) -> None:
    for name in ("a\nb.jsonl", "c.jsonl"):
        push_file(clones[0].root, BRANCH, name, name.encode())

    assert [*read_branch(clones[0].root, BRANCH)] == [(f"{BRANCH}:c.jsonl", b"c.jsonl")]


def test_a_push_that_comes_second_is_made_again_on_top(
    clones: list[Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one arrives between fetch and push. A file that is there already is not pushed again."""
    first, second = clones
    commit, calls = data_branch._commit, []

    def beaten(*arguments: object) -> str:
        calls.append(arguments)
        made = commit(*arguments)  # type: ignore[arg-type]
        if len(calls) == 1:
            push_file(second.root, BRANCH, "1.jsonl", b"other\n")
        return made

    monkeypatch.setattr(data_branch, "_commit", beaten)

    assert push_file(first.root, BRANCH, "2.jsonl", b"mine\n")

    assert [content for _, content in read_branch(first.root, BRANCH)] == [b"other\n", b"mine\n"]
    assert len(calls) == 3  # that of the other, and two of ours
    assert not push_file(second.root, BRANCH, "2.jsonl", b"mine\n")
    assert [content for _, content in read_branch(second.root, BRANCH, 1)] == [b"mine\n"]


def test_a_push_that_is_refused_fails_with_the_words_of_the_remote(clones: list[Repository], tmp_path: Path) -> None:
    """A single failure may be a lock that another push holds."""
    hook = tmp_path / "hub" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho protected branch >&2\nexit 1\n")
    hook.chmod(0o755)

    with pytest.raises(PushFailed, match="protected branch"):
        push_file(clones[0].root, BRANCH, "1.jsonl", b"")

    clones[0].git("remote", "remove", "origin")
    with pytest.raises(PushFailed, match="no remote"):
        push_file(clones[0].root, BRANCH, "1.jsonl", b"")
    assert not [*read_branch(clones[0].root, BRANCH)]
    assert not [*read_branch(tmp_path, BRANCH)]


def test_only_runs_of_the_default_branch_are_its_history(
    clones: list[Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull request from a fork's branch of the same name is none; a run with a base of its own is one."""
    root = clones[0].root
    assert is_default_branch(root, "main")
    assert not is_default_branch(root, "topic")
    assert not is_default_branch(root, "")
    monkeypatch.setenv("PERF_BASE", "HEAD~1")
    assert is_default_branch(root, "main")
    monkeypatch.setenv("CI_DEFAULT_BRANCH", "trunk")
    assert not is_default_branch(root, "main")
    assert is_default_branch(root, "trunk")
    monkeypatch.setenv("GITHUB_BASE_REF", "trunk")
    assert not is_default_branch(root, "trunk")
