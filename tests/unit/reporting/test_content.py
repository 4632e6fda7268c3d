"""Figures and remarks of benchmarks, headlines, verdicts and the next command."""

import typing

import pytest

from plumbline.reporting import content
from plumbline.results.schema import (
    BudgetResult,
    CountChange,
    CountGrowth,
    Kind,
    Reason,
    Results,
    TestOutcome,
    UnjudgedCause,
    UnjudgedPackage,
    Verdict,
)
from tests.support.report_samples import benchmark, results, unmeasured


def run(verdict: Verdict | None, exit_code: int | None, *verdicts: Verdict, **fields: object) -> Results:
    names = (f"test_a.py::test_{each}[x y]" for each in verdicts)
    entries = [benchmark(name, each) for name, each in zip(names, verdicts, strict=True)]
    return results(*entries, verdict=verdict, exit_code=exit_code, **fields)


DESELECTED = ["test_a.py::test_of_the_full_profile"]
FAILED = [TestOutcome("test_a.py::TestLogin::test_login[a b]", "failed", 0.1, "no")]


@pytest.mark.parametrize(
    ("outcome", "headline", "command"),
    [
        (run("pass", 0, "pass"), "pass", None),
        (run("pass", 0), "pass", None),
        (run("improvement", 0, "improvement"), "improvement", "nox -s baseline"),
        (run("regression", 1, "regression"), "regression", "nox -s ci -- -k test_regression"),
        (run("regression", 1, "regression", profile="full"), "regression", "nox -s full -- -k test_regression"),
        (run("pass", 1, "pass", tests=FAILED), "failed", "nox -s ci -- -k test_login"),
        (run("new", 0, "new"), "new", "nox -s baseline"),
        (run("changed", 0, "changed", "pass"), "changed", "nox -s baseline"),
        (run("new", 0, "new", "pass"), "new", "nox -s baseline"),
        (run("invalid", 3, "missing", "pass"), "invalid", "nox -s baseline"),
        (run("invalid", 3, "invalid", "pass"), "invalid", "nox -s ci -- -k test_invalid"),
        (run("invalid", 3), "invalid", "nox -s readiness"),
        (run("invalid", 3, "pass", base="abc, as asked: main", reasons=["the side base"]), "invalid", "nox -s ci"),
        (run("invalid", 3, "pass", reasons=[Reason("no_comparison", "gone")]), "invalid", "nox -s ci"),
        (run("invalid", 3, "invalid", "pass", reasons=[Reason("not_compared")]), "invalid", "nox -s ci"),
        (run("pass", 0, "pass", reasons=[Reason("unmeasured_allowed")]), "pass, not all compared", None),
        (run("invalid", 3, "missing", "pass", base="abc, the newest"), "invalid", "nox -s baseline"),
        (run("invalid", 3, deselected=DESELECTED, reasons=["redis is not ready"]), "invalid", "nox -s readiness"),
        (run("invalid", 3, deselected=DESELECTED, reasons=[Reason("nothing_measured")]), "invalid", "nox -s ci"),
        (run("inconclusive", 0, "inconclusive"), "inconclusive", "nox -s ci -- -k test_inconclusive"),
        (run("inconclusive", 4, "inconclusive"), "inconclusive", "nox -s ci -- -k test_inconclusive"),
        (run(None, 2), "wrong usage", "nox -s ci"),
        (run(None, 130, "pass"), "interrupted", "nox -s ci"),
        (run(None, None, "pass"), "not judged", None),
    ],
)
def test_each_outcome_has_a_headline_and_one_next_command(outcome: Results, headline: str, command: str | None) -> None:
    step = content.next_step(outcome)

    assert content.headline(outcome) == headline
    assert (step and step[0]) == command


def test_a_machine_without_comparable_timings_needs_a_baseline_of_its_own() -> None:
    elsewhere = benchmark(
        "a.py::test_a", "inconclusive", minimum_detectable_effect=None, change_low=None, change_high=None
    )

    step = content.next_step(results(elsewhere, verdict="inconclusive"))

    assert step == ("nox -s baseline", "records a baseline of this machine, to commit")


