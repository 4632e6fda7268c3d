"""The trend of the last runs on the default branch."""

import math

import pytest
from msgspec.structs import replace

from plumbline.reporting.trend import BARS, MOST_RUNS, bars, runs_on_default_branch, trend_lines
from plumbline.results.schema import Results
from tests.support.report_samples import benchmark, results

KEY, OTHER = "a.py::test_a", "a.py::test_b"


def run(branch: str = "main", created: str = "1", **fields: object) -> Results:
    """A run of the history."""
    one = results(benchmark(KEY), created=created)
    return replace(one, environment=replace(one.environment, branch=branch, **fields))


def test_only_comparable_runs_of_committed_code_are_of_the_trend() -> None:
    """On the default branch, and not the run itself, which is in the history if it is reported again."""
    history = [
        run(created="0"),
        run("topic"),
        run(dirty=True),
        run(cpu="another"),
        run(services={"redis": "docker"}),
        run(created="9"),
    ]

    assert runs_on_default_branch(run("topic", "9"), history) == history[:1]


@pytest.mark.parametrize(("named", "found"), [("develop", "develop"), ("", "main"), ("trunk", "main")])
def test_the_default_branch_is_the_named_one_if_it_has_runs(named: str, found: str) -> None:
    """CI names it; otherwise it is main, or master."""
    history = [run(branch) for branch in ("develop", "main", "master", "")]

    assert [one.environment.branch for one in runs_on_default_branch(run(created="9"), history, named)] == [found]


def test_a_history_without_the_default_branch_has_no_trend() -> None:
    """Its branches, or no branch at all, are another matter."""
    assert not runs_on_default_branch(run(created="9"), [run("topic"), run("")])
    assert not trend_lines(run(), [])


def test_a_trend_is_of_the_last_runs() -> None:
    """As many as fit on a line."""
    history = [run(created=f"{number:03}") for number in range(100)]

    found = runs_on_default_branch(run(created="999"), history)

    assert [one.created for one in found] == [f"{number:03}" for number in range(100 - MOST_RUNS, 100)]


def test_noise_looks_flat_and_a_step_does_not() -> None:
    """Bars are of logarithms of times."""
    assert set(bars([math.log(time_s) for time_s in (1.0, 1.004, 0.997)])) <= {*BARS[3:5]}
    assert bars([0.0, 1.0, 0.5]) == f"{BARS[0]}{BARS[-1]}{BARS[4]}"


def test_only_benchmarks_that_all_runs_have_are_taken_together() -> None:
    """One that was added later would shift the mean."""
    runs = [replace(run(), benchmarks=[benchmark(KEY, median=1e-3)])] * 2
    runs.append(replace(run(), benchmarks=[benchmark(KEY, median=1.1e-3), benchmark(OTHER, median=9.0)]))

    [(key, text)] = trend_lines(run(), runs)

    assert key == ""
    assert text.endswith(" 1 benchmark: 0.0 % to +10 %, compared with the first of these runs")


def test_a_failing_benchmark_that_was_renamed_keeps_its_trend() -> None:
    """Runs before have the old name."""
    failing = results(benchmark("a.py::test_new", "regression", renamed_from=KEY, operations=5))

    *_, (key, text) = trend_lines(failing, [run()] * 3)

    assert (key, text[3:]) == ("a.py::test_new", " 57.4 µs to 57.4 µs, last 57.4 µs/op")
