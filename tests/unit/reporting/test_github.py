"""Annotations for a GitHub workflow: known results, and names that would break the command."""

from msgspec.structs import replace

from plumbline.reporting.github import MOST, annotations
from plumbline.results.schema import TestOutcome
from tests.support.report_samples import benchmark, results, small


def test_problems_are_annotated_on_the_source_line() -> None:
    """The line is counted from 1; a missing benchmark has none, and a pass is not annotated."""
    run = small()
    first, *others = annotations(replace(run, benchmarks=[replace(run.benchmarks[0], line=41), *run.benchmarks[1:]]))
    place = "file=tests/performance/test_redis.py,line=42"
    assert first.startswith(f"::error {place},title=regression%3A test_publish_latency::57.1 µs → 61.7 µs")
    assert "%0Aslower in 5 fresh processes" in first
    assert [line.partition("::")[2].partition(",title=")[0] for line in others] == [
        "error file=tests/performance/test_redis.py,line=1",
        "error file=tests/performance/test_postgres.py",
        "error file=tests/performance/test_readiness.py",
    ]


def test_verdicts_that_fail_nothing_are_warnings() -> None:
    """Inconclusive and drift fail nothing."""
    run = results(benchmark("test_a.py::test_b", "inconclusive"), benchmark("test_a.py::test_c", "drift"))
    assert [line.partition(" ")[0] for line in annotations(run)] == ["::warning", "::warning"]


def test_names_cannot_end_the_command() -> None:
    """Colons, commas, per cent and ends of lines in names and messages are escaped."""
    run = results(benchmark("test_a.py::test_b[x,y:z%]", "regression", reasons=["50 % more::error\nand more"]))
    [line] = annotations(run)
    assert "title=regression%3A test_b[x%2Cy%3Az%25]::" in line
    assert "50 %25 more::error and more" in line
    assert "\n" not in line


def test_there_are_no_more_lines_than_github_shows() -> None:
    """The greatest changes come first."""
    run = results(*(benchmark(f"test_a.py::test_{n}", "regression", change=n / 100) for n in range(2_000)))
    lines = annotations(run)
    assert len(lines) == MOST
    assert "test_1999" in lines[0]


def test_a_run_without_results_has_none() -> None:
    """Its reasons are in the summary."""
    assert annotations(results(exit_code=3, verdict="invalid", reasons=["redis is not ready"])) == []


def test_a_failed_test_is_annotated_with_its_error() -> None:
    """From a traceback, only the lines of the error."""
    run = results(tests=[TestOutcome("test_a.py::test_b", "failed", 0.1, "    assert a\nE   assert 1 == 2")])
    assert annotations(run) == [
        "::error file=tests/performance/test_a.py,title=failed%3A test_a.py%3A%3Atest_b::assert 1 == 2"
    ]
