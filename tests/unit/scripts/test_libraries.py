"""Agreement of a verdict with a reference of many pairs."""

import pytest

from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.judging.evidence import Judgement, Thresholds
from plumbline.results.schema import Verdict
from scripts.libraries import agreement_of

PLAN = BenchmarkPlan("test_it.py::test_it", 1e-4, Thresholds(0.02, 0.05, 0.01, 0.97))


def judgement(verdict: Verdict, low: float = 0.0, high: float = 0.0) -> Judgement:
    return Judgement(
        verdict, change=(low + high) / 2, low=low, high=high, minimum_detectable_effect=0.05, pairs=30, error=0.01
    )


@pytest.mark.parametrize(
    ("verdict", "reference", "expected"),
    [
        ("regression", judgement("regression", 0.06, 0.08), "the same"),
        ("inconclusive", judgement("regression", 0.06, 0.08), "inconclusive"),
        ("pass", judgement("regression", 0.03, 0.04), "compatible"),
        ("pass", judgement("regression", 0.06, 0.08), "contradicts"),
        ("regression", judgement("pass", 0.015, 0.025), "compatible"),
        ("regression", judgement("pass", 0.0, 0.01), "contradicts"),
        ("improvement", judgement("pass", -0.025, -0.015), "compatible"),
        ("improvement", judgement("pass", -0.01, 0.0), "contradicts"),
    ],
)
def test_a_verdict_contradicts_a_reference_that_rules_out_its_claim(
    verdict: Verdict, reference: Judgement, expected: str
) -> None:
    """A regression is more than 2 %, a pass less than 5 %, an improvement beyond -2 %."""
    assert agreement_of(judgement(verdict), reference, PLAN) == expected
