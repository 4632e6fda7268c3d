"""`plumbline init`: find the application, propose settings and benchmarks, and run them once."""

import argparse
import contextlib
import difflib
import importlib.util
import itertools
import os
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from plumbline.adopting.benchmarks import ROUTES_FILE
from plumbline.adopting.login_benchmarks import LOGIN_FILE
from plumbline.adopting.pipelines import GITLAB_CI, PIPELINES, gitlab_include, pipelines_at_root
from plumbline.adopting.seeding import empty_lists
from plumbline.adopting.starters import not_measured, starters
from plumbline.adopting.tools import lines_to_add, shown
from plumbline.adopting.tried import Tried
from plumbline.adopting.unseen import made_lines, suite_lines
from plumbline.commands.base import CommandError, text_of, this_project
from plumbline.commands.choosing_login import about_login, consent
from plumbline.commands.consent import may_write, says_yes
from plumbline.commands.copying import copy_suite
from plumbline.commands.install import wrong_python
from plumbline.commands.measuring_run import measure
from plumbline.commands.output import make_room, report, say
from plumbline.installed import top_of
from plumbline.judging.baseline import find_counts
from plumbline.judging.baseline_check import check_baseline
from plumbline.judging.counts import check_counts
from plumbline.judging.decide import decide
from plumbline.judging.evidence import Evidence
from plumbline.project import (
    EXIT_INVALID,
    EXIT_PASS,
    EXIT_USAGE,
    SETTINGS,
    SUITE,
    SUITE_REQUIREMENTS,
    find_project,
    nox_command,
)
from plumbline.results.files import write_whole
from plumbline.settings import URL_VARIABLES
from plumbline.settings_file import load_settings

EXAMPLE = "plumbline init --yes"
MOST_NAMED = 3  # routes
TOO_MANY = "assert 429 == 200"  # in the message of a failed test


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="write without asking")
    parser.add_argument("--log-in", action="store_true", help="try to sign up and log in, if routes require a login")
    parser.add_argument("--app", default="", metavar="NAME", help="the application, such as shop.main:app")
    parser.add_argument("--template", default="", metavar="URL", help="where to copy the suite from, if there is none")


def run(options: argparse.Namespace) -> int:
    """Propose settings and benchmarks, write them, and return the exit code of their first run."""
    _refuse_other_servers()
    root = find_project(Path.cwd())
    if root is None:
        return copy_suite(options.template, app=options.app, yes=options.yes, log_in=options.log_in)
    suite = root / SUITE
    load_settings(suite / SETTINGS)  # if they are wrong, say so first
    if importlib.util.find_spec("yaml") is None:
        message = "init needs the extra `init` of pytest-plumbline: add it to the extras in"
        raise CommandError(f"{message} {SUITE_REQUIREMENTS}", EXIT_USAGE)
    from plumbline.commands.proposing import proposal_for, summary

    existing = {file.name: text_of(file) for file in suite.glob("test_*.py")}
    may_log_in = consent(existing, says_yes, log_in=options.log_in, yes=options.yes)
    proposal = proposal_for(root, options.app, may_log_in)
    texts: dict[Path, str | None] = {suite / SETTINGS: proposal.settings}
    about = list[str]()
    if not proposal.tried.failed:
        written = starters(root, proposal.application, proposal.tried, existing)
        texts |= {suite / name: text for name, text in written.items()}
        about = about_login(proposal.tried, {**existing, **written}, log_in=options.log_in)
        about += [*_further(proposal.tried, existing, written)]
    moved, hint = _pipelines(root)
    changes = {file: text for file, text in {**texts, **moved}.items() if (text or "") != text_of(file)}
    say("\n".join([*summary(proposal), *(["", *about] if about else [])]))
    if changes and not _agreed(changes, yes=options.yes):
        return EXIT_PASS
    for file in changes:
        if file.exists() and not os.access(file, os.W_OK):
            raise CommandError(f"{os.path.relpath(file)} is read-only: nothing was written", EXIT_USAGE)
    for file, text in changes.items():
        _write(file, text)
    if hint:
        say(hint)
    top = top_of(root)
    folder = f"{root.relative_to(top).as_posix()}/" if root != top else ""
    if added := lines_to_add(top, folder):
        say(f"\nYour own tools would check the suite, too. {shown(added)}\n")
    if proposal.tried.failed:
        advice = f"correct {SUITE}/{SETTINGS} or the application, and run `{nox_command()} -s init` again"
        causes = {"prepare": "`prepare` failed", "settings": "the application can't run with these settings"}
        what = causes.get(proposal.tried.failed, "the application did not start")
        raise CommandError(f"{proposal.tried.message}\n\n{what}: {advice}", EXIT_INVALID)
    if why := proposal.tried.skipped.get("app"):
        raise CommandError(f"the application was not tried: {why}", EXIT_INVALID)
    return _first_run(root, proposal.tried)


