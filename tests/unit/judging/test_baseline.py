import math
import platform
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from plumbline.judging.baseline import (
    baseline_path,
    changes,
    check_baselines,
    durations,
    edited_entries,
    find_baseline,
    keep_unmeasured,
    merge,
    preferred_backends,
)
from plumbline.judging.baseline_check import check_baseline
from plumbline.judging.counts import check_counts
from plumbline.judging.decide import decide
from plumbline.judging.evidence import Evidence
from plumbline.results.environment import cpu_model
from plumbline.results.files import ResultsError, dump_results, write_results
from plumbline.results.schema import SCHEMA, Benchmark, BudgetResult, Environment, Results, TestOutcome
from plumbline.settings import GateSettings
from tests.support.report_samples import benchmark, results

# The environment of this machine.
HERE = Environment(
    machine="m1",
    system=platform.system().lower(),
    architecture=platform.machine().lower(),
    cpu=cpu_model(),
    cpu_count=2,
    kernel="6.12",
    python="3.11.9",
    services={"redis": "docker", "postgres": "docker"},
    versions={},
    pin=1,
    commit="0f1e2d3",
    dirty=False,
    packages={},
)


def entry(key: str, median: float = 0.001, **fields: Any) -> Benchmark:
    values: dict[str, Any] = {"unit": "s", "verdict": None, "counts": {}, "process_medians": [median] * 2}
    return Benchmark(key=key, median=median, **(values | fields))


def run(*entries: Benchmark, created: str = "", **environment: Any) -> Results:
    environment_now = msgspec.structs.replace(HERE, **environment)
    return Results(SCHEMA, "pass", environment_now, list(entries), profile="ci", created=created)


# ---- finding it


def test_the_baseline_of_this_kind_of_machine_is_found(tmp_path: Path) -> None:
    write_results(baseline_path(tmp_path, HERE), run(entry("a.py::a")))

    found = find_baseline(tmp_path, HERE)

    assert found == run(entry("a.py::a"))


@pytest.mark.parametrize(
    "other",
    [{"cpu": "another"}, {"architecture": "another"}, {"system": "another"}, {"services": {"redis": "embedded"}}],
)
def test_the_baseline_of_another_kind_of_machine_is_none(tmp_path: Path, other: dict[str, Any]) -> None:
    """A baseline for another processor, architecture, system or backend is not used."""
    write_results(baseline_path(tmp_path, HERE), run(entry("a.py::a")))

    assert find_baseline(tmp_path, msgspec.structs.replace(HERE, **other)) is None


def test_no_baseline_is_none(tmp_path: Path) -> None:
    """A repository may have no baselines, or no folder for them."""
    assert find_baseline(tmp_path / "baselines", HERE) is None


def test_a_baseline_without_benchmarks_is_refused(tmp_path: Path) -> None:
    """With an empty list, every benchmark would pass as new."""
    write_results(baseline_path(tmp_path, HERE), run())

    with pytest.raises(ResultsError, match=r"has no benchmarks\n.*record a new one with `nox -s baseline`"):
        find_baseline(tmp_path, HERE)


@pytest.mark.parametrize("medians", [[], [0.001], [0.001, 0.0, 0.001]], ids=["none", "one run", "zero"])
def test_a_baseline_without_several_medians_is_refused(tmp_path: Path, medians: list[float]) -> None:
    """A copied results.json has no spread, and a median of 0 has no logarithm."""
    write_results(baseline_path(tmp_path, HERE), run(entry("a.py::a"), entry("b.py::b", process_medians=medians)))

    with pytest.raises(ResultsError, match=r"b\.py::b needs the medians of at least two processes, above 0\n.*nox"):
        find_baseline(tmp_path, HERE)


def test_a_corrupt_baseline_is_refused(tmp_path: Path) -> None:
    """A file that cannot be read does not count as a missing baseline."""
    baseline_path(tmp_path, HERE).write_text("<<<<<<< HEAD\n")

    with pytest.raises(ResultsError, match=r"is not a results file: .*\nRestore it from version control"):
        find_baseline(tmp_path, HERE)


@pytest.mark.parametrize("find", [lambda folder: find_baseline(folder, HERE), check_baselines])
def test_a_baseline_that_links_to_nothing_is_refused(tmp_path: Path, find: Callable[[Path], object]) -> None:
    """A broken link does not count as a missing baseline."""
    baseline_path(tmp_path, HERE).symlink_to(tmp_path / "gone.json")

    with pytest.raises(ResultsError, match="is a link to a file that does not exist\nRestore it"):
        find(tmp_path)


