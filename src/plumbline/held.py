"""File locks that show whether a process is alive: the kernel releases them when the process ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_descriptors: dict[Path, int] = {}


def hold(path: Path) -> int:
    """Create a file, lock it with a shared lock, and return its descriptor. Raises OSError."""
    if path in _descriptors:
        return _descriptors[path]
    _descriptors[path] = _open(path, os.O_CREAT, fcntl.LOCK_SH)
    return _descriptors[path]


def release(path: Path) -> None:
    """Release the lock of a file, if this process holds it."""
    if path in _descriptors:
        os.close(_descriptors.pop(path))


def lock(path: Path) -> int | None:
    """Create a file, lock it exclusively, and return its descriptor; None if it is locked. Raises OSError."""
    try:
        return _open(path, os.O_CREAT, fcntl.LOCK_EX)
    except BlockingIOError:
        return None


def unlock(descriptor: int) -> None:
    """Unlock and close a file, also if a forked child has it open."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextlib.contextmanager
def unless_held(path: Path) -> Iterator[bool]:
    """Lock a file exclusively and yield True, or False if it is held, missing, or cannot be locked."""
    try:
        descriptor = _open(path, 0, fcntl.LOCK_EX)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _open(path: Path, flags: int, operation: int) -> int:
    """Open a file, lock it without waiting, and return its descriptor. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | flags, 0o600)
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _release_all() -> None:
    for path in [*_descriptors]:
        with contextlib.suppress(OSError):
            release(path)


# Otherwise a forked child would hold the locks until its end.
os.register_at_fork(after_in_child=_release_all)
