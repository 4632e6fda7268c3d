"""`python -m plumbline.install`: install what the project asks for in this environment."""

import os
import platform
import re
import sys
from pathlib import Path

from plumbline.commands.base import CommandError
from plumbline.comparing.trees.asked import Part, asked_for, copied_code, local_files
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.installers import InstallError, resolve, run_installer, synchronise
from plumbline.comparing.trees.locks import UNKNOWN_LOCK_FILES
from plumbline.comparing.trees.pythons import use_python, wanted_python
from plumbline.installed import Record, digest, read_record, tell, top_of, write_record
from plumbline.project import (
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    EXIT_PASS,
    SETTINGS,
    SUITE,
    SUITE_REQUIREMENTS,
    SUITE_SETTINGS,
    find_project,
)
from plumbline.settings import Settings, SettingsError
from plumbline.settings_file import load_settings

SESSION = "plumbline-session"  # a file in an environment whose packages a session manages


def install(nox_python: str) -> int:
    """Install what the project asks for, remove everything else, and return an exit code."""
    root = find_project(Path.cwd()) or Path.cwd()
    source: list[str] = []
    try:
        if sys.prefix == sys.base_prefix:
            raise InstallError("this would remove packages of the system's Python: run it with Nox")
        Path(sys.prefix, SESSION).touch()
        _install(root, load_settings(root / SUITE / SETTINGS), nox_python, source)
        return EXIT_PASS
    except SettingsError:
        return EXIT_PASS  # the command that follows reports it
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except NoBase as error:
        problem = f": {error}\nCorrect that file, or write it again with its tool."
    except InstallError as error:
        if source and os.environ.get("NOX_CURRENT_SESSION") == "init":  # it installs again, with settings that it finds
            tell(f"environment: {', '.join(source)} can't be installed yet: init looks for settings\n")
            return EXIT_INVALID
        problem = f" for {', '.join(source)}:\n{error}\n{next_step(str(error))}" if source else f":\n{error}"
    except OSError as error:
        problem = f": {error}"
    except (TypeError, ValueError, AttributeError) as error:
        problem = f": {malformed(error)}"
    tell(f"\nthe environment can't be made{problem}\nexit code {EXIT_INVALID}\n")
    return EXIT_INVALID


def install_settings(root: Path, settings: Settings) -> None:
    """Install what the project asks for with settings that are not written yet. Raises CommandError.

    Does nothing in an environment that no session of Nox has made.
    """
    if read_record() is None and not Path(sys.prefix, SESSION).is_file():
        return
    source: list[str] = []
    try:
        _install(root, settings, "", source)  # in the Python of this process
    except (InstallError, NoBase, OSError) as error:
        advice = f"\n{next_step(str(error))}" if source else ""
        raise CommandError(
            f"the environment can't be made for {', '.join(source)}:\n{error}{advice}", EXIT_INVALID
        ) from None


def require_python(root: Path, settings: Settings) -> None:
    """Raise CommandError if a session of Nox has another Python than the project asks for: nothing can be installed."""
    if read_record() is not None or Path(sys.prefix, SESSION).is_file():
        try:
            problem = wrong_python(root, settings)
        except (InstallError, NoBase) as error:
            raise CommandError(str(error), EXIT_INVALID) from None
        if problem:
            raise CommandError(f"{problem}: install that Python, or change that line", EXIT_INVALID)


def wrong_python(root: Path, settings: Settings) -> str:
    """Return what this Python is and which one the project asks for, "" if it is that. Raises InstallError, NoBase."""
    wanted, named = wanted_python(root, top_of(root), settings.python)
    here = platform.python_version()
    return "" if here in wanted else f"this is Python {here}, but {named} asks for {wanted}"


def installed_from(root: Path, settings: Settings, lock: str) -> str:
    """Return which versions the sessions install, and in which Python. `lock`: the lock file, "" if there is none."""
    wanted, named = wanted_python(root, top_of(root), settings.python)
    here = platform.python_version()
    python = f"Python {here}" if here in wanted else f"a Python {wanted}"
    asked = f"{named} asks for {wanted}" if named else "no file asks for another"
    if not lock:
        versions = "no lock file: the newest versions"
    elif lock.rpartition("/")[2] in UNKNOWN_LOCK_FILES:
        versions = f"{lock} is not read, as its format is unknown: the newest versions"
    else:
        versions = f"the versions of {lock}"
    return f"{versions}, in {python} ({asked})"


def _install(root: Path, settings: Settings, nox_python: str, source: list[str]) -> None:
    top, before = top_of(root), read_record() or {}
    if nox_python:
        use_python(*wanted_python(root, top, settings.python), nox_python, root)
    part: Part = "suite" if settings.app and settings.app.has_own_environment else "all"
    asked, named = asked_for(top, root, settings.install, before.get("packages", []), part)
    source += named
    packages = resolve(asked)
    write_record(None)
    synchronise(packages, root)
    try:
        run_installer([sys.executable, "-c", "import plumbline.install"], root)
    except InstallError:
        source.clear()  # `next_step` does not fit this error
        raise InstallError(f"{SUITE_REQUIREMENTS} does not ask for pytest-plumbline: add it there") from None
    files = local_files(asked, packages)
    # The URL of an index may hold a token.
    packages = [line for line in packages if not line.startswith("--")]
    key = digest(root, top, files, sys.version, nox_python)
    code = copied_code(root, packages)
    found: Record = {
        "digest": [key],
        "source": source,
        "packages": packages,
        "files": files,
        "code": code,
        "code_digest": [digest(root, top, code)],
        "nox_python": [nox_python],
        "part": [part],
    }
    write_record(found)
    tell(f"environment: {', '.join(source)}: {len(packages)} packages installed\n")


def malformed(error: Exception) -> str:
    """Return the message for an error that the content of a file causes."""
    return f"pyproject.toml or the lock file is malformed: {error}; write the lock file again with its tool"


def next_step(problem: str) -> str:
    """Return advice on the last lines of an installer."""
    if re.search(r"No solution found|ResolutionImpossible|conflict", problem):
        step = (
            f"Change one of these versions, in the project or in {SUITE_REQUIREMENTS}. If that is done, write the lock"
            f' file again. Or install the application separately: `environment = "own"` in [app] of {SUITE_SETTINGS}.'
        )
    elif re.search(r"[Bb]uild", problem):
        step = (
            'If the application can\'t be built, set `application = "dependencies"` in [install] of'
            f" {SUITE_SETTINGS}. Then it is imported from the working tree."
        )
    else:
        step = "If an index could not be reached, try again. Otherwise correct the file, or [install] of"
        step += f" {SUITE_SETTINGS}."
    return step
