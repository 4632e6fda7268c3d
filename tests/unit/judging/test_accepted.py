"""Accepted regressions."""

from pathlib import Path

import pytest

from plumbline.judging.accepted import (
    accepted_now,
    matching,
    read_accepted,
    still_accepted,
    with_accepted,
    write_accepted,
)
from plumbline.judging.evidence import Accepted
from plumbline.results.files import ResultsError
from plumbline.results.schema import Benchmark, CountChange, CountGrowth, Reason, TailChange
from tests.support.report_samples import benchmark, results

KEY = "test_a.py::test_a"
MINIMUM_EFFECT = 0.05
WHY = "a reason"


def slower(low: float, high: float, **counts: float) -> Benchmark:
    """Return a regression of this size. `counts`: counts that grew from 1 to these values."""
    changes = [CountChange(f"redis.{name}", 1.0, count, True) for name, count in counts.items()]
    return benchmark(KEY, "regression", change_low=low, change_high=high, count_changes=changes)


def beyond(count: str = "", new: float = 0.0, *, share: float = 0.0, accepted_share: float = 0.0) -> Reason:
    counts = [CountGrowth(count, 1.0, new)] if count else []
    return Reason("beyond_accepted", WHY, counts=counts, share=share, accepted_share=accepted_share)


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        (slower(0.09, 0.11), slower(0.09, 0.11), None),
        (slower(0.09, 0.11), slower(0.20, 0.24), None),
        (slower(0.09, 0.11), slower(0.23, 0.27), beyond(share=0.23, accepted_share=0.11)),
        (slower(-0.01, 0.01, messages=2.0), slower(0.03, 0.04, messages=2.0), None),
        (slower(-0.01, 0.01, messages=2.0), slower(0.06, 0.08, messages=2.0), beyond(share=0.06, accepted_share=0.01)),
        (slower(0.0, 0.0, messages=2.0), slower(0.0, 0.0, messages=51.0), beyond("redis.messages", 51)),
        (
            slower(0.0, 0.0, messages=2.0),
            slower(0.0, 0.0, messages=2.0, connections=2.0),
            beyond("redis.connections", 2),
        ),
        (slower(0.0, 0.0, bytes_sent=100.0), slower(0.0, 0.0, bytes_sent=110.0), None),
    ],
)
def test_what_was_accepted_is_no_licence_for_more(then: Benchmark, now: Benchmark, expected: Reason | None) -> None:
    """Accepted are up to twice the slow-down, because machines differ, but no larger counts."""
    judged = with_accepted(now, accepted_now(then, WHY), MINIMUM_EFFECT)
    assert judged.verdict == ("regression" if expected else "accepted")
    assert judged.reasons == [expected or Reason("accepted", WHY)]


@pytest.mark.parametrize(
    ("then", "now", "accepted"), [(0.5, 0.5, True), (0.5, 0.9, True), (0.5, 1.2, False), (0.0, 0.3, False)]
)
def test_a_slower_tail_is_accepted_like_a_slow_down(then: float, now: float, *, accepted: bool) -> None:
    """Up to twice as much as was accepted; 0: another tail was."""

    def with_tail(low: float) -> Benchmark:
        tails = [TailChange("p90" if low else "mean", 1e-3, 2e-3, low, low, low or 0.5, slower=True)]
        return benchmark(KEY, "regression", change_low=0.0, change_high=0.0, tails=tails)

    judged = with_accepted(with_tail(now), accepted_now(with_tail(then), WHY), MINIMUM_EFFECT)
    assert judged.reasons == [Reason("accepted", WHY) if accepted else beyond(share=now, accepted_share=then)]


def test_only_a_regression_can_be_accepted() -> None:
    """Other verdicts, and regressions that were not accepted, stay as they are."""
    passing = benchmark(KEY, "inconclusive", change_low=0.0)
    assert with_accepted(passing, Accepted(WHY), MINIMUM_EFFECT) == passing
    assert with_accepted(slower(0.09, 0.11), None, MINIMUM_EFFECT) == slower(0.09, 0.11)


def test_a_new_baseline_ends_what_earlier_changes_have_accepted() -> None:
    """Keep the acceptances of the proposed change itself."""
    accepted = {KEY: Accepted("new"), "b": Accepted("old"), "c": Accepted("old"), "d": Accepted("not recorded")}
    baseline = results(*(benchmark(key, None) for key in (KEY, "b", "c")))

    assert still_accepted(accepted, baseline, None).keys() == {"d"}
    assert still_accepted(accepted, baseline, {"b": accepted["b"], "c": Accepted("older")}).keys() == {KEY, "c", "d"}


def test_it_is_kept_in_a_file_to_commit(tmp_path: Path) -> None:
    """The file is removed if nothing is accepted. A damaged file is an error."""
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
    with pytest.raises(ResultsError, match="restore it from version control"):
        read_accepted(tmp_path)


def test_brackets_in_a_pattern_are_those_of_a_parametrised_key() -> None:
    keys = ["test_a.py::test_set[10kB]", "test_a.py::test_set[1]", "test_a.py::test_seat"]
    assert matching(["test_a.py::test_set[*]"], keys) == (keys[:2], [])
    assert matching([keys[0], "test_a.py::test_s[ea]t"], keys) == ([keys[0]], ["test_a.py::test_s[ea]t"])
