"""Validity, budgets, and base beside head, by figures with known values."""

import random
from typing import Any

import pytest
from msgspec.structs import replace

from plumbline.load_settings import LoadBudgets, LoadSettings, LoadStage
from plumbline.loading.figures import Figures, figures_of
from plumbline.loading.plan import Window
from plumbline.loading.rows import TICK_S, ArrivalRow, RequestRow, Rows, TickRow, merged
from plumbline.loading.verdict import (
    Change,
    Finding,
    check_budgets,
    compare,
    highest_rate,
    judge_head,
    overall,
    validity,
)

FIGURES = Figures(rate_per_s=100, measured_s=10, arrivals=1000, sent=1000, requests=1000, p50_ms=5, p95_ms=9, p99_ms=20)
BUDGETS = LoadBudgets(p99_ms=50)
SETTINGS = LoadSettings(rate_per_s=100, budgets=BUDGETS)


def figures(**changed: Any) -> Figures:
    return replace(FIGURES, **changed)


def test_a_generator_that_is_late_makes_the_run_invalid() -> None:
    late = figures(generator_late_ms=30, p99_ms=90, sent=700)
    assert "wanted 100 arrivals/s, reached 70/s" in validity(late, SETTINGS)
    assert [one.verdict for one in judge_head([late], SETTINGS)] == ["invalid"]
    # Of a real run: a server that answers in 1 ms, and tasks that take 6 ms of the generator's time.
    busy = figures(generator_late_ms=286, p99_ms=5901, waited_share=0.9, on_time_s=[0.9] * 100, error_share=0.1)
    assert [one.verdict for one in judge_head([busy], SETTINGS)] == ["invalid"]
    assert validity(figures(generator_late_ms=15), SETTINGS) == ""
    assert "nothing arrived" in validity(figures(arrivals=0), SETTINGS)
    assert "sent no requests" in validity(figures(requests=0), SETTINGS)


def test_delays_of_the_generator_do_not_break_a_budget() -> None:
    [p99, _] = judge_head([figures(generator_late_ms=15, p99_ms=90)], SETTINGS)
    assert p99.verdict == "inconclusive"
    assert "p99 90 ms, the budget is 50 ms, but up to 45 ms may be the load generator's own" in p99.text
    assert judge_head([figures(generator_late_ms=15, p99_ms=96)], SETTINGS)[0].verdict == "regression"
    busy = figures(generator_late_ms=15, waited_share=0.3, p99_ms=4000, on_time_s=[0.09] * 700)
    assert "no user was free" in validity(busy, SETTINGS)


def test_stalls_of_the_generator_do_not_break_a_budget() -> None:
    [p99, _] = judge_head([figures(p99_ms=500, unstalled_ms={"p99": 20}, stalled=3)], SETTINGS)
    assert p99.verdict == "inconclusive"
    assert "p99 500 ms, the budget is 50 ms, but up to 480 ms may be the load generator's own" in p99.text
    slow = figures(p99_ms=500, unstalled_ms={"p99": 60}, stalled=3)
    assert judge_head([slow], SETTINGS)[0].verdict == "regression"
    [_, errors] = judge_head([figures(error_share=0.02, stalled_error_share=0.015)], SETTINGS)
    assert errors.verdict == "inconclusive"
    assert "the load generator stalled during some of them" in errors.text
    assert judge_head([figures(error_share=0.02, stalled_error_share=0.005)], SETTINGS)[1].verdict == "regression"


def test_a_stall_of_the_generator_with_few_users() -> None:
    """500 ms of 60 s are too few to make the run invalid. At 2 requests a second, p95 shows them all the same."""
    window = Window("head", 0, 0, 0.0, 60.0, 2.0, 1, 0.0)
    stalls = [(10.0, 0.2), (20.0, 0.2), (30.0, 0.15)]
    ticks = [TickRow(number * TICK_S, 0.0) for number in range(3000)]
    for at_s, late_s in stalls:
        ticks = [one for one in ticks if not at_s <= one.at_s < at_s + late_s] + [TickRow(at_s, late_s)]
    requests = [RequestRow(number / 2, 0.0, 0.005, "/", "") for number in range(120)]
    late = [
        RequestRow(at_s + offset, late_s - offset, 0.005, "/", "")
        for at_s, late_s in stalls
        for offset in (0, 0.04, 0.08)
    ]
    arrivals = [ArrivalRow(one.due_s, one.late_s, False) for one in requests]
    rows = merged([Rows(arrivals=arrivals, requests=[*requests, *late], ticks=ticks)], 20)
    settings = LoadSettings(rate_per_s=2, budgets=LoadBudgets(p95_ms=50))
    found = judge_head([figures_of(rows, [window], 20)], settings)
    assert [one.verdict for one in found] == ["inconclusive", "pass"]


def test_stalls_of_the_generator_do_not_count_in_a_comparison() -> None:
    windows = [
        (base, replace(head, p99_ms=500, unstalled_ms={"p99": head.p99_ms})) for base, head in pairs(*[1.0] * 30)
    ]
    assert change_of(compare({0: windows}, SETTINGS, 0.01), "p99").verdict == "pass"


def test_too_few_users_are_not_taken_for_a_slow_application() -> None:
    few = figures(waited_share=0.3, p99_ms=4000, on_time_s=[0.02] * 700)
    assert "no user was free for 30%" in validity(few, SETTINGS)
    assert "100 users" in validity(few, SETTINGS)
    # These would break the budget with any number of users.
    slow = figures(waited_share=0.3, p99_ms=4000, on_time_s=[0.02] * 600 + [0.06] * 100)
    assert validity(slow, SETTINGS) == ""
    assert [one.verdict for one in judge_head([slow], SETTINGS)] == ["regression", "pass"]
    assert validity(slow, LoadSettings(rate_per_s=100)) != ""  # without a budget


