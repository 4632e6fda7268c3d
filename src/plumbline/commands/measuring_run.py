"""Runs of the suite in fresh pytest processes."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from plumbline import held
from plumbline.cache import state_folder
from plumbline.commands.base import CommandError, Project
from plumbline.commands.output import say, say_wrapped
from plumbline.inherited import HIDDEN
from plumbline.judging.decide import Again, most_agree
from plumbline.processes import WATCHED, adopt_orphans, end_descendants, watched_with_us
from plumbline.project import EXIT_INTERRUPTED, EXIT_INVALID, EXIT_USAGE, NOT_IMPORTED, PYTEST_FINISHED, below
from plumbline.reporting.content import reason_text
from plumbline.results.files import read_results
from plumbline.results.schema import Benchmark, Reason, Results

PLUGIN = "plumbline"
PYTEST_USAGE_ERROR = 4
AGAIN = "--perf-again"  # shows no services: the run before has shown them
HELD = "held"  # a file that is locked while its command runs
END_LIMIT_S = 15.0
TERMINATE_EVERY_S = 1.0
OWN_END_LIMIT_S = 0.5  # Ctrl-C in a terminal also reaches pytest; after this time pytest is terminated


class RunEnded(CommandError):
    """A pytest process ended early, or left no results."""

    def __init__(self, reasons: Sequence[Reason], exit_code: int) -> None:
        super().__init__("\n".join(map(reason_text, reasons)), exit_code)
        self.reasons = reasons


def measure(project: Project, profile: str, arguments: Sequence[str], *, quiet: bool = False) -> Results:
    """Measure the suite in a fresh pytest process and return its record. Raises RunEnded if there is no record.

    `quiet`: whether to show nothing that pytest prints.
    """
    with _temporary_folder() as folder:
        output = folder / "results.json"
        suite = [] if _named_paths(project, arguments) else [project.shown(project.suite)]
        command = [sys.executable, "-m", "pytest", *suite, "-q", "--no-header", f"--perf-profile={profile}"]
        # Keep pytest's output short: Plumbline's report shows failures, and its files have the reasons of skips.
        command += ["--tb=short", "-rN", "-o", "console_output_style=classic"]
        # Not needed: the plugin of the embedded Redis, and that of pytest-django, which bars tests from the database.
        command += [f"--perf-output={output}", "-p", PLUGIN, "-p", "no:valkey", "-p", "no:django", *arguments]
        code = _run(command, project.root, project.settings.gate.time_limit_s, quiet=quiet)
        if output.with_suffix(NOT_IMPORTED).exists():
            raise _ended("a conftest.py can't be imported (see above)")
        if code == PYTEST_USAGE_ERROR:
            hidden = os.environ.get(HIDDEN, "").split()
            also = f"; variables hidden from it: {', '.join(hidden)}" if hidden else ""
            if any(one.startswith(("-n", "--numprocesses")) for one in arguments):  # without pytest-xdist
                also += "; leave out -n: the gate measures in one process, because parallel ones disturb timings"
            raise _ended(f"pytest could not start (see above){also}", EXIT_USAGE)
        try:
            record = read_results(output)
        except FileNotFoundError:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            cause = ": a conftest.py, a plugin or a test calls sys.exit() or os._exit()" if code == 0 else ""
            raise _ended(f"pytest {how} and left no results (see above){cause}") from None
    if record.exit_code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if record.exit_code is None and code not in PYTEST_FINISHED:
        reasons = [*record.reasons, Reason("pytest_failed", str(code))]
        return replace(record, exit_code=EXIT_INVALID, reasons=reasons)
    return record


def measure_whole(project: Project, profile: str, arguments: Sequence[str]) -> Results:
    """Like `measure`, but also raise RunEnded if the run ended early, for example because a service died."""
    record = measure(project, profile, arguments)
    if record.exit_code is not None:
        raise RunEnded(record.reasons, record.exit_code)
    return record


def measure_again(project: Project, profile: str, again: Again) -> dict[str, list[Benchmark]]:
    """Measure benchmarks again in fresh processes, and return the results of each benchmark. Raises RunEnded."""
    count = project.settings.gate.confirm_processes
    several, most = "s" * (len(again.keys) != 1), "" if again.all_processes else "up to "
    what = f"{len(again.keys)} benchmark{several}"
    say_wrapped(f"\nMeasuring {what} again in {most}{count} processes, to confirm what failed")
    nodes = [f"{project.shown(project.suite)}/{key}" for key in again.keys]
    fresh: dict[str, list[Benchmark]] = {key: [] for key in again.keys}
    for number in range(1, count + 1):
        say(f"process {number} of {most}{count}")
        for one in measure_whole(project, profile, [AGAIN, *nodes]).benchmarks:
            if one.key in fresh:
                fresh[one.key].append(one)
        # A budget is decided when most processes agree.
        if not again.all_processes and all(most_agree(found, count) for found in fresh.values()):
            break
    return fresh


def with_gone_files(project: Project, record: Results, baseline: Results | None, arguments: Sequence[str]) -> Results:
    """Add deleted files of the baseline to the collected files, so that their benchmarks count as missing.

    Not if the arguments limit what pytest collects.
    """
    if baseline is None or any(path != Path() for path in _named_paths(project, arguments)):
        return record
    files = {benchmark.key.partition("::")[0] for benchmark in baseline.benchmarks}
    gone = sorted(file for file in files if not (project.suite / file).exists())
    return replace(record, collected_files=[*record.collected_files, *gone])


def _named_paths(project: Project, arguments: Iterable[str]) -> list[Path]:
    """Return the files and folders that pytest's arguments name, relative to the suite."""
    names = [one.partition("::")[0] for one in arguments if not one.startswith("-")]
    paths = [Path(os.path.normpath(project.root / name)) for name in names]
    found = [below(path, project.suite) for path in paths if path.exists()]
    return [path for path in found if path is not None]


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Yield a folder. It is removed in the end, or by the next command if this one is killed."""
    try:
        folders = state_folder() / "commands"
        folders.mkdir(exist_ok=True)
        for left in folders.glob("*/"):
            with held.unless_held(left / HELD) as is_left:
                if is_left:
                    shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=folders))
    except OSError as error:
        advice = "; set XDG_CACHE_HOME to a folder with free space" if error.errno else ""  # or the error has its own
        raise CommandError(f"no temporary folder can be made: {error}{advice}", EXIT_INVALID) from None
    try:
        with contextlib.suppress(OSError):
            held.hold(folder / HELD)
        yield folder
    finally:
        held.release(folder / HELD)
        shutil.rmtree(folder, ignore_errors=True)


def _ended(message: str, exit_code: int = EXIT_INVALID) -> RunEnded:
    return RunEnded([Reason("ended", message)], exit_code)


def _run(command: list[str], root: Path, limit_s: float, *, quiet: bool = False) -> int:
    output = subprocess.DEVNULL if quiet else None
    before = adopt_orphans()
    # Until its run begins, pytest ignores Ctrl-C, which would print a traceback of its imports.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        environ = {**os.environ, WATCHED: watched_with_us()}
        child = subprocess.Popen(command, cwd=root, env=environ, stdout=output, stderr=output)
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return child.wait(limit_s)
    except subprocess.TimeoutExpired:
        raise _ended(f"the run took longer than gate.time_limit_s ({limit_s:g} s) and was ended") from None
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not interrupt the wait for pytest
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(OWN_END_LIMIT_S)
        raise
    finally:
        deadline_s = time.monotonic() + END_LIMIT_S
        while child.poll() is None and time.monotonic() < deadline_s:
            child.terminate()  # repeatedly, because the code under test may ignore one signal
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(TERMINATE_EVERY_S)
        if child.poll() is None:
            child.kill()
            child.wait()
        end_descendants(before)  # the processes that a killed pytest left behind
