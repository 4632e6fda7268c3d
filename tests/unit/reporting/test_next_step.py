"""The next command of each outcome."""

import pytest
from msgspec.structs import replace

from plumbline.reporting import content
from plumbline.reporting.next_step import Step, next_step
from plumbline.results.schema import Reason, Results, TestOutcome, Verdict
from tests.support.report_samples import benchmark, results


def run(verdict: Verdict | None, exit_code: int | None, *verdicts: Verdict, **fields: object) -> Results:
    names = (f"test_a.py::test_{each}[x y]" for each in verdicts)
    entries = [benchmark(name, each) for name, each in zip(names, verdicts, strict=True)]
    return results(*entries, verdict=verdict, exit_code=exit_code, **fields)


LOST = Reason("shard_missing", subjects=["2 of 3", "3 of 3"])
DESELECTED = ["test_a.py::test_of_the_full_profile"]
FAILED = [TestOutcome("test_a.py::TestLogin::test_login[a b]", "failed", 0.1, "no")]


@pytest.mark.parametrize(
    ("outcome", "headline", "command"),
    [
        (run("pass", 0, "pass"), "pass", None),
        (run("pass", 0), "pass", None),
        (run("improvement", 0, "improvement"), "improvement", "nox -s baseline"),
        (
            run("regression", 1, "regression"),
            "regression",
            "nox -s ci -- 'tests/performance/test_a.py::test_regression[x y]'",
        ),
        (
            run("regression", 1, "regression", profile="full"),
            "regression",
            "nox -s full -- 'tests/performance/test_a.py::test_regression[x y]'",
        ),
        (
            run("pass", 1, "pass", tests=FAILED),
            "failed",
            "nox -s ci -- 'tests/performance/test_a.py::TestLogin::test_login[a b]'",
        ),
        (run("new", 0, "new"), "new", "nox -s baseline"),
        (run("changed", 0, "changed", "pass"), "changed", "nox -s baseline"),
        (run("new", 0, "new", "pass"), "new", "nox -s baseline"),
        (run("invalid", 3, "missing", "pass"), "invalid", "nox -s baseline"),
        (
            run("invalid", 3, "invalid", "pass"),
            "invalid",
            "nox -s ci -- 'tests/performance/test_a.py::test_invalid[x y]'",
        ),
        (run("invalid", 3), "invalid", "nox -s readiness"),
        (run("invalid", 3, "pass", base="abc, as asked: main", reasons=["the side base"]), "invalid", "nox -s ci"),
        (run("invalid", 3, "pass", reasons=[Reason("no_comparison", "gone")]), "invalid", "nox -s ci"),
        (run("invalid", 3, "invalid", "pass", reasons=[Reason("not_compared")]), "invalid", "nox -s ci"),
        (run("invalid", 3, reasons=[LOST, Reason("nothing_measured")]), "invalid", "nox -s ci -- --shard 2/3"),
        (run("invalid", 3, "pass", reasons=[Reason("shards_differ", "commits")]), "invalid", "nox -s ci"),
        (run("pass", 0, "pass", reasons=[Reason("unmeasured_allowed")]), "pass, not all compared", None),
        (run("invalid", 3, "missing", "pass", base="abc, the newest"), "invalid", "nox -s baseline"),
        (run("invalid", 3, deselected=DESELECTED, reasons=["redis is not ready"]), "invalid", "nox -s readiness"),
        (run("invalid", 3, deselected=DESELECTED, reasons=[Reason("nothing_measured")]), "invalid", "nox -s ci"),
        (
            run("inconclusive", 0, "inconclusive"),
            "inconclusive",
            "nox -s ci -- 'tests/performance/test_a.py::test_inconclusive[x y]'",
        ),
        (
            run("inconclusive", 4, "inconclusive"),
            "inconclusive",
            "nox -s ci -- 'tests/performance/test_a.py::test_inconclusive[x y]'",
        ),
        (run(None, 2), "wrong usage", "nox -s ci"),
        (run(None, 130, "pass"), "interrupted", "nox -s ci"),
        (run(None, None, "pass"), "not judged", None),
    ],
)
def test_each_outcome_has_a_headline_and_one_next_command(outcome: Results, headline: str, command: str | None) -> None:
    step = next_step(outcome)

    assert content.headline(outcome) == headline
    assert (step and step[0]) == command


