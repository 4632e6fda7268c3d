"""The division of a suite into shards."""

import random

import pytest

from plumbline.suite.shards import divide, parse_shard

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


def test_the_name_of_a_shard() -> None:
    assert parse_shard("2/5") == (2, 5)


@pytest.mark.parametrize("text", ["0/5", "6/5", "2", "2/", "-1/5", "2/5/7", "2 / 5", "a/b", "1/99999", "\u0661/\u0662"])
def test_no_name_of_a_shard(text: str) -> None:
    with pytest.raises(ValueError, match="write 2/5 for the second of five"):
        parse_shard(text)
