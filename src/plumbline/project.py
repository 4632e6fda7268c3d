"""Where a project keeps its performance suite, and how its owner runs it."""

from pathlib import Path

SUITE = "tests/performance"
"""The suite's folder, below the project's root."""
SETTINGS = "settings.toml"


def is_project(folder: Path) -> bool:
    """Return whether a performance suite lies in this folder."""
    return (folder / SUITE / SETTINGS).is_file()


def find_project(*starts: Path) -> Path | None:
    """Return the nearest folder at or above one of `starts` that holds a performance suite; None if there is none."""
    for start in starts:
        for folder in (start, *start.parents):
            if is_project(folder):
                return folder
    return None


def nox_command(root: Path | None = None) -> str:
    """Return how the project's owner calls Nox: a repository with a noxfile of its own keeps ours beside it.

    `root` is the current folder by default.
    """
    return "nox -f perf-noxfile.py" if ((root or Path.cwd()) / "perf-noxfile.py").is_file() else "nox"
