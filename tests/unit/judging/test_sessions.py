"""The difference between sessions, and what the baseline check passes where they differ."""

import itertools
import math
import random
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from plumbline.comparing.comparison import plans_of
from plumbline.comparing.statistics.plan import BenchmarkPlan, Pair
from plumbline.comparing.statistics.schedule import conduct
from plumbline.judging.evidence import BASELINE_MISSES, LATER_MISSES
from plumbline.judging.sessions import ASSUMED, ASSUMED_WEIGHT, MOST, Sessions, sessions_of
from plumbline.results.schema import Benchmark, Results
from plumbline.settings import GateSettings, Settings
from scripts.baseline_check import Case, simulate
from tests.support.report_samples import benchmark, results

QUARTILE = 0.6744898
MISSES = 1 - GateSettings().power


def test_a_difference_is_assumed_before_there_is_evidence() -> None:
    assert Sessions().between("a") == pytest.approx(ASSUMED**2)


def test_the_other_benchmarks_of_the_run_show_it() -> None:
    """Their typical size of 3 % counts as often as there are others. What processes explain is taken off."""
    sessions = Sessions({"a": 0.0, **{str(one): one % 2 * 0.06 - 0.03 for one in range(10)}}, variance=0.01**2)

    shown = (0.03 / QUARTILE) ** 2 - 0.01**2 * 1.2
    assert sessions.between("a") == pytest.approx((ASSUMED_WEIGHT * ASSUMED**2 + 10 * shown) / (ASSUMED_WEIGHT + 10))
    assert sessions.between("a", of_run=False) == pytest.approx(ASSUMED**2)


def test_a_benchmark_does_not_excuse_itself_nor_the_few_others() -> None:
    """A real slow-down of one benchmark among few would be typical of them."""
    assert Sessions({"a": 0.5, "b": 0.5, "c": 0.0}).between("a") == pytest.approx(ASSUMED**2)
    calm = Sessions({"a": 0.5, **{str(one): 0.0 for one in range(5)}})
    assert calm.between("a") == pytest.approx(ASSUMED**2 / 2)


def test_what_the_speed_of_the_machine_explains_is_no_difference() -> None:
    """A speed that does not fit to the others does not count."""
    changes = {str(one): -0.03 for one in range(41)}
    explained = Sessions(changes, dict.fromkeys(changes, -0.03)).between("0")

    assert explained == pytest.approx(ASSUMED_WEIGHT * ASSUMED**2 / (ASSUMED_WEIGHT + 40))
    assert Sessions(dict.fromkeys(changes, 0.0), dict.fromkeys(changes, -0.03)).between("0") == explained
    assert Sessions(changes, dict.fromkeys(changes, 0.03)).between("0") == Sessions(changes).between("0")


def test_a_change_of_all_benchmarks_is_no_difference_between_sessions() -> None:
    """At most 10 % are believed, so that a gain of half of the time is still an improvement."""
    assert Sessions({str(one): math.log(0.5) for one in range(40)}).between("0") == MOST**2


def test_earlier_runs_of_the_benchmark_show_it() -> None:
    """A lasting change does not count. From five runs on it is no less than they show."""
    differing = [0.1 + 0.02 * (-1) ** run for run in range(20)]
    known = 2 * ((0.02 / QUARTILE) ** 2 - 0.01**2)

    assert Sessions(earlier={"a": differing}, variance=0.01**2).between("a") == pytest.approx(known)
    calm = Sessions(earlier={"a": [0.1] * 20}, variance=0.01**2).between("a")
    assert calm == pytest.approx(ASSUMED_WEIGHT * ASSUMED**2 / (ASSUMED_WEIGHT + 20))
    assert Sessions(earlier={"a": [0.1] * 20}).between("b") == pytest.approx(ASSUMED**2)


def test_only_earlier_runs_with_the_same_baseline_count() -> None:
    """Nor do benchmarks that could not be compared then, or now."""

    def of(median: float, verdict: str = "pass", then: str = "then", **fields: str) -> Results:
        entry = benchmark("a", verdict, process_medians=[1.0] * 5, median=median, **fields)  # type: ignore[arg-type]
        return replace(results(entry, created="then"), baseline_created=then)

    history = [of(2.0), of(3.0, then="before"), of(4.0, "changed"), of(0.0), of(math.e)]

    sessions = sessions_of(of(2.0), of(1.0), history, 0.0)

    assert sessions.changes == {"a": pytest.approx(math.log(2))}
    assert sessions.earlier == {"a": pytest.approx([math.log(2), 1.0])}
    assert sessions_of(of(2.0, source_hash="another"), of(1.0), [], 0.0).changes == {}
    damaged = results(Benchmark("a", "s", None, 1.0, {}, process_medians=[0.0, 1.0]))
    assert sessions_of(of(2.0), damaged, history, 0.0) == Sessions(processes=1)


@pytest.mark.parametrize(
    "case",
    [
        Case(38, 0.005, 0.02),
        Case(38, 0.01, 0.03),
        Case(38, 0.005, 0.03, together=True),
        Case(1, 0.005, 0.02),
        Case(3, 0.01, 0.03),
        Case(3, 0.01, 0.03, earlier=5),
        Case(3, 0.01, 0.03, earlier=20),
        Case(38, 0.005, machine=0.981),
    ],
    ids=[
        "own, 2 %",
        "own, 3 %",
        "together, 3 %",
        "one benchmark",
        "first run",
        "few runs",
        "many runs",
        "a faster machine",
    ],
)
def test_the_power_holds_where_sessions_differ(case: Case) -> None:
    """The check passes no more slow-downs of 5 % than its share of the allowed misses, and what chance adds to that."""
    suites = 150 if case.benchmarks > 10 else 600
    allowed = BASELINE_MISSES * MISSES

    passed = simulate(case, suites)

    assert passed.slower <= allowed + 3.1 * math.sqrt(allowed / suites)


def test_most_of_what_is_unchanged_passes_if_sessions_are_alike() -> None:
    """At once in a large suite, and after some runs in a small one."""
    assert simulate(Case(38, 0.005, slower=0.0), 20).others > 0.95
    assert simulate(Case(3, 0.005, slower=0.0, earlier=20), 100).others > 0.85


def test_the_misses_of_both_stages_stay_within_what_is_allowed_together() -> None:
    """The baseline check passes some of the slow-downs of 5 %, and the pairs pass some of those that it leaves open."""
    rng, times = random.Random(1), 400
    [plan] = plans_of(Settings(), [benchmark("a", median=1e-3)])
    assert BASELINE_MISSES + LATER_MISSES == 1
    assert 1 - plan.thresholds.power == pytest.approx(LATER_MISSES * MISSES)

    def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:  # noqa: ARG001
        level = rng.gauss(math.log1p(plan.thresholds.minimum_effect), 0.02)
        return Pair({one.key: [rng.gauss(level, 0.01) for _ in range(2 * one.blocks - 1)] for one in chosen})

    passed_by_pairs = 0
    for _ in range(times):
        clock = itertools.count()
        found = conduct([plan], run_pair, limit_s=60, clock=lambda clock=clock: float(next(clock)))  # type: ignore[misc]
        passed_by_pairs += found.judgements["a"].verdict == "pass"
    passed_by_check = simulate(Case(1, 0.01, 0.02), times).slower

    assert passed_by_check + passed_by_pairs / times <= MISSES + 3.1 * math.sqrt(MISSES / times)
