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
    """Stands still unless it is told to go on."""

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
    """Each test begins and ends with the garbage collector on, whatever it does to it."""
    assert gc.isenabled()
    yield
    gc.enable()


def never(_summary: Summary, _budget: Budget | None) -> str:
    return ""


def measure_with(profile: Profile = PROFILE, **fields: float) -> Measure:
    """`measure` of a test whose measurement is never made again."""
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
    """Measure to the end, these seconds in each of these blocks by round; returns how many rounds there were."""
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
    """What stands in a round beside `with timer` isn't timed."""
    measure = measure_with()

    rounds(measure, clock, each_s=lambda _: 0.25)

    assert measure.result.samples_s == (0.25,) * 10


def test_a_sample_reads_the_clock_twice_and_nothing_more(clock: Clock) -> None:
    """One read on the way in and one on the way out is all that the clock is asked."""
    measure = measure_with(samples=10, warmup=3)

    rounds(measure, clock)

    assert clock.reads == 2 * (10 + 3)


def test_warm_up_is_thrown_away(clock: Clock) -> None:
    """The samples of the warm-up are in no figure, and the wanted number comes after them."""
    measure = measure_with(samples=10, warmup=3)

    count = rounds(measure, clock, each_s=lambda number: 9.0 if number <= 3 else 1.0)

    assert count == 13
    assert measure.result.samples_s == (1.0,) * 10


def test_without_warm_up_the_first_round_counts(clock: Clock) -> None:
    """A warm-up of 0 leaves exactly the wanted rounds."""
    measure = measure_with(samples=10, warmup=0)

    count = rounds(measure, clock, each_s=float)

    assert count == 10
    assert measure.result.samples_s[0] == 1.0


def test_a_slow_benchmark_stops_at_the_limit_of_timed_seconds(clock: Clock) -> None:
    """After 20 timed seconds, each sample a second, a limit of 20 leaves 20 of 100 samples."""
    measure = measure_with(samples=100, warmup=0, timed_limit_s=20)

    rounds(measure, clock)

    assert len(measure.result.samples_s) == 20


def test_a_benchmark_never_stops_below_seven_samples(clock: Clock) -> None:
    """Where the first sample exceeds the limit, the seventh is still taken, and no eighth."""
    measure = measure_with(samples=100, warmup=0, timed_limit_s=0.5)

    rounds(measure, clock)

    assert len(measure.result.samples_s) == MIN_SAMPLES == 7


def test_a_slow_warm_up_is_cut_short(clock: Clock) -> None:
    """A warm-up ends early after a quarter of the limit of timed seconds."""
    measure = measure_with(samples=10, warmup=1000, timed_limit_s=40)

    count = rounds(measure, clock)

    assert count == 10 + 10


def test_a_slow_warm_up_is_of_two_rounds_at_least(clock: Clock) -> None:
    """The first round alone, which connects and compiles, is never all the warm-up."""
    measure = measure_with(samples=10, warmup=1000, timed_limit_s=0.001)

    count = rounds(measure, clock)

    assert count == 2 + MIN_SAMPLES


def test_an_operation_has_a_name_only_if_the_test_gives_one() -> None:
    """Reports show it behind the figures."""
    assert Measure(PROFILE)(operations=50, operation="row").operation == "row"
    assert Measure(PROFILE)(operations=50).operation == ""


@pytest.mark.parametrize(("operations", "expected"), [(1, 3), (2, 2), (3, 1), (500, 1)])
def test_a_warm_up_is_of_so_many_operations(clock: Clock, operations: int, expected: int) -> None:
    """A round of many operations warms up like as many rounds of one."""
    measure = measure_with(samples=10, warmup=3)
    count = 0

    for timer in measure(operations=operations):
        count += 1
        with timer:
            clock.now_s += 1

    assert count == expected + 10


def test_short_samples_are_taken_until_they_last(clock: Clock) -> None:
    """Samples of 1 ms: 25 of them instead of 10 last the least time; of 0.1 ms there are no more than five times 10."""
    for step_s, expected in ((0.001, 25), (0.0001, 50)):
        measure = measure_with(samples=10, warmup=0)
        for timer in measure():
            with timer:
                clock.now_s += step_s
        assert len(measure.result.samples_s) == expected


def test_short_samples_of_its_own_are_as_many_as_it_asks_for(clock: Clock) -> None:
    """A number of samples in the call is a number, however short they are."""
    measure = measure_with(samples=100, warmup=0)
    for timer in measure(samples=10):
        with timer:
            clock.now_s += 0.0001
    assert len(measure.result.samples_s) == 10


def test_the_warm_up_s_time_is_not_held_against_the_samples(clock: Clock) -> None:
    """The limit of timed seconds begins with the first sample that counts."""
    measure = measure_with(samples=100, warmup=1, timed_limit_s=20)

    rounds(measure, clock, each_s=lambda number: 100.0 if number == 1 else 1.0)

    assert len(measure.result.samples_s) == 20