def _refuse_other_servers() -> None:
    """Raise CommandError if a variable names a server: `init` sends requests, which may change its data."""
    others = ("PERF_SERVICE_", *URL_VARIABLES.values())
    if named := sorted(name for name, value in os.environ.items() if value and name.startswith(others)):
        message = f"init uses only servers that it starts itself: unset {', '.join(named)}"
        raise CommandError(f'{message}. PERF_SERVICES=embedded overrides `backend = "external"`', EXIT_USAGE)


def _pipelines(root: Path) -> tuple[dict[Path, str | None], str]:
    """Return the workflows to move to the root of a larger repository, and the lines to add to a pipeline of GitLab."""
    top = top_of(root)
    folder = root.relative_to(top).as_posix()
    copied, at_top = ({path: text for path in PIPELINES if (text := text_of(place / path))} for place in (root, top))
    moves = pipelines_at_root(copied, at_top, folder) if top != root else {}
    moved = {top / path: text for path, text in moves.items()}
    lines = gitlab_include(copied, at_top, folder)
    return moved, f"\nAdd to {top / GITLAB_CI}:\n\n{lines}\n" if lines else ""


def _write(file: Path, text: str | None) -> None:
    """Write a file. None removes it, and the folders that are empty then."""
    if text is not None:
        has_crlf = file.is_file() and b"\r\n" in file.read_bytes()
        write_whole(file, text.replace("\n", "\r\n") if has_crlf else text)
        return
    file.unlink()
    with contextlib.suppress(OSError):
        for folder in list(file.parents)[:2]:
            folder.rmdir()


def _agreed(changes: Mapping[Path, str | None], *, yes: bool) -> bool:
    """Show the changes, and return whether to write them. Raises CommandError if nobody can be asked."""
    here = Path.cwd()
    for (file, text), (after, of_after) in itertools.pairwise([*changes.items(), (here, "")]):
        # A file that is moved is followed by its old place.
        is_moved = text is not None and of_after is None and not file.exists()
        source = after if is_moved else file
        before, name = text_of(source), os.path.relpath(file, here)
        names = os.path.relpath(source, here) if before else os.devnull, name
        lines = difflib.unified_diff(before.splitlines(), (text or "").splitlines(), *names, lineterm="", n=1)
        say("\n" + "\n".join(lines) if text is not None else f"\nremove {name}")
    files = "this file" if len(changes) == 1 else f"these {len(changes)} files"
    return may_write(f"Write {files}?", f"{nox_command()} -s init -- --yes", yes=yes)


def _further(tried: Tried, existing: Mapping[str, str], written: Mapping[str, str]) -> list[str]:
    """Return how many routes get no benchmark in this run. `existing`, `written`: test files by name."""
    files, lines = {**existing, **written}, list[str]()
    if further := not_measured(tried, files):
        is_full = written.get(ROUTES_FILE) != existing.get(ROUTES_FILE)
        advice = f"run `{nox_command()} -s init` again" if is_full else f"write benchmarks in {SUITE}"
        lines.append(f"not measured yet: {len(further)} of the routes that answer, such as GET {further[0]}: {advice}")
    if further := not_measured(tried, files, refused=True):
        advice = f"add them to ROUTES in {SUITE}/{LOGIN_FILE}"
        lines.append(f"not measured: {len(further)} of the routes that require a login, such as {further[0]}: {advice}")
    return lines


def _first_run(root: Path, tried: Tried) -> int:
    """Measure the suite once, without a comparison, and show the table."""
    if not any((root / SUITE).glob("test_*.py")):
        say(f"there is no route to start with: write a benchmark in {SUITE}, and run `{nox_command()} -s ci`")
        return EXIT_PASS
    project = this_project()
    with make_room(project.results):
        record = measure(project, "ci", [])
    settings = project.settings
    timings = check_baseline(record, None, settings.gate, settings.benchmarks)
    evidence = Evidence(timings=timings, counts=check_counts(record, None, timings))
    results = decide(record, evidence, settings.gate, settings.benchmarks)
    if find_counts(project.baselines, record.environment):  # this run is not compared with it
        results = replace(results, reasons=[])
    code = report(project, results, html=False, keep=False)
    if problem := wrong_python(root, settings):
        say(f"\nSo far, {problem}. The next run uses that.")
    if about := [*suite_lines(root), *made_lines(root)]:
        say("\n" + "\n".join(about))
    if failed := sum(answer.status >= 500 or not answer.status for answer in tried.answers):
        say(f"\n{failed} of {len(tried.answers)} routes failed, and are not measured: see above what they answered.")
    if empty := empty_lists(tried):
        some = ", ".join(empty[:MOST_NAMED]) + " …" * (len(empty) > MOST_NAMED)
        say(f"\nAnswered with an empty list: {some}. Such a benchmark can't show an N+1.")
        say(f"Add a command to `prepare` in {SUITE}/{SETTINGS} that writes several rows.")
    if any(TOO_MANY in test.message for test in record.tests):
        where = f"[env] of {SUITE}/{SETTINGS}"
        say(f"\nThe application limits how often clients may ask: switch its limit off in {where}.")
        say("If the limit is fixed in the code, let the code read it from a variable first.")
    if code == EXIT_PASS:
        say("\nCommit these files. From then on, each pull request is compared with its base.")
    return code
