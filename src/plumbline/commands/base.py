"""Shared by all commands: the project, and the exit code for each kind of error."""

import argparse
import contextlib
import errno
import functools
import math
import os
import signal
import stat
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plumbline.processes import OUTPUT_ENDED, drop_output, output_lost
from plumbline.project import EXIT_INTERRUPTED, EXIT_INVALID, EXIT_PASS, EXIT_USAGE, SETTINGS, SUITE, find_project
from plumbline.results.files import ResultsError, read_results
from plumbline.services.redaction import Redactor, known_secrets, redactor
from plumbline.settings import RESULTS_FOLDER, Settings, SettingsError
from plumbline.settings_file import load_settings

RESULTS, REPORT, JUNIT, HTML, SELFCHECK = "results.json", "report.md", "junit.xml", "report.html", "selfcheck.json"
IGNORE_ALL = "*\n"  # the .gitignore of a results folder that Plumbline made


@dataclass(frozen=True)
class Project:
    """A repository with a performance suite, and its settings."""

    root: Path
    settings: Settings

    @property
    def suite(self) -> Path:
        return self.root / SUITE

    @property
    def baselines(self) -> Path:
        """The folder of the baselines and of accepted.json."""
        return self.suite / "baselines"

    @property
    def results(self) -> Path:
        """The folder of the last run's results."""
        return self.root / self.settings.results

    @functools.cached_property
    def scrub(self) -> Redactor:
        """Return a function that replaces the passwords of the environment and the settings in a text."""
        return redactor(known_secrets(os.environ, self.settings))

    def shown(self, path: Path) -> str:
        """Return a path relative to the project's root if it is inside, otherwise as it is."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


UNWRITTEN = "the standard output can't be written"
LIMITS = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


def check_results_folder(project: Project) -> None:
    """Raise SettingsError if the results folder contains the suite, or files that Plumbline did not write."""
    name = project.settings.results
    folder, suite = (Path(os.path.realpath(path)) for path in (project.results, project.suite))
    named, advice = f"settings.toml: results = {name!r}", 'name a separate folder, such as "perf-results"'
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
    """A command ends with this message and exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def not_empty(text: str) -> str:
    """Return an argument that a pipeline may take from a variable. It is empty if the variable is not set."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def seconds(text: str) -> float:
    """Return an argument that is a time limit."""
    if not 0 < (limit_s := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no positive number of seconds")
    return limit_s


def this_project() -> Project:
    """Return the project around the current folder. Raises SettingsError."""
    root = find_project(Path.cwd()) or Path.cwd()
    project = Project(root, load_settings(root / SUITE / SETTINGS))
    check_results_folder(project)
    return project


def text_of(file: Path) -> str:
    """Return the text of a file, "" if there is none. Raises CommandError."""
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{os.path.relpath(file)} can't be read: {error}", EXIT_USAGE) from None


def documented_exit(command: Callable[[], int]) -> int:
    """Run a command. Print any error, and return its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        code = command()
        sys.stdout.flush()
        if output_lost and code == EXIT_PASS:  # nobody has read that it passed
            return _fail(f"{UNWRITTEN}: {output_lost[0]}. If you do not need it, use /dev/null", EXIT_INVALID)
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
            advice = "raise this user's limits, which `ulimit -a` shows"
            return _fail(f"no more processes, files or memory are available: {error.strerror}; {advice}", EXIT_INVALID)
        if error.errno not in OUTPUT_ENDED:
            return _unexpected()
        if _output_works():
            where = f"{error.filename} can't be written" if error.filename else "a file can't be written"
            advice = "make room there, or set TMPDIR and XDG_CACHE_HOME to other folders"
            return _fail(f"{where}: {error.strerror}; {advice}", EXIT_INVALID)
        return _fail(f"{UNWRITTEN}: {error.strerror}", EXIT_INVALID)
    except Exception:
        return _unexpected()


def _unexpected() -> int:
    """Print the traceback and return EXIT_INVALID. By itself Python would exit with 1, the code of a regression."""
    return _fail(f"{traceback.format_exc()}\nThis is a bug in Plumbline: please report it.", EXIT_INVALID)


def _output_works() -> bool:
    """Return whether the standard output can be written; drop it otherwise."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        drop_output(sys.stdout)
        return False
    return True


def _fail(message: str, code: int) -> int:
    message = redactor(known_secrets(os.environ))(message)
    try:
        sys.stdout.flush()
    except OSError:
        drop_output(sys.stdout)
    with contextlib.suppress(OSError):
        sys.stderr.write(f"\n{message}\nexit code {code}\n")
    return code
