import pytest

from plumbline.reporting import format as form
from plumbline.results.schema import BudgetResult, Results, TestOutcome, Verdict
from tests.support.report_samples import benchmark, results, unmeasured


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (4.2e-10, "0.420 ns"),
        (9.996e-7, "1.00 µs"),
        (57.1e-6, "57.1 µs"),
        (999.4e-6, "999 µs"),
        (999.6e-6, "1.00 ms"),
        (0.0123456, "12.3 ms"),
        (1, "1.00 s"),
        (3600, "3,600 s"),
    ],
)
def test_a_duration_has_a_fitting_unit_and_three_significant_digits(seconds: float, text: str) -> None:
    assert form.duration(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.048, "+4.8 %"),
        (-0.0004, "0.0 %"),
        (-0.012, "-1.2 %"),
        (0.0996, "+10 %"),
        (0.1234, "+12 %"),
        (-0.5, "-50 %"),
        (8.99, "+899 %"),
        (499, "x500"),
    ],
)
def test_a_change_is_signed_and_no_more_exact_than_it_can_be(share: float, text: str) -> None:
    assert form.percent(share) == text


def test_an_interval_may_be_open() -> None:
    assert form.interval(0.039, 0.057) == "+3.9…+5.7"
    assert form.interval(0.039, None) == "+3.9…"
    assert form.interval(None, 0.057) == "…+5.7"
    assert form.interval(None, None) == ""


def test_a_rate_has_three_significant_digits() -> None:
    assert [form.rate(per_s) for per_s in (17_512, 43.12, 0.1234)] == ["17,500/s", "43.1/s", "0.123/s"]


@pytest.mark.parametrize(
    ("name", "limit", "measured", "text"),
    [
        ("p95_ms", 2.0, 2.434, "p95 2.43 ms > 2 ms"),
        ("p95_ms", 2.0, 2.0004, "p95 2.0004 ms > 2 ms"),
        ("mean_ms", 0.05, 0.0614, "mean 0.0614 ms > 0.05 ms"),
        ("max_ms", 1000.0, 1240.0, "max 1,240 ms > 1,000 ms"),
        ("rate_per_s", 500.0, 420.4, "rate 420/s < 500/s"),
    ],
)
def test_a_budget_shows_its_limit_as_set_and_a_figure_that_differs(
    name: str, limit: float, measured: float, text: str
) -> None:
    assert form.budget(BudgetResult(name, limit, measured, kept=False)) == text


def test_an_untrusted_text_is_one_line_that_steers_nothing() -> None:
    assert form.plain("a\x1b[31mred\x1b[0m\r\nb\tc\x00\u202ed\ud800") == "ared b c\ufffd\ufffdd\ufffd"


def test_of_a_traceback_the_error_is_shown() -> None:
    traceback = (
        "    def test_a():\n>       assert login() == 1\nE       assert 2 == 1\nE         + where 2\n\na.py:3: Error\n"
    )

    assert form.first_lines(traceback, 6) == ["assert 2 == 1", "  + where 2"]
    assert form.first_lines("\n one\ntwo\nthree", 1) == [" one", "(2 more lines)"]
    assert form.first_lines("\n", 6) == []


def test_a_missing_benchmark_shows_its_baseline_and_nothing_as_measured() -> None:
    entry = unmeasured("a.py::test_a", median=5e-6, baseline_median=None)

    assert form.baseline(entry) == 5e-6
    assert form.now(entry) is None
    assert form.figures(entry) == "5.00 µs"


def test_a_pass_with_a_broken_budget_needs_eyes() -> None:
    broken = benchmark("a.py::test_a", budgets=[BudgetResult("p95_ms", 2.0, 2.4, kept=False)])
    unjudged = benchmark("a.py::test_a", budgets=[BudgetResult("p99_ms", 2.0, 0.0, kept=True, note="below n = 1,000")])

    assert (form.needs_eyes(broken), form.verdict(broken)) == (True, "over budget")
    assert (form.needs_eyes(unjudged), form.verdict(unjudged)) == (False, "pass")
    assert form.remarks(unjudged) == ["budget p99_ms: below n = 1,000"]


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
        (run("invalid", 3, "pass", reasons=["no paired comparison: gone"]), "invalid", "nox -s ci"),
        (run("invalid", 3, "missing", "pass", base="abc, the newest"), "invalid", "nox -s baseline"),
        (run("invalid", 3, deselected=DESELECTED, reasons=["redis is not ready"]), "invalid", "nox -s readiness"),
        (run("invalid", 3, deselected=DESELECTED, reasons=["nothing was measured"]), "invalid", "nox -s ci"),
        (run("inconclusive", 0, "inconclusive"), "inconclusive", "nox -s ci -- -k test_inconclusive"),
        (run("inconclusive", 4, "inconclusive"), "inconclusive", "nox -s ci -- -k test_inconclusive"),
        (run(None, 2), "wrong usage", "nox -s ci"),
        (run(None, 130, "pass"), "interrupted", "nox -s ci"),
        (run(None, None, "pass"), "not judged", None),
    ],
)
def test_each_outcome_has_a_headline_and_one_next_command(outcome: Results, headline: str, command: str | None) -> None:
    step = form.next_step(outcome)

    assert form.headline(outcome) == headline
    assert (step and step[0]) == command


def test_what_cannot_be_compared_on_this_machine_needs_a_baseline_of_its_own() -> None:
    elsewhere = benchmark(
        "a.py::test_a", "inconclusive", minimum_detectable_effect=None, change_low=None, change_high=None
    )

    step = form.next_step(results(elsewhere, verdict="inconclusive"))

    assert step == ("nox -s baseline", "records one to commit that this machine can be compared with")


def test_all_is_well_only_where_nothing_failed() -> None:
    assert form.all_well(run("pass", 0, "pass"))
    assert form.all_well(run("improvement", 0, "improvement"))
    assert not form.all_well(run("pass", 1, "pass", tests=FAILED))
    assert not form.all_well(run("inconclusive", 0, "inconclusive"))
    assert not form.all_well(run(None, None))


@pytest.mark.parametrize(
    ("names", "command", "does"),
    [
        (["a"], "nox -s ci -- -k test_a", "these alone"),
        (["a[1]", "a[2]", "b"], 'nox -s ci -- -k "test_a or test_b"', "these alone"),
        (["a" * 30, "b" * 30], "nox -s ci -- tests/performance/a.py", "their file alone"),
        (["a; rm -r"], "nox -s ci -- tests/performance/a.py", "their file alone"),
    ],
)
def test_the_next_command_fits_on_a_line_is_safe_to_paste_and_does_what_it_says(
    names: list[str], command: str, does: str
) -> None:
    suspects = results(*(benchmark(f"a.py::test_{name}", "regression") for name in names), verdict="regression")

    assert form.next_step(suspects) == (command, f"runs {does}; look at what the change does there")


def test_measuring_the_unsettled_again_says_when_it_measures_all() -> None:
    unsettled = [benchmark(f"{name * 30}.py::test_{name * 30}", "inconclusive") for name in "ab"]

    step = form.next_step(results(*unsettled, verdict="inconclusive"))

    assert step == ("nox -s ci", "measures all again; nothing else should be running")
