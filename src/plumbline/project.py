"""The location of a project's performance suite, the command that runs it, and the exit codes of all commands."""

from pathlib import Path

SUITE = "tests/performance"  # below the project's root
SETTINGS = "settings.toml"
SUITE_REQUIREMENTS = f"{SUITE}/requirements.txt"

EXIT_PASS = 0
EXIT_REGRESSION = 1  # a regression, a broken budget, a grown count, or a failed test
EXIT_USAGE = 2
EXIT_INVALID = 3  # no verdict can be trusted: a service not ready, nothing measured, a failed control
EXIT_INCONCLUSIVE = 4
EXIT_INTERRUPTED = 130

NOT_IMPORTED = ".conftest"  # ends the name of a file that stands for results if a conftest.py cannot be imported
PYTEST_CAME_TO_ITS_END = {0, 1, 5}  # its exit codes: all passed, some failed or not collected, nothing to run


def is_suite(folder: Path) -> bool:
    """Return whether this folder is a performance suite; it costs a system call only if the folder's name fits."""
    return folder.name == "performance" and folder.parent.name == "tests" and (folder / SETTINGS).is_file()


def below(path: Path, folder: Path) -> Path | None:
    """Return a path from `folder` on, whether links lead to either or not; None if it is not in there.

    A link inside of `folder` is not followed: it belongs to the folder, wherever it leads.
    """
    if path.is_relative_to(folder):
        return path.relative_to(folder)
    real = folder.resolve()
    return next((path.relative_to(one) for one in (path, *path.parents) if one.resolve() == real), None)


def find_suite(*paths: Path) -> Path | None:
    """Return the nearest suite that is, or holds, one of `paths`; None if there is none."""
    return next((folder for path in paths for folder in (path, *path.parents) if is_suite(folder)), None)


def find_project(*starts: Path) -> Path | None:
    """Return the nearest folder at or above one of `starts` that holds a performance suite; None if there is none."""
    return next((folder for path in starts for folder in (path, *path.parents) if is_suite(folder / SUITE)), None)


def nox_command() -> str:
    """Return how the project's owner calls Nox: a repository with a noxfile of its own keeps ours beside it."""
    return "nox -f perf-noxfile.py" if Path("perf-noxfile.py").is_file() else "nox"
