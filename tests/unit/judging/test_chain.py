"""The chain of changes along the default branch, with known numbers."""

import math

import pytest
from msgspec.structs import replace

from plumbline.judging.chain import Level, counts_along, has_moved, levels, run_of
from plumbline.results.history import HISTORY_SCHEMA, Entry, Run
from plumbline.results.schema import Reason
from tests.support.report_samples import benchmark, results

KEY = "a.py::test_a"


def run(commit: str, base: str = "", change: float | None = None, error: float = 0.01, key: str = KEY) -> Run:
    """A run of a commit of one letter, compared with another one. `change` is a logarithm."""
    file, _, name = key.partition("::")
    measured = Entry(1e6, change_e4=None if change is None else change * 1e4, error_e4=error * 1e4)
    return Run(HISTORY_SCHEMA, commit * 40, commit, "linux", "pass", {file: {name: measured}}, base * 10)


def found(*runs: Run) -> dict[str, tuple[str, float, float]]:
    """Origin, level and error by commit."""
    chain = levels(runs, [KEY, ""])
    return {one.commit[0]: (one.origin[0], round(one.level, 9), round(one.error, 9)) for one in chain}


def test_successive_comparisons_are_multiplied() -> None:
    """Variances add up: three links of 1 % have an error of √3 %."""
    assert found(run("b", "a", 0.02), run("c", "b", 0.03), run("d", "c", -0.01)) == {
        "b": ("a", 0.02, 0.01),
        "c": ("a", 0.05, round(math.sqrt(2) * 0.01, 9)),
        "d": ("a", 0.04, round(math.sqrt(3) * 0.01, 9)),
    }


def test_comparisons_with_the_same_base_are_not_added_up() -> None:
    assert found(run("b", "a", 0.02), run("c", "a", 0.03), run("d", "c", 0.1)) == {
        "b": ("a", 0.02, 0.01),
        "c": ("a", 0.03, 0.01),
        "d": ("a", 0.13, round(math.sqrt(2) * 0.01, 9)),
    }


def test_repeated_comparisons_are_averaged_by_their_precision() -> None:
    """1 / s² weighs 0.02 ± 0.01 four times as much as 0.07 ± 0.02."""
    assert found(run("b", "a", 0.02), run("b", "a", 0.07, 0.02)) == {"b": ("a", 0.03, round(math.sqrt(1 / 12500), 9))}


def test_the_path_with_the_smallest_variance_counts() -> None:
    """A nightly comparison with the release beats many links, and joins what a lost comparison had parted."""
    assert found(run("b", "a", 0.02), run("c", "b", 0.03), run("c", "a", 0.01))["c"] == ("a", 0.01, 0.01)
    parted = run("b", "a", 0.02), run("d", "c", 0.03)
    assert found(*parted)["d"] == ("c", 0.03, 0.01)
    assert found(*parted, run("e", "a", 0.5, 0.0), run("e", "c", 0.1, 0.0))["d"] == ("a", 0.43, 0.01)


def test_a_new_base_begins_a_new_chain() -> None:
    """Nothing is known of the difference between the two, and the run of the new base itself is its beginning."""
    assert found(run("b", "a", 0.02), run("c", "c", 0.0, 0.0), run("d", "c", 0.03)) == {
        "b": ("a", 0.02, 0.01),
        "c": ("c", 0.0, 0.0),
        "d": ("c", 0.03, 0.01),
    }


def test_only_what_was_compared_is_in_a_chain() -> None:
    assert found(run("b", "a"), run("c", "", 0.02), run("d", "a", 0.02, key="a.py::test_b")) == {}
    renamed = levels([run("b", "a", 0.02, key="a.py::test_old"), run("c", "b", 0.03)], [KEY, "a.py::test_old"])
    assert [round(one.level, 9) for one in renamed] == [0.02, 0.05]


def test_a_change_of_any_size_can_be_shown() -> None:
    """Many huge changes add up to more than a float can have."""
    [*_, last] = levels([run(to, base, 9.9) for base, to in zip("abcde", "bcdef", strict=True)], [KEY])
    assert last.change == pytest.approx(999)
    [*_, last] = levels([run(to, base, -9.9) for base, to in zip("abcde", "bcdef", strict=True)], [KEY])
    assert last.interval()[0] == pytest.approx(-0.999)


def test_an_interval_allows_for_comparisons_that_end_early() -> None:
    """Half a standard error of each link, which does not average out: upwards, and downwards if it is reversed."""
    forwards = levels([run("b", "a", 0.02), run("c", "b", 0.0)], [KEY])[-1]
    assert (forwards.too_low, forwards.too_high) == pytest.approx((0.01, 0))
    low, high = map(math.log1p, forwards.interval(2.0))
    assert (low, high) == pytest.approx((0.02 - 2 * forwards.error, 0.02 + 2 * forwards.error + 0.01))

    backwards = levels([run("c", "a", 0.02), run("c", "b", 0.05, 0.02), run("d", "b", 0.0)], [KEY])[-1]
    assert (backwards.level, backwards.too_low, backwards.too_high) == pytest.approx((-0.03, 0.01, 0.01))


@pytest.mark.parametrize(
    ("level", "error", "sharing", "is_moved"),
    [
        (0.10, 0.02, 1, True),  # 4 standard errors above the tolerance
        (0.10, 0.03, 1, True),
        (0.10, 0.03, 10, False),  # 2.7 standard errors: one of ten benchmarks needs 3.3
        (0.02, 0.0, 1, False),
        (-0.10, 0.02, 1, True),
        (-0.02, 0.0, 1, False),
    ],
)
def test_a_benchmark_has_moved_if_more_than_the_tolerance_is_significant(
    level: float, error: float, sharing: int, is_moved: bool
) -> None:
    assert has_moved(Level("b", "", "a", level, error), 0.021, sharing) is is_moved


def test_a_run_keeps_links_medians_and_counts() -> None:
    """A benchmark that executes nothing that differs has not changed. An estimate without pairs is no link."""
    paired = benchmark(
        KEY,
        change=0.05,
        change_error=0.004,
        counts={"redis.command GET": 2.0, "redis.command SET": 1.0, "app.allocations": 7.0, "test.allocations": 3.0},
        counted=["redis.command", "app.allocations", "postgres.statement", "messages"],
        counts_varying={"redis.messages": [1.0, 2.0]},
    )
    others = (
        benchmark("a.py::test_b", change=0.05, reasons=[Reason("unaffected", "abc")]),
        benchmark("a.py::test_c", change=0.05),
        benchmark("a.py::test_d", "missing"),
    )
    kept = run_of(results(paired, *others, base="0123456789, merge base with main", created="2026", verdict="pass"))

    assert (kept.base, kept.date, kept.verdict, kept.machine) == (
        "0123456789",
        "2026",
        "pass",
        "linux-x86-64-xeon-embedded",
    )
    assert kept.keys == [KEY, "a.py::test_b", "a.py::test_c"]
    entry = kept.entry(KEY)
    assert entry
    assert (entry.messages, entry.commands, entry.statements, entry.allocations) == (None, 3, 0, 10)
    assert (entry.median_ns, entry.change_e4, entry.error_e4) == pytest.approx((57_400, math.log(1.05) * 1e4, 40))
    links = [(one.change_e4, one.error_e4) for key in kept.keys[1:] if (one := kept.entry(key))]
    assert links == [(0, 0), (None, None)]
    assert counts_along([kept, replace(kept, commit="other")], [KEY])["commands"] == [("0f1e2d3", 3), ("other", 3)]
