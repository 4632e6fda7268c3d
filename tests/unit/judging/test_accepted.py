"""What somebody has accepted, on known numbers; that sessions keep it is tested in test_compare.py."""

from pathlib import Path

import pytest

from plumbline.judging.accepted import accept, accepted_now, read_accepted, write_accepted
from plumbline.results.schema import Benchmark, CountChange, ResultsError
from tests.support.report_samples import benchmark

KEY = "test_a.py::test_a"
MINIMUM_EFFECT = 0.05


def slower(low: float, high: float, **counts: float) -> Benchmark:
    """A regression by so much; `counts`: from 1 to so many."""
    changes = [CountChange(f"redis.{name}", 1.0, count, True) for name, count in counts.items()]
    return benchmark(KEY, "regression", change_low=low, change_high=high, count_changes=changes)


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        (slower(0.09, 0.11), slower(0.09, 0.11), ""),
        (slower(0.09, 0.11), slower(0.20, 0.24), ""),
        (slower(0.09, 0.11), slower(0.23, 0.27), "slower by 23% at least, after 11%"),
        (slower(-0.01, 0.01, messages=2.0), slower(0.03, 0.04, messages=2.0), ""),
        (slower(-0.01, 0.01, messages=2.0), slower(0.06, 0.08, messages=2.0), "slower by 6% at least, after 1%"),
        (slower(0.0, 0.0, messages=2.0), slower(0.0, 0.0, messages=51.0), "redis messages 1 → 51"),
        (slower(0.0, 0.0, messages=2.0), slower(0.0, 0.0, messages=2.0, connections=2.0), "redis connections 1 → 2"),
        (slower(0.0, 0.0, bytes_sent=100.0), slower(0.0, 0.0, bytes_sent=110.0), ""),
    ],
)
def test_what_was_accepted_is_no_licence_for_more(then: Benchmark, now: Benchmark, told: str) -> None:
    """Twice the slow-down at most, as another machine may show it, and no more of what was counted."""
    accept([now], {KEY: accepted_now(then, "a reason")}, MINIMUM_EFFECT)
    assert now.verdict == ("regression" if told else "accepted")
    expected = f"{told}, which is beyond what was accepted: a reason" if told else "accepted: a reason"
    assert now.reasons[-1] == expected


def test_it_is_kept_in_a_file_to_commit(tmp_path: Path) -> None:
    """Without anything accepted there is none; one that is damaged is said to be."""
    accepted = {KEY: accepted_now(slower(0.09, 0.1104, messages=2.0), "a reason")}
    write_accepted(tmp_path, accepted)
    assert read_accepted(tmp_path) == accepted
    assert (tmp_path / "accepted.json").read_text() == (
        f'{{\n  "{KEY}": {{\n    "reason": "a reason",\n    "slower_by": 0.11,\n'
        '    "counts": {\n      "redis.messages": 2.0\n    }\n  }\n}\n'
    )
    write_accepted(tmp_path, {})
    assert read_accepted(tmp_path) == {}
    (tmp_path / "accepted.json").write_text("[]")
    with pytest.raises(ResultsError, match="take it back from version control"):
        read_accepted(tmp_path)
