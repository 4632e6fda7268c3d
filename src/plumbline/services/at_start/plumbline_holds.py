"""Measures how long one callback holds an event loop, and notes the line of the project's own code that takes longest.

asyncio runs each callback, so also each step of a task, by `Handle._run`. Loops in C, such as uvloop's, have no such
function: there, the steps of tasks are seen by the events of `sys.monitoring` for coroutines.
"""

import collections
import importlib
import sys
import time
from _thread import allocate_lock, get_ident, start_new_thread  # before gevent replaces them
from collections.abc import Callable, Sequence
from typing import Any

from plumbline_callers import Callers, Site, outward  # type: ignore[import-not-found]
from plumbline_loops import running_loops  # type: ignore[import-not-found]

SAMPLE_EVERY_S = 0.001
RUNS_LOOPS = {"asyncio.base_events", "asyncio.runners", "uvloop"}
NOWHERE: Site = ("", 0, "")
COROUTINE = 0x80  # in the flags of its code: see `inspect.CO_COROUTINE`
TOOLS = (4, 3)  # ids of `sys.monitoring` that belong to nobody


class Holds:
    """A probe: see `plumbline_probes.Probe`."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._callers = Callers(folders)
        self._began: dict[int, float] = {}  # by thread: when its callback began, while one runs
        self._seen: dict[int, collections.Counter[Site]] = {}  # by thread: the lines that its callback was seen at
        self._longest: tuple[float, Site] | None = None  # seconds, and the line; None if no loop ran
        self._entered = 0.0  # when the block began; 0 between the rounds
        self._ended = allocate_lock()
        self._monitor: Monitor | None = None
        self._restore: Callable[[], None] = lambda: None

    def begin(self) -> None:
        if "asyncio" not in sys.modules:
            return
        handles = importlib.import_module("asyncio.events").Handle
        of_asyncio = importlib.import_module("asyncio.base_events").BaseEventLoop
        if not all(isinstance(loop, of_asyncio) for loop in running_loops()):
            self._monitor = Monitor(self._start, self._stop, of_asyncio)
        run = handles._run

        def _run(handle: Any) -> None:
            thread = get_ident()
            self._start(thread)
            try:
                run(handle)
            finally:
                self._stop(thread)

        handles._run = _run
        self._restore = lambda: setattr(handles, "_run", run)
        self._ended.acquire()
        start_new_thread(self._sample, ())

    def enter(self) -> None:
        self._longest = None
        self._entered = time.perf_counter()
        events = sys.modules.get("asyncio.events")
        if events is not None and events._get_running_loop() is not None:
            self._start(get_ident())  # a callback runs the test

    def leave(self) -> tuple[float, Site] | None:
        """Return the seconds of the longest callback, and its line, if it was seen. None if no loop was held."""
        for thread, began in [*self._began.items()]:
            self._note(thread, began)
        self._entered = 0.0
        return self._longest

    def end(self) -> None:
        self._restore()
        if self._monitor is not None:
            self._monitor.end()
        if self._ended.locked():
            self._ended.release()

    def _start(self, thread: int) -> None:
        self._seen.pop(thread, None)
        self._began[thread] = time.perf_counter()

    def _stop(self, thread: int) -> None:
        if (began := self._began.pop(thread, None)) is not None:
            self._note(thread, began)

    def _note(self, thread: int, began: float) -> None:
        held = time.perf_counter() - max(began, self._entered)
        if self._entered and (self._longest is None or held > self._longest[0]):
            seen = self._seen.get(thread)
            self._longest = held, seen.most_common(1)[0][0] if seen else NOWHERE

    def _sample(self) -> None:
        """Note every millisecond where a callback is that runs for longer. Runs in a thread of its own."""
        while not self._ended.acquire(timeout=SAMPLE_EVERY_S):
            frames = sys._current_frames() if self._entered and self._began else {}
            before = time.perf_counter() - SAMPLE_EVERY_S / 2
            for thread, began in [*self._began.items()]:
                if thread in frames and began < before and (site := self._site(frames[thread])):
                    self._seen.setdefault(thread, collections.Counter())[site] += 1

    def _site(self, frame: Any) -> Site | None:
        for one in outward(frame):
            if str(one.f_globals.get("__name__")) in RUNS_LOOPS:
                return None
            if self._callers.is_own(one):
                return self._callers.site(frame)
        return None


class Monitor:
    """Sees each step of a task: its outermost coroutine starts or goes on, until it waits or ends."""

    def __init__(self, start: Callable[[int], None], stop: Callable[[int], None], except_of: type) -> None:
        """`start` and `stop` get the id of the thread. Loops of the type `except_of` are left out."""
        self._monitoring: Any = getattr(sys, "monitoring", None)
        if self._monitoring is None:
            raise RuntimeError("an event loop other than asyncio's needs Python 3.12 or later")
        self._start, self._stop, self._except_of = start, stop, except_of
        self._get_running_loop = importlib.import_module("asyncio.events")._get_running_loop
        self._depths = collections.Counter({get_ident(): _depth(sys._getframe())})  # coroutines in each other
        events = self._monitoring.events
        tools = [tool for tool in TOOLS if self._monitoring.get_tool(tool) is None]
        if not tools:
            raise RuntimeError("other tools use sys.monitoring")
        self._tool = tools[0]
        self._disable = self._monitoring.DISABLE
        # The events of other code are disabled where they occur, except for those that can't be.
        self._handlers = {
            events.PY_START: self._enter,
            events.PY_RESUME: self._enter,
            events.PY_THROW: lambda code, *_: self._enter(code) and None,
            events.PY_YIELD: self._leave,
            events.PY_RETURN: self._leave,
            events.PY_UNWIND: lambda code, *_: self._leave(code) and None,
        }
        self._monitoring.use_tool_id(self._tool, "plumbline")
        for event, handler in self._handlers.items():
            self._monitoring.register_callback(self._tool, event, handler)
        self._monitoring.set_events(self._tool, sum(self._handlers))

    def end(self) -> None:
        self._monitoring.set_events(self._tool, 0)
        for event in self._handlers:
            self._monitoring.register_callback(self._tool, event, None)
        self._monitoring.free_tool_id(self._tool)

    def _enter(self, code: Any, *_: object) -> Any:
        if not code.co_flags & COROUTINE:
            return self._disable
        if self._is_monitored():
            thread = get_ident()
            self._depths[thread] += 1
            if self._depths[thread] == 1:
                self._start(thread)
        return None

    def _leave(self, code: Any, *_: object) -> Any:
        if not code.co_flags & COROUTINE:
            return self._disable
        if self._is_monitored() and self._depths[thread := get_ident()] > 0:
            self._depths[thread] -= 1
            if self._depths[thread] == 0:
                self._stop(thread)
        return None

    def _is_monitored(self) -> bool:
        loop = self._get_running_loop()
        return loop is not None and not isinstance(loop, self._except_of)


def _depth(frame: Any) -> int:
    depth = 0
    while frame is not None:
        depth += bool(frame.f_code.co_flags & COROUTINE)
        frame = frame.f_back
    return depth
