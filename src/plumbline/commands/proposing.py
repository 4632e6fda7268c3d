"""The proposal of `plumbline init`: try each application that it has found until one starts."""

import functools
import json
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from plumbline.adopting.files.sqlite import FOLDER, existing_files
from plumbline.adopting.files.templates import value_for
from plumbline.adopting.find import find
from plumbline.adopting.findings import Findings, FoundApplication
from plumbline.adopting.first_user import with_failed_logins, with_user
from plumbline.adopting.proposal import PORT_VARIABLE, Proposed, propose, takes_port
from plumbline.adopting.seeding import about_empty_tables, empty_lists, has_seed, why_no_seed, with_seed
from plumbline.adopting.settings_text import value_of, with_settings
from plumbline.adopting.trial import TARGET, MayLogIn, try_application
from plumbline.adopting.tried import Answer, Tried
from plumbline.commands.base import CommandError, text_of
from plumbline.commands.containers import left_out, why_no_containers
from plumbline.commands.install import install_settings, installed_from, require_python
from plumbline.commands.output import say
from plumbline.project import EXIT_USAGE, SETTINGS, SUITE, nox_command
from plumbline.seed import MODULE
from plumbline.services.services import SERVERS
from plumbline.settings import Settings
from plumbline.settings_file import load_settings

MOST_TRIALS = 3  # applications that are tried until one starts
MOST_ROUNDS = 10  # trials of one application: a failure may name variables that it needs
MOST_SHOWN, MOST_NAMED = 5, 3  # routes that were not asked, and those that have no benchmark
# In the errors of PostgreSQL and SQLite.
NO_TABLE = re.compile(r'(?:relation|schema) "[^"]+" does not exist|no such table')
EXISTS = re.compile(r"(?:relation|type|table) \"?[\w.]+\"? already exists")
REFUSED = re.compile(r"refused|Connect call failed", re.IGNORECASE)
ORDER = ("app", "", "env", "processes", "services", "install")  # tables in the summary
SERVED = ("asgi", "wsgi", "command")  # the keys of [app] that say what is served


class Proposal(Struct, frozen=True):
    """The proposal for one application, with the result of trying it. `installed`: which versions are installed."""

    application: FoundApplication | None
    settings: str  # the text of settings.toml
    proposed: list[Proposed]
    tried: Tried
    findings: Findings
    installed: str = ""
    left_out: tuple[str, ...] = ()  # what was tried and is not proposed, with the reason


def proposal_for(root: Path, named: str, may_log_in: MayLogIn) -> Proposal:
    """Return the proposal for the first application that starts, or for the likeliest one if none does.

    `named` is the application to take, "" to find it. Raises CommandError.
    """
    text = text_of(root / SUITE / SETTINGS)
    require_python(root, _load(text))
    findings = find(root)
    findings = replace(findings, no_docker=why_no_containers(findings))
    app: dict[str, Any] = tomllib.loads(text).get("app", {})
    own = app.get("env", {})
    findings = replace(findings, variables=tuple(one for one in findings.variables if one.name not in own))
    try:
        candidates = _candidates(app, findings, named)
        proposal = _best(root, text, findings, candidates, may_log_in)
        installed = installed_from(root, _load(proposal.settings), findings.install.lock)
        return replace(proposal, installed=installed)
    except ValueError as error:
        raise CommandError(str(error), EXIT_USAGE) from None


def _best(
    root: Path, text: str, findings: Findings, candidates: Sequence[FoundApplication], may_log_in: MayLogIn
) -> Proposal:
    """Try the candidates in their order. `text`: that of `settings.toml`."""
    if not candidates:
        proposed = propose(findings, None)
        text = with_settings(text, proposed)
        install_settings(root, _load(text))
        return Proposal(None, text, proposed, Tried(), findings)
    proposals = []
    for application in candidates[:MOST_TRIALS]:
        proposals.append(_tried(root, text, findings, application, may_log_in))
        if not proposals[-1].tried.failed:
            return proposals[-1]
        if proposals[-1].tried.failed in ("settings", "prepare"):  # another application would not help
            return proposals[-1]
        if len(candidates) > 1:  # the message about one alone is printed at the end
            say(f"{_name(application)} did not start: {proposals[-1].tried.message.partition(chr(10))[0]}")
    return proposals[0]


def _candidates(app: Mapping[str, Any], findings: Findings, named: str) -> list[FoundApplication]:
    """Return the applications to try: the named one, or that of the table [app], or those found."""
    kind = next((key for key in SERVED if app.get(key)), "")
    if not named and not kind:
        return [*findings.applications]
    target = named or app[kind]
    if same := [one for one in findings.applications if target in (one.target, [*one.command])]:
        return same[:1]
    if kind == "command" and not named:
        return [FoundApplication("command", "", ".", "", SETTINGS, command=tuple(target))]
    if named and not TARGET.fullmatch(named):
        raise ValueError(f"--app={named}: write it as module:attribute, such as shop.main:app")
    kind = kind if not named else "wsgi" if "wsgi" in target else "asgi"
    seen = "--app" if named else SETTINGS
    return [FoundApplication("wsgi" if kind == "wsgi" else "asgi", target, app.get("directory", "."), "", seen)]


