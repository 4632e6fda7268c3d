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

LONG_S = 30.0  # no test here comes near it
SHORT_S = 0.05

Test = Callable[[], Awaitable[None]]


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait for remaining tasks."""
    monkeypatch.setattr(guards, "SETTLED_S", 0.1)


async def failure(test: Test, limit_s: float = LONG_S) -> BaseException:
    """Return the error of a guarded test."""
    with pytest.raises(BaseException) as error:  # noqa: PT011, any at all
        await guarded(test, limit_s)()
    return error.value


def text_of(error: BaseException) -> str:
    """Return an error's message and notes."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


async def waits_for_a_reply() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A fake clock of the guard that only the test advances. The event loop's clock is real."""
    now_s = [100.0]
    monkeypatch.setattr(Clock, "read", lambda: now_s[0])
    return now_s


@pytest.fixture
def kept() -> Iterator[list[asyncio.Task[None]]]:
    """Tasks that a guarded test has started."""
    tasks: list[asyncio.Task[None]] = []
    yield tasks
    for task in tasks:
        task.cancel()


# ---- tests without problems


async def test_a_test_that_ends_in_time_passes() -> None:
    """The test gets its arguments and runs in the given event loop."""
    seen: list[object] = []

    async def test(*args: object, **kwargs: object) -> None:
        await asyncio.sleep(0)
        seen.extend([args, kwargs, asyncio.get_running_loop()])

    await guarded(test, LONG_S)(1, name=2)

    assert seen == [(1,), {"name": 2}, asyncio.get_running_loop()]


def test_a_guarded_test_keeps_its_name_and_parameters() -> None:
    """pytest finds the fixtures of a test by its signature."""

    async def test_of_something(redis_url: str) -> None:
        """Some words."""

    wrapped = guarded(test_of_something, LONG_S)

    assert (wrapped.__name__, wrapped.__doc__) == ("test_of_something", "Some words.")
    assert wrapped.__wrapped__ is test_of_something  # type: ignore[attr-defined]


async def test_a_task_that_has_ended_is_not_left_over(kept: list[asyncio.Task[None]]) -> None:
    """Tasks that are done, or end together with the test, are allowed."""
    release = asyncio.Event()

    async def test() -> None:
        kept.append(asyncio.create_task(asyncio.sleep(0)))
        await kept[0]
        kept.append(asyncio.create_task(release.wait()))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        release.set()

    await guarded(test, LONG_S)()

    assert not any(task.cancelled() for task in kept)


async def test_a_task_of_a_wider_fixture_may_continue(kept: list[asyncio.Task[None]]) -> None:
    kept.append(asyncio.create_task(waits_for_a_reply()))
    await asyncio.sleep(0)

    async def test() -> None:
        await asyncio.sleep(0)

    await guarded(test, LONG_S)()

    assert not kept[0].done()


async def test_tasks_created_by_a_task_of_a_wider_fixture_may_continue(kept: list[asyncio.Task[None]]) -> None:
    """A heartbeat creates a task for each wait, as `asyncio.wait_for` of Python 3.11 does."""
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


async def test_a_task_of_another_context_may_continue(kept: list[asyncio.Task[None]]) -> None:
    """It is unknown whether it belongs to the test."""

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


# ---- the time limit


async def test_the_time_limit_shows_the_position_of_every_task(kept: list[asyncio.Task[None]]) -> None:
    """The failure shows lines of the test, of its calls and of another task, before any clean-up."""

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
    """The failure is the time limit, with a note about the task."""

    async def test() -> None:
        kept.append(asyncio.create_task(waits_for_a_reply()))
        await asyncio.Event().wait()

    error = await failure(test, SHORT_S)

    assert "It also left 1 task(s) running:" in text_of(error)
    assert kept[0].cancelled()


async def test_a_test_that_swallows_its_cancellation_is_out_of_time_too() -> None:
    """Suppressing CancelledError neither passes the test nor blocks the loop."""

    async def test() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    error = await failure(test, SHORT_S)

    assert isinstance(error, GuardError)
    assert "not done after" in str(error)


async def test_an_error_after_the_limit_is_kept_with_the_positions_of_tasks() -> None:
    """A client may turn the cancellation into an error of its own."""

    async def test() -> None:
        try:
            await asyncio.Event().wait()  # the test stands here
        except asyncio.CancelledError:
            raise ConnectionError("lost") from None

    error = await failure(test, SHORT_S)

    assert isinstance(error, ConnectionError)
    assert "not done after" in text_of(error)
    assert "the test stands here" in text_of(error)


