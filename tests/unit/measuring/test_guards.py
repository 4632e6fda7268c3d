import asyncio
import contextlib
import contextvars
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from plumbline.measuring import guards
from plumbline.measuring.clock import Clock
from plumbline.measuring.guards import GuardError, guarded
from tests.support.fixtures import Until

LONG_S = 30.0
"""No test here comes near it."""
SHORT_S = 0.05

Test = Callable[[], Awaitable[None]]


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that are left over are not waited for as long as in a real run."""
    monkeypatch.setattr(guards, "SETTLED_S", 0.1)


async def failure(test: Test, limit_s: float = LONG_S) -> BaseException:
    """What a guarded test fails with."""
    with pytest.raises(BaseException) as error:  # noqa: PT011, any at all
        await guarded(test, limit_s)()
    return error.value


def told(error: BaseException) -> str:
    """An error's message and notes."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


async def waits_for_a_reply() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The guard's own clock, which goes on only when a test adds to it; that of the event loop goes as ever."""
    now_s = [100.0]
    monkeypatch.setattr(Clock, "read", lambda: now_s[0])
    return now_s


@pytest.fixture
def kept() -> Iterator[list[asyncio.Task[None]]]:
    """Tasks that a test under guard has started."""
    tasks: list[asyncio.Task[None]] = []
    yield tasks
    for task in tasks:
        task.cancel()


# ---- a test that ends as it should


async def test_a_test_that_ends_in_time_passes() -> None:
    """A test gets its arguments, runs in the loop that is there, and is left alone."""
    seen: list[object] = []

    async def test(*args: object, **kwargs: object) -> None:
        await asyncio.sleep(0)
        seen.extend([args, kwargs, asyncio.get_running_loop()])

    await guarded(test, LONG_S)(1, name=2)

    assert seen == [(1,), {"name": 2}, asyncio.get_running_loop()]


def test_a_guarded_test_keeps_its_name_and_parameters() -> None:
    """pytest finds the fixtures that a test asks for by its signature."""

    async def test_of_something(redis_url: str) -> None:
        """What it says."""

    wrapped = guarded(test_of_something, LONG_S)

    assert (wrapped.__name__, wrapped.__doc__) == ("test_of_something", "What it says.")
    assert wrapped.__wrapped__ is test_of_something  # type: ignore[attr-defined]


async def test_a_task_that_has_ended_is_not_left_over(kept: list[asyncio.Task[None]]) -> None:
    """Tasks that are done, or are just ending as the test does, are no complaint."""
    release = asyncio.Event()

    async def test() -> None:
        kept.append(asyncio.create_task(asyncio.sleep(0)))
        await kept[0]
        kept.append(asyncio.create_task(release.wait()))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        release.set()

    await guarded(test, LONG_S)()

    assert not any(task.cancelled() for task in kept)


async def test_a_task_of_a_wider_fixture_is_left_alone(kept: list[asyncio.Task[None]]) -> None:
    """What was running before the test goes on running after it."""
    kept.append(asyncio.create_task(waits_for_a_reply()))
    await asyncio.sleep(0)

    async def test() -> None:
        await asyncio.sleep(0)

    await guarded(test, LONG_S)()

    assert not kept[0].done()


async def test_what_a_task_of_a_wider_fixture_makes_is_left_alone(kept: list[asyncio.Task[None]]) -> None:
    """A heartbeat that makes a task for each of its waits, as `asyncio.wait_for` of Python 3.11 does."""
    beat = asyncio.Event()

    async def heart() -> None:
        await beat.wait()
        kept.append(asyncio.create_task(waits_for_a_reply()))
        await kept[1]

    async def test() -> None:
        beat.set()
        await asyncio.sleep(0)
        assert len(kept) == 2

    kept.append(asyncio.create_task(heart()))
    await asyncio.sleep(0)

    await guarded(test, LONG_S)()

    assert not any(task.done() for task in kept)


async def test_a_task_of_another_context_is_left_alone(kept: list[asyncio.Task[None]]) -> None:
    """Nothing proves that it belongs to the test."""

    async def test() -> None:
        task = asyncio.get_running_loop().create_task(waits_for_a_reply(), context=contextvars.Context())
        kept.append(task)
        await asyncio.sleep(0)

    await guarded(test, LONG_S)()

    assert not kept[0].done()


async def test_a_task_that_ends_soon_after_the_test_is_not_left_over(kept: list[asyncio.Task[None]]) -> None:
    """A pool of a wider fixture may replace a connection that the test has closed."""

    async def replace_connection() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def test() -> None:
        kept.append(asyncio.create_task(replace_connection()))

    await guarded(test, LONG_S)()

    assert kept[0].done()
    assert not kept[0].cancelled()


# ---- a test that runs out of time


