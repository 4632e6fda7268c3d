"""Comparison of counts with those of a baseline."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from plumbline.counting.families import BUFFERS, COMMANDS, ROWS, SOCKETS, STATEMENTS
from plumbline.judging.baseline import find_counts, keep_uncounted, merge
from plumbline.judging.counts import (
    GrownCount,
    check_counts,
    compare_counts,
    compare_sides,
    counts_of,
    figure_of,
    grown_count,
)
from plumbline.judging.decide import decide
from plumbline.judging.evidence import BaselineEvidence, ComparisonEvidence, Evidence, Judgement
from plumbline.judging.explaining import explaining, group_changes, most_telling_first
from plumbline.results.files import write_results
from plumbline.results.schema import (
    Benchmark,
    CallSite,
    CountChange,
    CountGrowth,
    Counts,
    PlanChange,
    Reason,
    Results,
    Verdict,
)
from plumbline.settings import GateSettings
from tests.support.report_samples import benchmark, results

ALL = [SOCKETS, COMMANDS, STATEMENTS, ROWS, BUFFERS]
KEY = "test_a.py::test_a"
SELECT = "postgres.statement SELECT a"


def counted(counts: dict[str, float], verdict: Any = "pass", key: str = KEY, **fields: Any) -> Benchmark:
    return benchmark(key, verdict, counts=counts, **({"counted": ALL} | fields))


def changed(old: Benchmark, new: Benchmark, *, same_backend: bool = True) -> list[CountChange]:
    return compare_counts(counts_of(old), counts_of(new), same_backend=same_backend)


def gated(old: dict[str, float], new: dict[str, float], *, same_backend: bool = True) -> list[str]:
    changes = changed(counted(old), counted(new), same_backend=same_backend)
    return [change.name for change in changes if change.gated]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("redis.messages", 1, 2),
        ("redis.connections", 0, 1),
        ("redis.command GET", 1, 50),
        ("redis.command GET", 0.02, 0.04),
        ("postgres.statement SELECT a FROM b", 1, 51),
        ("postgres.statement SELECT a FROM b", 0, 1),
        ("postgres.parse SELECT a FROM b", 0, 1),
        ("postgres.rows_read SELECT a FROM b", 1, 1_000),
        ("postgres.buffers SELECT a FROM b", 3, 143),
        ("postgres.statement SELECT m.bytes_sent FROM app.messages", 1, 2),
        ("app.bytes_sent", 1_000, 1_027),
        ("app.bytes_received", 31, 48),
    ],
)
def test_what_has_grown_counts_against_it(name: str, old: float, new: float) -> None:
    """Counts may not grow by 1, bytes not by more than 1 % and 16. Smaller counts are fine."""
    assert gated({name: old}, {name: new}) == [name]
    assert gated({name: new}, {name: old}) == []


SELECT = "postgres.statement SELECT a FROM b"


def test_a_statement_comes_before_the_transactions_around_it() -> None:
    """One transaction around each statement of an N+1 has two statements more."""
    rollback = CountChange(f"{STATEMENTS} ROLLBACK", 2.0, 22.0, gated=True)
    select = CountChange(f"{STATEMENTS} SELECT now()", 0.0, 10.0, gated=True)
    assert most_telling_first([rollback, select]) == [select, rollback]


def test_the_line_that_has_more_comes_first() -> None:
    """A change moves lines, so functions are compared first. Lines count within a function."""
    calls = CallSite("shop/orders.py", 9, "recent", 40, "app")
    old = [calls, CallSite("shop/orders.py", 28, "list_orders", 1, "app")]
    moved = replace(calls, line=12)
    new = [moved, CallSite("shop/orders.py", 31, "list_orders", 1, "app"), CallSite("shop/orders.py", 35, "one", 2)]

    (change,) = changed(
        counted({SELECT: 41}, count_sites={SELECT: old}), counted({SELECT: 43}, count_sites={SELECT: new})
    )

    assert change.sites == [new[2], moved, new[1]]
    again = [*new[1:], replace(moved, line=20, count=5), replace(moved, count=38)]
    (change,) = changed(
        counted({SELECT: 43}, count_sites={SELECT: new}), counted({SELECT: 46}, count_sites={SELECT: again})
    )
    assert [one.line for one in change.sites] == [20, 12, 35, 31]


def test_a_count_that_fell_has_no_line() -> None:
    site = CallSite("shop/orders.py", 28, "list_orders", 1)
    (change,) = changed(counted({SELECT: 2}), counted({SELECT: 1}, count_sites={SELECT: [site]}))
    assert change.sites == []


@pytest.mark.parametrize("others_line", [28, 31])
def test_the_line_of_several_benchmarks_is_named_if_they_share_it(others_line: int) -> None:
    sites = [[CallSite("shop/orders.py", line, "list_orders", 50, "app")] for line in (28, others_line)]
    found = [
        benchmark(f"a.py::test_{number}", count_changes=[CountChange(SELECT, 1, 51, gated=True, sites=one)])
        for number, one in enumerate(sites)
    ]
    (growth,) = group_changes(found)
    assert growth.site == (sites[0][0] if others_line == 28 else None)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("app.bytes_sent", 1_000, 1_026), ("app.bytes_received", 31, 47), ("redis.messages", 0.33333, 1 / 3)],
)
def test_what_ids_and_rounding_do_is_no_growth(name: str, old: float, new: float) -> None:
    """Bytes may grow by 1 % and 16, and counts in their fifth digit."""
    assert changed(counted({name: old}), counted({name: new})) == []


def test_messages_are_compared_on_the_same_backend_alone() -> None:
    """Another network splits messages into other segments. Commands are the same everywhere."""
    old, new = {"redis.messages": 1.0, "redis.command SET": 1.0}, {"redis.messages": 2.0, "redis.command SET": 2.0}
    assert gated(old, new, same_backend=False) == ["redis.command SET"]
    assert gated(old, new) == ["redis.command SET", "redis.messages"]


@pytest.mark.parametrize(
    ("old", "new", "held"),
    [
        ({"redis.segments": 2}, {"redis.segments": 4}, False),
        ({"redis.segments": 2}, {"redis.segments": 5}, True),
        ({"redis.segments": 2}, {"redis.messages": 50}, True),
        ({"redis.segments": 2}, {"redis.messages": 3}, False),
        ({"redis.messages": 1}, {"redis.segments": 2}, False),
        ({}, {"redis.segments": 2}, True),
    ],
)
def test_messages_cut_into_segments_may_double(old: dict[str, float], new: dict[str, float], held: bool) -> None:
    """A message of several segments is split differently each time. More than twice as many are an increase."""
    assert gated(old, new) == (["redis.messages"] if held else [])


def test_a_statement_in_the_place_of_another_is_shown_alone() -> None:
    """A replaced statement is only shown. One more statement than before counts."""
    old = {"postgres.statement SELECT a FROM b": 1.0}
    new = {"postgres.statement SELECT a FROM b JOIN c": 1.0}
    changes = changed(counted(old), counted(new))
    assert {change.name: change.gated for change in changes} == dict.fromkeys([*old, *new], False)
    assert gated(old, old | new) == list(new)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([1.0], [2.0, 51.0, 40.0], [CountChange("redis.messages", 1.0, 2.0, gated=True, most=51.0)]),
        ([1.0], [1.0, 51.0, 40.0], []),
        ([2.0], [1.0, 0.0, 1.0], []),
        ([], [2.0, 0.0, 2.0], []),
        ([], [2.0, 1.0, 2.0], [CountChange("redis.messages", 0.0, 1.0, gated=True, most=2.0)]),
        ([1.0, 2.0, 1.0], [51.0], [CountChange("redis.messages", 2.0, 51.0, gated=True)]),
        ([1.0, 2.0, 1.0], [4.0, 5.0], [CountChange("redis.messages", 2.0, 4.0, gated=True, most=5.0)]),
        ([1.0, 2.0, 1.0], [3.0], []),
        ([9.0, 8.0], [1.0], []),
    ],
)
def test_what_varies_is_judged_by_its_smallest_value(
    old: list[float], new: list[float], expected: list[CountChange]
) -> None:
    """It has grown if that is above all values before, by more than they varied."""

    def of(values: list[float]) -> Benchmark:
        if len(values) > 1:
            return counted({}, counts_varying={"redis.messages": values})
        return counted({"redis.messages": values[0]} if values else {})

    assert changed(of(old), of(new)) == expected


def test_a_statement_that_varies_is_in_the_total_of_all_statements() -> None:
    """One statement in the place of another, which varies, is no growth."""
    old = counted({"postgres.statement SELECT a": 2.0})
    statement = {"postgres.statement SELECT b": [1.0, 2.0, 1.0]}
    assert not any(change.gated for change in changed(old, counted({}, counts_varying=statement)))
    assert any(change.gated for change in changed(old, counted(dict(old.counts), counts_varying=statement)))


def test_what_could_not_be_counted_is_not_judged() -> None:
    """A count that is missing on either side is not a count of 0."""
    one = counted({"redis.messages": 1.0})
    assert changed(counted({}, counted=[COMMANDS]), one) == []
    assert changed(one, counted({}, counted=[COMMANDS])) == []
    assert changed(counted({}), one)


def judged(now: Benchmark, old: Benchmark | None, verdict: Verdict = "pass", **comparison: Any) -> Results:
    """Judge a run of a benchmark with this verdict of its timings, against a baseline."""
    record = results(now, verdict=None, exit_code=None)
    timings = {now.key: BaselineEvidence(verdict, [Reason("no_time_left")])}
    counts = check_counts(record, results(old) if old else None, timings)
    evidence = Evidence(timings=timings, counts=counts, comparison=ComparisonEvidence(**comparison))
    return decide(record, evidence, GateSettings())


PASSED = Judgement("pass", 0.0, -0.01, 0.01, 0.04, 2, 0.01)
GROWN = Reason("count_grown", counts=[CountGrowth("redis.messages", 1.0, 50.0)])


@pytest.mark.parametrize("verdict", ["pass", "inconclusive", "improvement", "new", "regression"])
def test_a_count_that_has_grown_is_a_regression_whatever_the_timings_say(verdict: Verdict) -> None:
    """It fails the run on another machine, too, with the reason."""
    found = judged(counted({"redis.messages": 50.0}), counted({"redis.messages": 1.0}), verdict)
    [one] = found.benchmarks
    assert one.verdict == "regression"
    assert one.reasons == [GROWN, Reason("no_time_left")]
    assert (found.exit_code, found.reasons) == (
        1,
        [Reason("counts_grown", subjects=[found.benchmarks[0].key], counts=GROWN.counts)],
    )


def test_a_count_of_an_invalid_benchmark_makes_no_regression() -> None:
    """The benchmark stays invalid, and the count is shown."""
    found = judged(counted({"redis.messages": 50.0}), counted({"redis.messages": 1.0}), "invalid")
    assert found.benchmarks[0].verdict == "invalid"
    assert found.benchmarks[0].reasons[0] == GROWN


def test_a_count_that_has_grown_with_the_source_is_shown_alone() -> None:
    """A benchmark with another source measures something else."""
    now, old = counted({"redis.messages": 50.0}, source_hash="b"), counted({"redis.messages": 1.0}, source_hash="a")
    found = judged(now, old, "changed")
    assert found.benchmarks[0].verdict == "changed"
    assert found.benchmarks[0].reasons == [GROWN, Reason("no_time_left")]


def test_what_runs_nothing_that_differs_from_the_base_has_drifted() -> None:
    """Data, server or ids have changed, but not the code. The counts are shown."""
    now, old = counted({"redis.messages": 50.0}), counted({"redis.messages": 1.0})
    found = judged(now, old, base="abc, as asked", compared={KEY}, unaffected={KEY})
    assert found.benchmarks[0].verdict == "drift"
    assert found.benchmarks[0].reasons == [GROWN, Reason("unaffected", "abc, as asked")]
    assert (found.verdict, found.exit_code) == ("drift", 0)


@pytest.mark.parametrize(
    ("baseline", "base", "verdict", "shown"),
    [
        (None, 1.0, "regression", [CountChange("redis.messages", 1.0, 50.0, gated=True)]),
        (None, 50.0, "pass", []),
        (1.0, 50.0, "drift", [CountChange("redis.messages", 1.0, 50.0, gated=True)]),
        (50.0, 1.0, "regression", [CountChange("redis.messages", 1.0, 50.0, gated=True)]),
        (50.0, 60.0, "pass", [CountChange("redis.messages", 60.0, 50.0)]),
    ],
)
def test_the_base_decides_and_the_baseline_tells_drift(
    baseline: float | None, base: float, verdict: Verdict, shown: list[CountChange]
) -> None:
    """Head sends 50 messages."""
    now = counted({"redis.messages": 50.0})
    old = counted({"redis.messages": baseline}) if baseline else None
    sides = {KEY: (Counts({"redis.messages": base}, families=ALL), counts_of(now))}
    found = judged(now, old, base="abc", compared={KEY}, judgements={KEY: PASSED}, differences={KEY: []}, counts=sides)
    assert found.benchmarks[0].verdict == verdict
    assert found.benchmarks[0].count_changes == shown


@pytest.mark.parametrize("verdict", ["regression", "inconclusive"])
def test_a_drifted_count_hides_no_slow_down(verdict: Verdict) -> None:
    """The count has grown since the baseline, and not since the base. What pairs say of the time stays."""
    now, old = counted({"redis.messages": 50.0}), counted({"redis.messages": 1.0})
    seen = {KEY: replace(PASSED, verdict=verdict)}
    counts = {KEY: (counts_of(now), counts_of(now))}

    found = judged(now, old, base="abc", compared={KEY}, judgements=seen, differences={KEY: []}, counts=counts)

    assert found.benchmarks[0].verdict == verdict


def test_a_renamed_benchmark_is_compared_with_its_old_name() -> None:
    now = counted({"redis.messages": 2.0}, key="test_a.py::test_b", renamed_from=KEY)
    assert judged(now, counted({"redis.messages": 1.0})).benchmarks[0].verdict == "regression"


def test_without_a_baseline_no_count_is_compared() -> None:
    assert check_counts(results(counted({"redis.messages": 1.0})), None) == {}


def test_changes_alike_are_one() -> None:
    """The same growth in several benchmarks is one change, the most common first. Bytes are shown only alone."""
    changes = [
        [CountChange("redis.messages", 6, 8, True), CountChange("redis.bytes_sent", 60, 80, True)],
        [CountChange("redis.messages", 6, 8, True)],
        [CountChange("app.bytes_sent", 60, 80, True)],
        [CountChange("redis.connections", 1, 2, True)],
        [CountChange("redis.connections", 0, 1, True)],
        [CountChange("redis.connections", 0, 1, True)],
        [CountChange("postgres.messages", 50, 1)],
    ]
    found = [benchmark(str(number), count_changes=each) for number, each in enumerate(changes)]
    assert list(group_changes(found).items()) == [
        (CountGrowth("redis.connections", 1, 2, benchmarks=3, alike=False), ["3", "4", "5"]),
        (CountGrowth("redis.messages", 6, 8, benchmarks=2), ["0", "1"]),
        (CountGrowth("app.bytes_sent", 60, 80), ["2"]),
    ]
    assert group_changes(found, gated=False) == {CountGrowth("postgres.messages", 50, 1): ["6"]}


def test_a_baseline_keeps_the_counts_that_all_of_its_processes_agree_on() -> None:
    """A count that differs, varies or is missing in a process keeps all its values."""
    agreed: dict[str, float] = {"redis.messages": 1.0, "app.bytes_sent": 100.0, "app.messages": 1.0}
    runs = [
        results(counted(agreed | {"redis.command GET": 1.0})),
        results(counted(agreed | {"redis.command GET": 2.0, "app.bytes_sent": 110.0})),
        results(counted({"redis.messages": 1.0, "app.bytes_sent": 99.0}, counts_varying={"app.messages": [1.0, 2.0]})),
    ]
    [merged] = merge(runs).benchmarks
    assert merged.counts == {"redis.messages": 1.0, "app.bytes_sent": 110.0}
    assert merged.counts_varying == {"redis.command GET": [1.0, 2.0, 0.0], "app.messages": [1.0, 1.0, 1.0, 2.0]}
    assert merged.counted == ALL


def test_a_baseline_taken_where_something_can_t_be_counted_keeps_what_was_known() -> None:
    """Messages of the old baseline stay, its commands do not."""
    old = results(counted({"redis.messages": 1.0, "redis.command GET": 1.0}))
    new = results(counted({"redis.command SET": 1.0}, counted=[COMMANDS]))
    [kept] = keep_uncounted(old, new).benchmarks
    assert kept.counts == {"redis.messages": 1.0, "redis.command SET": 1.0}
    assert sorted(kept.counted) == sorted(ALL)


def test_counts_are_compared_with_another_kind_of_machine_s_baseline(tmp_path: Any) -> None:
    """The newest baseline with the same backends is used."""
    for number, backend in enumerate(["embedded", "embedded", "docker"]):
        one = results(
            counted({"redis.messages": float(number)}, process_medians=[1.0, 1.0]), created=f"2026-01-0{number}"
        )
        one = replace(one, environment=replace(one.environment, services={"redis": backend}))
        write_results(tmp_path / f"{number}.json", one)
    found = find_counts(tmp_path, results().environment)
    assert found is not None
    assert found.benchmarks[0].counts == {"redis.messages": 1.0}


def test_another_kind_of_machine_that_counts_less_hides_nothing(tmp_path: Path) -> None:
    """Counts that the newest baseline lacks come from an older one with the same backends."""
    counts = {"linux": {"redis.messages": 1.0, "redis.command GET": 1.0}, "mac": {"redis.command GET": 2.0}}
    families = {"linux": [SOCKETS, COMMANDS], "mac": [COMMANDS]}
    for number, machine in enumerate(counts):
        one = counted(counts[machine], counted=families[machine], process_medians=[1.0, 1.0])
        write_results(tmp_path / f"{machine}.json", results(one, created=f"2026-01-0{number}"))
    found = find_counts(tmp_path, results().environment)
    assert found is not None
    assert found.benchmarks[0].counts == {"redis.messages": 1.0, "redis.command GET": 2.0}


def test_bytes_of_many_commands_may_grow_by_as_many_digits() -> None:
    """Bytes may grow by 16 for each message, command or statement of the service."""
    old = {"redis.messages": 1.0, "redis.command SET": 50.0, "redis.bytes_sent": 1_900.0, "app.bytes_sent": 1_900.0}
    assert gated(old, old | {"redis.bytes_sent": 2_050.0}) == []
    assert gated(old, old | {"redis.bytes_sent": 1_900.0 * 1.01 + 50 * 16 + 1}) == ["redis.bytes_sent"]
    assert gated(old, old | {"app.bytes_sent": 2_050.0}) == ["app.bytes_sent"]


def test_rows_read_are_compared_under_the_same_profile_alone() -> None:
    """With more samples, earlier benchmarks have written more rows."""
    found = results(counted(reads(A=(1, 1_104, 0))), profile="full")
    [other] = check_counts(found, results(counted(reads(A=(1, 124, 0))), profile="ci")).values()
    assert ([change.gated for change in other.changes], other.fails) == ([False], False)
    [same] = check_counts(found, results(counted(reads(A=(1, 124, 0))), profile="full")).values()
    assert ([change.gated for change in same.changes], same.fails) == ([True], True)


def reads(**statements: tuple[float, float, float]) -> dict[str, float]:
    """Return counts of statements: how often each was executed, and the rows and buffers that it read."""
    kinds = (STATEMENTS, ROWS, BUFFERS)
    return {f"{kind} {name}": n for name, all_ in statements.items() for kind, n in zip(kinds, all_, strict=True) if n}


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        (reads(A=(1, 1, 3), B=(1, 999, 140)), reads(A=(1, 999, 140), B=(1, 1, 3)), [f"{ROWS} A", f"{BUFFERS} A"]),
        (reads(A=(1, 9, 3), B=(1, 9, 3)), reads(A=(1, 9, 7.7), B=(1, 9, 7.8)), [f"{BUFFERS} B"]),
        (reads(A=(5, 5, 15)), reads(A=(5, 5, 38.7)), []),
        (reads(A=(1, 50, 20)), reads(C=(1, 50, 20)), []),
        (reads(A=(2, 2, 6)), reads(A=(1, 1, 3), C=(1, 1, 3)), []),
        (reads(A=(1, 1, 3), B=(1, 999, 140)), reads(C=(1, 999, 140), B=(1, 1, 3)), [f"{ROWS} C", f"{BUFFERS} C"]),
        ({ROWS: 999, **reads(A=(1, 0, 0))}, reads(A=(1, 999, 0)), []),
        ({ROWS: 998, **reads(A=(1, 0, 0))}, reads(A=(1, 999, 0)), [f"{ROWS} A"]),
    ],
    ids=["exchanged", "little", "several", "reworded", "partly", "reworded and lost", "old baseline", "old and more"],
)
def test_each_statement_may_read_no_more(old: dict[str, float], new: dict[str, float], names: list[str]) -> None:
    """A new one may read what those read that it replaces, and not what others save."""
    assert gated(old, new) == names


@pytest.mark.parametrize(("executed", "fails"), [(1, False), (3, True)])
def test_a_statement_that_is_executed_less_often_may_be_prepared_later(executed: int, fails: bool) -> None:
    statement, parse = "postgres.statement A", "postgres.parse A"
    old = Counts({statement: 3}, families=["postgres.statement"])
    new = Counts({statement: executed, parse: 1}, families=["postgres.statement"])
    assert any(one.gated for one in compare_counts(old, new)) == fails


@pytest.mark.parametrize(
    ("old", "new", "old_unread", "new_unread", "names"),
    [
        ({"A": 1}, {"A": 9}, ["B"], ["B"], ["A"]),  # another one can't be counted
        ({}, {"B": 9}, ["B"], [], []),  # it could not be counted before
        ({}, {"A": 9}, ["B"], [], []),  # it may be in the place of one that could not
        ({"A": 1}, {}, [], ["A"], []),
    ],
)
def test_reads_that_could_not_be_counted_are_not_compared(
    old: dict[str, float], new: dict[str, float], old_unread: list[str], new_unread: list[str], names: list[str]
) -> None:
    sides = (
        Counts(
            {f"postgres.rows_read {one}": rows for one, rows in reads.items()},
            families=["postgres.rows_read"],
            unread=unread,
        )
        for reads, unread in ((old, old_unread), (new, new_unread))
    )
    assert [one.name.partition(" ")[2] for one in compare_counts(*sides)] == names


def test_reads_that_come_with_more_executions_are_left_out() -> None:
    """An N+1 reads one row each. A statement that also reads more each time is listed."""
    changes = changed(counted(reads(A=(1, 1, 3), B=(1, 1, 3))), counted(reads(A=(51, 51, 153), B=(2, 2_000, 286))))
    named = [one.name for one in explaining(changes)]
    assert named == [f"{STATEMENTS} A", f"{STATEMENTS} B", f"{ROWS} B"]


@pytest.mark.parametrize(
    ("profile", "version", "fails"), [("ci", "18.1", True), ("full", "18.1", False), ("ci", "17.6", False)]
)
def test_buffers_are_compared_under_the_same_profile_and_version(profile: str, version: str, fails: bool) -> None:
    """Another major version of PostgreSQL reads otherwise."""
    old = results(counted(reads(A=(1, 0, 100))), profile=profile)
    old = replace(old, environment=replace(old.environment, versions={"postgres": version}))
    new = results(counted(reads(A=(1, 0, 1_000))), profile="ci")
    new = replace(new, environment=replace(new.environment, versions={"postgres": "18.6"}))
    [evidence] = check_counts(new, old).values()
    assert ([change.gated for change in evidence.changes], evidence.fails) == ([fails], fails)


def test_a_changed_plan_is_said_and_never_fails() -> None:
    """Only statements that both have are compared."""
    old = results(counted({BUFFERS: 3.0}, plans={"SELECT a": "Seq Scan on a", "SELECT b": "Result", "SELECT d": ""}))
    new = results(
        counted({BUFFERS: 3.0}, plans={"SELECT a": "Index Scan i on a", "SELECT b": "Result", "SELECT c": ""})
    )
    evidence = check_counts(new, old)
    assert evidence[KEY].plans == [PlanChange("SELECT a", "Seq Scan on a", "Index Scan i on a")]
    decided = decide(new, Evidence(baseline=old, counts=evidence), GateSettings())
    assert decided.benchmarks[0].plan_changes == evidence[KEY].plans
    assert decided.benchmarks[0].verdict != "regression"


def test_a_baseline_keeps_the_plans_that_all_its_processes_have() -> None:
    """A statement that is executed by several plans has none."""
    runs = [
        results(counted({}, plans={"SELECT a": "Result", "SELECT b": plan})) for plan in ("Result", "Seq Scan on b")
    ]
    assert merge(runs).benchmarks[0].plans == {"SELECT a": "Result"}


def test_the_grown_count_is_the_number_of_all_statements() -> None:
    """A later commit that rewords the statement has grown, too; the messages come with the statements."""
    one, many, reworded = (
        counts_of(counted({f"postgres.statement {text}": number, "postgres.messages": 2 * number}))
        for text, number in (("SELECT all", 1), ("SELECT one", 10), ("SELECT a, b", 10))
    )

    assert grown_count(one, many) == GrownCount("postgres.statement", 1, 10)
    assert figure_of(reworded, "postgres.statement") == 10
    assert grown_count(many, reworded) is None


def test_a_grown_count_that_varies_has_its_smallest_value() -> None:
    before = counts_of(counted({"redis.command GET": 5, "redis.messages": 5}))
    after = counts_of(counted({"redis.messages": 5}, counts_varying={"redis.command GET": [7, 9]}))

    assert figure_of(after, "redis.command") == 7
    assert grown_count(before, after) == GrownCount("redis.command", 5, 7)


@pytest.mark.parametrize(
    ("base", "head", "measured", "outcome"),
    [
        ({"app.bytes_received": 14_039}, {"app.bytes_received": 14_200}, {"app.bytes_received": 14_299}, "unclear"),
        ({"app.allocations": 277}, {"app.allocations": 301}, {"app.allocations": 285}, "unclear"),
        ({"app.allocations": 277}, {"app.allocations": 301}, {"app.allocations": 303}, "fails"),
        ({"app.allocations": 277}, {"app.allocations": 301}, {}, "fails"),
        ({"app.allocations": 277}, {"app.allocations": 277}, {"app.allocations": 301}, ""),
        ({SELECT: 1}, {SELECT: 50}, {SELECT: 48}, "fails"),
        ({SELECT: 1}, {SELECT: 3}, {SELECT: 1}, "unclear"),
    ],
)
def test_a_count_that_depends_on_random_rows_is_unclear(
    base: dict[str, float], head: dict[str, float], measured: dict[str, float], outcome: str
) -> None:
    """It has grown if it grew by more than three times what two runs of the same code differ by."""
    families = [*ALL, "app.allocations"]
    sides = {KEY: [Counts(same=one, families=families) for one in (base, head)]}

    found = compare_sides(sides, {KEY: Counts(same=measured, families=families)})[KEY]

    assert ("fails" if found.fails else "unclear" if found.unclear else "") == outcome


def test_an_unclear_count_makes_a_benchmark_inconclusive() -> None:
    sides = {KEY: [Counts({"app.bytes_received": n}, families=ALL) for n in (14_039.0, 14_200.0)]}
    now = counted({"app.bytes_received": 14_299.0})

    found = judged(now, None, base="abc", compared={KEY}, judgements={KEY: PASSED}, differences={KEY: []}, counts=sides)

    [one] = found.benchmarks
    assert (one.verdict, found.exit_code) == ("inconclusive", 0)
    assert one.reasons[0] == Reason("counts_unclear", counts=[CountGrowth("app.bytes_received", 14_039, 14_200)])
    assert not any(change.gated for change in one.count_changes)
