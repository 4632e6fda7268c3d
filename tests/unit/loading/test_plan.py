"""The rates of both sides over time, and the cores."""

import random

import msgspec
import pytest

from plumbline.load_settings import LoadBudgets, LoadSettings, LoadStage
from plumbline.loading.plan import number_of_processes, plan_windows, split_cores


def test_one_side_gets_each_stage_as_a_whole() -> None:
    settings = LoadSettings(stages=[LoadStage(10, 30), LoadStage(20, 40)], leave_out_s=3)
    windows = plan_windows(settings, ["head"], random.Random(1))
    assert [(one.begin_s, one.end_s, one.rate_per_s, one.measured_from_s) for one in windows] == [
        (0, 30, 10, 3),
        (30, 70, 20, 33),
    ]


def test_both_sides_get_the_same_arrivals_in_windows_of_equal_length_in_random_order() -> None:
    settings = LoadSettings(duration_s=205, window_s=10)
    windows = plan_windows(settings, ["base", "head"], random.Random(1))
    assert len(windows) == 40
    assert {round(one.end_s - one.begin_s, 6) for one in windows} == {10.25}
    pairs = list(zip(windows[::2], windows[1::2], strict=True))
    assert all(first.seed == second.seed and first.side != second.side for first, second in pairs)
    assert {first.side for first, _ in pairs} == {"base", "head"}
    assert len({first.seed for first, _ in pairs}) == len(pairs)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({"rate_per_s": 0}, "> 0"),
        ({"rate_per_s": "fast"}, "float"),
        ({"stages": [{"rate_per_s": 5, "duration_s": 9}, {"rate_per_s": 5, "duration_s": 9}]}, "must rise"),
        ({"duration_s": 2}, "leaves nothing"),
        ({"budgets": {"least_rate_per_s": 11}}, "the highest rate is 10"),
        ({"budgets": {"p99": 5}}, "unknown field"),
    ],
)
def test_nonsense_is_refused(raw: dict[str, object], problem: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=problem):
        msgspec.convert(raw, LoadSettings)


@pytest.mark.parametrize(
    ("rate_per_s", "cores", "for_locust", "for_others"),
    [
        (50, [0, 1], [0], [1]),
        (1000, [0, 1], [0], [1]),
        (400, [0, 1, 2, 3], [0, 1], [2, 3]),
        (401, [4, 5, 6, 7, 8], [4, 5, 6], [7, 8]),
        (5000, [0, 1, 2, 3], [0, 1, 2], [3]),
        (50, [3], [], []),  # one core for all
        (50, [], [], []),  # not known, as on macOS
    ],
)
def test_locust_has_cores_of_its_own_and_leaves_one(
    rate_per_s: float, cores: list[int], for_locust: list[int], for_others: list[int]
) -> None:
    processes = number_of_processes(LoadSettings(rate_per_s=rate_per_s), len(cores))
    assert split_cores(cores, processes) == (for_locust, for_others)


def test_more_processes_than_cores_are_not_pinned() -> None:
    settings = LoadSettings(processes=4)
    assert number_of_processes(settings, 2) == 4
    assert split_cores([0, 1], 4) == ([], [])


def test_users_follow_the_rate_within_limits() -> None:
    assert LoadSettings(rate_per_s=1).number_of_users == 10
    assert LoadSettings(rate_per_s=250).number_of_users == 250
    assert LoadSettings(rate_per_s=50_000).number_of_users == 1000
    assert LoadSettings(users=3).number_of_users == 3
    assert LoadBudgets(p95_ms=1).limits_ms == {"p95": 1}
