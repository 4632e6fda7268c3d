"""Folders for temporary files: those that can be used, and whether other users can pass through them."""

import os
import tempfile
from pathlib import Path

SHARED = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108


def temporary_folders() -> list[Path]:
    """Return the folders that temporary files can be made in, that of TMPDIR first. Raises OSError."""
    try:
        first = Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise FileNotFoundError("no temporary folder can be written to: set TMPDIR to one that can") from None
    found = [first, *(folder for folder in SHARED if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK))]
    return [*dict.fromkeys(found)]


def closed_to_others(folder: Path) -> Path | None:
    """Return the folder at or above this one that other users cannot pass through; None if there is none."""
    way = folder.resolve()
    return next((one for one in (way, *way.parents) if not one.stat().st_mode & 0o001), None)


def make_folder(folder: Path, mode: int) -> None:
    """Make a folder with exactly this mode, whatever the umask. Raises OSError, also if it is there already."""
    folder.mkdir(mode=0o700)
    folder.chmod(mode)
