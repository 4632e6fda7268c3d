"""The report of `plumbline doctor`: one line per check, and for each failed check the file and the change to make."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from plumbline.adopting.seeding import about_empty_tables
from plumbline.adopting.tried import Answer, ReadVariable, Tried
from plumbline.project import SUITE_SETTINGS
from plumbline.services.variables import servers_named
from plumbline.settings import Settings

NEEDS = "it needs "  # begins the reason of an application that lacks a server
MOST_SHOWN = 10
HEALTH = re.compile("health|ping|live|ready|status|up$", re.IGNORECASE)
STAGES = ("servers", "prepare", "application")
BEFORE = ("settings", "install", "environment")  # checks before these stages; "environment" is the application's own
DEPENDS = "not checked, because a check before it failed"


class Check(Struct, frozen=True):
    """A line of the report. `text` may have more lines, which are indented."""

    name: str
    outcome: Literal["ok", "failed", "skipped"]
    text: str


def checks_of(
    tried: Tried,
    settings: Settings,
    *,
    in_git: Callable[[str], bool],
    in_pipeline: bool,
    template_of: Callable[[str], str] = lambda _: "",
) -> list[Check]:
    """Return the checks of a trial.

    `in_git`: whether git has a file. `in_pipeline`: whether this is a pipeline. What is set there is set each time.
    `template_of`: the value to suggest for a variable, "" if none is known.
    """
    if tried.failed in {"settings", "install"}:
        return [Check("settings" if tried.failed == "settings" else "environment", "failed", tried.message)]
    found = [_of_stage(stage, tried, settings) for stage in STAGES]
    return [*found, _variables(tried, in_git, in_pipeline, template_of), _routes(tried, settings)]


def _of_stage(stage: str, tried: Tried, settings: Settings) -> Check:
    failed = STAGES.index(tried.failed) if tried.failed in STAGES else len(STAGES)
    if failed < STAGES.index(stage):
        return Check(stage, "skipped", DEPENDS)
    if tried.failed == stage:
        return Check(stage, "failed", "\n".join([tried.message, *_other_health_paths(tried, settings)]))
    if stage == "servers":
        missing = [f"{name} skipped: {why}" for name, why in tried.skipped.items() if name != "app"]
        return Check(stage, "ok", "\n".join([", ".join(tried.servers) or "none is started", *missing]))
    if tried.skipped.get("app", "").startswith(NEEDS):
        return Check(stage, "skipped", tried.skipped["app"])
    if stage == "prepare":
        if not settings.prepare:
            return Check(stage, "skipped", f"there is no `prepare` in {SUITE_SETTINGS}")
        done = _touched(tried.touched, ["prepare"]) or "it ended with exit code 0"
        return Check(stage, "ok", "\n".join([done, *about_empty_tables(tried)]))
    if settings.app is None and not settings.processes:
        return Check(stage, "skipped", f"there is no [app] in {SUITE_SETTINGS}")
    unused = _unused(tried, settings)
    if unused:
        return Check(stage, "failed", unused)
    serving = {name: servers for name, servers in tried.touched.items() if name != "prepare"}
    text = _touched(serving, serving) or "ready"
    idle = sorted(_named(settings) & {"postgres", "redis"} - {one for servers in serving.values() for one in servers})
    return Check(stage, "ok", f"{text}; no connection to {' or '.join(idle)} yet" if idle else text)


def _named(settings: Settings) -> set[str]:
    return servers_named(settings.env, settings.app.env if settings.app else {})


def _touched(touched: Mapping[str, Sequence[str]], names: Iterable[str]) -> str:
    """Return the servers that some processes connected to. The guard has ended the trial if there were others."""
    used = {name: " and ".join(touched.get(name, ())) for name in names}
    found = [f"{name} connects to this run's {servers}" for name, servers in used.items() if servers]
    return f"{'; '.join(found)}, and to no other PostgreSQL or Redis" if found else ""


def _unused(tried: Tried, settings: Settings) -> str:
    """Return the problem of a server that [env] names, but that nothing reads the name of and nothing connects to."""
    env = {**settings.env, **(settings.app.env if settings.app else {})}
    read = {one.name for one in tried.variables}
    used = {server for servers in tried.touched.values() for server in servers}
    lines = []
    # Connections to services of [services] are not seen.
    for server in sorted({"postgres", "redis"} & (servers_named(env) - used - tried.skipped.keys())):
        names = [name for name in env if server in servers_named({name: env[name]})]
        if read and read.isdisjoint(names):
            others = sorted(one.name for one in tried.variables if one.set_by != "env")
            also = f"; it reads {_listed(others)}" if others else ""
            lines.append(
                f"nothing connects to {server}, and the project's code does not read {' or '.join(names)}{also}"
                f"\n  next        give the address of {server} the name that the code reads, in [env] of"
                f" {SUITE_SETTINGS}"
            )
    return "\n".join(lines)


def _other_health_paths(tried: Tried, settings: Settings) -> list[str]:
    good = [one.route.path for one in tried.answers if one.status == 200]
    if tried.failed != "application" or not good or settings.app is None:
        return []
    path = next((one for one in good if HEALTH.search(one)), good[0])
    return [f'  or          {path} answers with 200: health_path = "{path}" in [app] of {SUITE_SETTINGS}']


def _variables(
    tried: Tried, in_git: Callable[[str], bool], in_pipeline: bool, template_of: Callable[[str], str]
) -> Check:
    broken = tried.failed is not None or any(one.status >= 500 for one in tried.answers)
    problems, notes = [], []
    for one in tried.variables:
        problem = _problem(one, in_git=in_git, in_pipeline=in_pipeline)
        if problem and one.required and (one.set_by or broken):
            value = template_of(one.name)
            other = "" if value else ", with a value that is no secret"
            problems.append(f'{problem}: add {one.name} = "{value or "…"}" to [env] in {SUITE_SETTINGS}{other}')
        elif problem:
            notes.append(problem)
    if problems:
        return Check("variables", "failed", "\n".join(problems))
    if not tried.variables:
        return Check(
            "variables", "ok" if tried.failed is None else "skipped", "the project's code was not seen to read any"
        )
    others = [one.name for one in tried.variables if one.set_by != "env"]
    first = f"{len(tried.variables)} read: {len(tried.variables) - len(others)} set by [env]"
    if others:
        first += f"; with a default or not needed: {', '.join(others)}"
    return Check("variables", "ok", "\n".join([first, *notes]))


def _problem(one: ReadVariable, *, in_git: Callable[[str], bool], in_pipeline: bool) -> str:
    """Return where the value of a variable comes from, if a pipeline may lack it."""
    if one.set_by == "":
        return f"nothing sets {one.name}{f', which {one.seen} reads' if one.seen else ''}"
    if one.set_by == ".env" and not in_pipeline and not in_git(one.file):
        return f"{one.name} comes from {one.file}, which git does not have, so pipelines lack it"
    if one.set_by == "environment" and not in_pipeline:
        return f"{one.name} comes from the environment of this command, which pipelines may lack"
    return ""


def _routes(tried: Tried, settings: Settings) -> Check:
    if settings.app is None or "app" in settings.external_urls or "app" in tried.skipped:
        return Check("routes", "skipped", "this run starts no application")
    if tried.failed == "answers":
        return Check("routes", "failed", tried.message)
    if not tried.answers and tried.failed:
        return Check("routes", "skipped", DEPENDS)
    bad = [one for one in tried.answers if one.status == 0 or one.status >= 500 or one.error]
    good = [one.route.path for one in tried.answers if one.is_success and one not in bad]
    others = [one for one in tried.answers if one not in bad and not one.is_success]
    advice = f"correct its code, or what it needs in `prepare` or [env] of {SUITE_SETTINGS}"
    lines = [f"GET {_shown(one)}: {advice}" for one in bad]
    summary = f"{len(good)} of {len(tried.answers)} GET routes without parameters answer with 2xx"
    lines.append(f"{summary}: {_listed(good)}" if good else summary)
    if others:
        with_status = (f"{one.route.path} with {one.status}{' (needs a login)' * one.wants_login}" for one in others)
        lines.append(f"others: {', '.join(with_status)}")
    left = [one.path for one in tried.left_out]
    lines += [f"not requested, as they may change something: {_listed(left)}"] if left else []
    return Check("routes", "failed" if bad else "ok", "\n".join(lines))


def _shown(answer: Answer) -> str:
    return f"{answer.route.path} has {f'status {answer.status}' if answer.status else 'no answer'}" + (
        f" ({answer.error})" if answer.error else ""
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more
