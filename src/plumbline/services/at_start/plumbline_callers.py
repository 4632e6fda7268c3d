"""Finds the line of the project's own code that led to a call, through `await`. Probes import this module."""

import copy
import functools
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from plumbline_reads import is_own  # type: ignore[import-not-found]

Site = tuple[str, int, str]  # the file relative to the project's root, the line, and the function

BETWEEN = {"asyncio", "uvloop", "anyio", "concurrent"}  # packages between the code that begins a task and the task
AWAITED = {"shield", "wait_for"}  # of asyncio: they create a task for the code that awaits them
GREENLET = "_AsyncIoGreenlet"  # of SQLAlchemy, in which its asynchronous engine runs synchronous code


# By folders and file: the path relative to the root, "" if it is not the project's. Kept from pass to pass.
_known: dict[tuple[str, ...], dict[str, str]] = {}


class Replaced:
    """Functions of classes that are replaced until `restore`."""

    def __init__(self) -> None:
        self._originals: dict[tuple[Any, str], Any] = {}  # None if the class inherits it

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace a function once; without an owner, do nothing. `make` returns the replacement of the original."""
        if owner is not None and (owner, name) not in self._originals:
            function = getattr(owner, name)
            self._originals[owner, name] = vars(owner).get(name)
            setattr(owner, name, functools.wraps(function)(make(function)))

    def restore(self) -> None:
        while self._originals:
            (owner, name), original = self._originals.popitem()
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)


class Callers:
    """Finds the project's own code on the stack, between `begin` and `end`."""

    def __init__(self, folders: Sequence[str]) -> None:
        """`folders` hold the project's own code: the first is its root."""
        self._folders = [*folders]
        self._own = _known.setdefault(tuple(folders), {})
        self._tasks: weakref.WeakKeyDictionary[Any, Site] = weakref.WeakKeyDictionary()
        self._replaced = Replaced()

    def begin(self) -> None:
        """Note from now on which code begins the tasks and threads that run functions of libraries."""
        for module, owner, name, make in (
            ("asyncio", "BaseEventLoop", "create_task", self._creating),
            ("uvloop", "Loop", "create_task", self._creating),
            ("concurrent.futures.thread", "ThreadPoolExecutor", "submit", self._submitting),
            ("asgiref.sync", "SyncToAsync", "__call__", self._calling_in_thread),
            ("anyio", "to_thread", "run_sync", self._running_in_thread),
        ):
            self._replaced.replace(getattr(sys.modules.get(module), owner, None), name, make)

    def end(self) -> None:
        self._replaced.restore()
        self._tasks.clear()

    def site(self, frame: Any) -> Site | None:
        """Return the innermost line of the project's code that called this frame. None if it is not certain."""
        for one in outward(frame):
            if one.f_code is _in_thread.__code__:
                found: Site | None = one.f_locals["site"]
                return found
            if file := self._own_file(one):
                return file, one.f_lineno, _function(one.f_code)
            if _is_generated(one) and not self._is_library(one):
                return None
        task = _current_task()
        return self._tasks.get(task) if task is not None else None

    def is_own(self, frame: Any) -> bool:
        """Return whether a frame is of the project's own code."""
        return bool(self._own_file(frame))

    def _own_file(self, frame: Any) -> str:
        """Return the file of a frame relative to the root, or "" if it is not the project's."""
        file = frame.f_code.co_filename
        if not file.endswith(".py") and frame.f_globals.get("__name__") != "__main__":
            return ""  # for example a template, whose lines are not those of its code
        return self._relative(file)

    def _relative(self, file: str) -> str:
        if file not in self._own:
            found = is_own(file, self._folders)
            root = os.path.realpath(self._folders[0])
            self._own[file] = os.path.relpath(os.path.realpath(file), root) if found else ""
        return self._own[file]

    def _is_library(self, frame: Any) -> bool:
        """Return whether code without a file is certainly that of a library."""
        module = sys.modules.get(str(frame.f_globals.get("__name__")))
        file = getattr(module, "__file__", None)
        return frame.f_code.co_filename.startswith("<frozen") or (file is not None and not self._relative(file))

    def _creating(self, original: Any) -> Any:
        def create_task(*args: Any, **options: Any) -> Any:
            task = original(*args, **options)
            if site := self._creator(sys._getframe(1)):
                self._tasks[task] = site
            return task

        return create_task

    def _creator(self, frame: Any) -> Site | None:
        """Return the line that began a task, if it did so itself or waits for the task."""
        waits = False
        while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in BETWEEN:
            waits = waits or frame.f_code.co_name in AWAITED
            frame = frame.f_back
        return self.site(frame) if frame is not None and (waits or self._own_file(frame)) else None

    def _submitting(self, original: Any) -> Any:
        def submit(executor: Any, function: Any, *args: Any, **options: Any) -> Any:
            if site := self._creator(sys._getframe(1)):
                function = functools.partial(_in_thread, site, function)
            return original(executor, function, *args, **options)

        return submit

    def _running_in_thread(self, original: Any) -> Any:
        async def run_sync(function: Any, *args: Any, **options: Any) -> Any:
            function = functools.partial(_in_thread, self.site(sys._getframe(1)), function)
            return await original(function, *args, **options)

        return run_sync

    def _calling_in_thread(self, original: Any) -> Any:
        async def call(calling: Any, *args: Any, **options: Any) -> Any:
            calling = copy.copy(calling)
            calling.func = functools.partial(_in_thread, self.site(sys._getframe(1)), calling.func)
            return await original(calling, *args, **options)

        return call


def _in_thread(site: Site | None, function: Any, *args: Any, **options: Any) -> Any:  # noqa: ARG001
    """Call a function for the code at `site`, which waits for it in another thread. See `Callers.site`."""
    return function(*args, **options)


def outward(frame: Any) -> Iterator[Any]:
    """Yield a frame and those that called it or await it, the innermost first, up to the start of a task or thread."""
    task = _current_task()
    start = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
    current = getattr(sys.modules.get("greenlet"), "getcurrent", None)  # None also while it is being imported
    greenlet = current() if current else None
    while frame is not None:
        if frame.f_code.co_name == "greenlet_spawn" and hasattr(frame.f_locals.get("context"), "gr_frame"):
            inner = frame.f_locals["context"].gr_frame  # the synchronous code that waits for the frames so far
            while inner is not None:
                yield inner
                inner = inner.f_back
        yield frame
        if frame is start or (frame.f_code.co_name == "_run" and frame.f_globals.get("__name__") == "asyncio.events"):
            return
        frame = frame.f_back
        if frame is None and greenlet is not None and type(greenlet).__name__ == GREENLET:
            greenlet = greenlet.parent
            frame = greenlet.gr_frame


def _current_task() -> Any:
    """Return the asyncio task that runs in this thread, or None."""
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio.current_task() if asyncio else None
    except (AttributeError, RuntimeError):  # partly imported; no loop runs
        return None


def _is_generated(frame: Any) -> bool:
    return bool(frame.f_code.co_filename.startswith("<"))


def _function(code: Any) -> str:
    """Return the name of the function that a comprehension or a lambda is part of."""
    names = [name for name in getattr(code, "co_qualname", code.co_name).split(".") if not name.startswith("<")]
    return names[-1] if names else str(code.co_name)
