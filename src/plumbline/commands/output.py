"""The output of commands: the files of a run first, then the terminal."""

import contextlib
import importlib.util
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO, cast

from msgspec.structs import replace
from rich.console import Console

from plumbline.commands.base import HTML, IGNORE_ALL, JUNIT, REPORT, RESULTS, CommandError, Project
from plumbline.commands.recording import add_to_folder, problem_lines, read_history
from plumbline.comparing.trees.base import default_branch_in_ci
from plumbline.installed import top_of
from plumbline.judging.baseline import find_baseline
from plumbline.loading.results import LoadResults, as_text, blocks, marked, read_load
from plumbline.processes import OUTPUT_ENDED, drop_output, printable
from plumbline.project import EXIT_INVALID, EXIT_PASS, EXIT_REGRESSION, EXIT_USAGE, explain_command, nox_command
from plumbline.reporting import github, junit, terminal
from plumbline.reporting.history import Moved, moved
from plumbline.reporting.problems import codes_to_explain, find_problems
from plumbline.reporting.progress import Progress
from plumbline.reporting.trend import runs_on_default_branch
from plumbline.results.files import (
    ResultsError,
    earlier_runs,
    keep_run,
    read_results,
    redacted,
    write_results,
    write_whole,
)
from plumbline.results.history import Run
from plumbline.results.schema import Results
from plumbline.services.redaction import Terminal, known_secrets, redactor

MOST_RECENT = 60  # runs of the history that the trend is looked for in
OF_A_RUN = (RESULTS, REPORT, JUNIT, HTML, "*.log")
ASIDE = ".last-"  # begins the names of an earlier run's files until this run has begun


class TerminalConsole(Console):
    def on_broken_pipe(self) -> None:
        """Raise the error; Rich would exit with 1, the code of a regression."""
        raise


def report(project: Project, results: Results, *, html: bool, keep: bool, with_load: bool = False) -> int:
    """Write the files of a run, then print it; return its exit code, whatever the terminal does; raises ResultsError.

    `html`: write the HTML report as well. `keep`: keep the run in the history. A load test of the same commit becomes a
    section of each report. `with_load`: the exit code is the worse one of the run and the load test.
    """
    folder, results = project.results, redacted(results, project.scrub)
    results = replace(results, problems=find_problems(results))
    write_results(folder / RESULTS, results)
    messages = add_to_folder(project, results) if keep else []
    history = read_history(project)
    along = moved(results, history.runs) + [Moved("", problem) for problem in problem_lines(history)]
    runs = runs_on_default_branch(results, earlier_runs(folder, MOST_RECENT), default_branch_in_ci())
    loads, problems = load_tests(project, results)
    messages += problems
    beside = [(marked(one), blocks(one)) for one in loads]
    write_whole(folder / REPORT, github.markdown(results, runs=runs, along=along, beside=beside))
    write_whole(folder / JUNIT, junit.render(results))
    if keep:
        keep_run(folder, results)
    messages += [_write_html(project, results, history.runs, loads)] if html else []
    # The merged report of all shards has the summary and the annotations.
    if not results.shard:
        messages += add_to_summary(lambda: github.markdown(results, github.SUMMARY_BYTES, runs, along))
    with _output_may_end():
        terminal.render(results, TerminalConsole(), along)
    if explained := codes_to_explain(results, results.problems):
        say(f"Help: {explain_command(*explained)}")
    if not results.shard and os.environ.get("GITHUB_ACTIONS") == "true":
        inside = project.root.relative_to(top_of(project.root)).as_posix()
        say("\n".join(github.annotations(results, project.root, inside)))
    for one in loads:
        say(f"\n{as_text(one)}\nRepeat the load test with: {one.command}")
    for message in messages:
        say(message)
    codes = {results.exit_code or EXIT_PASS, *(one.exit_code for one in loads if with_load)}
    return next(code for code in (EXIT_INVALID, EXIT_REGRESSION, max(codes)) if code in codes)


def load_tests(project: Project, results: Results) -> tuple[list[LoadResults], list[str]]:
    """Return the load test of the same commit, if there is one, and why one is left out."""
    found = read_load(project.results, results.environment.commit)
    if isinstance(found, str):
        return [], [found] if found else []
    return [redacted(found, lambda text: project.scrub(printable(text)))], []