def test_a_machine_without_comparable_timings_needs_a_baseline_of_its_own() -> None:
    elsewhere = benchmark(
        "a.py::test_a", "inconclusive", minimum_detectable_effect=None, change_low=None, change_high=None
    )

    step = next_step(results(elsewhere, verdict="inconclusive"))

    assert step == Step("nox -s baseline", "records a baseline of this machine; commit it")


@pytest.mark.parametrize(
    ("names", "command", "does"),
    [
        (["a"], "nox -s ci -- tests/performance/a.py::test_a", "only what failed"),
        (
            ["b", "get[/items of/a/user]"],
            "nox -s ci -- tests/performance/a.py::test_b 'tests/performance/a.py::test_get[/items of/a/user]'",
            "only what failed",
        ),
        ("abcdef", "nox -s ci -- tests/performance/a.py", "only the file of what failed"),
        (["a; rm -r"], "nox -s ci -- tests/performance/a.py", "only the file of what failed"),
    ],
)
def test_the_next_command_runs_what_failed_and_is_safe_to_paste(names: list[str], command: str, does: str) -> None:
    suspects = results(*(benchmark(f"a.py::test_{name}", "regression") for name in names), verdict="regression")

    assert (next_step(suspects) or ())[:2] == (command, f"runs {does}")


@pytest.mark.parametrize("field", ["benchmarks", "deselected", "tests"])
def test_the_next_command_names_all_tests_that_it_runs(field: str) -> None:
    """Those of the file as well, if what failed is too much for a command."""
    failed = [benchmark(f"a.py::test_{n}", "regression") for n in range(6)]
    other = "a.py::test_other"
    others = {
        "benchmarks": [*failed, benchmark(other)],
        "deselected": [other],
        "tests": [TestOutcome(other, "passed", 1)],
    }

    step = next_step(replace(results(*failed), **{field: others[field]}))

    assert step
    assert {*step.keys} == {other, *(one.key for one in failed)}


def test_the_command_for_inconclusive_benchmarks_says_when_it_measures_all() -> None:
    unsettled = [benchmark(f"{name}.py::test_a", "inconclusive") for name in "abcdef"]

    step = next_step(results(*unsettled, verdict="inconclusive"))

    assert step == Step("nox -s ci", "measures all again; run nothing else meanwhile")


def test_what_was_not_compared_is_not_measured_again() -> None:
    """The cause is to be removed first."""
    reason = Reason("packages_unjudged", subjects=["fastapi"])
    found = results(benchmark("test_a.py::test_a", "inconclusive", reasons=[reason]), verdict="inconclusive")
    assert next_step(found) == Step("nox -s ci", "runs again, once the problem is fixed")


@pytest.mark.parametrize("required", [True, False])
def test_what_there_was_no_time_for_is_compared_alone_or_with_more_time(required: bool) -> None:
    key = "test_a.py::test_a"
    late = benchmark(key, "invalid" if required else "inconclusive", reasons=[Reason("no_time_left")])
    reasons = [Reason("not_compared", subjects=[key])] if required else []
    found = results(late, benchmark("b.py::test_b"), verdict=late.verdict, reasons=reasons)

    purpose = "compares only what there was no time for; or raise pairs_limit_s in settings.toml"
    assert next_step(found) == Step(f"nox -s ci -- tests/performance/{key}", purpose, [key])


def test_a_comparison_with_a_commit_is_repeated_with_that_commit() -> None:
    """As somebody has asked for."""
    slower = results(benchmark("a.py::test_a", "regression"), verdict="regression", revision="my branch")

    assert next_step(slower) == Step(
        "nox -s compare -- 'my branch' -- tests/performance/a.py::test_a", "runs only what failed", ["a.py::test_a"]
    )


@pytest.mark.parametrize(
    ("commits", "dirty", "command"),
    [
        (57, False, "nox -s bisect -- v1.2 -k test_regression"),
        (1, False, "nox -s compare -- v1.2 -- 'tests/performance/test_a.py::test_regression[x y]'"),
        (57, True, "nox -s compare -- v1.2 -- 'tests/performance/test_a.py::test_regression[x y]'"),
    ],
)
def test_a_regression_since_a_release_is_bisected(commits: int, dirty: bool, command: str) -> None:
    """Not if there is one commit only, or if uncommitted changes may have caused it."""
    outcome = run("regression", 1, "pass", "regression", revision="v1.2", commits=commits)
    outcome = replace(outcome, environment=replace(outcome.environment, dirty=dirty))

    step = next_step(outcome)

    assert step
    assert step.command.removeprefix("uvx ") == command
    assert ("57 commits since v1.2" in step.purpose) == (command.split()[2] == "bisect")
