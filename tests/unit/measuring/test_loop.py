import asyncio
import gc
import sys
from collections.abc import Callable, Iterator

import pytest

from plumbline.measuring.loop import MIN_SAMPLES, Measure, MeasureError, warnings_of
from plumbline.measuring.statistics import Summary, summarize
from plumbline.settings import Budget, Profile

PROFILE = Profile(samples=10, warmup=3, timed_limit_s=1000.0)


class Clock:
    """A fake clock that only the test advances."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("plumbline.measuring.clock.Clock.read", clock)
    return clock


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Enable the garbage collector before and after each test."""
    assert gc.isenabled()
    yield
    gc.enable()


def never(_summary: Summary, _budget: Budget | None) -> str:
    return ""


def measure_with(profile: Profile = PROFILE, **fields: float) -> Measure:
    """Return a `measure` that never measures again."""
    changed = {name: fields.get(name, getattr(profile, name)) for name in ("samples", "warmup", "timed_limit_s")}
    return Measure(Profile(**changed), never)


def rounds(
    measure: Measure,
    clock: Clock,
    *,
    each_s: Callable[[int], float] = lambda _: 1.0,
    blocks: Callable[[int], int] = lambda _: 1,
    operations: int = 1,
) -> int:
    """Measure to the end. Each round advances the clock by the next of these seconds. Return the number of rounds."""
    count = 0
    for timer in measure(operations=operations):
        count += 1
        clock.now_s += 50  # not timed
        for _ in range(blocks(count)):
            with timer:
                clock.now_s += each_s(count)
        clock.now_s += 50
    return count


def test_a_sample_is_the_time_within_the_with_block(clock: Clock) -> None:
    """Other code of a round is not timed."""
    measure = measure_with()

    rounds(measure, clock, each_s=lambda _: 0.25)

    assert measure.result.samples_s == (0.25,) * 10


def test_a_sample_reads_the_clock_twice_and_nothing_more(clock: Clock) -> None:
    """Once on entry and once on exit."""
    measure = measure_with(samples=10, warmup=3)

    rounds(measure, clock)

    assert clock.reads == 2 * (10 + 3)


def test_warm_up_is_discarded(clock: Clock) -> None:
    """Its samples are not in the figures, and the wanted number of samples follows."""
    measure = measure_with(samples=10, warmup=3)

    count = rounds(measure, clock, each_s=lambda number: 9.0 if number <= 3 else 1.0)

    assert count == 13
    assert measure.result.samples_s == (1.0,) * 10


def test_without_warm_up_the_first_round_counts(clock: Clock) -> None:
    measure = measure_with(samples=10, warmup=0)

    count = rounds(measure, clock, each_s=float)

    assert count == 10
    assert measure.result.samples_s[0] == 1.0


def test_a_slow_benchmark_stops_at_the_limit_of_timed_seconds(clock: Clock) -> None:
    """With samples of one second, a limit of 20 s leaves 20 of 100 samples."""
    measure = measure_with(samples=100, warmup=0, timed_limit_s=20)

    rounds(measure, clock)

    assert len(measure.result.samples_s) == 20


def test_a_benchmark_never_stops_below_seven_samples(clock: Clock) -> None:
    """Even if the first sample exceeds the limit."""
    measure = measure_with(samples=100, warmup=0, timed_limit_s=0.5)

    rounds(measure, clock)

    assert len(measure.result.samples_s) == MIN_SAMPLES == 7


def test_a_slow_warm_up_is_cut_short(clock: Clock) -> None:
    """It ends after a quarter of the limit."""
    measure = measure_with(samples=10, warmup=1000, timed_limit_s=40)

    count = rounds(measure, clock)

    assert count == 10 + 10


def test_a_slow_warm_up_has_at_least_two_rounds(clock: Clock) -> None:
    """The first round connects and compiles."""
    measure = measure_with(samples=10, warmup=1000, timed_limit_s=0.001)

    count = rounds(measure, clock)

    assert count == 2 + MIN_SAMPLES


