import pytest
from msgspec.structs import replace

from plumbline.project import EXIT_INCONCLUSIVE
from plumbline.reporting.content import remarks
from plumbline.reporting.problems import codes_to_explain, find_problems
from plumbline.results.schema import (
    BudgetResult,
    CallSite,
    CountChange,
    FunctionTime,
    LoopHold,
    PlanChange,
    Reason,
    Results,
    TailChange,
    TestOutcome,
)
from tests.support.report_samples import benchmark, judged, results, small, unmeasured

SELECT = "postgres.statement SELECT … FROM item WHERE id = $1"
KEY = "test_shop.py::test_list"


def n_plus_one() -> Results:
    """A list whose handler now asks for each item by itself, as the counts and a comparison found."""
    return judged(
        results(
            benchmark(
                KEY,
                "regression",
                line=11,
                change=0.48,
                change_low=0.41,
                change_high=0.55,
                base_samples_s=[12e-3],
                head_samples_s=[18e-3],
                count_changes=[
                    CountChange(SELECT, 1, 51, gated=True, sites=[CallSite("shop/orders.py", 31, "names", 51, "app")]),
                    CountChange("postgres.bytes_sent", 100, 5100, gated=True),
                ],
                functions=[
                    FunctionTime("loads", "json/decoder.py", 337, 1e-3, 4e-3, 1, 51, "app"),
                    FunctionTime("test_list", "tests/performance/test_shop.py", 12, 12e-3, 18e-3, 1, 1, own=True),
                    FunctionTime("list_items", "shop/orders.py", 28, 11e-3, 17e-3, 1, 1, "app", own=True),
                ],
                reasons=[Reason("count_grown"), Reason("count_grown"), Reason("compared", number=7)],
            ),
            base="0f1e2d3, merge base with main",
            tolerance=0.02,
        )
    )


def test_a_grown_count_has_its_statement_and_the_users_own_function() -> None:
    """Functions of libraries and of the suite are no causes; bytes that the statements explain are not named."""
    (problem,) = find_problems(n_plus_one())

    assert (problem.key, problem.verdict, problem.file, problem.line) == (
        *(KEY, "regression"),
        *("tests/performance/test_shop.py", 12),
    )
    assert problem.codes == ["count_grown", "compared"]
    assert problem.repeat == "nox -s ci -- tests/performance/test_shop.py::test_list"
    statement, function, time = problem.causes
    text = "SELECT … FROM item WHERE id = $1: 1 → 51, shop/orders.py:31 in names"
    assert (statement.kind, statement.text) == ("statement", text)
    assert (statement.old, statement.new) == (1, 51)
    assert (statement.file, statement.line, statement.function, statement.process) == (
        *("shop/orders.py", 31),
        *("names", "app"),
    )
    assert (function.file, function.line, function.function, function.process) == (
        *("shop/orders.py", 28),
        *("list_items", "app"),
    )
    assert (time.kind, time.text) == ("time", "median 12.0 ms → 18.0 ms (+48 %)")


def test_a_broken_budget_has_no_codes_of_a_pass() -> None:
    """The reasons of a verdict that nothing is wrong with explain nothing."""
    broken = BudgetResult("p95_ms", 2.0, 2.434, kept=False)

    (problem,) = find_problems(results(benchmark(KEY, budgets=[broken], reasons=[Reason("unaffected", "0f1e2d3")])))

    assert (problem.verdict, problem.codes) == ("over budget", ["budgets_broken"])


@pytest.mark.parametrize(
    ("run", "codes"),
    [
        (n_plus_one(), ["count_grown", "compared"]),
        (results(benchmark(KEY, "inconclusive", reasons=[Reason("pairs_inconclusive")])), ["pairs_inconclusive"]),
        (results(exit_code=3, verdict="invalid", reasons=[Reason("nothing_measured")]), ["nothing_measured"]),
        (results(benchmark(KEY, reasons=[Reason("unaffected", "0f1e2d3")])), []),
    ],
)
def test_the_codes_of_what_needs_attention_are_explained(run: Results, codes: list[str]) -> None:
    """Those of problems, or else of warnings. A pass needs no explanation."""
    assert codes_to_explain(run, find_problems(run)) == codes


def test_a_changed_plan_is_a_cause_of_a_regression() -> None:
    """A lost index: rows explain the buffers, and the plan explains the rows."""
    growth = [
        CountChange("postgres.rows_read SELECT n FROM item", 1, 1_000, gated=True),
        CountChange("postgres.buffers SELECT n FROM item", 3, 143, gated=True),
    ]
    plans = [PlanChange("SELECT n FROM item", "Limit\n  Index Scan i on item", "Limit\n  Seq Scan on item")]
    lost = benchmark(KEY, "regression", count_changes=growth, plan_changes=plans, reasons=[Reason("count_grown")])
    (problem,) = find_problems(judged(results(lost)))
    assert [(one.kind, one.text) for one in problem.causes] == [
        ("statement", "SELECT n FROM item: rows read 1 → 1,000"),
        ("plan", "plan of SELECT n FROM item: Index Scan i on item → Seq Scan on item"),
    ]


def test_the_statement_that_grew_most_is_the_first_cause() -> None:
    counts = {"messages": (2, 102), "statement A": (0, 3), "statement B": (1, 51), "statement C": (0, 50)}
    changes = [CountChange(f"postgres.{name}", *both, gated=True) for name, both in counts.items()]

    (problem,) = find_problems(results(benchmark(KEY, "regression", count_changes=changes)))

    assert [cause.new for cause in problem.causes[:4]] == [50, 51, 3, 102]