@pytest.mark.parametrize("find", [lambda folder: find_baseline(folder, HERE), check_baselines])
def test_a_folder_in_a_baselines_place_is_refused(tmp_path: Path, find: Callable[[Path], object]) -> None:
    """A folder with the name of the baseline does not count as a missing baseline."""
    baseline_path(tmp_path, HERE).mkdir()

    with pytest.raises(ResultsError, match="can't be read: Is a directory\nRestore it"):
        find(tmp_path)


def test_a_folder_of_baselines_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """An unreadable folder does not count as a missing baseline."""
    check_baselines(tmp_path / "none")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone")

    for name in ("file", "link"):
        with pytest.raises(ResultsError, match=f"{name} can't be read: "):
            check_baselines(tmp_path / name)


def test_no_number_in_a_baseline_is_an_error_of_ours(tmp_path: Path) -> None:
    """Any number in an edited file is either refused, or judged and reported."""
    fields = dict.fromkeys(("mean", "p95", "p99", "minimum", "maximum", "spread", "machine_speed_s"), 0.001)
    counts: dict[str, Any] = {
        "counts": {"redis.command GET": 3.0},
        "counted": ["redis.command"],
        "counts_varying": {"a": [1.0, 2.0]},
    }
    others: dict[str, Any] = {
        "rate_per_s": 3.0,
        "samples": 9,
        "operations": 2,
        "pin": 1,
        "tolerance": 0.1,
        "minimum_effect": 0.2,
    }
    one = entry("a.py::a", process_medians=[0.001, 0.0011], **fields, **counts, **others)
    document = dump_results(run(one, entry("b.py::b")))
    now, gate, path = run(one), GateSettings(), baseline_path(tmp_path, HERE)
    numbers = [*re.finditer(r"(?<=[ \[])-?[\d.]+(e-?\d+)?(?=[,\]}\n])", document)]
    outcomes = Counter[str]()
    for number in numbers:
        for bad in ("1e300", "-1", "-1e300", "0", "NaN", "Infinity", str(2**70), "1e-300", "5e-324", '"\\u0000"'):
            path.write_text(document[: number.start()] + bad + document[number.end() :])
            try:
                baseline = find_baseline(tmp_path, HERE)
            except ResultsError:
                outcomes["refused"] += 1
                continue
            timings = check_baseline(now, baseline, gate, {})
            evidence = Evidence(baseline=baseline, timings=timings, counts=check_counts(now, baseline, timings))
            judged = decide(now, evidence, gate)
            dump_results(judged)
            outcomes["judged"] += 1
    assert len(numbers) > 20
    assert outcomes["refused"] > 150
    assert outcomes["judged"] > 20


