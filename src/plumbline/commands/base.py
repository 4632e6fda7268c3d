"""What all commands share: the project that one runs in, and a documented exit code for whatever ends it."""

import contextlib
import errno
import functools
import os
import signal
import stat
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plumbline.processes import OUTPUT_ENDED, drop_output
from plumbline.project import EXIT_INTERRUPTED, EXIT_INVALID, EXIT_USAGE, SETTINGS, SUITE, find_project
from plumbline.results.files import ResultsError, read_results
from plumbline.services.redaction import Redactor, known_secrets, redactor
from plumbline.settings import RESULTS_FOLDER, Settings, SettingsError
from plumbline.settings_file import load_settings

RESULTS, REPORT, JUNIT, HTML, SELFCHECK = "results.json", "report.md", "junit.xml", "report.html", "selfcheck.json"
IGNORE_ALL = "*\n"  # the .gitignore of a folder that a run has made


@dataclass(frozen=True)
class Project:
    """A repository with a performance suite, and the settings of that."""

    root: Path
    settings: Settings

    @property
    def suite(self) -> Path:
        return self.root / SUITE

    @property
    def baselines(self) -> Path:
        """The folder of the baselines and of what has been accepted."""
        return self.suite / "baselines"

    @property
    def results(self) -> Path:
        """The folder of the last run's results."""
        return self.root / self.settings.results

    @functools.cached_property
    def scrub(self) -> Redactor:
        """Hides the passwords in the environment and the settings, in each text of a run's files."""
        return redactor(known_secrets(os.environ, self.settings))

    def shown(self, path: Path) -> str:
        """Return a path as the reader knows it: from the project's root, if it is below that."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


LIMITS = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


def check_results_folder(project: Project) -> None:
    """Raise SettingsError if the folder of the results holds the suite, or files that may be somebody else's."""
    name = project.settings.results
    folder, suite = (Path(os.path.realpath(path)) for path in (project.results, project.suite))
    named, advice = f"settings.toml: results = {name!r}", 'name a folder of its own, such as "perf-results"'
    if not name.strip() or suite.is_relative_to(folder) or folder.is_relative_to(suite):
        raise SettingsError(f"{named} is the folder of the project or of its suite: {advice}")
    if name == RESULTS_FOLDER and not project.results.is_symlink():
        return
    try:
        if not stat.S_ISDIR(folder.stat().st_mode) and name != RESULTS_FOLDER:
            raise SettingsError(f"{named} is not a folder: {advice}")
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingsError(f"{named} can't be used: {error.strerror}; {advice}") from None
    with contextlib.suppress(OSError, UnicodeDecodeError, ResultsError):
        if (folder / ".gitignore").is_file() and (folder / ".gitignore").read_text("utf-8") == IGNORE_ALL:
            return
        read_results(folder / RESULTS)
        return
    theirs = [*(folder / file for file in (RESULTS, REPORT, JUNIT, HTML)), *folder.glob("*.log")]
    if found := [path.name for path in theirs if os.path.lexists(path)]:
        raise SettingsError(f"{named} has files that a run would replace: {', '.join(found)}; {advice}")


class CommandError(Exception):
    """A command cannot go on; `exit_code` is the documented one."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def this_project() -> Project:
    """Return the project around the current folder; raises SettingsError."""
    root = find_project(Path.cwd()) or Path.cwd()
    project = Project(root, load_settings(root / SUITE / SETTINGS))
    check_results_folder(project)
    return project


def documented_exit(command: Callable[[], int]) -> int:
    """Run a command; every error ends in a message and its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        code = command()
        sys.stdout.flush()
        return code
    except SettingsError as error:
        return _fail(str(error), EXIT_USAGE)
    except ResultsError as error:
        return _fail(str(error), EXIT_INVALID)
    except CommandError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted: no verdict", EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno in LIMITS:
            advice = "raise the limits of this user: `ulimit -a` shows them"
            return _fail(f"no more processes, files or memory are allowed: {error.strerror}; {advice}", EXIT_INVALID)
        if error.errno not in OUTPUT_ENDED:
            return _unexpected()
        drop_output(sys.stdout)
        return _fail(f"the output can't be written: {error.strerror}", EXIT_INVALID)
    except Exception:
        return _unexpected()


def _unexpected() -> int:
    """Print where an error that is no case of its own was raised: Python's exit code would be that of a regression."""
    return _fail(f"{traceback.format_exc()}\nthis is a fault of Plumbline: please report it", EXIT_INVALID)


def _fail(message: str, code: int) -> int:
    message = redactor(known_secrets(os.environ))(message)
    try:
        sys.stdout.flush()
        sys.stderr.write(f"\n{message}\nexit code {code}\n")
    except OSError:
        drop_output(sys.stdout)
    return code
