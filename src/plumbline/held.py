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
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    _descriptors[path] = descriptor
    return descriptor


def release(path: Path) -> None:
    """Release the lock of a file, if this process holds it."""
    if path in _descriptors:
        os.close(_descriptors.pop(path))


def lock(path: Path) -> int | None:
    """Create a file, lock it exclusively, and return its descriptor; None if it is locked. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


def unlock(descriptor: int) -> None:
    """Unlock and close a file, also if a forked child has it open."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextlib.contextmanager
def unless_held(path: Path) -> Iterator[bool]:
    """Lock a file exclusively and yield True, or False if it is held, missing, or cannot be locked."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        yield False
        return
    try:
        free = False
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        yield free
    finally:
        os.close(descriptor)


def _release_all() -> None:
    for path in [*_descriptors]:
        with contextlib.suppress(OSError):
            release(path)


# Otherwise a forked child would hold the locks until its end.
os.register_at_fork(after_in_child=_release_all)
