"""The ends of a search that finds nothing, and wrong commits."""

import argparse
from pathlib import Path

import pytest

from plumbline.commands.base import CommandError, Project
from plumbline.commands.bisect import _commits, _nothing_to_find
from plumbline.results.schema import Reason
from plumbline.settings import Settings
from tests.support.report_samples import benchmark, results
from tests.support.repository import Repository


def commits(repository: Repository, good: str, bad: str = "HEAD") -> list[str]:
    return _commits(Project(repository.root, Settings()), argparse.Namespace(good=good, bad=bad))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two commits; the second is BAD."""
    repository = Repository.create(tmp_path / "repository", {"a.txt": ""})
    repository.git("tag", "v1")
    repository.commit({"a.txt": "1"})
    return repository


def test_the_commits_are_counted(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = repository.git("rev-list", "--reverse", "HEAD").split()

    assert commits(repository, "v1") == [first, second]
    assert capsys.readouterr().out.startswith("1 commit after GOOD\n")


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("HEAD", "v1", r"BAD \(v1\) is older than GOOD \(HEAD\)\. To swap them: `.*nox -s bisect -- v1 HEAD`"),
        ("HEAD~1", "v1", "HEAD~1 and v1 are the same commit"),
        ("v9", "HEAD", "'v9' names no commit here"),
    ],
)
def test_wrong_commits_are_wrong_usage(repository: Repository, good: str, bad: str, message: str) -> None:
    with pytest.raises(CommandError, match=message) as error:
        commits(repository, good, bad)

    assert error.value.exit_code == 2


def test_good_that_forks_off_is_replaced(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    """A commit of another branch lacks changes that BAD has: the fork is compared instead."""
    repository.git("switch", "--quiet", "--create", "other", "v1")
    repository.commit({"b.txt": ""})

    first, second = repository.git("rev-list", "--reverse", "main").split()

    assert commits(repository, "other", "main") == [first, second]
    assert f"other is not among the first parents of main: GOOD is {first[:10]}" in capsys.readouterr().out


def test_good_that_is_slower_is_wrong_usage() -> None:
    faster = benchmark("test_a.py::test_a", "improvement", change=-0.1, change_low=-0.12, change_high=-0.08)

    with pytest.raises(CommandError, match=r"GOOD is slower than BAD: test_a.py::test_a -10 % \(-12…-8.0\)") as error:
        _nothing_to_find(results(faster, exit_code=0))

    assert error.value.exit_code == 2


def test_nothing_to_find(capsys: pytest.CaptureFixture[str]) -> None:
    """That one of several is faster is no mistake."""
    assert _nothing_to_find(results(benchmark("a"), benchmark("b", "improvement"), exit_code=0)) == 0
    assert "Nothing to find: BAD is not slower than GOOD, and asks for no more" in capsys.readouterr().out


def test_inconclusive_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 would mean that nothing is slower."""
    assert _nothing_to_find(results(benchmark("a"), benchmark("b", "inconclusive"), exit_code=0)) == 3
    assert "Inconclusive within the time limit, which --limit raises: b" in capsys.readouterr().out


def test_what_could_not_be_compared_is_invalid(capsys: pytest.CaptureFixture[str]) -> None:
    run = results(benchmark("a", "invalid"), exit_code=3, reasons=[Reason("not_compared", subjects=["a"])])

    assert _nothing_to_find(run) == 3
    assert "a" in capsys.readouterr().out
