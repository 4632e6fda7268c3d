"""Plumbline's cache: one folder for each user, and in it folders that are made once, whole or not at all."""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import platformdirs

from plumbline import held

LOCK_LIMIT_S = 300.0
KEPT_S = 7 * 24 * 3600.0
MOST_KEPT = 20
# The file that is written last: a folder without it was left by a run that was killed.
MADE = "made"


def state_folder() -> Path:
    """Return the folder of this user's records and cached data, and make it if it is missing. Raises OSError."""
    wanted = Path(platformdirs.user_cache_dir("plumbline"))
    user = os.getuid() if hasattr(os, "getuid") else None
    # Others can write to the temporary folder, so this must be a real folder, the user's own and closed to them.
    fallback = Path(tempfile.gettempdir()) / f"plumbline-{user or 0}"
    for folder in (wanted, fallback):
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat() if folder == fallback else folder.stat()
            private = folder == wanted or (stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700)
            if user is None or (found.st_uid == user and private and os.access(folder, os.W_OK | os.X_OK)):
                return folder
    raise OSError(
        f"there is no folder for the cache: {wanted} cannot be made or written to, and {fallback} must be a folder of"
        " this user with mode 0700"
    )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs of this user from making anything in this folder. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        held = filelock.FileLock(folder / ".lock", timeout=LOCK_LIMIT_S).acquire()
    except filelock.Timeout:
        message = f"another run has held {folder / '.lock'} for {LOCK_LIMIT_S:g} s: wait until it ends"
        raise TimeoutError(message) from None
    with held:
        yield


def make_once(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder `name` in `folder`, made by `make` if it is missing. Raises OSError, and what `make` raises."""
    with locked(folder):
        made = keep(folder, name, make)
        sweep(folder)
    return made


def keep(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Do what `make_once` does, for a caller that holds the lock."""
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
    with contextlib.suppress(OSError):
        held.hold(kept / MADE)  # until this process ends: no other run removes it meanwhile
    return kept


def sweep(folder: Path) -> None:
    """Remove what killed runs left, what nobody used for a week, and all but the newest, unless it is in use.

    The caller holds the lock.
    """
    used_s = {made.parent: made.stat().st_mtime for made in folder.glob(f"*/{MADE}")}
    newest = sorted(used_s, key=used_s.__getitem__)[-MOST_KEPT:]
    for path in [*folder.glob("*/")]:
        if path not in newest or used_s[path] < time.time() - KEPT_S:
            with held.unless_held(path / MADE) as is_unused:
                if is_unused or path not in used_s:
                    remove(path)


def remove(path: Path) -> None:
    """Remove a folder. If this process is killed meanwhile, nobody takes the rest for a whole one."""
    held.release(path / MADE)
    (path / MADE).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def digest(*parts: object) -> str:
    """Return a name for what is made from these values, which JSON can express."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def first_failure(error: OSError) -> OSError:
    """Return the first of the errors that `shutil.copytree` collects for each file; any other error as it is."""
    collected = error.args[0] if isinstance(error, shutil.Error) else None
    return OSError(collected[0][2]) if isinstance(collected, list) and collected else error
