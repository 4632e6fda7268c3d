"""The detection of disturbances, with a fake clock."""

from pathlib import Path

import pytest

from plumbline.measuring import machine_speed as module
from plumbline.measuring.machine_speed import MAX_REMEASURED, Disturbances, throttled_periods
from plumbline.measuring.statistics import summarize

STEADY = summarize([1.0] * 35)
UNSTEADY = summarize([1.0] * 28 + [1.2] * 7)


class Clock:
    """A fake clock that advances by one step per call."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.step_s = 1.0

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("plumbline.measuring.clock.Clock.read", clock)
    return clock


def test_slowness_is_relative_to_the_usual_speed(clock: Clock) -> None:
    disturbances = Disturbances()
    clock.step_s = 1.5
    assert disturbances.slowness() == pytest.approx(0.5)
    clock.step_s = 1.0
    assert disturbances.slowness() == pytest.approx(0.0)


def test_the_last_speed_is_kept(clock: Clock) -> None:
    disturbances = Disturbances()
    clock.step_s = 1.5
    disturbances.slowness()
    assert disturbances.machine_speed_s == pytest.approx(1.5)


def test_a_lasting_change_becomes_usual(clock: Clock) -> None:
    """A machine that stays slow is not waited for again and again."""
    disturbances = Disturbances()
    clock.step_s = 1.5
    assert [disturbances.slowness() > 0.1 for _ in range(10)][-1] is False


@pytest.mark.usefixtures("clock")
def test_waiting_ends_when_the_speed_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow twice, then as usual: measured three times."""
    disturbances = Disturbances()
    looks = iter([0.0, 0.5, 0.5, 0.0])  # the first before the benchmark
    monkeypatch.setattr(disturbances, "slowness", lambda: next(looks))
    monkeypatch.setattr(module, "RECOVERY_LIMIT_S", 1000.0)
    assert disturbances.watch()(UNSTEADY)
    assert next(looks, None) is None


def test_waiting_has_a_limit(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that stays slow, the run continues after the limit."""
    disturbances = Disturbances()
    monkeypatch.setattr(disturbances, "slowness", lambda: 0.5)
    monkeypatch.setattr(module, "RECOVERY_LIMIT_S", 20.0)
    before_s = clock.now_s
    assert disturbances.watch()(UNSTEADY)
    assert 20.0 <= clock.now_s - before_s <= 23.0


def test_more_work_takes_a_real_core_longer() -> None:
    """Twenty times the work takes far longer than usual."""
    disturbances = Disturbances()
    assert abs(disturbances.slowness()) < 10
    module.WORK, usual = range(200_000), module.WORK
    try:
        assert disturbances.slowness() > 5
    finally:
        module.WORK = usual


@pytest.mark.usefixtures("clock")
def test_unsteady_samples_are_a_disturbance() -> None:
    disturbed = Disturbances().watch()
    assert disturbed(STEADY) == ""
    assert "consecutive samples were slower" in disturbed(UNSTEADY)


@pytest.mark.parametrize("before", [True, False])
def test_a_slow_machine_is_a_disturbance(clock: Clock, before: bool) -> None:
    """At the start or at the end of the benchmark."""
    disturbances = Disturbances()
    clock.step_s = 1.5 if before else 1.0
    disturbed = disturbances.watch()
    clock.step_s = 1.0 if before else 1.5
    assert disturbed(STEADY) == "the machine was slower than before"


def test_a_quota_is_a_disturbance(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it stopped the process during the benchmark, not before."""
    periods = 3
    monkeypatch.setattr(module, "throttled_periods", lambda: periods)
    monkeypatch.setattr(Disturbances, "slowness", lambda _: 0.0)
    disturbances = Disturbances()
    disturbed = disturbances.watch()
    assert disturbed(STEADY) == ""
    periods = 4
    assert "CPU quota" in disturbed(STEADY)
    assert disturbances.watch()(STEADY) == ""


@pytest.mark.usefixtures("clock")
def test_the_number_of_repetitions_is_limited() -> None:
    """Undisturbed benchmarks don't count. The limit is reported once."""
    disturbances = Disturbances()
    for _ in range(MAX_REMEASURED):
        assert disturbances.watch()(STEADY) == ""
        assert disturbances.watch()(UNSTEADY)
    assert disturbances.watch()(STEADY) == ""
    assert disturbances.notes == []
    for _ in range(2):
        assert disturbances.watch()(UNSTEADY) == ""
    (note,) = disturbances.notes
    assert "only 5 of the disturbed benchmarks (the limit per run)" in note


# ---- the CPU quota

VERSION_1 = "nr_periods 10\nnr_throttled 3\nthrottled_time 4711\n"
VERSION_2 = "usage_usec 1\nuser_usec 1\nnr_periods 10\nnr_throttled 7\nthrottled_usec 4711\n"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (VERSION_2, None, 7),
        (None, VERSION_1, 3),
        (VERSION_2, VERSION_1, 7),
        ("usage_usec 1\nuser_usec 1\n", VERSION_1, 3),
        ("nr_throttled many\n", VERSION_1, 3),
        ("one two three\n", VERSION_1, 3),
        (None, None, 0),
        ("usage_usec 1\n", None, 0),
    ],
    ids=["version 2", "version 1", "both", "root of version 2", "no number", "another format", "none", "no quota"],
)
def test_throttled_periods_are_read_from_either_version_of_cgroups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: str | None, second: str | None, expected: int
) -> None:
    """The first file with the number is used. Without one, the number is 0."""
    for name, text in [("first", first), ("second", second)]:
        if text is not None:
            (tmp_path / name).write_text(text)
    monkeypatch.setattr(module, "CPU_STAT_FILES", (str(tmp_path / "first"), str(tmp_path / "second")))

    assert throttled_periods() == expected