def test_recording_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    """The target of the link is written, even if it is new."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "baselines").mkdir()
    link = baseline_path(tmp_path / "baselines", HERE)
    link.symlink_to("../shared/baseline.json")

    write_results(link, run(entry("a.py::a")))

    assert link.is_symlink()
    assert find_baseline(tmp_path / "baselines", HERE) == run(entry("a.py::a"))
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["baseline.json"]


@pytest.mark.parametrize("backend", ["docker", "embedded"])
def test_a_baseline_of_any_backend_is_checked_beforehand(tmp_path: Path, backend: str) -> None:
    """The backend is not known before the services start, so the baselines of all backends are checked."""
    write_results(baseline_path(tmp_path, HERE), run(entry("a.py::a")))
    check_baselines(tmp_path)
    baseline_path(tmp_path, msgspec.structs.replace(HERE, services={"redis": backend})).write_text("")

    with pytest.raises(ResultsError, match=rf"-{backend}\.json is empty"):
        check_baselines(tmp_path)


def test_the_baseline_of_another_machine_is_not_checked(tmp_path: Path) -> None:
    """A damaged baseline of another machine does not stop a run on this one."""
    baseline_path(tmp_path, msgspec.structs.replace(HERE, cpu="another")).write_text("")

    check_baselines(tmp_path)


def test_the_only_baseline_of_this_machine_gives_the_preferred_backends(tmp_path: Path) -> None:
    """The preferred backends are those of the baseline of this kind of machine."""
    elsewhere = msgspec.structs.replace(HERE, cpu="another", services={"redis": "embedded"})
    write_results(baseline_path(tmp_path, HERE), run(entry("a.py::a")))
    write_results(baseline_path(tmp_path, elsewhere), run(entry("a.py::a"), cpu="another"))

    assert preferred_backends(tmp_path) == {"redis": "docker", "postgres": "docker"}


def test_two_baselines_of_this_machine_prefer_nothing(tmp_path: Path) -> None:
    """If there is a baseline for both backends, neither is preferred."""
    for backend in ("docker", "embedded"):
        environment = msgspec.structs.replace(HERE, services={"redis": backend})
        write_results(baseline_path(tmp_path, environment), run(entry("a.py::a"), services={"redis": backend}))

    assert preferred_backends(tmp_path) == {}


def test_durations_are_those_of_the_newest_baseline(tmp_path: Path) -> None:
    """Of any machine, so that all machines divide the suite in the same way. Of two of one time, the last by name."""
    assert durations(tmp_path) == ("", {})
    for name, created, took_s in (("c", "2026-01-01", 1.0), ("b", "2026-01-02", 3.0), ("a", "2026-01-02", 2.0)):
        write_results(tmp_path / f"{name}.json", run(entry("a.py::a", duration_s=took_s), created=created, cpu=name))
    (tmp_path / "damaged.json").touch()
    assert durations(tmp_path) == ("b.json", {"a.py::a": 3.0})
    write_results(tmp_path / "older.json", run(entry("a.py::a"), created="2026-01-03"))
    assert durations(tmp_path) == ("", {})


def test_no_baseline_prefers_nothing(tmp_path: Path) -> None:
    """A missing folder is no error."""
    assert preferred_backends(tmp_path / "baselines") == {}


def test_a_baseline_that_can_t_be_read_prefers_nothing(tmp_path: Path) -> None:
    """Another function reports the damaged file."""
    baseline_path(tmp_path, HERE).write_text("")

    assert preferred_backends(tmp_path) == {}


# ---- making it


def test_a_merged_benchmark_holds_medians_over_the_processes() -> None:
    """Median, mean, p95, p99 and rate are medians over the processes. Extremes and sample counts are totals."""
    figures = {"mean": 0.003, "p95": 0.004, "p99": 0.005, "rate_per_s": 300.0, "minimum": 0.002, "maximum": 0.009}
    runs = [
        run(entry("a.py::a", median, samples=samples, **{name: value * scale for name, value in figures.items()}))
        for median, samples, scale in [(0.004, 100, 4.0), (0.002, 90, 1.0), (0.003, 80, 2.0)]
    ]

    (merged,) = merge(runs).benchmarks

    assert merged.median == 0.003
    assert merged.process_medians == [0.004, 0.002, 0.003]
    assert (merged.mean, merged.p95, merged.p99, merged.rate_per_s) == (0.006, 0.008, 0.01, 600.0)
    assert (merged.minimum, merged.maximum, merged.samples) == (0.002, 0.036, 270)


def test_a_merged_benchmark_has_the_median_duration_of_its_test() -> None:
    """With its fixtures and its counting, which the samples do not tell."""
    tests = [TestOutcome("a.py::a", "passed", took_s) for took_s in (0.3, 0.1, 0.2)]
    runs = [msgspec.structs.replace(run(entry("a.py::a")), tests=[test]) for test in tests]
    assert merge(runs).benchmarks[0].duration_s == 0.2


def test_the_spread_of_a_merged_benchmark_is_that_of_its_processes() -> None:
    """If each median is 10 % above the last, in logarithms, the spread is 0.1."""
    runs = [run(entry("a.py::a", 0.001 * math.exp(log))) for log in (-0.1, 0.0, 0.1)]

    (merged,) = merge(runs).benchmarks

    assert merged.spread == pytest.approx(0.1)


def test_what_belongs_to_one_run_alone_is_not_merged() -> None:
    """A baseline has no samples, budgets, warnings or verdicts."""
    one = entry(
        "a.py::a", samples_s=[0.001], budgets=[BudgetResult("p95_ms", 1, 2, kept=False)], warnings=["too short"]
    )

    merged = merge([run(one), run(one)])

    assert (merged.benchmarks[0].samples_s, merged.benchmarks[0].budgets, merged.benchmarks[0].warnings) == ([], [], [])
    assert merged.verdict is None


def test_a_merged_baseline_is_that_of_its_last_run() -> None:
    """It has the environment and time of the last process."""
    merged = merge([run(entry("a.py::a"), created="first", pin=0), run(entry("a.py::a"), created="last", pin=1)])

    assert (merged.created, merged.environment.pin, merged.profile, merged.schema) == ("last", 1, "ci", SCHEMA)


def test_merged_benchmarks_are_sorted() -> None:
    """Their order does not depend on the order in the runs."""
    merged = merge([run(entry("b.py::b"), entry("a.py::a")), run(entry("a.py::a"), entry("b.py::b"))])

    assert [benchmark.key for benchmark in merged.benchmarks] == ["a.py::a", "b.py::b"]


def test_a_p99_that_some_processes_have_is_merged_of_those() -> None:
    """A process with fewer than 1,000 samples has no p99 and is ignored."""
    runs = [run(entry("a.py::a", p99=p99)) for p99 in (0.002, None, 0.004)]

    (merged,) = merge(runs).benchmarks

    assert merged.p99 == pytest.approx(0.003)


def test_no_process_with_a_p99_leaves_none() -> None:
    (merged,) = merge([run(entry("a.py::a")), run(entry("a.py::a"))]).benchmarks

    assert merged.p99 is None


def test_a_benchmark_that_is_not_in_every_run_is_refused() -> None:
    """A benchmark that failed in one process would have a baseline of fewer processes."""
    runs = [run(entry("a.py::a"), entry("b.py::b")), run(entry("a.py::a")), run(entry("a.py::a"), entry("b.py::b"))]

    with pytest.raises(ResultsError, match=r"b\.py::b was measured in 2 of 3 processes: no baseline is written"):
        merge(runs)


def test_a_benchmark_too_short_for_the_clock_is_refused() -> None:
    """A median of 0 cannot be compared. The message has advice."""
    runs = [run(entry("a.py::a", 0.001)), run(entry("a.py::a", 0.0))]

    with pytest.raises(ResultsError, match=r"a\.py::a measured 0, .*: put more operations into each sample"):
        merge(runs)


# ---- replacing it


def test_recording_a_part_keeps_the_rest() -> None:
    """New entries replace old ones with the same key. All others stay, in order."""
    old = run(entry("a.py::a", 0.001), entry("c.py::c", 0.001), created="old")
    new = run(entry("c.py::c", 0.002), entry("b.py::b", 0.002), created="new")

    kept = keep_unmeasured(old, new, [])

    assert [(benchmark.key, benchmark.median) for benchmark in kept.benchmarks] == [
        ("a.py::a", 0.001),
        ("b.py::b", 0.002),
        ("c.py::c", 0.002),
    ]
    assert kept.created == "new"


def test_recording_a_part_drops_what_is_gone() -> None:
    """A deleted benchmark is dropped, and a renamed one has only its new key."""
    old = run(entry("a.py::gone"), entry("a.py::old"), entry("a.py::kept"))
    new = run(entry("a.py::new", renamed_from="a.py::old"))

    kept = keep_unmeasured(old, new, [entry("a.py::gone")])

    assert [benchmark.key for benchmark in kept.benchmarks] == ["a.py::kept", "a.py::new"]


def test_the_changes_of_a_baseline_are_listed_by_size() -> None:
    """Changes are ordered by size, then come new and deleted benchmarks."""
    old = run(entry("a.py::a", 0.001), entry("b.py::b", 0.001), entry("c.py::c", 0.001), entry("d.py::d"))
    new = run(entry("a.py::a", 0.00101), entry("b.py::b", 0.0005), entry("c.py::c", 0.0012), entry("e.py::e"))

    assert changes(old, new) == [
        " -50.0%  b.py::b",
        " +20.0%  c.py::c",
        "  +1.0%  a.py::a",
        "    new  e.py::e",
        "   gone  d.py::d",
    ]


def test_the_first_baseline_is_reported_as_such() -> None:
    """Only the number of its benchmarks is reported."""
    assert changes(None, run(entry("a.py::a"), entry("b.py::b"))) == [
        "the first baseline of this kind of machine: 2 benchmarks"
    ]


def test_a_change_from_zero_is_not_listed() -> None:
    """A median of 0 has no relative change."""
    assert changes(run(entry("a.py::a", 0.0)), run(entry("a.py::a", 0.001))) == []


def of(*medians: float) -> Results:
    """Return a baseline of numbered benchmarks."""
    return results(*(benchmark(f"a.py::test_{n}", None, process_medians=[median]) for n, median in enumerate(medians)))


def test_entries_that_differ_are_edited() -> None:
    """By their timings or their counts, in both directions. New and deleted entries are edited, too."""
    assert edited_entries(of(1.0, 2.0), of(1.0, 3.0, 4.0)) == {"a.py::test_1", "a.py::test_2"}
    assert edited_entries(of(1.0, 2.0), of(1.0)) == {"a.py::test_1"}
    assert edited_entries(of(1.0), of(1.0)) == set()
    more = results(benchmark("a.py::test_0", None, process_medians=[1.0], counts={"redis.messages": 2.0}))
    assert edited_entries(of(1.0), more) == edited_entries(more, of(1.0)) == {"a.py::test_0"}


def test_a_new_or_deleted_baseline_edits_all_its_entries() -> None:
    assert edited_entries(None, of(1.0)) == edited_entries(of(1.0), None) == {"a.py::test_0"}
    assert edited_entries(None, None) == set()


def test_a_baseline_that_claims_another_machine_edits_all_its_entries() -> None:
    """The same entries are then judged on another machine."""
    elsewhere = of(1.0)
    environment = msgspec.structs.replace(elsewhere.environment, machine="another")
    elsewhere = msgspec.structs.replace(elsewhere, environment=environment)
    assert edited_entries(of(1.0), elsewhere) == {"a.py::test_0"}