def test_all_is_well_only_if_nothing_failed() -> None:
    assert content.all_well(run("pass", 0, "pass"))
    assert content.all_well(run("improvement", 0, "improvement"))
    assert not content.all_well(run("pass", 1, "pass", tests=FAILED))
    assert not content.all_well(run("inconclusive", 0, "inconclusive"))
    assert not content.all_well(run(None, None))


@pytest.mark.parametrize(
    ("names", "command", "does"),
    [
        (["a"], "nox -s ci -- -k test_a", "only what failed"),
        (["a[1]", "a[2]", "b"], 'nox -s ci -- -k "test_a or test_b"', "only what failed"),
        (["a" * 30, "b" * 30], "nox -s ci -- tests/performance/a.py", "only the file of what failed"),
        (["a; rm -r"], "nox -s ci -- tests/performance/a.py", "only the file of what failed"),
    ],
)
def test_the_next_command_fits_on_a_line_and_is_safe_to_paste(names: list[str], command: str, does: str) -> None:
    suspects = results(*(benchmark(f"a.py::test_{name}", "regression") for name in names), verdict="regression")

    assert content.next_step(suspects) == (command, f"runs {does}")


def test_the_command_for_inconclusive_benchmarks_says_when_it_measures_all() -> None:
    unsettled = [benchmark(f"{name * 30}.py::test_{name * 30}", "inconclusive") for name in "ab"]

    step = content.next_step(results(*unsettled, verdict="inconclusive"))

    assert step == ("nox -s ci", "measures all again; run nothing else meanwhile")


def test_what_was_not_compared_is_not_measured_again() -> None:
    """The cause is to be removed first."""
    reason = Reason("packages_unjudged", subjects=["fastapi"])
    found = results(benchmark("test_a.py::test_a", "inconclusive", reasons=[reason]), verdict="inconclusive")
    assert content.next_step(found) == ("nox -s ci", "runs again, once the problem is fixed")


def test_a_missing_benchmark_shows_its_baseline_and_nothing_as_measured() -> None:
    entry = unmeasured("a.py::test_a", median=5e-6, baseline_median=None)

    assert content.before(entry) == 5e-6
    assert content.now(entry) is None
    assert content.line(entry) == "5.00 µs"


def test_a_pass_with_a_broken_budget_is_notable() -> None:
    broken = benchmark("a.py::test_a", budgets=[BudgetResult("p95_ms", 2.0, 2.4, kept=False)])
    unjudged = benchmark("a.py::test_a", budgets=[BudgetResult("p99_ms", 2.0, 0.0, kept=True, note="below n = 1,000")])

    assert (content.is_notable(broken), content.verdict(broken)) == (True, "over budget")
    assert (content.is_notable(unjudged), content.verdict(unjudged)) == (False, "pass")
    assert content.remarks(unjudged) == ["budget p99_ms: below n = 1,000"]


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
    assert content.count_text(CountGrowth(name, 1, 1_050)) == text


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
    assert content.count_text(growth) == expected


@pytest.mark.parametrize("kind", typing.get_args(Kind))
def test_each_kind_of_reason_has_a_text(kind: Kind) -> None:
    """One that ends with no full stop, as reports join them."""
    growth = CountGrowth("redis.messages", 1, 2)
    said = content.reason_text(Reason(kind, "why", subjects=["one"], counts=[growth], number=2, of=3))
    assert said
    assert not said.endswith(".")


@pytest.mark.parametrize("cause", typing.get_args(UnjudgedCause))
def test_each_cause_of_not_comparing_a_package_has_a_text(cause: UnjudgedCause) -> None:
    """It is the first of the notes."""
    package = UnjudgedPackage("fastapi", cause, "0.116.0", "0.118.0", "0.117.0", "uv.lock")
    said, note = content.notes(results(unjudged_packages=[package], notes=["a note"]))
    assert said.startswith("fastapi 0.116.0 → 0.118.0 (uv.lock) was not compared: ")
    assert not said.endswith(".")
    assert ("0.117.0" in said) == (cause == "installed_otherwise")
    assert note == "a note"


