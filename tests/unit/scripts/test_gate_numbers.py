"""What `scripts.gate_numbers` makes of verdicts: beside a reference, and over several gates."""

import pytest

from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.judging.thresholds import Judgement, Thresholds
from plumbline.results.schema import Verdict
from plumbline.selfcheck.share import Share
from scripts.gate_numbers import Tally, agreed
from tests.support.report_samples import benchmark, results

WISH = BenchmarkPlan("test_it.py::test_it", 1e-4, Thresholds(0.02, 0.05, 0.01, 0.97))


def judgement(verdict: Verdict, low: float = 0.0, high: float = 0.0) -> Judgement:
    return Judgement(
        verdict, change=(low + high) / 2, low=low, high=high, minimum_detectable_effect=0.05, pairs=30, error=0.01
    )


@pytest.mark.parametrize(
    ("verdict", "reference", "expected"),
    [
        ("regression", judgement("regression", 0.06, 0.08), "the same"),
        ("inconclusive", judgement("regression", 0.06, 0.08), "undecided"),
        ("pass", judgement("regression", 0.03, 0.04), "compatible"),
        ("pass", judgement("regression", 0.06, 0.08), "contradicts"),
        ("regression", judgement("pass", 0.015, 0.025), "compatible"),
        ("regression", judgement("pass", 0.0, 0.01), "contradicts"),
        ("improvement", judgement("pass", -0.025, -0.015), "compatible"),
        ("improvement", judgement("pass", -0.01, 0.0), "contradicts"),
    ],
)
def test_a_verdict_contradicts_where_the_reference_rules_out_its_claim(
    verdict: Verdict, reference: Judgement, expected: str
) -> None:
    """A regression is more than 2 %, a pass less than 5 %, an improvement beyond -2 %."""
    assert agreed(judgement(verdict), reference, WISH) == expected


def test_gates_are_counted_by_what_they_should_have_said() -> None:
    """One that catches the slow-down, one that misses it and fails another benchmark, and an invalid one."""
    tally = Tally()
    caught = [benchmark("a", "regression", change=0.11), benchmark("b")]
    missed = [benchmark("a", "pass", change=0.04), benchmark("b", "regression", change=0.09)]
    tally.add(results(*caught, exit_code=1), {"a": 0.1})
    tally.add(results(*missed, exit_code=1), {"a": 0.1})
    tally.add(results(exit_code=3), {"a": 0.1})

    assert tally.shares() == {
        "invalid gates": Share(1, 3),
        "gates with a false alarm": Share(1, 2),
        "false alarms by benchmark": Share(1, 2),
        "inconclusive without a change": Share(0, 2),
        "slow-downs caught": Share(1, 2),
        "slow-downs read within 1.5 points": Share(1, 2),
    }


def test_a_tally_without_slow_downs_says_nothing_of_them() -> None:
    """Only false alarms can be counted then."""
    tally = Tally()
    tally.add(results(benchmark("a", "inconclusive"), exit_code=0))

    assert list(tally.shares().values()) == [Share(0, 1), Share(0, 1), Share(0, 1), Share(1, 1)]
