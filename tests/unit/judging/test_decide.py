"""Verdicts of benchmarks from a record and the evidence about it."""

from typing import Any

import pytest
from msgspec.structs import replace

from plumbline.judging.decide import MOST_SAMPLES_KEPT, decide
from plumbline.judging.evidence import (
    Accepted,
    BaselineEvidence,
    ComparisonEvidence,
    ConfirmationEvidence,
    CountEvidence,
    Evidence,
    Judgement,
    NoComparison,
)
from plumbline.results.schema import (
    Benchmark,
    BudgetResult,
    CountChange,
    Counts,
    FunctionTime,
    Reason,
    Results,
    TestOutcome,
    UnjudgedPackage,
    Verdict,
)
from plumbline.settings import BenchmarkSettings, GateSettings, Tail
from tests.support.report_samples import benchmark, results

GATE = GateSettings(tolerance=0.02, minimum_effect=0.05)
KEY = "test_a.py::test_a"
BASE = "0f1e2d3c4b, the merge base with main"
BROKEN = BudgetResult("p95_ms", 2.0, 3.0, kept=False)
KEPT = BudgetResult("p95_ms", 2.0, 1.0, kept=True)
PASSED = BaselineEvidence("pass", change=0.01, change_low=-0.01, change_high=0.03)
SLOWER = BaselineEvidence("inconclusive", change=0.2, change_low=0.1, change_high=0.3, minimum_detectable_effect=0.1)


def record(**fields: Any) -> Results:
    """Return a run of one benchmark that is not judged yet."""
    nothing = dict.fromkeys(("change", "change_low", "change_high", "minimum_detectable_effect", "baseline_median"))
    return results(benchmark(KEY, None, **(nothing | fields)), verdict=None, exit_code=None, baseline="")


def judged(timings: BaselineEvidence | None = None, run: Results | None = None, **evidence: Any) -> Benchmark:
    found = Evidence(timings={KEY: timings} if timings else {}, **evidence)
    [one] = decide(run or record(), found, GATE).benchmarks
    return one


def pairs(verdict: Verdict, **fields: Any) -> ComparisonEvidence:
    """Return a comparison of 4 pairs with this verdict on the benchmark."""
    judgement = Judgement(verdict, 0.1, 0.08, 0.12, 0.03, pairs=4, error=0.005)
    values = {"base": BASE, "compared": {KEY}, "judgements": {KEY: judgement}, "differences": {KEY: [0.1] * 4}}
    return ComparisonEvidence(**(values | fields))


# ---- one benchmark


def test_the_baseline_check_judges_what_nothing_else_has_judged() -> None:
    """The results have the numbers of the baseline check."""
    one = judged(replace(PASSED, median=0.002, baseline_median=0.001, process_medians=[0.002]))

    assert (one.verdict, one.median, one.baseline_median) == ("pass", 0.002, 0.001)
    assert (one.change, one.change_low, one.change_high, one.process_medians) == (0.01, -0.01, 0.03, [0.002])


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        ("regression", Reason("compared", number=4)),
        ("improvement", Reason("compared", number=4)),
        ("pass", Reason("compared", number=4)),
        ("inconclusive", Reason("pairs_inconclusive", number=4)),
    ],
)
def test_pairs_replace_the_verdict_and_the_figures_of_the_baseline_check(verdict: Verdict, reason: Reason) -> None:
    """The baseline's median stays, for reports."""
    function = FunctionTime("work", "shop.py", 1, 1e-5, 2e-5, 1, 1)
    comparison = pairs(verdict, samples_s={KEY: ([1e-5], [2e-5])}, functions={KEY: [function]})

    one = judged(replace(PASSED, baseline_median=0.001), comparison=comparison)

    assert (one.verdict, one.reasons, one.baseline_median) == (verdict, [reason], 0.001)
    assert (one.change, one.change_low, one.change_high, one.minimum_detectable_effect) == (0.1, 0.08, 0.12, 0.03)
    assert one.change_error == 0.005
    assert (one.differences, one.base_samples_s, one.head_samples_s) == ([0.1] * 4, [1e-5], [2e-5])
    assert one.functions == [function]


