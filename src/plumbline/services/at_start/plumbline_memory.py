"""A probe of allocations, through memray. Like the others, it imports the standard library, and here memray."""

import contextlib
import gc
import importlib
import os
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from plumbline_reads import is_own  # type: ignore[import-not-found]

IDLE_S = 5e-5  # of CPU time: the least request takes longer
CPU_LIMIT_S = 1.0  # of all blocks together; reading what they allocate takes longer than that
NOT_INSTALLED = "memray is not installed: install the extra `memory` of pytest-plumbline, or set counts.memory = false"
NEVER_MS = 1_000_000  # memray also samples the size of the process
MOST_LINES = 100
# Of memray.AllocatorType, whose numbers differ between versions.
FREES = ("FREE", "MUNMAP")
MMAP = "MMAP"  # the interpreter maps memory for deep calls: how deep they are depends on what calls the test
# The most that the interpreter maps at once: an arena of Python 3.10 and newer. All else is mapped by other code.
ARENA_BYTES = 1 << 20
DEEP = 10_000  # without a number, memray leaves out the calls that were there when the tracker began
# asyncio receives into 256 kB, which it returns at once. How often it does so for one answer depends on timing.
RECEIVES, SELECTOR_EVENTS = "_read_ready__data_received", os.path.join("asyncio", "selector_events.py")  # noqa: PTH118
PLUMBLINE = Path(__file__).parents[2]

Line = tuple[str, int, str]  # file, line and function; the file is relative to the project's root
NOTHING = {"allocations": 0, "peak_bytes": 0, "lines": [], "uncounted": []}
NO_LINE, BEGINS, ENDS = ("", 0, ""), ("", 1, ""), ("", 2, "")


class Memory:
    """Counts the allocations in each block, with the peak of their bytes and the lines that they come from.

    One tracker sees all blocks, because it takes some 15 ms to begin and end. Two functions allocate in order to mark
    the beginning and the end of a block. The first block is not counted: it shows whether this process does anything.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders
        self._memray: Any = None
        self._tracker: Any = None
        self._file = ""
        self._handle: int | None = None  # of this file
        self._began_s = self._cpu_s = 0.0
        self._collects = False
        self._blocks = 0
        self._pid = os.getpid()
        self._children: Any = None  # of this process, at the start of the block
        self._had_children: list[bool] = []  # by block
        self._why = ""  # why the blocks can't be counted

    def begin(self) -> None:
        self._memray = _memray()
        # It prints with rich, which this process may not find: memray then ends the process.
        importlib.import_module("memray._memray").print_greenlet_warning = lambda: None  # type: ignore[attr-defined]

    def enter(self) -> None:
        self._children = _children()
        self._began_s = _cpu_s()
        _block_begins()

    def leave(self) -> None:
        _block_ends()
        took_s = _cpu_s() - self._began_s
        self._had_children.append(_children() != self._children)
        self._blocks += 1
        if self._blocks == 1:
            if took_s > IDLE_S or not _answers():
                self._start()
            return
        self._cpu_s += took_s
        if self._tracker is not None and self._cpu_s > CPU_LIMIT_S:
            self._stop()
            self._why = f"its blocks take more than {CPU_LIMIT_S:g} s of CPU time while allocations are traced"

    def end(self) -> list[dict[str, Any]]:
        """Return what was found by block; nothing if the process was idle. Raises RuntimeError with the reason."""
        if os.getpid() != self._pid:  # memray does not follow a process that was forked meanwhile
            self._collect_again()
            return []
        traced = self._tracker is not None
        self._stop()
        try:
            if self._why:
                raise RuntimeError(self._why)
            if not traced:
                return []
            with self._memray.FileReader(self._file) as reader:
                kinds = self._memray.AllocatorType
                blocks = _blocks(reader.get_allocation_records(), self._folders, kinds)
                found = [block.found() for block in blocks]
            for one, had_children in zip(found, self._had_children[1:], strict=False):
                one["uncounted"] += ["those of child processes"] * had_children
            return [NOTHING, *found]
        finally:
            self._remove()

    def _start(self) -> None:
        greenlets = getattr(sys.modules.get("greenlet"), "__version__", "2")
        if greenlets.startswith(("0.", "1.")):  # the process would crash
            self._why = f"memray needs greenlet 2 or newer, and this is {greenlets}"
            return
        try:
            self._handle, self._file = tempfile.mkstemp(prefix="plumbline-", suffix=".memray")
            destination = self._memray.FileDestination(self._file, overwrite=True, compress_on_exit=False)
            tracker = self._memray.Tracker(destination=destination, memory_interval_ms=NEVER_MS)
            tracker.__enter__()
        except Exception as error:  # for example, another tracker
            self._why = f"memray does not begin: {error}"
            return
        opened = f"/proc/self/fd/{self._handle}"
        if os.path.exists(opened):  # noqa: PTH110  # on Linux, a process that is killed leaves no file
            os.unlink(self._file)  # noqa: PTH108
            self._file = opened
        self._tracker = tracker
        self._collects = gc.isenabled()
        gc.disable()

    def _remove(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
            with contextlib.suppress(OSError):
                os.unlink(self._file)  # noqa: PTH108

    def _stop(self) -> None:
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.__exit__(None, None, None)
            self._collect_again()

    def _collect_again(self) -> None:
        if self._collects:
            gc.enable()


class _Forked:
    """Counts the children of this process."""

    def __init__(self) -> None:
        self.children = 0
        os.register_at_fork(after_in_parent=self._add)

    def _add(self) -> None:
        self.children += 1


_forked = _Forked()


def _children() -> tuple[int, int]:
    """Return figures that change if this process forks, or has waited for a child."""
    return _forked.children, resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt


def _cpu_s() -> float:
    """Return the CPU time of this process, without that of a thread that only answers the test's process."""
    return time.process_time() - (time.thread_time() if _answers() else 0.0)


