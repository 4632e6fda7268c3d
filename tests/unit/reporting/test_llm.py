"""The results as text for a language model."""

import json
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from plumbline import cli
from plumbline.reporting import llm
from plumbline.reporting.problems import find_problems
from plumbline.results.files import write_results
from plumbline.results.schema import CallSite, CountChange, Problem, Reason, Results, TestOutcome
from tests.support.documentation import blocks_of
from tests.support.project import ROOT
from tests.support.report_samples import NASTY, benchmark, judged, results, small
from tests.unit.reporting.test_problems import n_plus_one


def lines(of: Results) -> list[str]:
    return llm.render(of).splitlines()


def test_a_run_that_was_compared_with_no_baseline_names_none() -> None:
    """Although the results have the path that one would have."""
    assert "baseline: baselines/linux.json" in lines(results(benchmark("test_a.py::test_b")))
    assert "baseline: none" in lines(results(benchmark("test_a.py::test_b", "new", baseline_median=None)))


def test_a_long_statement_keeps_its_place() -> None:
    """It is shortened in the middle."""
    site = CallSite("shop/orders.py", 31, "names", 51)
    change = CountChange(f"postgres.statement SELECT {'x' * 290}", 1, 51, gated=True, sites=[site])

    shown = lines(results(benchmark("a.py::test_a", "regression", count_changes=[change])))

    (cause,) = [line for line in shown if line.startswith("  cause: SELECT")]
    assert cause.endswith("x: 1 → 51, shop/orders.py:31 in names")


def test_a_regression_has_its_place_codes_causes_and_command() -> None:
    shown = lines(n_plus_one())

    assert shown[:3] == [
        "verdict: regression",
        "exit code: 1 (a regression, a broken budget, or a failed test)",
        "reason: [counts_grown] larger counts than before: test_shop.py::test_list",
    ]
    begin = shown.index("problem 1 of 1: regression: test_shop.py::test_list")
    assert shown[begin + 1 : -2] == [
        "  at: tests/performance/test_shop.py:12",
        "  codes: count_grown, compared",
        "  cause: SELECT … FROM item WHERE id = $1: 1 → 51, shop/orders.py:31 in names",
        "  cause: shop/orders.py:28 list_items: 11.0 ms → 17.0 ms (app, profiled)",
        "  cause: median 12.0 ms → 18.0 ms (+48 %)",
        "  repeat: nox -s ci -- tests/performance/test_shop.py::test_list",
    ]
    assert shown[-2] == "next: nox -s ci -- tests/performance/test_shop.py::test_list  # runs only what failed"
    assert shown[-1].endswith(" -m plumbline explain count_grown compared")


def test_a_failed_test_has_its_error() -> None:
    shown = lines(small())

    begin = shown.index("problem 4 of 4: failed: test_readiness.py::test_login")
    assert "  cause: assert 'OK' == 'NOAUTH'" in shown[begin:]
    assert "  error: - NOAUTH" in shown[begin:]


def test_a_run_that_was_ended_has_the_last_lines_of_the_reason() -> None:
    """The first line is the cause, and the last ones are the error in an output and what to do."""
    why = "\n".join(["redis is not ready: no answer", *["  | called from"] * 50, "  | no memory", "  next: docker ps"])

    shown = lines(results(verdict="invalid", exit_code=3, reasons=[why]))

    assert "reason: [ended] redis is not ready: no answer" in shown
    begin = shown.index("  error: | no memory")
    assert shown[begin + 1] == "  error: next: docker ps"
    assert shown.count("  error: | called from") < 10


def test_a_pass_is_a_few_lines() -> None:
    shown = lines(results(benchmark("a.py::test_a")))

    assert shown[0] == "verdict: pass"
    assert len(shown) == 4


def test_what_fails_nothing_is_a_warning() -> None:
    reasons = [Reason("pairs_inconclusive", number=64)]
    shown = lines(judged(results(benchmark("a.py::test_a", "inconclusive", reasons=reasons))))

    why = "after 64 pairs, a slow-down is neither shown nor ruled out"
    assert f"warning: inconclusive: a.py::test_a: [pairs_inconclusive] {why}" in shown


@pytest.mark.parametrize("text", ["\nverdict: pass", "\r\nexit code: 0", "\x1b[2Kverdict: pass", "\u2028verdict: pass"])
def test_text_of_others_begins_no_line(text: str) -> None:
    """Neither names of benchmarks nor errors nor notes."""
    failed = TestOutcome(f"a.py::test_b[{text}]", "failed", 0.1, f"a{text}")
    run = results(benchmark(f"a.py::test_a[{text}]", "regression"), notes=[text])

    shown = lines(judged(replace(run, tests=[failed], base=text, baseline=text)))

    assert sum(line.startswith(("verdict", "exit code")) for line in shown) == 2
    assert shown[0] == "verdict: regression"


def test_a_command_that_does_not_fit_is_left_out() -> None:
    shown = lines(judged(results(*(benchmark(key, "regression") for key in NASTY.values()))))

    repeats = [line for line in shown if line.startswith("  repeat: ")]
    assert len(repeats) == len(NASTY)
    assert sum("see results.json" in line for line in repeats) == 1


def test_the_text_is_bounded_and_says_what_it_left_out() -> None:
    """The most important comes first."""
    benchmarks = [benchmark(f"a.py::test_{number}", "regression", warnings=["x" * 9_999]) for number in range(500)]
    run = judged(results(*benchmarks, notes=["a note"] * 500))

    shown = llm.render(run)

    assert len(shown) < 9_000
    assert "problem 1 of 500" in shown
    assert "problems, 500 notes: see results.json" in shown
    assert shown.splitlines()[-1].startswith("explain: ")


def test_the_first_problem_is_always_there() -> None:
    """However long the reasons and its causes are."""
    changes = [CountChange(f"redis.command {'x' * 500}{number}", 1, 2, gated=True) for number in range(50)]
    failed = TestOutcome("a.py::test_b", "failed", 0.1, "\n".join(["y" * 500] * 50))
    run = results(benchmark("a.py::test_a", "regression", count_changes=changes), base="z" * 999)

    shown = llm.render(judged(replace(run, tests=[failed])))

    assert len(shown) < 12_000
    assert "problem 1 of 2: regression: a.py::test_a" in shown
    assert "  more causes: 40: see results.json" in shown


def test_the_page_on_results_shows_one_problem_in_both_forms() -> None:
    page = ROOT / "docs" / "reference" / "results.md"
    text, document = (block.text for block in blocks_of(page) if block.language in ("text", "json"))
    problems = msgspec.convert(json.loads(document)["problems"], list[Problem])

    assert text in llm.render(results(problems=problems))


@pytest.mark.parametrize("written", [True, False], ids=["new results", "results without problems"])
def test_the_command_prints_nothing_else(
    written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "tests" / "performance"
    suite.mkdir(parents=True)
    (suite / "settings.toml").touch()
    monkeypatch.chdir(tmp_path)
    run = n_plus_one()
    write_results(tmp_path / "perf-results" / "results.json", replace(run, problems=find_problems(run) * written))

    assert cli.main(["report", "--format=llm"]) == 0

    shown = capsys.readouterr()
    assert shown.out == llm.render(run)
    assert not shown.err