def test_a_tail_that_may_be_slower_is_the_first_reason() -> None:
    """The pairs are inconclusive because of the mean."""
    unclear = Judgement("inconclusive", 0.3, -0.1, 0.6, 0.5, pairs=9, error=0.1)
    judgement = Judgement("inconclusive", 0.0, -0.01, 0.01, 0.03, pairs=9, error=0.005, tails={"mean": unclear})
    one = judged(comparison=pairs("pass", judgements={KEY: judgement}, samples_s={KEY: ([1e-5], [2e-5])}))

    assert one.verdict == "inconclusive"
    assert one.reasons == [Reason("tail_unclear", subjects=["mean"]), Reason("pairs_inconclusive", number=9)]


def test_a_slower_tail_is_a_reason_with_its_figures() -> None:
    """The fastest samples are as fast as before; one call in five takes twice as long."""
    slower = Judgement("regression", 1.0, 0.8, 1.2, 0.3, pairs=4, error=0.05)
    tails: dict[Tail, Judgement] = {"p90": slower, "mean": replace(slower, verdict="inconclusive", change=0.2, low=0.0)}
    judgement = Judgement("regression", 0.001, -0.01, 0.01, 0.03, pairs=4, error=0.005, tails=tails)
    samples_s = [1e-5] * 10, [1e-5] * 8 + [2e-5] * 2
    one = judged(comparison=pairs("pass", judgements={KEY: judgement}, samples_s={KEY: samples_s}))

    assert (one.verdict, one.change) == ("regression", 0.001)
    assert one.reasons == [Reason("tail_slower", subjects=["p90"]), Reason("compared", number=4)]
    p90, mean = one.tails
    assert (p90.tail, p90.change, p90.low, p90.high, p90.slower) == ("p90", 1.0, 0.8, 1.2, True)
    assert (p90.base_s, p90.head_s, mean.head_s) == pytest.approx((1e-5, 2e-5, 1.2e-5))
    assert (p90.unclear, mean.unclear, mean.slower) == (False, True, False)


def test_samples_are_thinned_out_evenly() -> None:
    """Fewer samples keep the report small."""
    samples_s = [number * 1e-6 for number in range(1000)]
    one = judged(comparison=pairs("pass", samples_s={KEY: (samples_s, samples_s[:150])}))

    assert one.base_samples_s == samples_s[::5]
    assert len(one.base_samples_s) == MOST_SAMPLES_KEPT
    assert one.head_samples_s == samples_s[:150]


def test_what_is_slower_than_the_baseline_but_not_than_the_base_has_drifted() -> None:
    """Only on the baseline's machine, and by more than the tolerance."""
    one = judged(SLOWER, comparison=pairs("pass"))

    assert one.verdict == "drift"
    assert one.reasons == [Reason("compared", number=4), Reason("not_slower_than_base")]
    assert judged(replace(SLOWER, change_low=0.02), comparison=pairs("pass")).verdict == "pass"


def test_nothing_has_drifted_that_the_samples_of_the_pairs_contradict() -> None:
    """The fastest quarter of the calls is as fast as before, and most of them are not."""
    base, head = [1e-3] * 10, [1e-3] * 4 + [1.5e-3] * 6

    one = judged(SLOWER, comparison=pairs("pass", samples_s={KEY: (base, head)}))

    assert one.verdict == "inconclusive"
    assert one.reasons == [Reason("compared", number=4), Reason("samples_slower", share=pytest.approx(0.5))]  # type: ignore[arg-type]
    assert judged(SLOWER, comparison=pairs("pass", samples_s={KEY: (base, base)})).verdict == "drift"
    assert judged(PASSED, comparison=pairs("pass", samples_s={KEY: (base, head)})).verdict == "pass"


def test_a_benchmark_has_drifted_by_its_own_tolerance() -> None:
    """A slow-down of 10 % is drift by the gate's tolerance, but not by the benchmark's own 20 %."""
    evidence = Evidence(timings={KEY: SLOWER}, comparison=pairs("pass"))
    own = {KEY: BenchmarkSettings(tolerance=0.2)}
    verdicts = [decide(record(), evidence, GATE, settings).benchmarks[0].verdict for settings in ({}, own)]
    assert verdicts == ["drift", "pass"]


@pytest.mark.parametrize(("timings", "verdict"), [(PASSED, "pass"), (SLOWER, "drift"), (None, "pass")])
def test_a_benchmark_that_the_change_cannot_influence_never_fails(timings: BaselineEvidence, verdict: str) -> None:
    """The reason names the base."""
    one = judged(timings, comparison=pairs("regression", unaffected={KEY}))

    assert (one.verdict, one.reasons) == (verdict, [Reason("unaffected", BASE)])