async def test_a_timeout_error_of_the_test_is_not_the_limit() -> None:

    async def test() -> None:
        raise TimeoutError("no reply from redis")

    error = await failure(test)

    assert type(error) is TimeoutError
    assert text_of(error) == "no reply from redis"


async def test_a_test_that_blocked_the_loop_fails(clock: list[float]) -> None:
    """It took too long, although the limit could not take effect."""

    async def test() -> None:
        clock[0] += LONG_S + 1

    error = await failure(test)

    assert isinstance(error, GuardError)
    assert str(error) == "took 31.0 s, the limit is 30 s: something blocked the event loop"


async def test_the_line_that_blocks_the_loop_is_shown(clock: list[float]) -> None:
    """A thread reads it at the limit."""

    async def test() -> None:
        watch = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)][-1]
        watch.join(LONG_S)  # blocks until it has looked
        clock[0] += LONG_S

    error = await failure(test, SHORT_S)

    assert "something blocked the event loop\nthe event loop itself was in:\n" in str(error)
    assert "test: watch.join(LONG_S)  # blocks until it has looked" in str(error)


def test_a_loop_that_waits_for_events_is_not_busy(until: Until) -> None:
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
    """The thread for blocked loops ends with the test."""
    before = set(threading.enumerate())
    started: set[threading.Thread] = set()

    async def test() -> None:
        started.update(set(threading.enumerate()) - before)

    await guarded(test, LONG_S)()

    (watch,) = started
    watch.join(LONG_S / 2)
    assert not watch.is_alive()


async def test_a_test_that_was_a_little_late_and_failed_has_no_notes(clock: list[float]) -> None:
    """An error just after the limit needs no explanation."""

    async def test() -> None:
        clock[0] += LONG_S * 1.2
        raise AssertionError("wrong answer")

    assert text_of(await failure(test)) == "wrong answer"


async def test_a_test_that_blocked_the_loop_and_failed_keeps_its_error(clock: list[float]) -> None:
    """A note reports the blocked loop."""

    async def test() -> None:
        clock[0] += LONG_S * 2
        raise AssertionError("wrong answer")

    error = await failure(test)

    assert type(error) is AssertionError
    assert text_of(error) == "wrong answer\nSomething blocked the event loop: the limit of 30 s could not take effect."


async def test_a_test_that_took_just_the_limit_passes(clock: list[float]) -> None:
    """The limit itself is allowed."""

    async def test() -> None:
        clock[0] += LONG_S

    await guarded(test, LONG_S)()


# ---- remaining tasks


async def test_a_task_left_over_fails_the_test_and_is_cancelled(kept: list[asyncio.Task[None]]) -> None:
    """The failure shows each task and its current line."""

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


async def test_tasks_created_by_tasks_and_callbacks_of_the_test_are_left_over(kept: list[asyncio.Task[None]]) -> None:
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


async def test_a_task_that_does_not_end_does_not_block_the_next_test() -> None:
    """A task that swallows its cancellation is reported, and not waited for."""
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
    """The guard waits for the clean-up of a cancelled task, even if that fails."""
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
    """A note reports the remaining tasks."""

    async def test() -> None:
        kept.append(asyncio.create_task(waits_for_a_reply(), name="subscriber"))
        raise error

    raised = await failure(test)

    assert raised is error
    assert "It also left 1 task(s) running:\nsubscriber <coroutine object waits_for_a_reply" in text_of(raised)
    assert kept[0].cancelled()


async def test_a_failing_test_that_leaves_nothing_has_no_notes() -> None:

    async def test() -> None:
        raise AssertionError("wrong answer")

    error = await failure(test)

    assert text_of(error) == "wrong answer"


async def test_a_skip_is_passed_on() -> None:

    async def test() -> None:
        pytest.skip("no server")

    error = await failure(test)

    assert isinstance(error, pytest.skip.Exception)


# ---- interruptions


async def swallowing() -> None:
    """Swallow a cancellation, as `asyncio.wait_for` of Python 3.11 may."""
    with contextlib.suppress(asyncio.CancelledError):
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)


async def failing_at_it() -> None:
    await swallowing()
    raise ValueError("half done")


@pytest.mark.parametrize("test", [swallowing, failing_at_it])
def test_an_interruption_that_a_test_swallows_is_raised_after_it(test: Callable[[], Awaitable[None]]) -> None:
    """It is raised if the test passes and if it fails. Without a signal, and afterwards, nothing changes."""
    before = signal.getsignal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(guarded(test, LONG_S)())

    assert signal.getsignal(signal.SIGINT) is before


def test_without_an_interruption_nothing_changes() -> None:
    """A cancellation by the test itself is not an interruption."""

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
