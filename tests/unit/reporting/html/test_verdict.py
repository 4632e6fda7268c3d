import re

import pytest
from msgspec.structs import replace

from plumbline.reporting.html import page
from plumbline.results.schema import Reason, Results, TestOutcome
from tests.support.html_reader import Reader
from tests.support.report_samples import benchmark, judged, many, results, small


def seen(run: Results) -> Reader:
    return Reader(page.render(run, None, []))


def test_the_verdict_stands_first_and_failing_benchmarks_are_open() -> None:
    shown = seen(small())

    headings = [tag for tag, _ in shown.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    assert ("h1", {"class": "bad"}) in shown.tags
    assert "Exit code 3: something was not measured, or not compared, so there is no verdict to trust." in shown.text
    assert "Next: nox -s ci -- tests/performance/test_redis.py::test_publish_latency 'tests/" in shown.text
    assert "assert 'OK' == 'NOAUTH'" in shown.text
    entries = [attributes for tag, attributes in shown.tags if tag == "details" and "data-benchmark" in attributes]
    assert [("open" in each) for each in entries] == [True] * 3 + [False] * 3


def test_the_project_and_its_commit_the_date_and_the_duration_stand_on_top() -> None:
    run = results(benchmark("a.py::test_a"), project="shop", created="2026-11-24T08:00:00+00:00", duration_s=92.3)
    run = replace(run, environment=replace(run.environment, branch="faster-search", commit="0f1e2d3" * 5, dirty=True))

    top = seen(run).text.partition(" Pass ")[0]

    assert "project shop branch faster-search commit 0f1e2d3, with uncommitted changes" in top
    assert "date 2026-11-24 08:00 UTC took 1 min 32 s" in top


@pytest.mark.parametrize(("samples_s", "words"), [([1e-3], "compared in pairs with"), ([], "compared with")])
def test_the_base_is_compared_in_pairs_only_if_a_pair_ran(samples_s: list[float], words: str) -> None:
    one = benchmark("a.py::test_a", base_samples_s=samples_s, head_samples_s=samples_s)

    assert f" {words} beef000, as asked: main" in seen(replace(results(one), base="beef000, as asked: main")).text


def test_verdicts_are_counted_in_words() -> None:
    entries = [
        benchmark("a.py::test_1", "regression"),
        benchmark("a.py::test_2", "regression"),
        benchmark("a.py::test_3", "improvement"),
        benchmark("a.py::test_4", reasons=[Reason("unaffected", "beef000")]),
        benchmark("a.py::test_5"),
        benchmark("a.py::test_6", "new"),
    ]
    run = results(*entries)
    shown = seen(replace(run, tests=[*run.tests, TestOutcome("a.py::test_7", "skipped", 0.0)]))

    counted = "2 regressions 1 improvement 1 passed 1 not affected by this change 1 new benchmark 1 test skipped"
    assert counted in shown.text


def test_problems_of_a_kind_have_a_heading_and_their_codes_one_command() -> None:
    """A broken budget is not called a regression."""
    shown = seen(small())

    top = shown.text[: shown.text.index("Search")]
    places = [
        top.index(text) for text in (" Failed publish_latency ", " Over budget get[100 B] ", " Missing select_1 ")
    ]
    assert places == sorted(places)
    codes = "slower_than_baseline slower_in_processes budgets_broken test_skipped tests_failed"
    assert top.count("plumbline explain ") == top.count(f"Help: plumbline explain {codes} ") == 1


def test_each_failing_benchmark_has_its_causes_and_the_command_that_repeats_it() -> None:
    shown = seen(many(count=20, runs=0)[0])

    problems = shown.text[: shown.text.index("Search")]
    assert "SELECT … FROM item WHERE id = $1: 1 → 51" in problems
    assert "tests/performance/test_redis_benchmarks.py:1" in problems
    assert (
        "Repeat: nox -s ci -- 'tests/performance/test_redis_benchmarks.py::test_publish_latency[100 B-0]'" in problems
    )
    assert "Slower than" not in problems  # that says nothing more


def test_what_is_wrong_with_a_run_is_shown_with_all_its_lines() -> None:
    """As when the application fails at its start."""
    run = results(
        verdict="invalid", exit_code=3, reasons=["app never became ready\nTraceback:\n  <line 3>"], baseline=""
    )

    shown = seen(run)

    assert "Invalid App never became ready Traceback: <line 3> " in shown.text
    assert shown.texts.count("Traceback:\n  <line 3>") == 1
    assert "Nothing was measured." in shown.text
    assert "#benchmarks" in shown.attributes("href")
    assert "benchmarks" in shown.attributes("id")


def test_of_a_long_traceback_the_end_is_shown_and_the_rest_is_folded() -> None:
    lines = ["app is not ready", *(f"  line {n}" for n in range(30)), "ModuleNotFoundError: No module named 'shop'"]
    shown = seen(results(verdict="invalid", exit_code=3, reasons=["\n".join(lines)], baseline=""))

    visible, _, folded = shown.text.partition("All 31 lines")
    assert "ModuleNotFoundError" in visible
    assert "line 20 " not in visible
    assert "line 0 " in folded


def test_more_failing_benchmarks_than_a_reader_takes_in_are_counted() -> None:
    shown = seen(judged(results(*(benchmark(f"a.py::test_{n}", "regression") for n in range(15)))))

    assert shown.text.count("Repeat: ") == 10
    assert "5 more failed: see below." in shown.text


def test_the_command_that_repeats_the_only_problem_is_shown_once() -> None:
    """As the next step, if that runs nothing else."""
    failed = benchmark("a.py::test_get[1]", "regression")
    command = "nox -s ci -- 'tests/performance/a.py::test_get[1]'"

    assert seen(judged(results(failed, benchmark("a.py::test_get[2]")))).text.count(command) == 1

    failed = benchmark("a.py::test_get[€]", "regression")  # not safe to paste everywhere
    shown = seen(judged(results(failed, benchmark("a.py::test_get[2]")))).text
    assert "Next: nox -s ci -- tests/performance/a.py runs only the file of what failed." in shown
    assert "Repeat: nox -s ci -- 'tests/performance/a.py::test_get[€" in shown


def test_the_heading_of_a_first_run_says_why_nothing_is_judged() -> None:
    """Once."""
    shown = seen(judged(results(benchmark("a.py::test_a", "new", baseline_median=None, change=None), baseline="")))

    title = "New: there is no baseline to compare with yet"
    assert [shown.text.count(text) for text in (title, "baseline to compare")] == [2, 2]  # of the page, and on it