def test_an_edited_baseline_accepts_no_regression() -> None:
    """The reason says so, unless the regression is accepted."""
    one = judged(PASSED, comparison=pairs("regression"), edited={KEY})

    assert one.verdict == "regression"
    assert one.reasons == [Reason("compared", number=4), Reason("baseline_edited", subjects=[KEY])]
    accepted = judged(PASSED, comparison=pairs("regression"), edited={KEY}, accepted={KEY: Accepted("why", 0.1)})
    assert (accepted.verdict, accepted.reasons[1:]) == ("accepted", [Reason("accepted", "why")])
    assert judged(PASSED, comparison=pairs("pass"), edited={KEY}).verdict == "pass"


def test_an_edited_baseline_accepts_no_grown_count() -> None:
    """Counts of an edited entry are judged by the base's baseline."""
    grown = CountEvidence([CountChange("redis.messages", 1, 2, gated=True)], fails=True)

    one = judged(PASSED, comparison=pairs("pass"), counts={KEY: grown}, edited={KEY})

    assert (one.verdict, one.reasons[-1]) == ("regression", Reason("baseline_edited", subjects=[KEY]))


def test_an_edited_baseline_passes_nothing_that_there_was_no_time_to_compare() -> None:
    """The baseline check has compared it with the new entry alone."""
    one = judged(PASSED, comparison=pairs("pass", judgements={}), edited={KEY})

    assert (one.verdict, one.reasons) == ("inconclusive", [Reason("no_time_left")])


def test_what_the_base_has_accepted_is_no_licence_for_this_change() -> None:
    """It is accepted if this change has accepted anew, and still excuses a count that the baseline lacks."""
    before = {KEY: Accepted("why", 0.1)}
    slower = pairs("regression", accepted=before)

    one = judged(SLOWER, comparison=slower, accepted=before)

    assert (one.verdict, one.reasons[-1]) == ("regression", Reason("accepted_before", "why", subjects=[KEY]))
    assert judged(SLOWER, comparison=slower, accepted={KEY: Accepted("again", 0.1)}).verdict == "accepted"
    grown = {KEY: CountEvidence([CountChange("redis.messages", 1, 2, gated=True)], fails=True)}
    more = (
        Counts({"redis.messages": 1.0}, families=["messages"]),
        Counts({"redis.messages": 2.0}, families=["messages"]),
    )
    kept = {KEY: Accepted("why", 0.1, counts={"redis.messages": 2.0})}
    assert judged(PASSED, comparison=pairs("pass", accepted=kept, counts={KEY: more}), accepted=kept).verdict == (
        "regression"
    )
    assert judged(PASSED, comparison=pairs("pass", accepted=kept), counts=grown, accepted=kept).verdict == "accepted"


@pytest.mark.parametrize(("timings", "verdict"), [("new", "new"), ("pass", "inconclusive"), (None, "inconclusive")])
def test_a_failed_comparison_judges_nothing(timings: Verdict | None, verdict: str) -> None:
    """A benchmark that the base does not have is new."""
    comparison = pairs("pass", judgements={}, failures={KEY: "in base: skipped: not yet"})

    one = judged(BaselineEvidence(timings) if timings else None, comparison=comparison)

    assert (one.verdict, one.reasons) == (verdict, [Reason("comparison_failed", "in base: skipped: not yet")])


def test_what_there_was_no_time_for_is_inconclusive_unless_the_baseline_check_passed_it() -> None:
    """A passed benchmark was only to be compared for its counts."""
    untimed = pairs("pass", judgements={})

    open_ = judged(SLOWER, comparison=untimed)

    assert (open_.verdict, open_.reasons) == ("inconclusive", [Reason("no_time_left")])
    assert judged(None, comparison=untimed).verdict == "inconclusive"
    assert judged(PASSED, comparison=untimed).verdict == "pass"
    assert judged(replace(PASSED, verdict="improvement"), comparison=untimed).verdict == "improvement"