def test_an_operation_has_a_name_only_if_the_test_gives_one() -> None:
    """Reports show it behind the figures."""
    assert Measure(PROFILE)(operations=50, operation="row").operation == "row"
    assert Measure(PROFILE)(operations=50).operation == ""


@pytest.mark.parametrize(("operations", "expected"), [(1, 3), (2, 2), (3, 1), (500, 1)])
def test_the_warm_up_is_counted_in_operations(clock: Clock, operations: int, expected: int) -> None:
    """A round of many operations counts like as many rounds of one."""
    measure = measure_with(samples=10, warmup=3)
    count = 0

    for timer in measure(operations=operations):
        count += 1
        with timer:
            clock.now_s += 1

    assert count == expected + 10


def test_short_samples_are_repeated_up_to_a_least_time(clock: Clock) -> None:
    """25 samples of 1 ms instead of 10, but no more than five times 10 of 0.1 ms."""
    for step_s, expected in ((0.001, 25), (0.0001, 50)):
        measure = measure_with(samples=10, warmup=0)
        for timer in measure():
            with timer:
                clock.now_s += step_s
        assert len(measure.result.samples_s) == expected


def test_a_number_of_samples_in_the_call_is_exact(clock: Clock) -> None:
    """However short they are."""
    measure = measure_with(samples=100, warmup=0)
    for timer in measure(samples=10):
        with timer:
            clock.now_s += 0.0001
    assert len(measure.result.samples_s) == 10


def test_the_limit_does_not_include_the_warm_up(clock: Clock) -> None:
    measure = measure_with(samples=100, warmup=1, timed_limit_s=20)

    rounds(measure, clock, each_s=lambda number: 100.0 if number == 1 else 1.0)

    assert len(measure.result.samples_s) == 20


def test_arguments_override_the_profile(clock: Clock) -> None:
    """`samples` and `warmup` of the call have precedence, even at their minimum."""
    measure = measure_with(samples=10, warmup=3)
    count = 0

    for timer in measure(samples=7, warmup=0):
        count += 1
        with timer:
            clock.now_s += 1

    assert count == len(measure.result.samples_s) == 7


def test_a_number_of_samples_in_the_call_extends_the_limit(clock: Clock) -> None:
    """Five times the profile's limit of 20 s."""
    measure = measure_with(samples=10, warmup=0, timed_limit_s=20)

    for timer in measure(samples=1000):
        with timer:
            clock.now_s += 1

    assert len(measure.result.samples_s) == 100


def test_figures_are_per_operation(clock: Clock) -> None:
    """A sample of 1 s with 500 operations is 2 ms per operation, and 500 operations per second."""
    measure = measure_with()

    rounds(measure, clock, operations=500)

    assert measure.result.median_s == pytest.approx(0.002)
    assert measure.result.rate_per_s == pytest.approx(500)


def test_the_limit_of_timed_seconds_counts_whole_samples(clock: Clock) -> None:
    """The limit is on elapsed time, whatever the number of operations."""
    measure = measure_with(samples=100, warmup=0, timed_limit_s=20)

    rounds(measure, clock, operations=500)

    assert len(measure.result.samples_s) == 20


async def test_async_for_measures_what_for_measures(clock: Clock) -> None:
    """The same body gives the same samples in a coroutine test."""
    in_sync, in_async = measure_with(), measure_with()
    rounds(in_sync, clock, each_s=float)
    count = 0

    async for timer in in_async():
        count += 1
        await asyncio.sleep(0)
        with timer:
            await asyncio.sleep(0)
            clock.now_s += count

    assert in_async.result == in_sync.result


@pytest.mark.parametrize("bad_round", [1, 5, 13], ids=["of the warm-up", "in the middle", "the last"])
def test_a_round_that_times_nothing_is_an_error(clock: Clock, bad_round: int) -> None:
    """It is raised before the next round, and the collector is enabled again."""
    measure = measure_with(samples=10, warmup=3)

    with pytest.raises(MeasureError, match="entered `with timer` never"):
        rounds(measure, clock, blocks=lambda number: 0 if number == bad_round else 1)

    assert clock.reads == 2 * (bad_round - 1)
    assert gc.isenabled()