def _answers() -> bool:
    """Return whether this thread only answers the test's process."""
    return threading.current_thread() is not threading.main_thread()


# Each allocates, so that its name is in a record. Few others allocate as much.
MARK_BYTES = 20_000


def _block_begins() -> object:
    return bytearray(MARK_BYTES)


def _block_ends() -> object:
    return bytearray(MARK_BYTES)


MARKS = {_block_begins.__name__: BEGINS, _block_ends.__name__: ENDS}


class _Block:
    def __init__(self) -> None:
        self._events: list[tuple[int, int, Line]] = []  # address, size (-1: freed) and line
        self.has_mapped = False  # by other code than the interpreter

    def add(self, address: int, size: int, line: Line) -> None:
        self._events.append((address, size, line))

    def found(self) -> dict[str, Any]:
        """Return the number of allocations, the peak of what they hold, and for each line both of these."""
        live: dict[int, tuple[int, Line]] = {}
        held = peak = peak_at = 0
        counts = Counter[Line]()
        for number, (address, size, line) in enumerate(self._events):
            if size < 0:
                held -= live.pop(address, (0, line))[0]  # 0: it was there before
                continue
            counts[line] += 1
            live[address] = size, line
            held += size
            if held > peak:
                peak, peak_at = held, number
        at_peak = self._held_at(peak_at)
        lines = sorted((counts + at_peak).keys() - {NO_LINE}, key=lambda line: (-counts[line], -at_peak[line], line))
        return {
            "allocations": counts.total(),
            "peak_bytes": peak,
            "lines": [[*line, counts[line], at_peak[line]] for line in lines[:MOST_LINES]],
            "uncounted": ["memory that an extension maps"] if self.has_mapped else [],
        }

    def _held_at(self, last: int) -> Counter[Line]:
        live: dict[int, tuple[int, Line]] = {}
        for address, size, line in self._events[: last + 1]:
            if size < 0:
                live.pop(address, None)
            else:
                live[address] = size, line
        held = Counter[Line]()
        for size, line in live.values():
            held[line] += size
        return held