def _tried(root: Path, text: str, findings: Findings, application: FoundApplication, may_log_in: MayLogIn) -> Proposal:
    """Try an application with the proposed settings. Variables that it says to lack get a value."""
    variables: dict[str, str] = {}
    given, own, tried = _load(text), False, Tried()
    env = given.env
    findings = with_seed(findings, given.app) if has_seed(given) else findings
    attempt = functools.partial(
        try_application,
        root=root,
        health_paths=findings.health_paths,
        examples=True,
        protected=existing_files(root),
    )
    before: tuple[Findings, Tried] | None = None  # those without a user that `prepare` writes
    for _ in range(MOST_ROUNDS):
        proposed = propose(findings, application, variables=variables, env=env, own_environment=own)
        settings = _load(with_settings(text, proposed))
        try:
            install_settings(root, settings)
        except CommandError:
            if own or settings.app is None or settings.app.has_own_environment:
                raise
            own = True
            continue
        say(f"trying {_name(application)} on servers of its own")
        tried = attempt(settings, may_log_in=may_log_in)
        if (other := _without_mistakes(findings, tried)) != findings:
            findings = other
            continue
        unset = [name for name in tried.missing_variables if name not in settings.env]
        lacking = {name: value_for(name, set(findings.services)) for name in unset}
        if before:
            findings, tried = (findings, tried) if tried.login else (before[0], with_failed_logins(before[1], tried))
            break
        if not lacking:
            before, findings = (findings, tried), with_user(findings, tried, env)
            if findings == before[0]:
                break
        variables |= lacking
    final = functools.partial(
        propose,
        application=application,
        health_path=tried.health_path,
        variables=variables,
        env=env,
        own_environment=own and tried.failed != "install",  # otherwise it is no remedy
        sqlite=tried.sqlite,
    )
    proposed = final(findings)
    proposal = Proposal(application, with_settings(text, proposed), proposed, tried, findings)
    return _with_rows(proposal, text, final, attempt)


def _with_rows(
    before: Proposal, text: str, final: Callable[[Findings], list[Proposed]], attempt: Callable[..., Tried]
) -> Proposal:
    """Return the proposal with made-up rows, if they fill an empty list and break no route.

    `text`: that of `settings.toml`. `final` makes the proposed settings, and `attempt` tries settings.
    """
    if before.tried.failed or not empty_lists(before.tried):
        return before
    findings = with_seed(before.findings, _load(before.settings).app)
    proposed = final(findings)
    if (settings := with_settings(text, proposed)) == before.settings:  # or `prepare` is the user's own
        return before
    say(f"trying {MODULE} in `prepare`, as {empty_lists(before.tried)[0]} answers with an empty list")
    had_consent = bool(before.tried.login or before.tried.failed_logins)
    tried = attempt(_load(settings), may_log_in=lambda *_: had_consent)
    if why := why_no_seed(before.tried, tried):
        return replace(before, left_out=tuple(why))
    return replace(before, settings=settings, proposed=proposed, tried=tried, findings=findings)


def _without_mistakes(findings: Findings, tried: Tried) -> Findings:
    """Return the findings without what the trial has refuted."""
    if tried.failed == "application" and findings.sql and EXISTS.search(tried.message):
        return replace(findings, prepare=(), sql=())  # the application loads these files itself
    names_postgres = any("{postgres." in one.template for one in findings.variables)
    if tried.failed == "prepare" and tried.sqlite and "did not connect to" in tried.message and not names_postgres:
        # A driver of PostgreSQL is installed, but the data is in SQLite.
        return replace(
            findings, services={name: seen for name, seen in findings.services.items() if name != "postgres"}
        )
    return findings


def _load(text: str) -> Settings:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / SETTINGS
        path.write_text(text, encoding="utf-8")
        return load_settings(path)


def _name(application: FoundApplication) -> str:
    return application.target or " ".join(application.command)


