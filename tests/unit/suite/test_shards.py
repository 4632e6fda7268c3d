"""The division of a suite into shards."""

import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from plumbline.results.files import keep_run, write_results
from plumbline.results.schema import Shard, TestOutcome
from plumbline.suite.shards import divide, parse_shard, select
from tests.support.report_samples import benchmark, results
from tests.support.repository import Repository

KEYS = [f"test_a.py::test_{number}" for number in range(6)]


def test_shards_take_about_as_long() -> None:
    """The longest test first, each to the shard with the least, by hand: 5+3+1, 4+3+2, in seconds."""
    durations_s = dict(zip(KEYS, [1.0, 5.0, 3.0, 3.0, 4.0, 2.0], strict=True))
    assert divide(KEYS, durations_s, 2) == [[KEYS[1], KEYS[3], KEYS[0]], [KEYS[4], KEYS[2], KEYS[5]]]


def test_a_test_without_a_duration_counts_as_the_usual_one() -> None:
    """Two of 1 s and one of 4 s are known, so each of the other three counts as 1 s: 4, and five times 1."""
    durations_s = {KEYS[0]: 1.0, KEYS[1]: 4.0, KEYS[2]: 1.0, "test_gone.py::test_gone": 100.0}
    assert sorted(map(len, divide(KEYS, durations_s, 2))) == [2, 4]
    assert [len(shard) for shard in divide(KEYS, {}, 3)] == [2, 2, 2]


def test_each_test_is_in_one_shard_and_any_order_gives_the_same_shards() -> None:
    """Also if there are more shards than tests."""
    chance = random.Random(1)
    durations_s = {key: chance.choice([0.1, 0.2]) for key in KEYS}
    for of in (1, 4, 9):
        shards = divide(KEYS, durations_s, of)
        assert len(shards) == of
        assert sorted(key for shard in shards for key in shard) == KEYS
        assert divide(chance.sample(KEYS, len(KEYS)), durations_s, of) == shards


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository with a commit of 12:00, and runs of 9:00, 10:00 and 11:30. In each, another test takes longest."""
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-11-30T13:00:00+01:00")
    found = Repository.create(tmp_path / "repository", {"a.txt": ""})
    for key, time in zip(KEYS, ("09:00", "10:00", "11:30"), strict=False):
        tests = [TestOutcome(one, "passed", 9.0 if one == key else 1.0) for one in KEYS]
        run = results(*map(benchmark, KEYS), created=f"2026-11-30T{time}:00+00:00", tests=tests)
        keep_run(tmp_path / "results", run)
    return found


def test_without_a_baseline_an_earlier_run_has_the_durations(repository: Repository, tmp_path: Path) -> None:
    """It is the newest that ended an hour before the commit: a later one may not have been there for all shards."""
    shard, own = select(Shard(1, 2, ""), KEYS, repository.root, tmp_path / "results")
    assert (shard.divided_by, own) == ("the run of 2026-11-30T10:00:00+00:00", {KEYS[1]})


def test_a_baseline_comes_before_earlier_runs(repository: Repository, tmp_path: Path) -> None:
    slow = [
        replace(benchmark(key), process_medians=[1e-5, 1e-5], duration_s=9.0 if key == KEYS[5] else 1.0) for key in KEYS
    ]
    write_results(repository.root / "baselines" / "a.json", replace(results(*slow), verdict=None))
    shard, own = select(Shard(1, 2, ""), KEYS, repository.root, tmp_path / "results")
    assert (shard.divided_by, own) == ("a.json", {KEYS[5]})


@pytest.mark.parametrize("in_git", [True, False])
def test_without_durations_each_shard_gets_as_many(repository: Repository, tmp_path: Path, in_git: bool) -> None:
    """There is no run, or without git no time to choose one by."""
    suite, history = (repository.root, tmp_path) if in_git else (tmp_path, tmp_path / "results")
    shard, own = select(Shard(1, 2, ""), KEYS, suite, history)
    assert (shard.divided_by, len(own)) == ("", 3)


def test_the_name_of_a_shard() -> None:
    assert parse_shard("2/5") == (2, 5)


@pytest.mark.parametrize("text", ["0/5", "6/5", "2", "2/", "-1/5", "2/5/7", "2 / 5", "a/b", "1/99999", "\u0661/\u0662"])
def test_no_name_of_a_shard(text: str) -> None:
    with pytest.raises(ValueError, match="write 2/5 for the second of five"):
        parse_shard(text)