async def test_the_time_limit_names_where_every_task_stood(kept: list[asyncio.Task[None]]) -> None:
    """The failure shows the lines of the test, of what it called and of another task, before any of them cleaned up."""

    async def test() -> None:
        kept.append(asyncio.create_task(waits_for_a_reply(), name="helper"))
        try:
            await waits_for_a_reply()  # the test stands here
        finally:
            await asyncio.sleep(0)  # and cleans up here

    error = await failure(test, SHORT_S)

    assert isinstance(error, GuardError)
    assert str(error).startswith(f"not done after {SHORT_S:g} s; the position of every task:\n")
    assert "test_guards.py" in str(error)
    assert "test: await waits_for_a_reply()  # the test stands here" in str(error)
    assert "cleans up here" not in str(error)
    assert "helper <coroutine object waits_for_a_reply" in str(error)
    assert str(error).count("waits_for_a_reply: await asyncio.Event().wait()") == 2


async def test_a_task_left_by_a_test_out_of_time_is_noted_and_cancelled(kept: list[asyncio.Task[None]]) -> None:
    """Running out of time is the failure, the left-over task a note to it."""

    async def test() -> None:
        kept.append(asyncio.create_task(waits_for_a_reply()))
        await asyncio.Event().wait()

    error = await failure(test, SHORT_S)

    assert "It also left 1 task(s) running:" in told(error)
    assert kept[0].cancelled()


async def test_a_test_that_swallows_its_cancellation_is_out_of_time_too() -> None:
    """Suppressing CancelledError around a helper doesn't turn a time-out into a pass, or into a blocked loop."""

    async def test() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    error = await failure(test, SHORT_S)

    assert isinstance(error, GuardError)
    assert "not done after" in str(error)


async def test_an_error_on_the_way_out_of_time_is_kept_with_where_the_tasks_stood() -> None:
    """A client that turns the cancellation into an error of its own doesn't hide that time was up."""

    async def test() -> None:
        try:
            await asyncio.Event().wait()  # the test stands here
        except asyncio.CancelledError:
            raise ConnectionError("lost") from None

    error = await failure(test, SHORT_S)

    assert isinstance(error, ConnectionError)
    assert "not done after" in told(error)
    assert "the test stands here" in told(error)


async def test_a_time_out_of_the_test_s_own_is_its_failure() -> None:
    """TimeoutError that a client raises isn't taken for the limit."""

    async def test() -> None:
        raise TimeoutError("no reply from redis")

    error = await failure(test)

    assert type(error) is TimeoutError
    assert told(error) == "no reply from redis"


async def test_a_test_that_blocked_the_loop_is_told(clock: list[float]) -> None:
    """A test that took too long without the loop's noticing fails for blocking it."""

    async def test() -> None:
        clock[0] += LONG_S + 1

    error = await failure(test)

    assert isinstance(error, GuardError)
    assert str(error) == "took 31.0 s, the limit is 30 s: something blocked the event loop"


async def test_where_the_loop_is_blocked_is_told(clock: list[float]) -> None:
    """A thread looks at the loop when the time is up, and the failure shows the line that blocks it."""

    async def test() -> None:
        watch = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)][-1]
        watch.join(LONG_S)  # blocks until it has looked
        clock[0] += LONG_S

    error = await failure(test, SHORT_S)

    assert "something blocked the event loop\nthe event loop itself was in:\n" in str(error)
    assert "test: watch.join(LONG_S)  # blocks until it has looked" in str(error)


def test_a_loop_that_waits_for_events_is_not_busy(until: Until) -> None:
    """Of a loop with nothing to do there is no line to show."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    try:
        until(lambda: guards._busy_in(thread.ident or 0) == [])
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def test_a_test_that_ended_is_watched_no_longer() -> None:
    """The thread that would look at a blocked loop goes with the test."""
    before = set(threading.enumerate())
    started: set[threading.Thread] = set()

    async def test() -> None:
        started.update(set(threading.enumerate()) - before)

    await guarded(test, LONG_S)()

    (watch,) = started
    watch.join(LONG_S / 2)
    assert not watch.is_alive()


async def test_a_test_that_was_a_little_late_and_failed_has_no_notes(clock: list[float]) -> None:
    """An error just after the limit needs no other explanation."""

    async def test() -> None:
        clock[0] += LONG_S * 1.2
        raise AssertionError("wrong answer")

    assert told(await failure(test)) == "wrong answer"


async def test_a_test_that_blocked_the_loop_and_failed_keeps_its_error(clock: list[float]) -> None:
    """That the loop was blocked is a note to the test's own error."""

    async def test() -> None:
        clock[0] += LONG_S * 2
        raise AssertionError("wrong answer")

    error = await failure(test)

    assert type(error) is AssertionError
    assert told(error) == "wrong answer\nSomething blocked the event loop: the limit of 30 s could not take effect."