def _blocks(records: Iterable[Any], folders: Sequence[str], kinds: Any) -> Iterator[_Block]:
    """Yield what happened in each block, without the allocations of Plumbline's own code."""
    line_of = _Lines(folders).of
    frees, maps = {kinds[name].value for name in FREES}, kinds[MMAP].value
    block: _Block | None = None
    for record in records:
        allocator = record.allocator
        if allocator in frees:
            if block is not None:
                block.add(record.address, -1, NO_LINE)
            continue
        if block is None and record.size < MARK_BYTES:
            continue  # to find the line takes long
        line = line_of(record)
        if line is BEGINS:
            block = block or _Block()
        elif line is ENDS:
            if block is not None:
                yield block
            block = None
        elif block is not None and line is not None and allocator != maps:
            block.add(record.address, record.size, line)
        elif block is not None and line is not None and record.size > ARENA_BYTES:
            block.has_mapped = True


class _Lines:
    """Finds the line of the project's own code that led to an allocation: the innermost one."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = [os.path.realpath(folder) for folder in folders]
        self._known: dict[int, Line | None] = {}  # by the id of the stack
        self._files: dict[str, str] = {}  # the file as reports show it, if it is the project's own

    def of(self, record: Any) -> Line | None:
        """Return NO_LINE if there is none, BEGINS and ENDS for the marks, and None if it is not counted."""
        stack = record.stack_id
        if stack not in self._known:
            self._known[stack] = self._find(record.stack_trace(max_stacks=DEEP))
        return self._known[stack]

    def _find(self, stack: Sequence[tuple[str, str, int]]) -> Line | None:
        """`stack` has the innermost call first, each as function, file and line."""
        if not stack:
            return NO_LINE
        function, file, _ = stack[0]
        if file == __file__ and function in MARKS:
            return MARKS[function]
        if _is_ours(file) or _is_ours(_target(stack)) or (function == RECEIVES and file.endswith(SELECTOR_EVENTS)):
            return None
        for number, (_, file, line) in enumerate(stack):
            if own := self._own(file):
                around = (name for name, other, _ in stack[number:] if other == file and not name.startswith("<"))
                return own, line, next(around, "<module>")
        return NO_LINE

    def _own(self, file: str) -> str:
        if file not in self._files:
            real = Path(os.path.realpath(file))
            root = Path(self._folders[0])
            shown = real.relative_to(root) if real.is_relative_to(root) else real
            self._files[file] = shown.as_posix() if is_own(file, self._folders) else ""
        return self._files[file]


def _is_ours(file: str) -> bool:
    return file.startswith(f"{PLUMBLINE}{os.sep}")


def _target(stack: Sequence[tuple[str, str, int]]) -> str:
    """Return the file of what a thread runs."""
    return next((file for _, file, _ in reversed(stack) if file != threading.__file__), "")


def _memray() -> Any:
    """Return memray: that of this environment, or else that of Plumbline's, which must be of the same Python."""
    try:
        return importlib.import_module("memray")
    except ModuleNotFoundError as error:
        if error.name != "memray":
            raise
    known, folder = {*sys.modules}, os.environ.get("PLUMBLINE_PACKAGES") or str(PLUMBLINE.parent)
    sys.path.append(folder)
    try:
        with contextlib.suppress(ModuleNotFoundError):  # a tracker of newer versions imports it
            importlib.import_module("memray.reporters.module_tools")
        return importlib.import_module("memray")
    except ImportError:
        raise ModuleNotFoundError(NOT_INSTALLED) from None
    finally:
        sys.path.remove(folder)
        # The application must not find the packages that memray needs.
        for name in sys.modules.keys() - known:
            if name.partition(".")[0] != "memray":
                del sys.modules[name]
