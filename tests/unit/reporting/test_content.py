"""Figures and remarks of benchmarks, headlines, verdicts and the next command."""

import typing

import pytest

from plumbline.reporting import content
from plumbline.results.schema import (
    BudgetResult,
    CallSite,
    CountChange,
    CountGrowth,
    Kind,
    Reason,
    Results,
    TailChange,
    TestOutcome,
    UnjudgedCause,
    UnjudgedPackage,
    Verdict,
)
from tests.support.report_samples import benchmark, results, unmeasured


def run(verdict: Verdict | None, exit_code: int | None, *verdicts: Verdict, **fields: object) -> Results:
    entries = [benchmark(f"test_a.py::test_{each}", each) for each in verdicts]
    return results(*entries, verdict=verdict, exit_code=exit_code, **fields)


def test_all_is_well_only_if_nothing_failed() -> None:
    assert content.all_well(run("pass", 0, "pass"))
    assert content.all_well(run("improvement", 0, "improvement"))
    assert not content.all_well(run("pass", 1, "pass", tests=[TestOutcome("test_a.py::test_a", "failed", 0.1, "no")]))
    assert not content.all_well(run("inconclusive", 0, "inconclusive"))
    assert not content.all_well(run(None, None))


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


def test_a_pass_says_that_some_calls_may_be_slower() -> None:
    tails = [TailChange("mean", 1e-3, 1.5e-3, 0.5, -0.02, 0.9, unclear=True), TailChange("p90", 1e-3, 1e-3, 0, 0, 0)]
    one = benchmark("a.py::test_a", tails=tails)
    assert content.remarks(one) == ["some calls may be slower: mean 1.00 ms → 1.50 ms (+50 %, at least -2.0 %)"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("redis.messages", "redis messages 1 → 1,050"),
        ("app.bytes_sent", "app bytes sent 1 → 1,050"),
        ("redis.command CLIENT SETINFO", "redis CLIENT SETINFO 1 → 1,050"),
        ("postgres.statement SELECT … FROM b WHERE c = $1", "SELECT … FROM b WHERE c = $1: 1 → 1,050"),
        ("postgres.parse SELECT a FROM b", "SELECT a FROM b: prepared 1 → 1,050"),
        ("postgres.rows_read", "postgres rows read 1 → 1,050"),
        ("postgres.rows_read SELECT a FROM b", "SELECT a FROM b: rows read 1 → 1,050"),
        ("postgres.buffers SELECT a FROM b", "SELECT a FROM b: buffers 1 → 1,050"),
    ],
)
def test_a_change_in_words(name: str, text: str) -> None:
    """As a reader says it."""
    assert content.count_text(CountGrowth(name, 1, 1_050)) == text


@pytest.mark.parametrize(
    ("growth", "expected"),
    [
        (CountGrowth("redis.messages", 6, 8, benchmarks=2), "redis messages 6 → 8 in 2 benchmarks"),
        (CountGrowth("redis.command GET", 1, 2, most=51), "redis GET 1 → 2 to 51"),
        (CountGrowth("redis.connections", 0, 1, benchmarks=3, alike=False), "redis connections +1 in 3 benchmarks"),
        (CountGrowth("redis.connections", 2, 1, benchmarks=3, alike=False), "redis connections -1 in 3 benchmarks"),
        (CountGrowth("app.bytes_sent", 9_999, 12_345), "app bytes sent 9,999 → 12,345"),
        (
            CountGrowth("redis.command GET", 1, 51, benchmarks=2, site=CallSite("shop/stock.py", 7, "price", 50)),
            "redis GET 1 → 51 in 2 benchmarks, shop/stock.py:7 in price",
        ),
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
    assert said == "at least 23 % slower, after 11 %: more than was accepted with the reason 'a reason'"


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
    assert (
        content.reason_text(Reason("pairs_inconclusive", number=1))
        == "after 1 pair, a slow-down is neither shown nor ruled out"
    )


def test_a_change_of_counts_that_fails_nothing_is_a_note() -> None:
    """All that are fewer in one line, all others in another, with the benchmarks."""
    statements = ("a", 2, 1), ("b", 3, 1), ("c", 1, 2)
    changes = [CountChange(f"postgres.statement SELECT {name}", old, new) for name, old, new in statements]
    messages = [CountChange("redis.messages", 6, 4)]
    several = [benchmark(f"a.py::test_{name}", count_changes=messages) for name in "vwxyz"]
    assert content.notes(results(*several, benchmark("a.py::test_a", count_changes=changes))) == [
        "fewer than before, which is better: redis messages 6 → 4 in v, w, x and 2 more;"
        " SELECT a: 2 → 1, SELECT b: 3 → 1 in a",
        "more than before, but not judged: SELECT c: 1 → 2 in a",
    ]


def test_counts_that_changed_in_more_benchmarks_than_a_line_takes_are_counted() -> None:
    found = [benchmark(f"a.py::test_{n}", count_changes=[CountChange("redis.messages", 9, n)]) for n in range(7)]
    (note,) = content.notes(results(*found))
    assert note.endswith("redis messages 9 → 4 in 4; and 2 more")


def test_the_figures_named_before_say_of_what_they_are() -> None:
    """Of the base if a benchmark was compared in pairs, or else of the baseline."""
    paired = benchmark("a.py::test_a", base_samples_s=[1e-3], head_samples_s=[2e-3])
    other = benchmark("a.py::test_b")
    known = {"base": "d78876ae1e, merge base with main", "baseline_commit": "0f1e2d3" * 5}
    base, baseline = "the base d78876ae1e in the last pair", "the baseline recorded at 0f1e2d3"

    assert content.before_text(results(paired, **known)) == f"before: {base}; the change is of all pairs"
    assert content.before_text(results(other, **known)) == f"before: {baseline}"
    assert content.before_text(results(paired, other, **known)) == (
        f"before: {base} if compared in pairs, otherwise {baseline}; the change is of all pairs"
    )
    assert content.before_text(results(benchmark("a.py::test_a", "new", baseline_median=None))) == ""


def test_figures_of_a_comparison_are_those_of_its_last_pair() -> None:
    """So that a row does not mix the speeds that the machine had at two times."""
    cells = content.cells(benchmark("a.py::test_a", base_samples_s=[1e-3, 2e-3, 3e-3], head_samples_s=[4e-3] * 3))
    assert [cells[name] for name in ("before", "median", "mean", "p95", "rate", "n")] == [
        *("2.00 ms", "4.00 ms", "4.00 ms", "4.00 ms", "250/s", ""),
    ]


def test_reasons_from_measuring_again_are_marked() -> None:
    """The reader knows then that the first run had come to its end."""
    assert content.reason_text(Reason("ended", "redis died", when_repeated=True)) == "when measured again: redis died"


def test_the_title_of_a_first_run_says_why_nothing_is_judged() -> None:
    first = run("new", 0, "new", reasons=[Reason("no_baseline")])
    assert content.title(first) == "New: there is no baseline to compare with yet"
    assert content.title(run("pass", 0, "pass", reasons=[Reason("within_limits", number=1)])) == "Pass"