def test_a_lock_file_that_was_not_compared_has_no_versions() -> None:
    said = content.unjudged_text(UnjudgedPackage("uv.lock", "unknown_format"))
    assert said.startswith("uv.lock was not compared: Plumbline does not know")
    added = content.unjudged_text(UnjudgedPackage("orjson", "not_installed", "", "3.1", "", "uv.lock"))
    assert added.startswith("orjson (none) → 3.1 (uv.lock) was not compared: ")


def test_a_long_list_of_benchmarks_is_cut() -> None:
    """Of seven slower benchmarks five are named and two are counted."""
    said = content.reason_text(Reason("slower_than_baseline", subjects=[f"{name}.py::a" for name in "abcdefg"]))
    assert said == "slower than the baseline: a.py::a, b.py::a, c.py::a, d.py::a, e.py::a and 2 more"


def test_a_list_of_five_is_not_cut() -> None:
    """Five are named without a count of none."""
    said = content.reason_text(Reason("slower_than_baseline", subjects=[f"{name}.py::a" for name in "abcde"]))
    assert said == "slower than the baseline: a.py::a, b.py::a, c.py::a, d.py::a, e.py::a"


def test_shares_are_whole_per_cent() -> None:
    """As every reader understands them."""
    said = content.reason_text(Reason("beyond_accepted", "a reason", share=0.234, accepted_share=0.11))
    assert said == "at least 23 % slower, after 11 %: more than was accepted with the reason a reason"


def test_a_comparison_with_a_commit_is_repeated_with_that_commit() -> None:
    """As somebody has asked for."""
    slower = results(benchmark("a.py::test_a", "regression"), verdict="regression", revision="my branch")

    assert content.next_step(slower) == ("nox -s compare -- 'my branch' -- -k test_a", "runs only what failed")


def test_several_regressions_have_a_plural() -> None:
    """Verdicts that are no nouns have none."""
    entries = [benchmark(f"a.py::test_{number}", "regression") for number in range(2)]
    entries += [benchmark(f"b.py::test_{number}", "new") for number in range(3)]

    assert content.summary(results(*entries, tests=[])) == "5 benchmarks: 3 new, 2 regressions; 0 tests"


def test_a_number_of_one_is_singular() -> None:
    """In every text that counts."""
    assert content.reason_text(Reason("within_limits", number=1)) == "1 benchmark is within its limits"
    assert content.reason_text(Reason("within_limits", number=9)) == "9 benchmarks are within their limits"
    said = content.reason_text(Reason("benchmarks_inconclusive", number=1, of=9))
    assert said == "1 of 9 benchmarks is inconclusive"
    assert content.reason_text(Reason("pairs_inconclusive", number=1)) == "inconclusive after 1 pair"


def test_a_change_of_counts_that_fails_nothing_is_a_note() -> None:
    """All that are fewer in one line, all others in another."""
    statements = ("a", 2, 1), ("b", 3, 1), ("c", 1, 2)
    changes = [CountChange(f"postgres.statement SELECT {name}", old, new) for name, old, new in statements]
    assert content.notes(results(benchmark("a.py::test_a", count_changes=changes))) == [
        "fewer than in the baseline: SELECT a: 2 → 1, SELECT b: 3 → 1",
        "more than in the baseline, but not judged: SELECT c: 1 → 2",
    ]


def test_figures_of_a_comparison_are_those_of_its_last_pair() -> None:
    """So that a row does not mix the speeds that the machine had at two times."""
    cells = content.cells(benchmark("a.py::test_a", base_samples_s=[1e-3, 2e-3, 3e-3], head_samples_s=[4e-3] * 3))
    assert [cells[name] for name in ("before", "median", "mean", "p95", "rate", "n")] == [
        *("2.00 ms", "4.00 ms", "4.00 ms", "4.00 ms", "250/s", ""),
    ]


def test_reasons_from_measuring_again_are_marked() -> None:
    """The reader knows then that the first run had come to its end."""
    assert content.reason_text(Reason("ended", "redis died", when_repeated=True)) == "when measured again: redis died"
