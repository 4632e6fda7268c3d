"""A time limit inside the event loop of a test, and a check for tasks that the test leaves behind."""

import asyncio
import contextlib
import functools
import gc
import selectors
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextvars import Context, ContextVar
from types import FrameType
from typing import Any

from plumbline.measuring.clock import Clock

# How long a task may take to end by itself, such as one in which a pool replaces a connection, or once cancelled.
SETTLED_S = 1.0

LOOPS = weakref.WeakSet[asyncio.AbstractEventLoop]()  # in which tests have run

# The test that runs. A task copies the context of its maker, so this marks all tasks that a test's own tasks make.
# Tasks of wider fixtures, and those that they make during a test, have an older context.
_TEST: ContextVar[object] = ContextVar("plumbline_test", default=None)


class GuardError(AssertionError):
    """A test ran out of time or left something behind."""


def guarded(test: Callable[..., Awaitable[None]], limit_s: float) -> Callable[..., Coroutine[Any, Any, None]]:
    """Return a coroutine test that raises GuardError if it exceeds the limit, or leaves tasks behind."""

    @functools.wraps(test)
    async def run(*args: object, **kwargs: object) -> None:
        __tracebackhide__ = True
        if asyncio._get_running_loop() is None:  # Trio's loop: pytest-timeout alone limits the test
            return await test(*args, **kwargs)
        LOOPS.add(asyncio.get_running_loop())
        test_id = object()
        _TEST.set(test_id)
        started_s = Clock.read()
        standing: list[str] = []
        # Just before the limit: the cancellation that follows would show where the clean-up stands instead.
        dump = asyncio.get_running_loop().call_later(
            limit_s * 0.99, lambda: standing.extend(map(describe_task, asyncio.all_tasks()))
        )
        # A blocked loop cannot report its position: a thread has to.
        blocked: list[str] = []
        watch = threading.Timer(limit_s, lambda thread: blocked.extend(_busy_in(thread)), [threading.get_ident()])
        watch.daemon = True
        watch.start()
        failure: BaseException | None = None
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                with interruptible():
                    await test(*args, **kwargs)
        except BaseException as error:
            failure = error
        dump.cancel()
        watch.cancel()
        elapsed_s = Clock.read() - started_s
        if limit.expired():
            text = "\n".join([f"not done after {limit_s:g} s; the position of every task:", *standing, *blocked])
            if failure is None or isinstance(failure, TimeoutError):  # None: it swallowed the cancellation
                failure = GuardError(text)
            else:
                failure.add_note(text)
        elif elapsed_s > limit_s and failure is None:
            text = f"took {elapsed_s:.1f} s, the limit is {limit_s:g} s: something blocked the event loop"
            failure = GuardError("\n".join([text, *blocked]))
        elif elapsed_s > limit_s * 1.5 and failure is not None:
            failure.add_note(f"The event loop was blocked: its own limit of {limit_s:g} s could not act.")
        is_interrupted = failure is not None and not isinstance(failure, Exception)
        left = await _end_tasks(test_id, 0 if is_interrupted else SETTLED_S)
        _TEST.set(None)
        if failure is None and left:
            raise GuardError("\n".join([f"left {len(left)} task(s) running (now cancelled):", *left]))
        if failure is not None and left:
            failure.add_note("\n".join([f"It also left {len(left)} task(s) running:", *left]))
        if failure is not None:
            raise failure
        return None

    return run


async def _end_tasks(test_id: object, limit_s: float) -> list[str]:
    """Cancel the tasks of a test that still run so many seconds after its end, and return their descriptions."""
    await asyncio.sleep(0)  # a task that is just ending may end
    if not (tasks := {task for task in asyncio.all_tasks() if _belongs_to(task, test_id)}):
        return []
    _, tasks = await asyncio.wait(tasks, timeout=limit_s)
    left = [describe_task(task) for task in sorted(tasks, key=asyncio.Task.get_name)]
    for task in tasks:
        task.cancel()
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=SETTLED_S)
        for task in done:
            _ = task.cancelled() or task.exception()  # asyncio would log an exception that nobody has read
    return left


def _belongs_to(task: asyncio.Task[Any], test_id: object) -> bool:
    """Return whether a task was made by a test, or by what the test made; not for the test's own task."""
    if sys.version_info >= (3, 12):
        context: Context | None = task.get_context()
    else:  # which has the context as the first object that a task refers to, and no method for it
        context = next((one for one in gc.get_referents(task) if isinstance(one, Context)), None)
    return context is not None and context.get(_TEST) is test_id and task is not asyncio.current_task()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt if the coroutine inside was interrupted, even if it swallows that.

    asyncio turns SIGINT into a cancellation, and `asyncio.wait_for` of Python 3.11 swallows one that comes as its work
    is done (https://github.com/python/cpython/issues/81839). redis-py sends each command that way.
    """
    cancel = signal.getsignal(signal.SIGINT)
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        if callable(cancel):
            cancel(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, cancel)
        if came:
            raise KeyboardInterrupt from None


def describe_task(task: asyncio.Task[Any]) -> str:
    """Return the name, the coroutine and the lines of a task, the innermost line last."""
    frames = []
    awaited: Any = task.get_coro()
    while awaited is not None:  # task.get_stack() has the outermost frame alone
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame and frame.f_code.co_filename != __file__:
            frames.append((frame, frame.f_lineno))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "\n".join([f"{task.get_name()} {task.get_coro()!r}", *_lines(traceback.StackSummary.extract(frames))])


def _busy_in(thread: int) -> list[str]:
    """Return the innermost lines of an event loop's thread; nothing if it waits for events, as it should."""
    stack = traceback.extract_stack(sys._current_frames()[thread], limit=4)
    return [] if stack[-1].filename == selectors.__file__ else ["the loop itself was in:", *_lines(stack)]


def _lines(stack: traceback.StackSummary) -> list[str]:
    return [f"  {line.filename}:{line.lineno} {line.name}: {line.line}" for line in stack]
