"""Folders that are made once and kept by the hash of what they are made from: whole or not at all, gone when old."""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

LOCK_LIMIT_S = 300.0
KEPT_S = 7 * 24 * 3600.0
MOST_KEPT = 20
MADE = "made"
"""The file that is written last: a folder without it was left by a run that was killed."""


@contextlib.contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Nobody else of this user makes anything meanwhile. Raises OSError, filelock.Timeout."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with filelock.FileLock(cache / ".lock", timeout=LOCK_LIMIT_S):
        yield


def keep(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name, made if need be; the lock must be held."""
    kept = folder / name
    if not (kept / MADE).is_file():
        remove(kept)
        kept.mkdir(parents=True)
        try:
            make(kept)
            (kept / MADE).touch()
        except BaseException:
            remove(kept)
            raise
    os.utime(kept / MADE)
    return kept


def sweep(folder: Path) -> None:
    """Remove what killed runs left, what was not used for a week, and all but the newest; the lock must be held."""
    used_s = {path: _used_s(path) for path in folder.iterdir()} if folder.is_dir() else {}
    newest = sorted(used_s, key=lambda path: -used_s[path])[:MOST_KEPT]
    for path, when_s in used_s.items():
        if path not in newest or when_s < time.time() - KEPT_S:
            remove(path)


def in_use(folder: Path) -> filelock.BaseFileLock:
    """A lock on a folder, to be held while it is used: it goes with its holder, however that ends."""
    return filelock.FileLock(folder / ".lock")


def sweep_unlocked(folder: Path, prefix: str) -> None:
    """Remove the folders of this prefix that are not in use any more: killed runs left them."""
    for path in folder.glob(f"{prefix}*"):
        with contextlib.suppress(OSError), in_use(path).acquire(timeout=0):
            remove(path)


def remove(path: Path) -> None:
    """Remove a folder so that, should we be killed at it, nobody takes what is left for a whole one."""
    (path / MADE).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def digest(*parts: object) -> str:
    """A name for what is made out of these, which JSON can express."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _used_s(path: Path) -> float:
    try:
        return (path / MADE).stat().st_mtime
    except OSError:
        return 0.0


def first_failure(error: OSError) -> OSError:
    """What went wrong first where `copytree` failed, which collects that for each file; else the error itself."""
    collected = error.args[0] if isinstance(error, shutil.Error) else None
    return OSError(collected[0][2]) if isinstance(collected, list) and collected else error