def test_what_is_faster_than_the_baseline_passes_no_change_that_there_was_no_time_to_compare() -> None:
    """The base may be faster still."""
    faster, untimed = replace(PASSED, verdict="improvement"), pairs("pass", judgements={})

    one = judged(faster, comparison=untimed, comparison_required=True)

    assert (one.verdict, one.reasons) == ("invalid", [Reason("no_time_left")])


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [("pass", "inconclusive"), ("improvement", "inconclusive"), ("inconclusive", "inconclusive"), ("regression",) * 2],
)
def test_a_benchmark_that_runs_what_was_not_compared_does_not_pass(verdict: Verdict, expected: Verdict) -> None:
    """The results name the packages. A regression stays one, because both sides have the same packages."""
    named = [UnjudgedPackage("fastapi", "not_pinned", "any", "0.118.0", "0.118.0", "uv.lock")]
    unjudged = {"unjudged": {KEY: ["fastapi"]}, "unjudged_packages": named}
    comparison = pairs(verdict, **unjudged)
    one = judged(comparison=comparison)
    assert one.verdict == expected
    assert (Reason("packages_unjudged", subjects=["fastapi"]) in one.reasons) == (expected == "inconclusive")
    assert decide(record(), Evidence(comparison=comparison), GATE).unjudged_packages == named
    unaffected = judged(comparison=pairs(verdict, unaffected={KEY}, **unjudged))
    assert unaffected.verdict == "inconclusive"
    assert judged(comparison=pairs(verdict, unjudged_packages=named)).verdict == verdict


@pytest.mark.parametrize(
    ("verdict", "expected"), [("pass", "inconclusive"), ("inconclusive",) * 2, ("regression",) * 2]
)
def test_a_benchmark_that_could_not_be_counted_does_not_pass(verdict: Verdict, expected: Verdict) -> None:
    one = judged(comparison=pairs(verdict, uncounted={KEY: "in head: it hung"}))
    assert one.verdict == expected
    assert (Reason("comparison_failed", "its counts: in head: it hung") in one.reasons) == (verdict != "regression")


def test_an_accepted_slow_down_that_could_not_be_counted_does_not_pass() -> None:
    comparison = pairs("regression", uncounted={KEY: "in head: it hung"})
    one = judged(SLOWER, comparison=comparison, accepted={KEY: Accepted("a reason", slower_by=0.1)})
    assert one.verdict == "inconclusive"


def test_one_application_for_both_sides_leaves_it_inconclusive() -> None:
    """Fresh processes can still judge it by the baseline."""
    elsewhere = judged(SLOWER, application_elsewhere={KEY})
    found = BaselineEvidence("regression", [Reason("slower_in_processes", number=5)])
    confirmed = judged(SLOWER, application_elsewhere={KEY}, confirmation=ConfirmationEvidence(timings={KEY: found}))

    assert (elsewhere.verdict, elsewhere.reasons) == ("inconclusive", [Reason("application_elsewhere")])
    assert (confirmed.verdict, confirmed.reasons) == ("regression", [Reason("slower_in_processes", number=5)])


def test_without_a_baseline_one_application_for_both_sides_stays_inconclusive() -> None:
    """Fresh processes for a broken budget do not judge its timings."""
    new = BaselineEvidence("new")

    one = judged(new, application_elsewhere={KEY}, confirmation=ConfirmationEvidence(timings={KEY: new}))

    assert (one.verdict, one.reasons) == ("inconclusive", [Reason("application_elsewhere")])


def test_a_budget_that_most_fresh_processes_keep_is_kept() -> None:
    """The verdict of the timings does not matter."""
    fresh = [replace(record().benchmarks[0], budgets=[budget]) for budget in (KEPT, BROKEN, KEPT)]
    confirmation = ConfirmationEvidence(fresh={KEY: fresh})

    one = judged(PASSED, run=record(budgets=[BROKEN]), confirmation=confirmation)

    assert one.budgets == [KEPT]
    assert one.warnings == ["its budget was broken, but 2 of 3 fresh processes stayed within it"]


def test_an_accepted_regression_fails_nothing() -> None:
    """It fails if it gets worse."""
    one = judged(SLOWER, comparison=pairs("regression"), accepted={KEY: Accepted("a reason", slower_by=0.1)})

    assert (one.verdict, one.reasons[-1]) == ("accepted", Reason("accepted", "a reason"))


# ---- the run


def test_the_results_name_what_they_were_compared_with() -> None:
    """The results have the baseline, the base, the thresholds, and the differences from baseline and base."""
    baseline = results(benchmark(KEY, None), created="2026-11-24T10:00:00+00:00")
    environment = replace(baseline.environment, dirty=True, commit="c0ffee", python="3.12.1", packages={})
    evidence = Evidence(
        baseline_file="baselines/linux.json",
        baseline=replace(baseline, environment=environment),
        timings={KEY: PASSED},
        comparison=pairs("pass", base_differences=["shop/prices.py"], notes=["a note"]),
    )

    found = decide(record(), evidence, GATE, {KEY: BenchmarkSettings(tolerance=0.1)})

    assert (found.verdict, found.exit_code) == ("pass", 0)
    assert (found.baseline, found.baseline_commit) == ("baselines/linux.json", "c0ffee")
    assert found.baseline_created == baseline.created
    assert found.baseline_differences == ["Python was 3.12.1, is 3.11.9", "redis none → 8.1.0"]
    assert (found.base, found.base_differences) == (BASE, ["shop/prices.py"])
    assert found.notes == ["the baseline was recorded with uncommitted changes", "a note"]
    assert (found.tolerance, found.minimum_effect, found.benchmarks[0].tolerance) == (0.02, 0.05, 0.1)