def test_every_failure_of_a_run_is_a_problem_with_a_code() -> None:
    """A regression, a broken budget, a missing benchmark and a failed test each have a cause and a command."""
    found = {one.key: one for one in find_problems(small())}

    assert [(one.verdict, one.codes[0]) for one in found.values()] == [
        ("regression", "slower_than_baseline"),
        ("over budget", "budgets_broken"),
        ("missing", "test_skipped"),
        ("failed", "tests_failed"),
    ]
    assert all(one.causes for one in found.values())
    budget = found["test_redis.py::test_get[100 B]"]
    assert budget.causes[0].text == "budget p95 2.43 ms > 2 ms"
    assert budget.repeat == "nox -s ci -- 'tests/performance/test_redis.py::test_get[100 B]'"
    assert found["test_readiness.py::test_login"].causes[0].text == "assert 'OK' == 'NOAUTH'"


def test_a_reason_for_which_a_run_is_invalid_is_a_problem_of_no_benchmark() -> None:
    """The file that could not be imported is named; the error comes on the same line."""
    detail = "    import shop\nE   ModuleNotFoundError: No module named 'shop'"
    reason = Reason("not_collected", detail, ["tests/performance/test_shop.py"])
    (problem,) = find_problems(results(verdict="invalid", exit_code=3, reasons=[reason]))

    assert (problem.key, problem.verdict, problem.codes, problem.repeat) == (
        "",
        "invalid",
        ["not_collected"],
        "nox -s ci",
    )
    assert problem.causes[0].file == problem.file == "tests/performance/test_shop.py"
    assert problem.causes[0].text.endswith(": ModuleNotFoundError: No module named 'shop'")


def test_a_benchmark_is_named_once_though_the_run_is_invalid_because_of_it() -> None:
    """The reason of the run only repeats it."""
    run = judged(results(unmeasured(KEY, "invalid", reasons=[Reason("measured_zero")]), benchmark("test_a.py::test_a")))

    assert [one.codes for one in find_problems(run)] == [["measured_zero"]]


def test_a_slower_tail_is_a_cause_instead_of_the_median() -> None:
    """The text has the figure's name, its times and the change."""
    tails = [
        TailChange("p90", 12e-3, 18e-3, 0.5, 0.41, 0.6, slower=True),
        TailChange("mean", 1e-3, 1e-3, 0.0, -0.1, 0.1),
    ]
    reasons = [Reason("tail_slower", subjects=["p90"]), Reason("compared", number=7)]
    changed = {
        "change": 0.0,
        "change_low": -0.01,
        "change_high": 0.01,
        "base_samples_s": [12e-3],
        "head_samples_s": [12e-3],
    }
    (problem,) = find_problems(
        results(benchmark(KEY, "regression", tails=tails, reasons=reasons, **changed), tolerance=0.02)
    )

    assert [(one.kind, one.text) for one in problem.causes] == [
        ("tail", "90th percentile 12.0 ms → 18.0 ms (+50 %, at least +41 %)")
    ]


def test_inconclusive_benchmarks_are_problems_if_they_fail_the_run() -> None:
    """By default they don't; nor does a run without problems have any."""
    run = results(benchmark(KEY, "inconclusive", reasons=[Reason("not_ruled_out", share=0.05)]), benchmark("a.py::a"))

    assert not find_problems(run)
    assert [one.verdict for one in find_problems(replace(run, exit_code=EXIT_INCONCLUSIVE))] == ["inconclusive"]


def test_a_failed_test_has_its_line() -> None:
    """Its problem has the line that pytest reports, and no cause if its message is empty."""
    run = results(tests=[TestOutcome("test_a.py::test_b", "failed", 0.1, line=7)])

    assert [(one.line, one.causes) for one in find_problems(run)] == [(7, [])]


def test_what_an_accepted_count_or_a_kept_budget_says_is_no_cause() -> None:
    """A broken budget of a benchmark whose grown count was accepted has one cause."""
    changes = [CountChange(SELECT, 1, 51, gated=True)]
    broken = [BudgetResult("p95_ms", 2.0, 2.434, kept=False), BudgetResult("mean_ms", 2.0, 1.0, kept=True)]
    run = results(benchmark(KEY, count_changes=changes, budgets=broken))

    assert [one.kind for one in find_problems(run)[0].causes] == ["budget"]


HELD = LoopHold(0.0232, "shop/pay.py", 41, "pay", "app")


def test_a_loop_that_is_held_too_long_has_its_line() -> None:
    limit = BudgetResult("max_loop_hold_ms", 5.0, 23.2, kept=False)

    (problem,) = find_problems(judged(results(benchmark(KEY, "pass", budgets=[limit], loop_hold=HELD))))

    (cause,) = problem.causes
    assert cause.text == "budget loop hold 23.2 ms > 5 ms, shop/pay.py:41 in pay"
    assert (cause.file, cause.line, cause.function, cause.process) == ("shop/pay.py", 41, "pay", "app")


def test_a_loop_that_is_held_for_long_is_a_remark() -> None:
    assert remarks(benchmark(KEY, "pass", loop_hold=HELD)) == ["loop held 23.2 ms, shop/pay.py:41 in pay (app)"]
    assert remarks(benchmark(KEY, "pass", loop_hold=replace(HELD, duration_s=0.005))) == []
