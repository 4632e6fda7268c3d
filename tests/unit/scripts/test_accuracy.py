"""Shares of right verdicts over several gates."""

from plumbline.selfcheck.record import Share
from scripts.accuracy import Tally
from tests.support.report_samples import benchmark, results


def test_gates_are_counted_by_their_right_answers() -> None:
    """One catches the slow-down, one misses it and fails another benchmark, and one is invalid."""
    tally = Tally()
    caught = [benchmark("a", "regression", change=0.11), benchmark("b")]
    missed = [benchmark("a", "pass", change=0.04), benchmark("b", "regression", change=0.09)]
    tally.add(results(*caught, exit_code=1), {"a": 0.1})
    tally.add(results(*missed, exit_code=1), {"a": 0.1})
    tally.add(results(exit_code=3), {"a": 0.1})

    assert tally.shares() == {
        "invalid gates": Share(1, 3),
        "gates with a false positive": Share(1, 2),
        "false positives by benchmark": Share(1, 2),
        "inconclusive without a change": Share(0, 2),
        "slow-downs caught": Share(1, 2),
        "slow-downs read within 1.5 points": Share(1, 2),
    }


def test_a_tally_without_slow_downs_has_false_positives_only() -> None:
    """Nothing could be caught."""
    tally = Tally()
    tally.add(results(benchmark("a", "inconclusive"), exit_code=0))

    assert list(tally.shares().values()) == [Share(0, 1), Share(0, 1), Share(0, 1), Share(1, 1)]