def test_deciding_changes_nothing_in_place() -> None:
    """Record and evidence stay the same, and give the same results again."""
    run, evidence = record(), Evidence(timings={KEY: SLOWER}, comparison=pairs("regression"))
    before = repr((run, evidence))

    first, second = decide(run, evidence, GATE), decide(run, evidence, GATE)

    assert first == second
    assert repr((run, evidence)) == before
    assert run.verdict is None


def test_without_a_base_the_baseline_judges_and_a_note_says_why() -> None:
    """The results do not name a base."""
    none = NoComparison("no_base", "git is not installed")

    found = decide(record(), Evidence(timings={KEY: PASSED}, comparison=ComparisonEvidence(base=BASE, none=none)), GATE)

    assert (found.verdict, found.base) == ("pass", "")
    assert found.notes == ["no paired comparison: git is not installed"]


def test_without_a_base_that_was_asked_for_the_run_is_invalid() -> None:
    """For example in `plumbline compare`."""
    comparison = ComparisonEvidence(none=NoComparison("no_base", "the base can't be run"))

    found = decide(record(), Evidence(comparison=comparison, comparison_required=True), GATE)

    assert (found.verdict, found.exit_code) == ("invalid", 3)
    assert found.reasons[0] == Reason("no_comparison", "the base can't be run")


def test_an_invalid_comparison_and_a_failed_confirmation_make_the_run_invalid() -> None:
    """The reasons are in the order of the stages."""
    died = Reason("ended", "redis died", when_repeated=True)
    evidence = Evidence(
        timings={KEY: SLOWER},
        comparison=ComparisonEvidence(base=BASE, none=NoComparison("invalid", "a control read 3 %")),
        confirmation=ConfirmationEvidence(failed=[died]),
    )

    found = decide(record(), evidence, GATE)

    assert (found.verdict, found.exit_code, found.base) == ("invalid", 3, BASE)
    assert found.reasons == [Reason("comparison_invalid", "a control read 3 %"), died]


def test_a_run_that_was_ended_early_keeps_its_exit_code() -> None:
    """Its measurements do not change the exit code."""
    early = replace(record(), exit_code=2, reasons=[Reason("ended", "no such profile")])

    found = decide(early, Evidence(), GATE)

    assert (found.verdict, found.exit_code, found.reasons[0]) == ("invalid", 2, Reason("ended", "no such profile"))


def test_without_a_baseline_of_this_machine_another_one_says_what_is_missing() -> None:
    """A benchmark that a change skips or removes does not pass unnoticed."""
    run = replace(record(), collected_files=["test_a.py"], tests=[TestOutcome(KEY, "passed", 0.1, benchmark=True)])
    baseline = results(benchmark(KEY, None), benchmark("test_a.py::test_gone", None))

    found = decide(run, Evidence(timings={KEY: BaselineEvidence("new")}, baseline_elsewhere=baseline), GATE)

    assert [one.verdict for one in found.benchmarks] == ["new", "missing"]
    assert found.exit_code == 3


def test_missing_and_removed_benchmarks_are_in_the_results() -> None:
    """Missing benchmarks make the run invalid, removed ones do not."""
    files = ["test_a.py"]
    run = replace(record(), collected_files=files, tests=[TestOutcome(KEY, "passed", 0.1, benchmark=True)])
    gone, removed = benchmark("test_a.py::test_gone"), benchmark("test_a.py::test_removed")
    baseline = results(benchmark(KEY, None), gone)
    evidence = Evidence(timings={KEY: PASSED}, baseline=baseline, base_baseline=results(removed))

    found = decide(run, evidence, GATE)

    assert {one.key: one.verdict for one in found.benchmarks} == {
        KEY: "pass",
        "test_a.py::test_gone": "missing",
        "test_a.py::test_removed": "removed",
    }
    assert found.reasons == [Reason("benchmarks_missing", subjects=["test_a.py::test_gone"])]