@pytest.mark.parametrize("bad_round", [1, 5, 13], ids=["of the warm-up", "in the middle", "the last"])
def test_a_round_that_times_two_blocks_is_an_error(clock: Clock, bad_round: int) -> None:
    """It is raised before the next round, and the collector is enabled again."""
    measure = measure_with(samples=10, warmup=3)

    with pytest.raises(MeasureError, match="entered `with timer` more than once"):
        rounds(measure, clock, blocks=lambda number: 2 if number == bad_round else 1)

    assert clock.reads == 2 * (bad_round + 1)
    assert gc.isenabled()


async def test_a_round_that_times_nothing_is_an_error_in_async_for_too() -> None:
    with pytest.raises(MeasureError, match="entered `with timer` never"):
        async for _ in measure_with()():
            pass


async def test_a_loop_that_is_left_leaves_no_task_and_no_generator() -> None:
    """After `break`, the event loop has nothing to clean up."""
    before = asyncio.all_tasks()
    generators: list[object] = []
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=generators.append)

    try:
        async for timer in measure_with()():
            with timer:
                break
    finally:
        sys.set_asyncgen_hooks(*hooks)
    await asyncio.sleep(0)

    assert asyncio.all_tasks() == before
    assert generators == []


def test_a_loop_that_is_left_has_no_result(clock: Clock) -> None:
    """Samples before a `break` do not count."""
    measure = measure_with()

    for timer in measure():
        with timer:
            clock.now_s += 1
        break

    with pytest.raises(MeasureError, match=r"only after the loop .* has ended"):
        _ = measure.result


def test_a_result_without_a_measurement_is_an_error() -> None:
    with pytest.raises(MeasureError, match="only after the loop"):
        _ = measure_with().result


def test_a_second_measurement_is_refused(clock: Clock) -> None:
    """One test is one benchmark."""
    measure = measure_with()
    rounds(measure, clock)

    with pytest.raises(MeasureError, match="called twice"):
        measure()


@pytest.mark.parametrize("figures", [{"operations": 0}, {"samples": 6}, {"samples": 0}, {"warmup": -1}])
def test_invalid_arguments_are_refused(figures: dict[str, int]) -> None:
    """No operations, fewer than seven samples, or a negative warm-up."""
    with pytest.raises(MeasureError, match="operations >= 1, samples >= 7 and warmup >= 0"):
        measure_with()(**figures)  # type: ignore[arg-type]


def test_a_measurement_is_repeated_for_a_reason(clock: Clock) -> None:
    """The samples of the first attempt are discarded. There is no second warm-up."""
    measure = Measure(PROFILE, lambda summary, _: "the quota stopped it" if summary.median_s > 1 else "")

    count = rounds(measure, clock, each_s=lambda number: 2.0 if number <= 13 else 1.0)

    assert count == 3 + 10 + 10
    assert measure.result.samples_s == (1.0,) * 10
    assert measure.retried == "the quota stopped it"


def test_a_measurement_is_repeated_only_once(clock: Clock) -> None:
    measure = Measure(PROFILE, lambda _summary, _budget: "its budget was broken")

    count = rounds(measure, clock)

    assert count == 3 + 10 + 10
    assert len(measure.result.samples_s) == 10


def test_a_measurement_without_a_reason_is_made_once(clock: Clock) -> None:
    measure = measure_with()

    rounds(measure, clock)

    assert measure.retried == ""


def test_the_second_attempt_has_its_own_limit(clock: Clock) -> None:
    measure = Measure(Profile(samples=100, warmup=0, timed_limit_s=20), lambda _summary, _budget: "again")

    count = rounds(measure, clock)

    assert count == 20 + 20