def test_the_arguments_take_the_place_of_the_profile_s_figures(clock: Clock) -> None:
    """`samples` and `warmup` of the call win, even the least of both."""
    measure = measure_with(samples=10, warmup=3)
    count = 0

    for timer in measure(samples=7, warmup=0):
        count += 1
        with timer:
            clock.now_s += 1

    assert count == len(measure.result.samples_s) == 7


def test_samples_of_its_own_give_a_benchmark_more_time(clock: Clock) -> None:
    """A benchmark that asks for a number of samples may take five times the profile's limit of 20 timed seconds."""
    measure = measure_with(samples=10, warmup=0, timed_limit_s=20)

    for timer in measure(samples=1000):
        with timer:
            clock.now_s += 1

    assert len(measure.result.samples_s) == 100


def test_figures_are_per_operation(clock: Clock) -> None:
    """A sample of 500 operations in a second is 2 ms an operation, and 500 operations a second."""
    measure = measure_with()

    rounds(measure, clock, operations=500)

    assert measure.result.median_s == pytest.approx(0.002)
    assert measure.result.rate_per_s == pytest.approx(500)


def test_the_limit_of_timed_seconds_counts_whole_samples(clock: Clock) -> None:
    """The limit is on the time that passes, whatever number of operations it is divided by."""
    measure = measure_with(samples=100, warmup=0, timed_limit_s=20)

    rounds(measure, clock, operations=500)

    assert len(measure.result.samples_s) == 20


async def test_async_for_measures_what_for_measures(clock: Clock) -> None:
    """The same body gives the same samples in a coroutine test, with awaits in and beside the timed block."""
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
    """A round that never enters `with timer` fails before the next begins, and the collector is given back."""
    measure = measure_with(samples=10, warmup=3)

    with pytest.raises(MeasureError, match="entered `with timer` never"):
        rounds(measure, clock, blocks=lambda number: 0 if number == bad_round else 1)

    assert clock.reads == 2 * (bad_round - 1)
    assert gc.isenabled()


@pytest.mark.parametrize("bad_round", [1, 5, 13], ids=["of the warm-up", "in the middle", "the last"])
def test_a_round_that_times_two_blocks_is_an_error(clock: Clock, bad_round: int) -> None:
    """A round that enters `with timer` twice fails before the next begins, and the collector is given back."""
    measure = measure_with(samples=10, warmup=3)

    with pytest.raises(MeasureError, match="entered `with timer` more than once"):
        rounds(measure, clock, blocks=lambda number: 2 if number == bad_round else 1)

    assert clock.reads == 2 * (bad_round + 1)
    assert gc.isenabled()


async def test_a_round_that_times_nothing_is_an_error_in_async_for_too() -> None:
    """`async for` tells the same error."""
    with pytest.raises(MeasureError, match="entered `with timer` never"):
        async for _ in measure_with()():
            pass


async def test_a_loop_that_is_left_leaves_no_task_and_no_generator() -> None:
    """`break` leaves nothing for the event loop to clean up."""
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
    """What was measured until a `break` is no figure."""
    measure = measure_with()

    for timer in measure():
        with timer:
            clock.now_s += 1
        break

    with pytest.raises(MeasureError, match=r"only after the loop .* has ended"):
        _ = measure.result


def test_a_result_without_a_measurement_is_an_error() -> None:
    """A test that asks for figures before it has measured is told."""
    with pytest.raises(MeasureError, match="only after the loop"):
        _ = measure_with().result


def test_a_second_measurement_is_refused(clock: Clock) -> None:
    """One test is one benchmark."""
    measure = measure_with()
    rounds(measure, clock)

    with pytest.raises(MeasureError, match="called twice"):
        measure()


@pytest.mark.parametrize("figures", [{"operations": 0}, {"samples": 6}, {"samples": 0}, {"warmup": -1}])
def test_figures_that_make_no_sense_are_refused(figures: dict[str, int]) -> None:
    """No operations, fewer than seven samples or a negative warm-up are wrong usage."""
    with pytest.raises(MeasureError, match="operations >= 1, samples >= 7 and warmup >= 0"):
        measure_with()(**figures)  # type: ignore[arg-type]


def test_a_measurement_is_made_again_where_there_is_a_reason(clock: Clock) -> None:
    """The first try is thrown away with its samples, the second counts, without a second warm-up."""
    measure = Measure(PROFILE, lambda summary, _: "the quota stopped it" if summary.median_s > 1 else "")

    count = rounds(measure, clock, each_s=lambda number: 2.0 if number <= 13 else 1.0)

    assert count == 3 + 10 + 10
    assert measure.result.samples_s == (1.0,) * 10
    assert measure.retried == "the quota stopped it"