def summary(proposal: Proposal) -> list[str]:
    """Return what was found, with where it was seen, and what happened when it ran."""
    lines = ["", "found:", *([f"  installed: {proposal.installed}"] if proposal.installed else [])]
    if proposal.application is None:
        lines.append("  no application: if there is one, name it with --app")
    seen, written = "", tomllib.loads(proposal.settings)
    for one in sorted(proposal.proposed, key=_place):
        name = f"[{one.table}] {one.key}" if one.table else one.key
        lines.append(f"  {name} = {json.dumps(one.value, ensure_ascii=False)}")
        if one.seen and one.seen != seen:
            lines.append(f"      {one.seen}")
        seen = one.seen
        if value_of(written, one) != one.value:
            lines.append(f"      {SETTINGS} has another value, which stays")
    tried = proposal.tried
    if proposal.application and (why := tried.skipped.get("app")):
        lines += ["", f"not tried: {_name(proposal.application)}: {why}"]
    elif proposal.application and not tried.failed:
        answered = [one for one in tried.answers if one.is_success]
        lines += [
            "",
            f"tried: {_name(proposal.application)} starts, and {len(answered)} of {len(tried.answers)} routes answer",
        ]
        lines += [f"  {_answer(one)}" for one in tried.answers if not one.is_success]
        slow = [one for one in (*tried.answers, *tried.logged_in) if one.is_success and one.is_slow]
        lines += [f"  {_answer(one)}: takes {one.seconds:.1f} s, too long for a starter benchmark" for one in slow]
        lines += [f"  not asked: {one.method} {one.path}" for one in tried.left_out[:MOST_SHOWN]]
        if len(tried.left_out) > MOST_SHOWN:
            lines.append(f"  and {len(tried.left_out) - MOST_SHOWN} more were not asked")
    elif tried.failed == "application" and (broken := [one for one in tried.answers if one.status >= 500]):
        lines += ["", "it runs, but no path was found that answers 200:"]
        lines += [f"  {_answer(one)}" for one in broken[:MOST_SHOWN]]
    return [*lines, *_remarks(proposal)]


def _place(one: Proposed) -> int:
    """Return the place of a setting in the summary: the application comes first."""
    table = one.table.partition(".")[0]
    return ORDER.index(table) if table in ORDER else len(ORDER)


def _remarks(proposal: Proposal) -> list[str]:
    """Return what was found that `init` leaves to the user."""
    findings, tried, settings = proposal.findings, proposal.tried, _load(proposal.settings)
    about_rows = (*proposal.left_out, *about_empty_tables(tried))
    lines = [*left_out(findings, settings), *(f"  {one}" for one in about_rows)]
    if (folder := findings.install.folder) != "." and tried.failed and not findings.install.requirements:
        lines.append(f"  the project is in {folder}: if it does not install from here, copy the suite into that folder")
    lines += [
        f"  runs write to {file}, whose name is in the code: for another file, let the code read the name from a"
        f' variable, and set it to "{FOLDER}/{PurePosixPath(file).stem}.sqlite" in [env] of {SUITE}/{SETTINGS}'
        for file in tried.sqlite
    ]
    errors = [tried.message if tried.failed else "", *(one.error for one in tried.answers)]
    if REFUSED.search(errors[0]) and (port := _default_port(findings, settings)):
        lines.append(
            f"  the application does not connect to the run's own server: no variable in [env] of {SUITE}/{SETTINGS}"
            f" gives it the port, {port}"
        )
    if tried.failed != "prepare" and any(map(NO_TABLE.search, errors)):
        found = f"only {findings.sql[0]}, which plumbline.load_sql can load" if findings.sql else "no migrations"
        migrations = "" if findings.prepare else f"; `init` has found {found}"
        lines.append(
            f"  a table is missing: add the command that creates the tables to `prepare` in {SUITE}/{SETTINGS}, and run"
            f" `{nox_command()} -s init` again{migrations}"
        )
    elif (
        "postgres" in findings.services
        and not has_seed(settings)
        and len(settings.prepare_commands) <= len(findings.prepare)
    ):
        lines.append("  an N+1 only shows in tables with several rows: `prepare` has to write them")
    measured = {(one.route.method, one.route.path) for one in tried.answers if one.is_success}
    others = [one for one in tried.routes if one.method not in ("GET", "HEAD", "OPTIONS") or one.has_parameters]
    if others := [one for one in others if (one.method, one.path) not in measured]:
        some = ", ".join(f"{one.method} {one.path}" for one in others[:MOST_NAMED])
        routes = "1 route" if len(others) == 1 else f"{len(others)} routes"
        what = f"{routes} with other methods than GET, or with parameters"
        lines.append(f"  {what}: write benchmarks of those that matter, such as {some}")
    return ["", "not covered:", *lines] if lines else []


def _default_port(findings: Findings, settings: Settings) -> str:
    """Return the placeholder of a server's port that no variable of the application takes; "" if there is none."""
    used = [text for name, text in settings.env.items() if name != PORT_VARIABLE]
    names = [name for name in SERVERS if name in findings.services and not takes_port(name, used)]
    return f"{{{names[0]}.port}}" if names else ""


def _answer(one: Answer) -> str:
    why = one.error or ("wants a login" if one.wants_login else "")
    said = ": ".join(filter(None, [str(one.status or "no answer"), why]))
    return f"{one.route.method} {one.route.path}  {said}"
