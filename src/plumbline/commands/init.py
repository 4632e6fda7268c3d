"""`plumbline init`: find the application, propose settings and benchmarks, and run them once."""

import argparse
import contextlib
import difflib
import json
import os
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from plumbline.adopting.find import find
from plumbline.adopting.findings import Findings, FoundApplication
from plumbline.adopting.pipelines import GITLAB_CI, PIPELINES, gitlab_include, pipelines_at_root
from plumbline.adopting.proposal import Proposed, propose
from plumbline.adopting.settings_text import with_settings
from plumbline.adopting.starters import starters
from plumbline.adopting.trial import try_application
from plumbline.adopting.tried import Answer, Tried
from plumbline.commands.base import CommandError, Project, check_results_folder
from plumbline.commands.copying import copy_suite
from plumbline.commands.install import install_settings
from plumbline.commands.measuring_run import measure
from plumbline.commands.output import make_room, report, say
from plumbline.installed import top_of
from plumbline.judging.baseline_check import check_baseline
from plumbline.judging.counts import check_counts
from plumbline.judging.decide import decide
from plumbline.judging.evidence import Evidence
from plumbline.project import EXIT_INVALID, EXIT_PASS, EXIT_USAGE, SETTINGS, SUITE, find_project, nox_command
from plumbline.results.files import write_whole
from plumbline.settings import Settings
from plumbline.settings_file import load_settings

EXAMPLE = "plumbline init --yes"
MOST_TRIALS = 3  # applications that are tried until one starts
MOST_ROUNDS = 5  # trials of one application: a failure may name variables that it needs
MOST_SHOWN = 5  # routes that were not asked
PLACEHOLDER = "plumbline"  # the value of a variable of which only the name is known
SERVED = ("asgi", "wsgi", "command")  # the keys of [app] that say what is served


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="write without asking")
    parser.add_argument("--app", default="", metavar="NAME", help="the application, such as shop.main:app")
    parser.add_argument("--template", default="", metavar="URL", help="where to copy the suite from, if there is none")


class Proposal(Struct, frozen=True):
    """What is proposed for one application, and how far it came with that."""

    application: FoundApplication | None
    settings: str  # the text of settings.toml
    proposed: list[Proposed]
    tried: Tried


def run(options: argparse.Namespace) -> int:
    """Propose settings and benchmarks, write them, and return the exit code of their first run."""
    root = find_project(Path.cwd())
    if root is None:
        return copy_suite(options.template, yes=options.yes)
    suite = root / SUITE
    load_settings(suite / SETTINGS)  # if they are wrong, say so first
    findings = find(root)
    try:
        proposal = _best(root, findings, options.app)
    except ValueError as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    texts: dict[Path, str | None] = {suite / SETTINGS: proposal.settings}
    if not proposal.tried.failed:
        existing = {file.name: _text_of(file) for file in suite.glob("test_*.py")}
        texts |= {
            suite / name: text for name, text in starters(root, proposal.application, proposal.tried, existing).items()
        }
    moved, hint = _pipelines(root)
    changes = {file: text for file, text in {**texts, **moved}.items() if (text or "") != _text_of(file)}
    say("\n".join([*_summary(proposal), *_remarks(findings)]))
    if changes and not _agreed(changes, yes=options.yes):
        return EXIT_PASS
    for file in changes:
        if file.exists() and not os.access(file, os.W_OK):
            raise CommandError(f"{os.path.relpath(file)} is read-only: nothing was written", EXIT_USAGE)
    for file, text in changes.items():
        _write(file, text)
    if hint:
        say(hint)
    if proposal.tried.failed:
        advice = f"correct {SUITE}/{SETTINGS} or the application, and run `{nox_command()} -s init` again"
        raise CommandError(f"{proposal.tried.message}\n\nthe application did not start: {advice}", EXIT_INVALID)
    return _first_run(root)


def _pipelines(root: Path) -> tuple[dict[Path, str | None], str]:
    """Return the workflows to move to the root of a larger repository, and the lines to add to a pipeline of GitLab."""
    top = top_of(root)
    if top == root:
        return {}, ""
    folder = root.relative_to(top).as_posix()
    copied, at_top = ({path: text for path in PIPELINES if (text := _text_of(place / path))} for place in (root, top))
    moved = {top / path: text for path, text in pipelines_at_root(copied, at_top, folder).items()}
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


def _best(root: Path, findings: Findings, named: str) -> Proposal:
    """Return the proposal for the first application that starts, or for the likeliest one if none does."""
    candidates = _candidates(root, findings, named)
    if not candidates:
        text = _text_of(root / SUITE / SETTINGS)
        proposed = propose(findings, None)
        text = with_settings(text, proposed)
        install_settings(root, _load(text))
        return Proposal(None, text, proposed, Tried())
    proposals = []
    for application in candidates[:MOST_TRIALS]:
        proposals.append(_tried(root, findings, application))
        if not proposals[-1].tried.failed:
            return proposals[-1]
        say(f"{_name(application)} did not start: {proposals[-1].tried.message.partition(chr(10))[0]}")
    return proposals[0]