def test_a_measurement_is_not_made_a_third_time(clock: Clock) -> None:
    """The second try counts, whatever it measured."""
    measure = Measure(PROFILE, lambda _summary, _budget: "its budget was broken")

    count = rounds(measure, clock)

    assert count == 3 + 10 + 10
    assert len(measure.result.samples_s) == 10


def test_a_measurement_without_a_reason_is_made_once(clock: Clock) -> None:
    """Nothing is told about a second try where there was none."""
    measure = measure_with()

    rounds(measure, clock)

    assert measure.retried == ""


def test_the_second_try_has_the_limit_of_timed_seconds_to_itself(clock: Clock) -> None:
    """The time of the first try isn't held against the second."""
    measure = Measure(Profile(samples=100, warmup=0, timed_limit_s=20), lambda _summary, _budget: "again")

    count = rounds(measure, clock)

    assert count == 20 + 20


def test_the_reason_is_sought_with_the_figures_per_operation_and_the_budget(clock: Clock) -> None:
    """What decides on a second try gets the summary that a reader would see, and the budget of the call."""
    asked: list[tuple[float, Budget | None]] = []

    def retry(summary: Summary, budget: Budget | None) -> str:
        asked.append((summary.median_s, budget))
        return ""

    for timer in Measure(PROFILE, retry)(operations=4, budget=Budget(p95_ms=1)):
        with timer:
            clock.now_s += 1

    assert asked == [(0.25, Budget(p95_ms=1))]


def test_budget_and_former_name_are_kept() -> None:
    """What the call says beside the figures is there for the one who judges."""
    measure = measure_with()

    measure(budget=Budget(mean_ms=3), renamed_from="a.py::old")

    assert measure.budget == Budget(mean_ms=3)
    assert measure.renamed_from == "a.py::old"


def test_once_runs_a_single_round(clock: Clock) -> None:
    """Where timing means nothing, one round without warm-up and second try is run, and has a result to look at."""
    measure = Measure(PROFILE, untimed_rounds=1)
    count = 0

    for timer in measure(samples=50, warmup=5):
        count += 1
        with timer:
            clock.now_s += 1

    assert count == 1
    assert measure.result.samples_s == (1.0,)


def test_the_collector_is_off_in_every_round_and_on_afterwards(clock: Clock) -> None:
    """No garbage is collected from the first warm-up round to the last sample."""
    seen: list[bool] = []

    for timer in measure_with()():
        with timer:
            clock.now_s += 1
            seen.append(gc.isenabled())

    assert seen == [False] * 13
    assert gc.isenabled()


def test_garbage_is_collected_before_the_first_round() -> None:
    """Garbage of earlier tests is gone before anything is timed, and once is enough."""
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
    """Who has switched the collector off finds it off."""
    gc.disable()

    rounds(measure_with(), clock)

    assert not gc.isenabled()


def test_close_gives_the_collector_back_after_a_break() -> None:
    """A loop that was left is closed by its owner, once or twice."""
    measurement = measure_with()()
    for timer in measurement:
        with timer:
            break
    left = gc.isenabled()

    measurement.close()
    measurement.close()

    assert not left
    assert gc.isenabled()


def test_close_leaves_a_collector_alone_that_the_test_has_switched_off() -> None:
    """Closing again after the end changes nothing."""
    measurement = measure_with()()
    for timer in measurement:
        with timer:
            pass
    gc.disable()

    measurement.close()

    assert not gc.isenabled()


@pytest.mark.parametrize("timed", [True, False], ids=["in the timed block", "beside it"])
def test_an_exception_in_the_body_comes_through(clock: Clock, timed: bool) -> None:
    """A failed assertion ends the loop as it is; closing gives the collector back, and there is no result."""
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


def test_no_warning_where_all_is_well() -> None:
    """A sample that is long enough, measured once, has nothing to be warned about."""
    assert warnings_of(summarize([5e-6]), operations=1, retried="") == []


def test_a_sample_too_short_for_the_clock_is_warned_about() -> None:
    """A sample of less than 5 µs is told with what to do."""
    (warning,) = warnings_of(summarize([4e-6]), operations=1, retried="")

    assert "4.00 µs, too short for the clock" in warning
    assert "measure(operations=…)" in warning


def test_many_short_operations_in_one_sample_are_long_enough() -> None:
    """It is the sample that must be long enough, not the operation."""
    assert warnings_of(summarize([4e-6]), operations=2, retried="") == []


def test_a_second_try_is_told_with_its_reason() -> None:
    """A reader of the figures learns that they are those of a second try, and why."""
    assert warnings_of(summarize([1.0]), operations=1, retried="its budget was broken") == [
        "measured twice: its budget was broken"
    ]
