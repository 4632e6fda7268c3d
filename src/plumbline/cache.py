"""Plumbline's cache: one folder per user, with folders that are created once and atomically."""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs

from plumbline import held
from plumbline.folders import make_folder, temporary_folders

LOCK_LIMIT_S, LOCK_CHECK_S = 300.0, 0.05
KEPT_S = 7 * 24 * 3600.0
MAX_KEPT = 20
# This file is written last: a folder without it is incomplete, because a run was killed.
MADE = "made"


def state_folder() -> Path:
    """Return the folder of this user's records and cached data. Create it if it is missing. Raises OSError."""
    wanted = _home_cache()
    user = os.getuid()
    with contextlib.suppress(OSError):
        if _is_place_of(user, wanted):
            wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = wanted.stat()
            if found.st_uid == user and os.access(wanted, os.W_OK | os.X_OK):
                wanted.chmod(0o700)
                _ignored_by_git(wanted)
                return wanted
    # Other users can write to the temporary folder, so this must be a private folder of this user, and no link.
    fallback = temporary_folders()[0] / f"plumbline-{user}"
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileExistsError):
            make_folder(fallback, 0o700)
        found = fallback.lstat()
        private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
        if found.st_uid == user and private and os.access(fallback, os.W_OK | os.X_OK):
            return fallback
    raise OSError(
        f"there is no folder for the cache: {wanted} cannot be created or written to, and {fallback} must be a folder"
        " of this user with mode 0700; set XDG_CACHE_HOME to a folder that can be written to"
    )


def _home_cache() -> Path:
    """Return the folder in this user's home, or a relative path for a user without a home."""
    try:
        return Path(platformdirs.user_cache_dir("plumbline"))
    except RuntimeError:
        return Path("~/.cache/plumbline")


def _is_place_of(user: int, folder: Path) -> bool:
    """Return whether the folder is in an existing home that, for root, is not another user's."""
    nearest = next(one for one in (folder, *folder.parents) if one.exists())
    has_home = folder.is_absolute() and (bool(os.environ.get("XDG_CACHE_HOME")) or folder.parents[1].is_dir())
    return has_home and (user != 0 or nearest.stat().st_uid == user)


def _ignored_by_git(folder: Path) -> None:
    """Hide the folder from git: in some pipelines it is inside the repository."""
    with contextlib.suppress(FileExistsError), (folder / ".gitignore").open("x", encoding="ascii") as file:
        file.write("*\n")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder against other runs of this user. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, deadline_s = folder / ".lock", time.monotonic() + LOCK_LIMIT_S
    while (lock := held.lock(path)) is None:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"another run has held {path} for {LOCK_LIMIT_S:g} s: wait until it ends")
        time.sleep(LOCK_CHECK_S)
    try:
        yield
    finally:
        held.unlock(lock)


def make_once(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder `name` in `folder`. Call `make` if it is missing. Raises OSError and the errors of `make`."""
    with locked(folder):
        made = keep(folder, name, make)
        sweep(folder)
    return made


def keep(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Like `make_once`, for a caller that holds the lock."""
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
        held.hold(kept / MADE)  # no other run removes it while this process is alive
    return kept


def sweep(folder: Path) -> None:
    """Remove incomplete folders, those unused for a week, and all but the newest, unless they are in use.

    The caller holds the lock.
    """
    used_s = {made.parent: made.stat().st_mtime for made in folder.glob(f"*/{MADE}")}
    newest = sorted(used_s, key=used_s.__getitem__)[-MAX_KEPT:]
    for path in [*folder.glob("*/")]:
        if path not in newest or used_s[path] < time.time() - KEPT_S:
            with held.unless_held(path / MADE) as is_unused:
                if is_unused or path not in used_s:
                    remove(path)


def remove(path: Path) -> None:
    """Remove a folder, its MADE file first: if this process is killed, the rest is known to be incomplete."""
    held.release(path / MADE)
    (path / MADE).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def digest(*parts: object) -> str:
    """Return a digest of JSON values, as a name for a cached folder."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def first_failure(error: OSError) -> OSError:
    """Return the first of the errors collected by `shutil.copytree`, or any other error unchanged."""
    collected = error.args[0] if isinstance(error, shutil.Error) else None
    return OSError(collected[0][2]) if isinstance(collected, list) and collected else error