def test_budgets() -> None:
    budgets = LoadBudgets(p50_ms=4, p95_ms=9, p99_ms=50, error_share=0)
    assert [verdict for verdict, _ in check_budgets(FIGURES, budgets)] == ["regression", "pass", "pass", "pass"]
    assert [verdict for verdict, _ in check_budgets(figures(requests=99), BUDGETS)] == ["inconclusive", "pass"]
    [(verdict, text)] = check_budgets(figures(error_share=0.002), LoadBudgets(error_share=0.001))
    assert (verdict, text) == ("regression", "0.200% of the requests failed, the budget is 0.100%")


def test_the_budgets_must_hold_up_to_the_least_rate() -> None:
    stages = [LoadStage(rate, 60) for rate in (50, 100, 150, 200)]
    ramp = [figures(rate_per_s=stage.rate_per_s) for stage in stages]
    ramp[2] = figures(rate_per_s=150, p99_ms=51)
    assert highest_rate(ramp, BUDGETS) == 100  # the last stage does not count any more
    few = figures(requests=50)
    assert highest_rate([ramp[0], few], BUDGETS) == 50  # so few requests can't show that the budget is kept
    for least, verdict in ((None, "regression"), (100, "pass"), (101, "regression"), (150, "regression")):
        budgets = LoadBudgets(p99_ms=50, least_rate_per_s=least)
        assert overall(judge_head(ramp, LoadSettings(stages=stages, budgets=budgets)), []) == verdict


def pairs(*ratios: float, noise: float = 0.03, seed: int = 1) -> list[tuple[Figures, Figures]]:
    chance = random.Random(seed)
    found = []
    for ratio in ratios:
        base, head = (factor * chance.lognormvariate(0, noise) for factor in (1, ratio))
        found.append((figures(p99_ms=20 * base), figures(p99_ms=20 * head)))
    return found


def change_of(changes: list[Change], figure: str) -> Change:
    return next(one for one in changes if one.figure == figure)


@pytest.mark.parametrize(
    ("windows", "verdict"),
    [
        (pairs(*[1.0] * 30), "pass"),
        (pairs(*[1.5] * 30), "regression"),
        (pairs(*[1.08] * 30), "pass"),
        (pairs(*[1.5] * 2), "inconclusive"),
        (pairs(*[1.5] * 1), "inconclusive"),
        (pairs(*[1.2] * 10, noise=0.3), "inconclusive"),
    ],
)
def test_base_and_head_are_compared_by_windows(windows: list[tuple[Figures, Figures]], verdict: str) -> None:
    changes = compare({0: windows}, SETTINGS, 0.01)
    assert change_of(changes, "p99").verdict == verdict


def test_two_windows_that_differ_much_have_a_wide_interval() -> None:
    windows = [(figures(p99_ms=1), figures(p99_ms=p99_ms)) for p99_ms in (1, 1e9)]
    assert change_of(compare({0: windows}, SETTINGS, 0.001), "p99").verdict == "inconclusive"


def test_the_interval_is_that_of_student() -> None:
    """Changes of 10, 20 and 30 %: the mean is 20 %, and t of 2 degrees at 1 - 0.04 / 4 is 6.965."""
    windows = [(FIGURES, figures(error_share=share)) for share in (0.1, 0.2, 0.3)]
    found = change_of(compare({0: windows}, SETTINGS, 0.04), "error share")
    assert found.change == pytest.approx(0.2)
    assert found.high is not None
    assert found.high - found.change == pytest.approx(6.965 * 0.1 / 3**0.5, abs=1e-3)


def test_no_more_false_positives_than_allowed() -> None:
    """Of 1,000 runs without a change, with 6 noisy windows each and 5 % allowed, at most 7 % fail."""
    failed = 0
    for seed in range(1000):
        found = compare({0: pairs(*[1.1] * 6, noise=0.2, seed=seed)}, SETTINGS, 0.05)
        failed += any(one.verdict == "regression" for one in found)
    assert failed <= 70


def test_the_highest_rates_are_compared_by_windows() -> None:
    rates, settings = (
        (50, 100, 150),
        LoadSettings(stages=[LoadStage(rate, 60) for rate in (50, 100, 150)], budgets=LoadBudgets(p99_ms=50)),
    )
    by_stage = {
        number: [(figures(rate_per_s=rate), figures(rate_per_s=rate, p99_ms=60 if rate > 50 else 20))] * 6
        for number, rate in enumerate(rates)
    }
    found = change_of(compare(by_stage, settings, 0.01), "highest rate")
    assert found.verdict == "regression"
    assert found.change == pytest.approx(2 / 3)

    by_stage[0] = [(figures(rate_per_s=50), figures(rate_per_s=50, requests=99))] * 6  # too few for p99
    assert change_of(compare(by_stage, settings, 0.01), "highest rate").verdict == "inconclusive"


def test_the_worst_finding_decides() -> None:
    passed, broken = Finding("pass", ""), Finding("regression", "")
    assert overall([], []) == "pass"
    assert overall([passed, broken], []) == "regression"
    assert overall([broken, Finding("invalid", "")], []) == "invalid"
    assert overall([passed], [Change("p99", 0, -1, 1, "inconclusive")]) == "inconclusive"
