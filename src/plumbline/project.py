"""The location of a project's performance suite, the command that runs it, and the exit codes of all commands."""

import functools
import os
import shlex
import shutil
import sys
from pathlib import Path

SUITE = "tests/performance"  # below the project's root
SETTINGS = "settings.toml"
SUITE_REQUIREMENTS = f"{SUITE}/requirements.txt"
SUITE_SETTINGS = f"{SUITE}/{SETTINGS}"
THE_RUN = "the run"  # names the test case of a run that failed as a whole

EXIT_PASS = 0
EXIT_REGRESSION = 1  # a regression, a broken budget, a grown count, or a failed test
EXIT_USAGE = 2
EXIT_INVALID = 3  # no verdict can be trusted: a service not ready, nothing measured, a failed control
EXIT_INCONCLUSIVE = 4
EXIT_INTERRUPTED = 130

NOT_IMPORTED = ".conftest"  # the suffix of a file that means that a conftest.py cannot be imported
PYTEST_FINISHED = {0, 1, 5}  # exit codes: all passed, some failed or not collected, nothing to run


def is_suite(folder: Path) -> bool:
    """Return whether a folder is a performance suite. Cheap for most folders: it checks the name first."""
    return folder.name == "performance" and folder.parent.name == "tests" and (folder / SETTINGS).is_file()


def below(path: Path, folder: Path) -> Path | None:
    """Return a path relative to `folder`, or None if it is not inside. `path` and `folder` may contain links.

    Links inside `folder` are not followed: they belong to the folder.
    """
    if path.is_relative_to(folder):
        return path.relative_to(folder)
    real = folder.resolve()
    return next((path.relative_to(one) for one in (path, *path.parents) if one.resolve() == real), None)


def find_suite(*paths: Path) -> Path | None:
    """Return the nearest suite that is or contains one of `paths`, or None."""
    return next((folder for path in paths for folder in (path, *path.parents) if is_suite(folder)), None)


def find_project(*starts: Path) -> Path | None:
    """Return the nearest folder at or above one of `starts` that contains a performance suite, or None."""
    return next((folder for path in starts for folder in (path, *path.parents) if is_suite(folder / SUITE)), None)


def explain_command(*codes: str) -> str:
    """Return the command that prints what codes mean, in the environment of this process."""
    python = Path(sys.executable)
    shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    return shlex.join([str(shown), "-m", "plumbline", "explain", *codes])


def nox_command() -> str:
    """Return the Nox command as a user types it: with `uvx` if only uv has Nox."""
    return " ".join([*(["uvx"] if _needs_uvx(os.environ.get("PATH", "")) else []), "nox", *noxfile_options()])


def noxfile_options() -> list[str]:
    """Return the options that name the noxfile. A repository with another noxfile keeps Plumbline's beside it."""
    return ["-f", "perf-noxfile.py"] if Path("perf-noxfile.py").is_file() else []


@functools.cache
def _needs_uvx(path: str) -> bool:
    """Return whether a shell finds only uv. During a run, `uvx` adds to PATH a Nox whose environment is in a cache."""
    found = shutil.which("nox", path=path)
    has_nox = found is not None and not any((one / "CACHEDIR.TAG").is_file() for one in Path(found).parents[2:])
    return not has_nox and shutil.which("uvx", path=path) is not None