async def test_a_test_that_took_just_the_limit_passes(clock: list[float]) -> None:
    """The limit itself is allowed."""

    async def test() -> None:
        clock[0] += LONG_S

    await guarded(test, LONG_S)()


# ---- a test that leaves something behind


async def test_a_task_left_over_fails_the_test_and_is_cancelled(kept: list[asyncio.Task[None]]) -> None:
    """The failure names each task and the line where it stands."""

    async def test() -> None:
        kept.append(asyncio.create_task(waits_for_a_reply(), name="subscriber"))
        kept.append(asyncio.create_task(waits_for_a_reply(), name="publisher"))
        await asyncio.sleep(0)

    error = await failure(test)

    assert isinstance(error, GuardError)
    assert str(error).startswith("left 2 task(s) running (now cancelled):\n")
    for name in ("subscriber", "publisher"):
        assert f"{name} <coroutine object waits_for_a_reply" in str(error)
    assert str(error).count("waits_for_a_reply: await asyncio.Event().wait()") == 2
    assert all(task.cancelled() for task in kept)


async def test_what_tasks_and_callbacks_of_the_test_have_made_is_left_over(kept: list[asyncio.Task[None]]) -> None:
    """Whoever makes a task for the test, and however."""
    loop = asyncio.get_running_loop()

    async def helper() -> None:
        kept.append(asyncio.ensure_future(waits_for_a_reply()))

    async def test() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(helper())
        loop.call_soon(lambda: kept.append(asyncio.create_task(waits_for_a_reply())))
        await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(helper(), loop))
        await asyncio.sleep(0)

    error = await failure(test)

    assert str(error).startswith("left 3 task(s) running (now cancelled):\n")
    assert all(task.cancelled() for task in kept)


async def test_a_task_that_does_not_end_holds_no_test_up() -> None:
    """One that swallows its cancellation is reported, and no longer waited for."""
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    async def test() -> None:
        tasks.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    error = await failure(test)
    release.set()
    await tasks[0]

    assert "left 1 task(s) running" in str(error)


async def test_a_left_over_task_has_cleaned_up_when_the_test_is_over() -> None:
    """The guard waits for what a cancelled task still has to do, even if that fails."""
    cleaned: list[bool] = []

    async def helper() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)
            raise RuntimeError("failed to clean up")

    async def test() -> None:
        keep = asyncio.create_task(helper())
        await asyncio.sleep(0)
        assert not keep.done()

    error = await failure(test)

    assert isinstance(error, GuardError)
    assert cleaned == [True]


@pytest.mark.parametrize("error", [AssertionError("wrong answer"), ValueError("bad"), KeyboardInterrupt()])
async def test_a_failing_test_keeps_its_own_error(error: BaseException, kept: list[asyncio.Task[None]]) -> None:
    """The test's error comes through as it is, and what was left over is a note to it."""

    async def test() -> None:
        kept.append(asyncio.create_task(waits_for_a_reply(), name="subscriber"))
        raise error

    raised = await failure(test)

    assert raised is error
    assert "It also left 1 task(s) running:\nsubscriber <coroutine object waits_for_a_reply" in told(raised)
    assert kept[0].cancelled()


async def test_a_failing_test_that_leaves_nothing_has_no_notes() -> None:
    """There is nothing to add to a plain failure."""

    async def test() -> None:
        raise AssertionError("wrong answer")

    error = await failure(test)

    assert told(error) == "wrong answer"


async def test_a_skip_comes_through() -> None:
    """pytest's own ways to end a test pass the guard."""

    async def test() -> None:
        pytest.skip("no server")

    error = await failure(test)

    assert isinstance(error, pytest.skip.Exception)


# ---- interruptions


async def swallowing() -> None:
    """As `asyncio.wait_for` of Python 3.11 may."""
    with contextlib.suppress(asyncio.CancelledError):
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)


async def failing_at_it() -> None:
    await swallowing()
    raise ValueError("half done")


@pytest.mark.parametrize("test", [swallowing, failing_at_it])
def test_an_interruption_that_a_test_swallows_is_raised_after_it(test: Callable[[], Awaitable[None]]) -> None:
    """Whether the test passes or fails at it; without a signal, and after it, all is as it was."""
    before = signal.getsignal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(guarded(test, LONG_S)())

    assert signal.getsignal(signal.SIGINT) is before


def test_a_test_that_is_not_interrupted_passes_and_fails_as_it_does() -> None:
    """A cancellation that the test asked for itself is no interruption."""

    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        with contextlib.suppress(asyncio.CancelledError):
            task.cancel()
            await asyncio.sleep(60)

    async def failing() -> None:
        raise ValueError("wrong")

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(guarded(cancelled, LONG_S)())
        with pytest.raises(ValueError, match="wrong"):
            runner.run(guarded(failing, LONG_S)())
