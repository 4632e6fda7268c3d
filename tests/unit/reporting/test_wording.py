"""The texts of reasons and of counts that have changed."""

import typing

import pytest

from plumbline.reporting.wording import count_text, text
from plumbline.results.reasons import CountGrowth, Kind, Reason


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("redis.messages", "redis messages 1 → 1,050"),
        ("app.bytes_sent", "app bytes sent 1 → 1,050"),
        ("redis.command CLIENT SETINFO", "redis CLIENT SETINFO 1 → 1,050"),
        ("postgres.statement SELECT … FROM b WHERE c = $1", "SELECT … FROM b WHERE c = $1: 1 → 1,050"),
        ("postgres.parse SELECT a FROM b", "SELECT a FROM b: prepared 1 → 1,050"),
        ("postgres.rows_read", "postgres rows read 1 → 1,050"),
    ],
)
def test_a_change_in_words(name: str, text: str) -> None:
    """As a reader says it."""
    assert count_text(CountGrowth(name, 1, 1_050)) == text


@pytest.mark.parametrize(
    ("growth", "expected"),
    [
        (CountGrowth("redis.messages", 6, 8, benchmarks=2), "redis messages 6 → 8 in 2 benchmarks"),
        (CountGrowth("redis.connections", 0, 1, benchmarks=3, alike=False), "redis connections +1 in 3 benchmarks"),
        (CountGrowth("redis.connections", 2, 1, benchmarks=3, alike=False), "redis connections -1 in 3 benchmarks"),
        (CountGrowth("app.bytes_sent", 9_999, 12_345), "app bytes sent 9,999 → 12,345"),
    ],
)
def test_counts_of_several_benchmarks_are_one_line(growth: CountGrowth, expected: str) -> None:
    """If they differ in their values, the difference is shown."""
    assert count_text(growth) == expected


@pytest.mark.parametrize("kind", typing.get_args(Kind))
def test_each_kind_of_reason_has_a_text(kind: Kind) -> None:
    """One that ends with no full stop, as reports join them."""
    said = text(Reason(kind, "why", subjects=["one"], counts=[CountGrowth("redis.messages", 1, 2)], number=2, of=3))
    assert said
    assert not said.endswith(".")


def test_a_long_list_of_benchmarks_is_cut() -> None:
    """Of seven slower benchmarks five are named and two are counted."""
    said = text(Reason("slower_than_baseline", subjects=[f"{name}.py::a" for name in "abcdefg"]))
    assert said == "slower than the baseline: a.py::a, b.py::a, c.py::a, d.py::a, e.py::a and 2 more"


def test_a_list_of_five_is_not_cut() -> None:
    """Five are named without a count of none."""
    said = text(Reason("slower_than_baseline", subjects=[f"{name}.py::a" for name in "abcde"]))
    assert said == "slower than the baseline: a.py::a, b.py::a, c.py::a, d.py::a, e.py::a"


def test_shares_are_whole_per_cent() -> None:
    """As every reader understands them."""
    said = text(Reason("beyond_accepted", "a reason", share=0.234, accepted_share=0.11))
    assert said == "at least 23 % slower, after 11 %, which is beyond what was accepted: a reason"


def test_reasons_from_measuring_again_are_marked() -> None:
    """The reader knows then that the first run had come to its end."""
    assert text(Reason("ended", "redis died", when_repeated=True)) == "when measured again: redis died"