def test_retry_gets_the_figures_per_operation_and_the_budget(clock: Clock) -> None:
    asked: list[tuple[float, Budget | None]] = []

    def retry(summary: Summary, budget: Budget | None) -> str:
        asked.append((summary.median_s, budget))
        return ""

    for timer in Measure(PROFILE, retry)(operations=4, budget=Budget(p95_ms=1)):
        with timer:
            clock.now_s += 1

    assert asked == [(0.25, Budget(p95_ms=1))]


def test_budget_and_former_name_are_kept() -> None:
    measure = measure_with()

    measure(budget=Budget(mean_ms=3), renamed_from="a.py::old")

    assert measure.budget == Budget(mean_ms=3)
    assert measure.renamed_from == "a.py::old"


def test_untimed_rounds_run_without_warm_up(clock: Clock) -> None:
    """One round without warm-up and repetition, but with a result."""
    measure = Measure(PROFILE, untimed_rounds=1)
    count = 0

    for timer in measure(samples=50, warmup=5):
        count += 1
        with timer:
            clock.now_s += 1

    assert count == 1
    assert measure.result.samples_s == (1.0,)


def test_the_collector_is_off_in_every_round_and_on_afterwards(clock: Clock) -> None:
    """From the first round of the warm-up to the last sample."""
    seen: list[bool] = []

    for timer in measure_with()():
        with timer:
            clock.now_s += 1
            seen.append(gc.isenabled())

    assert seen == [False] * 13
    assert gc.isenabled()


def test_garbage_is_collected_before_the_first_round() -> None:
    """Exactly once."""
    collections: list[str] = []
    gc.callbacks.append(lambda phase, _info: collections.append(phase))

    try:
        for timer in measure_with()():
            with timer:
                pass
    finally:
        gc.callbacks.pop()

    assert collections == ["start", "stop"]


def test_a_collector_that_was_off_stays_off(clock: Clock) -> None:
    gc.disable()

    rounds(measure_with(), clock)

    assert not gc.isenabled()


def test_close_enables_the_collector_after_a_break() -> None:
    """It may be called twice."""
    measurement = measure_with()()
    for timer in measurement:
        with timer:
            break
    left = gc.isenabled()

    measurement.close()
    measurement.close()

    assert not left
    assert gc.isenabled()


def test_close_after_the_end_does_not_enable_a_disabled_collector() -> None:
    measurement = measure_with()()
    for timer in measurement:
        with timer:
            pass
    gc.disable()

    measurement.close()

    assert not gc.isenabled()


@pytest.mark.parametrize("timed", [True, False], ids=["in the timed block", "beside it"])
def test_an_exception_in_the_body_is_passed_on(clock: Clock, timed: bool) -> None:
    """`close` enables the collector, and there is no result."""
    measurement = measure_with()()

    def benchmark() -> None:
        for timer in measurement:
            with timer:
                clock.now_s += 1
                assert not timed, "wrong answer"
            raise AssertionError("wrong answer")

    with pytest.raises(AssertionError, match="wrong answer"):
        benchmark()
    measurement.close()

    assert gc.isenabled()
    assert measurement.summary is None


def test_no_warning_for_a_good_measurement() -> None:
    assert warnings_of(summarize([5e-6]), operations=1, retried="") == []


def test_a_sample_too_short_for_the_clock_is_warned_about() -> None:
    """The warning for a sample below 5 µs says what to do."""
    (warning,) = warnings_of(summarize([4e-6]), operations=1, retried="")

    assert "4.00 µs, too short for the clock" in warning
    assert "measure(operations=…)" in warning


def test_many_short_operations_in_one_sample_are_long_enough() -> None:
    """The limit is on the sample, not on the operation."""
    assert warnings_of(summarize([4e-6]), operations=2, retried="") == []


def test_a_second_attempt_is_reported_with_its_reason() -> None:
    assert warnings_of(summarize([1.0]), operations=1, retried="its budget was broken") == [
        "measured twice: its budget was broken"
    ]
