"""The history of the default branch: adding runs to it, and reading it."""

from itertools import chain

from plumbline.commands.base import CommandError, Project
from plumbline.comparing.trees.base import is_default_branch
from plumbline.comparing.trees.data_branch import PushFailed, push_file, read_branch
from plumbline.comparing.trees.git import Git, NoBase
from plumbline.judging.chain import MOST_RUNS, run_of
from plumbline.project import EXIT_INVALID, EXIT_USAGE
from plumbline.reporting.format import plain
from plumbline.results.files import ResultsError
from plumbline.results.history import History, Run, file_of, read_folder, read_lines, write_line
from plumbline.results.schema import Results

_MOST_PROBLEMS = 3


def read_history(project: Project, most: int | None = MOST_RUNS) -> History:
    """Return the newest runs of the folder and the branch that the settings name; none if they name neither."""
    settings = project.settings.history
    folder = read_folder(project.root / settings.folder, most) if settings.folder else []
    branch = read_branch(project.root, settings.branch, most) if settings.branch else []
    runs, problems = read_lines(chain(folder, branch))
    return History(runs[-most if most else 0 :], problems)


def problem_lines(history: History) -> list[str]:
    """Return a line for each of the first problems, and for the number of all others."""
    lines = [f"not used: {plain(problem)}" for problem in history.problems[:_MOST_PROBLEMS]]
    more = len(history.problems) - len(lines)
    return [*lines, f"not used: {more:,} more lines"] if more else lines


def add_to_folder(project: Project, results: Results) -> list[str]:
    """Add a run on the default branch to the folder of the history, if there is one. Return what to print."""
    if not project.settings.history.folder or isinstance(run := _run(project, results), str):
        return []
    try:
        write_line(project.root / project.settings.history.folder, run)
    except ResultsError as error:
        return [f"this run was not added to the history: {error}"]
    return []


def push_run(project: Project, results: Results) -> str:
    """Add a run on the default branch to the branch of the history; return what to print. Raises CommandError."""
    branch = project.settings.history.branch
    if isinstance(run := _run(project, results), str):
        return f"not added to the history: {run}"
    if branch == results.environment.branch:
        raise CommandError(f"{branch} is the default branch: name another `branch` in [history]", EXIT_USAGE)
    try:
        if not branch or Git(project.root).ask("check-ref-format", "--branch", branch) != branch:
            raise CommandError(f"{branch!r} is no name of a branch: change `branch` in [history]", EXIT_USAGE)
        added = push_file(project.root, branch, *file_of(run))
    except (NoBase, PushFailed) as error:
        advice = (
            "the job needs the right to write to the repository (GitHub: `permissions: contents: write`, GitLab: the "
            "token in HISTORY_TOKEN)"
        )
        raise CommandError(f"the history could not be pushed to {branch}: {error}\n{advice}", EXIT_INVALID) from None
    return f"{'added to' if added else 'already in'} the history on {branch}: {run.commit[:10]}"


def _run(project: Project, results: Results) -> Run | str:
    """Return what the history keeps of a run, or why it keeps nothing."""
    environment = results.environment
    if results.shard:
        return "this is one shard of a run, and only a whole run is added"
    if not environment.commit or environment.dirty:
        return "this run was not of a commit alone: there were uncommitted changes"
    if not is_default_branch(project.root, environment.branch):
        return f"this run was not on the default branch, but on {environment.branch or 'an unknown branch'}"
    run = run_of(results)
    return run if run.benchmarks and run.date else "nothing was measured"
