"""Folders for temporary files, and whether other users can enter them."""

import os
import tempfile
from pathlib import Path

SHARED = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108


def temporary_folders() -> list[Path]:
    """Return the folders for temporary files, that of TMPDIR first. Raises OSError."""
    try:
        first = Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise FileNotFoundError("no temporary folder can be written to: set TMPDIR to one that can") from None
    found = [first, *(folder for folder in SHARED if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK))]
    return [*dict.fromkeys(found)]


def closed_to_others(folder: Path) -> Path | None:
    """Return the nearest folder at or above this one that other users cannot enter, or None."""
    way = folder.resolve()
    return next((one for one in (way, *way.parents) if not one.stat().st_mode & 0o001), None)


def make_folder(folder: Path, mode: int) -> None:
    """Create a folder with exactly this mode, regardless of the umask. Raises OSError if it exists."""
    folder.mkdir(mode=0o700)
    folder.chmod(mode)