def add_to_summary(markdown: Callable[[], str]) -> list[str]:
    """Add a report to the summary of a job on GitHub, if this is one. Return what to print if that fails."""
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with open(summary, "a", encoding="utf-8", opener=_without_waiting) as file:
                file.write(markdown())
        except OSError as error:
            return [f"GITHUB_STEP_SUMMARY can't be written: {error.strerror}"]
    return []


def _without_waiting(path: str, flags: int) -> int:
    """Open a file. Opening a pipe that no process reads is an error instead of a wait."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def _write_html(project: Project, results: Results, runs: Sequence[Run], loads: Sequence[LoadResults]) -> str:
    """Write the HTML report and return what to print about it; raises ResultsError."""
    if importlib.util.find_spec("vl_convert") is None:
        return "no HTML report: vl-convert-python is missing; install the extra `html` of pytest-plumbline"
    from plumbline.loading.page import as_section
    from plumbline.reporting.html.page import render

    baseline = None
    with contextlib.suppress(ResultsError):
        baseline = find_baseline(project.baselines, results.environment)
    beside = [as_section(one) for one in loads]
    write_whole(project.results / HTML, render(results, baseline, earlier_runs(project.results), runs, beside))
    return f"Report: {project.shown(project.results / HTML)}"


@contextlib.contextmanager
def make_room(folder: Path, files: Sequence[str] = OF_A_RUN) -> Iterator[None]:
    """Remove these files of an earlier run, and bring them back if the arguments are wrong, so that nothing runs.

    Raises ResultsError now, before measuring, if the folder can't be written.
    """
    make_folder(folder)
    write_whole(folder / ".writable", "")
    (folder / ".writable").unlink()
    _remove_asides(folder)  # of a run that was killed
    for path in [path for name in files for path in folder.glob(name)]:
        try:
            path.replace(folder / f"{ASIDE}{path.name}")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ResultsError(f"{path} can't be removed: {error.strerror}") from None
    try:
        yield
    except CommandError as error:
        if error.exit_code == EXIT_USAGE:
            for aside in folder.glob(f"{ASIDE}*"):
                aside.replace(folder / aside.name.removeprefix(ASIDE))
        raise
    finally:
        _remove_asides(folder)


def make_folder(folder: Path) -> None:
    """Make the results folder, unless it exists; raises ResultsError.

    Git ignores what is in a new folder: results that are committed would differ in each comparison with the base.
    """
    if not folder.exists():
        write_whole(folder / ".gitignore", IGNORE_ALL)


def _remove_asides(folder: Path) -> None:
    for aside in folder.glob(f"{ASIDE}*"):
        with contextlib.suppress(OSError):
            aside.unlink()


def last_results(folder: Path) -> Results:
    """Return the results of the last run; raises CommandError if there are none, or they cannot be read."""
    try:
        return read_results(folder / RESULTS)
    except FileNotFoundError:
        message = f"there are no results in {folder}: run `{nox_command()} -s ci` first"
        raise CommandError(message, EXIT_INVALID) from None
    except ResultsError as error:
        raise CommandError(f"{error}\n`{nox_command()} -s ci` makes new results", EXIT_INVALID) from None


def say(text: str) -> None:
    """Print lines without passwords. If nobody reads them any more, the command goes on: its files are still wanted."""
    with _output_may_end():
        encoding = sys.stdout.encoding or "utf-8"
        text = redactor(known_secrets(os.environ))(text)
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")


def say_wrapped(text: str) -> None:
    """Print lines in the width of the terminal: some are as long as a user's own names."""
    width = shutil.get_terminal_size().columns
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        say("\n".join(textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False)))


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows how far something is, and remove that line at the end."""
    with contextlib.closing(Progress(cast(TextIO, Terminal(sys.stdout, str)))) as line:
        yield line.say


@contextlib.contextmanager
def _output_may_end() -> Iterator[None]:
    """Go on if the standard output is a closed pipe or a full device."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in OUTPUT_ENDED:
            raise
        drop_output(sys.stdout)
