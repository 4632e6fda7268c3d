"""A time limit in the event loop of a test, and a check for tasks that the test leaves running."""

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

# The time for a task to end by itself, for example when a pool replaces a connection, or after its cancellation.
SETTLED_S = 1.0

LOOPS = weakref.WeakSet[asyncio.AbstractEventLoop]()  # the event loops in which tests have run

# The running test. A task copies the context of its creator, so all tasks created by a test are marked.
# Tasks of wider fixtures, and the tasks that these create during a test, have an older context.
_TEST: ContextVar[object] = ContextVar("plumbline_test", default=None)


class GuardError(AssertionError):
    """A test exceeded its time limit or left tasks running."""


def guarded(test: Callable[..., Awaitable[None]], limit_s: float) -> Callable[..., Coroutine[Any, Any, None]]:
    """Wrap a coroutine test so that it raises GuardError if it exceeds the limit or leaves tasks running."""

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
        # Just before the limit: after the cancellation, the tasks would be in their clean-up.
        dump = asyncio.get_running_loop().call_later(
            limit_s * 0.99, lambda: standing.extend(map(describe_task, asyncio.all_tasks()))
        )
        # A blocked event loop cannot report its position, but a thread can.
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
            if failure is None or isinstance(failure, TimeoutError):  # None: the test swallowed the cancellation
                failure = GuardError(text)
            else:
                failure.add_note(text)
        elif elapsed_s > limit_s and failure is None:
            text = f"took {elapsed_s:.1f} s, the limit is {limit_s:g} s: something blocked the event loop"
            failure = GuardError("\n".join([text, *blocked]))
        elif elapsed_s > limit_s * 1.5 and failure is not None:
            failure.add_note(f"Something blocked the event loop: the limit of {limit_s:g} s could not take effect.")
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
    """Cancel the tasks of a test that still run `limit_s` after its end, and return their descriptions."""
    await asyncio.sleep(0)  # lets finished tasks end
    if not (tasks := {task for task in asyncio.all_tasks() if _belongs_to(task, test_id)}):
        return []
    _, tasks = await asyncio.wait(tasks, timeout=limit_s)
    left = [describe_task(task) for task in sorted(tasks, key=asyncio.Task.get_name)]
    for task in tasks:
        task.cancel()
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=SETTLED_S)
        for task in done:
            _ = task.cancelled() or task.exception()  # asyncio would log an exception that was never retrieved
    return left


def _belongs_to(task: asyncio.Task[Any], test_id: object) -> bool:
    """Return whether a task was created by the test or by one of its tasks. False for the test's own task."""
    if sys.version_info >= (3, 12):
        context: Context | None = task.get_context()
    else:  # no `get_context`, but the context is the first object that a task refers to
        context = next((one for one in gc.get_referents(task) if isinstance(one, Context)), None)
    return context is not None and context.get(_TEST) is test_id and task is not asyncio.current_task()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt after a SIGINT, even if the code in the block swallows the cancellation.

    asyncio turns SIGINT into a cancellation. In Python 3.11, `asyncio.wait_for` swallows a cancellation that comes just
    as its work is done (https://github.com/python/cpython/issues/81839). redis-py uses it for each command.
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
    """Return the name, the coroutine and the stack of a task, innermost line last."""
    frames = []
    awaited: Any = task.get_coro()
    while awaited is not None:  # task.get_stack() returns only the outermost frame
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame and frame.f_code.co_filename != __file__:
            frames.append((frame, frame.f_lineno))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "\n".join([f"{task.get_name()} {task.get_coro()!r}", *_lines(traceback.StackSummary.extract(frames))])


def _busy_in(thread: int) -> list[str]:
    """Return the innermost lines of an event loop's thread, or [] if the loop waits for events."""
    stack = traceback.extract_stack(sys._current_frames()[thread], limit=4)
    return [] if stack[-1].filename == selectors.__file__ else ["the event loop itself was in:", *_lines(stack)]


def _lines(stack: traceback.StackSummary) -> list[str]:
    return [f"  {line.filename}:{line.lineno} {line.name}: {line.line}" for line in stack]
