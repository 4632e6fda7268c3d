"""A proposed change that could not be compared with its base is never green."""

from typing import Any

import pytest
from msgspec.structs import replace

from plumbline.judging.decide import choose_pairs, decide
from plumbline.judging.evidence import BaselineEvidence, ComparisonEvidence, Evidence, NoComparison
from plumbline.reporting import content
from plumbline.results.schema import Reason, Results, TestOutcome, Verdict
from plumbline.settings import BenchmarkSettings, GateSettings
from tests.support.report_samples import benchmark, results

GATE, ALLOWING = GateSettings(), GateSettings(allow_unmeasured=True)
KEY = "test_a.py::test_a"
WHY = "in base: failed: AssertionError"
FAILED = ComparisonEvidence(base="0f1e2d3c4b", compared={KEY}, failures={KEY: WHY})
NO_TIME = ComparisonEvidence(base="0f1e2d3c4b", compared={KEY})
NO_BASE = ComparisonEvidence(none=NoComparison("no_base", "git is not installed"))
OPEN = BaselineEvidence("inconclusive")
TIMINGS = [None, OPEN, BaselineEvidence("new"), BaselineEvidence("changed")]


def judged(
    timings: BaselineEvidence | None,
    gate: GateSettings = GATE,
    own: BenchmarkSettings | None = None,
    required: bool = True,
    **evidence: Any,
) -> Results:
    nothing = dict.fromkeys(("change", "change_low", "change_high", "minimum_detectable_effect", "baseline_median"))
    record = results(benchmark(KEY, None, **nothing), verdict=None, exit_code=None, baseline="")
    known = {KEY: timings} if timings else {}
    return decide(
        record, Evidence(timings=known, comparison_required=required, **evidence), gate, {KEY: own} if own else {}
    )


@pytest.mark.parametrize("timings", TIMINGS)
@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        ({"comparison": FAILED}, "comparison_failed"),
        ({"comparison": replace(FAILED, failed_in_head={KEY})}, "copy_failed"),
        ({"comparison": NO_TIME}, "no_time_left"),
        ({"application_elsewhere": {KEY}}, "application_elsewhere"),
    ],
)
def test_a_benchmark_that_could_not_be_compared_is_invalid(
    timings: BaselineEvidence | None, evidence: dict[str, Any], kind: str
) -> None:
    found = judged(timings, **evidence)
    [one] = found.benchmarks
    assert (one.verdict, one.reasons[-1].kind) == ("invalid", kind)
    assert (found.verdict, found.exit_code) == ("invalid", 3)
    assert found.reasons == [Reason("not_compared", subjects=[KEY])]


@pytest.mark.parametrize("cause", ["no_base", "copy"])
def test_a_run_that_could_not_be_compared_is_invalid(cause: Any) -> None:
    """Even if the baseline check passes every benchmark."""
    comparison = ComparisonEvidence(none=NoComparison(cause, "why"))
    found = judged(BaselineEvidence("pass"), comparison=comparison)
    assert (found.verdict, found.exit_code, found.reasons) == ("invalid", 3, [Reason("no_comparison", "why")])
    assert content.headline(found) == "invalid"


@pytest.mark.parametrize(("required", "allowed", "code"), [(True, False, 3), (True, True, 0), (False, False, 0)])
def test_a_change_whose_tests_miss_a_service_is_invalid(required: bool, allowed: bool, code: int) -> None:
    """Nobody knows what it does to them. Without a change, and if the settings allow it, the others are judged."""
    skipped = TestOutcome("a.py::skipped", "skipped", 0.0, "queue: no Docker engine answers", service_missing=True)
    record = results(benchmark(KEY, "pass"), tests=[skipped], verdict=None, exit_code=None, baseline="")
    evidence = Evidence(timings={KEY: BaselineEvidence("pass")}, comparison_required=required)

    found = decide(record, evidence, ALLOWING if allowed else GATE)

    assert found.exit_code == code
    kinds = {3: "services_missing", 0: "unmeasured_allowed"}
    assert [one.subjects for one in found.reasons if one.kind == kinds[code]] == ([[skipped.key]] if required else [])


def test_a_copy_that_does_not_run_is_invalid_for_any_run() -> None:
    """The working tree did run, so the change is not the cause. A missing base alone is not invalid."""
    copy = ComparisonEvidence(none=NoComparison("copy", "no module named made"))
    assert judged(OPEN, required=False, comparison=copy).exit_code == 3
    [one] = judged(OPEN, required=False, comparison=replace(FAILED, failed_in_head={KEY})).benchmarks
    assert one.verdict == "invalid"

    assert judged(OPEN, required=False, comparison=NO_BASE).exit_code == 0
    assert judged(OPEN, required=False, comparison=FAILED).benchmarks[0].verdict == "inconclusive"


def test_a_benchmark_that_the_baseline_passes_needs_no_pairs() -> None:
    found = judged(BaselineEvidence("pass"), comparison=NO_TIME)
    assert (found.verdict, found.exit_code) == ("pass", 0)


def test_a_benchmark_that_the_base_commit_does_not_have_is_new() -> None:
    """It is compared if the base can run it nevertheless."""
    found = judged(None, comparison=replace(FAILED, new={KEY}))
    [one] = found.benchmarks
    assert (one.verdict, one.reasons) == ("new", [Reason("new_in_change", WHY)])
    assert (found.exit_code, found.reasons[-1]) == (0, Reason("new_benchmarks", subjects=[KEY]))
    # The working tree ran it, so its copy is at fault.
    assert judged(None, comparison=replace(FAILED, new={KEY}, failed_in_head={KEY})).exit_code == 3


@pytest.mark.parametrize(
    ("gate", "own", "code"),
    [
        (ALLOWING, None, 0),
        (GATE, BenchmarkSettings(allow_unmeasured=True), 0),
        (ALLOWING, BenchmarkSettings(allow_unmeasured=False), 3),
        (GATE, BenchmarkSettings(tolerance=0.5), 3),
    ],
)
def test_allow_unmeasured_makes_that_a_warning(gate: GateSettings, own: BenchmarkSettings | None, code: int) -> None:
    """The warning is the first reason. A benchmark's own setting overrides that of the gate."""
    for comparison, headline in ((FAILED, "not all compared"), (NO_BASE, "not compared")):
        found = judged(OPEN, gate, own, comparison=comparison)
        assert found.exit_code == code
        if not code:
            assert found.reasons[0].kind == "unmeasured_allowed"
            assert content.headline(found) == f"inconclusive, {headline}"
            assert not content.all_well(found)


def test_allow_unmeasured_does_not_allow_a_comparison_that_measured_wrongly() -> None:
    comparison = ComparisonEvidence(none=NoComparison("invalid", "a control read 3 %"))
    assert judged(OPEN, ALLOWING, comparison=comparison).exit_code == 3


@pytest.mark.parametrize(
    ("verdict", "proposed", "compared"),
    [
        ("inconclusive", False, True),
        ("new", False, False),
        ("changed", False, False),
        ("new", True, True),
        ("changed", True, True),
        ("pass", True, False),
        ("improvement", True, True),
        ("improvement", False, False),
    ],
)
def test_of_a_proposed_change_all_is_compared_that_the_baseline_leaves_open(
    verdict: Verdict, proposed: bool, compared: bool
) -> None:
    """One that is faster than the baseline is compared, too: the base may be faster still."""
    record = results(benchmark(KEY, None))
    evidence = Evidence(baseline=record, timings={KEY: BaselineEvidence(verdict)})
    assert [one.key for one in choose_pairs(record, evidence, proposed=proposed)] == ([KEY] if compared else [])