def _candidates(root: Path, findings: Findings, named: str) -> list[FoundApplication]:
    """Return the applications to try: the named one, or that of the settings, or those found."""
    app: dict[str, Any] = tomllib.loads(_text_of(root / SUITE / SETTINGS)).get("app", {})
    kind = next((key for key in SERVED if app.get(key)), "")
    if not named and not kind:
        return [*findings.applications]
    target = named or app[kind]
    if same := [one for one in findings.applications if target in (one.target, [*one.command])]:
        return same[:1]
    if kind == "command" and not named:
        return [FoundApplication("command", "", ".", "", SETTINGS, command=tuple(target))]
    kind = kind if not named else "wsgi" if "wsgi" in target else "asgi"
    seen = "--app" if named else SETTINGS
    return [FoundApplication("wsgi" if kind == "wsgi" else "asgi", target, app.get("directory", "."), "", seen)]


def _tried(root: Path, findings: Findings, application: FoundApplication) -> Proposal:
    """Try an application with the proposed settings. Variables that it says to lack get a value."""
    text = _text_of(root / SUITE / SETTINGS)
    variables: dict[str, str] = {}
    own, tried = False, Tried()
    for _ in range(MOST_ROUNDS):
        proposed = propose(findings, application, variables=variables, own_environment=own)
        settings = _load(with_settings(text, proposed))
        try:
            install_settings(root, settings)
        except CommandError:
            if own or settings.app is None or settings.app.has_own_environment:
                raise
            own = True
            continue
        say(f"trying {_name(application)} on servers of its own")
        tried = try_application(settings, root, health_paths=findings.health_paths, examples=True)
        lacking = {name: PLACEHOLDER for name in tried.missing_variables if name not in settings.env}
        if not lacking:
            break
        variables |= lacking
    proposed = propose(findings, application, health_path=tried.health_path, variables=variables, own_environment=own)
    return Proposal(application, with_settings(text, proposed), proposed, tried)


def _load(text: str) -> Settings:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / SETTINGS
        path.write_text(text, encoding="utf-8")
        return load_settings(path)


def _text_of(file: Path) -> str:
    """Return the text of a file, "" if there is none. Raises CommandError."""
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{os.path.relpath(file)} can't be read: {error}", EXIT_USAGE) from None


def _name(application: FoundApplication) -> str:
    return application.target or " ".join(application.command)


def _summary(proposal: Proposal) -> list[str]:
    """Return what was found, with where it was seen, and what happened when it ran."""
    lines = ["", "found:"]
    if proposal.application is None:
        lines.append("  no application: the starter benchmark measures the package")
    seen = ""
    for one in proposal.proposed:
        name = f"[{one.table}] {one.key}" if one.table else one.key
        lines.append(f"  {name} = {json.dumps(one.value, ensure_ascii=False)}")
        if one.seen and one.seen != seen:
            lines.append(f"      {one.seen}")
        seen = one.seen
    tried = proposal.tried
    if proposal.application and not tried.failed:
        answered = [one for one in tried.answers if one.is_success]
        lines += [
            "",
            f"tried: {_name(proposal.application)} starts, and {len(answered)} of {len(tried.answers)} routes answer",
        ]
        lines += [f"  {_answer(one)}" for one in tried.answers if not one.is_success]
        lines += [f"  not asked: {one.method} {one.path}" for one in tried.left_out[:MOST_SHOWN]]
    return lines


def _remarks(findings: Findings) -> list[str]:
    """Return what was found that `init` leaves to the user."""
    lines = [
        f"  {name} is not started: add [services.{name}] to {SUITE}/{SETTINGS} if the application needs it"
        for name in findings.other_services
    ]
    if (folder := findings.install.folder) != ".":
        lines.append(f"  the project is in {folder}: if it does not install from here, copy the suite into that folder")
    return ["", "not covered:", *lines] if lines else []


def _answer(one: Answer) -> str:
    said = ": ".join(filter(None, [str(one.status or "no answer"), one.error]))
    return f"{one.route.method} {one.route.path}  {said}"


def _agreed(changes: Mapping[Path, str | None], *, yes: bool) -> bool:
    """Show the changes, and return whether to write them. Raises CommandError if nobody can be asked."""
    here = Path.cwd()
    for file, text in changes.items():
        before, name = _text_of(file), os.path.relpath(file, here)
        names = name if before else os.devnull, name if text is not None else os.devnull
        lines = difflib.unified_diff(before.splitlines(), (text or "").splitlines(), *names, lineterm="", n=1)
        say("\n" + "\n".join(lines) if text is not None else f"\nremove {name}")
    if yes:
        return True
    if not sys.stdin.isatty():
        raise CommandError("nothing was written: run this in a terminal, or with --yes", EXIT_USAGE)
    files = "this file" if len(changes) == 1 else f"these {len(changes)} files"
    with contextlib.suppress(EOFError):
        if input(f"\nWrite {files}? [y/N] ").strip().lower() in ("y", "yes"):
            return True
    say("nothing was written")
    return False


def _first_run(root: Path) -> int:
    """Measure the suite once, without a comparison, and show the table."""
    if not any((root / SUITE).glob("test_*.py")):
        say(f"there is no route to start with: write a benchmark in {SUITE}, and run `{nox_command()} -s ci`")
        return EXIT_PASS
    project = Project(root, load_settings(root / SUITE / SETTINGS))
    check_results_folder(project)
    with make_room(project.results):
        record = measure(project, "ci", [])
    settings = project.settings
    timings = check_baseline(record, None, settings.gate, settings.benchmarks)
    evidence = Evidence(timings=timings, counts=check_counts(record, None, timings))
    results = decide(record, evidence, settings.gate, settings.benchmarks)
    code = report(project, results, html=False, keep=False)
    if code == EXIT_PASS:
        say("\nCommit these files. From then on, each pull request is compared with its base.")
    return code
