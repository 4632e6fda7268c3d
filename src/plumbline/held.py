"""Files that a living process holds, by a lock that the kernel releases when the process ends, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_descriptors: dict[Path, int] = {}


def hold(path: Path) -> int:
    """Make a file, hold it as others may, and return its descriptor. Raises OSError, also without such locks."""
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
    """Let go of a file; harmless if this process does not hold it."""
    if path in _descriptors:
        os.close(_descriptors.pop(path))


@contextlib.contextmanager
def unless_held(path: Path) -> Iterator[bool]:
    """Yield whether nobody holds the file, and keep it so meanwhile; False if the file or such locks are missing."""
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


# A child without a program of its own would hold them for as long as it lives.
os.register_at_fork(after_in_child=_release_all)
