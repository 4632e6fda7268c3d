"""`plumbline doctor`: check whether the project installs, starts and answers as the suite needs it."""

import argparse
import functools
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from plumbline.adopting.checks import BEFORE, DEPENDS, STAGES, Check, checks_of
from plumbline.adopting.trial import try_application
from plumbline.adopting.unseen import ignored_lock, suite_lines
from plumbline.commands.base import Project, this_project
from plumbline.commands.install import SESSION, malformed, next_step, wrong_python
from plumbline.commands.output import say
from plumbline.comparing.comparison import sides_of
from plumbline.comparing.trees.asked import Part, asked_for
from plumbline.comparing.trees.base import Base, find_base
from plumbline.comparing.trees.git import Git, NoBase
from plumbline.comparing.trees.ignored import CopyFailed
from plumbline.comparing.trees.installers import InstallError, resolve
from plumbline.comparing.trees.locks import read_lock
from plumbline.comparing.trees.pythons import wanted_python
from plumbline.comparing.trees.sides import python_path
from plumbline.installed import digest, read_record, top_of
from plumbline.judging.baseline import preferred_backends
from plumbline.project import EXIT_INVALID, EXIT_PASS, SUITE_SETTINGS
from plumbline.services.errors import ServiceError
from plumbline.services.variables import check as check_templates
from plumbline.settings import Settings, SettingsError

EXAMPLE = "PERF_SERVICES=embedded plumbline doctor"
WITHOUT_LOCK = (
    "pipelines lack it, so each of their runs installs the newest versions, and an upgrade here is not compared"
)
WIDTHS = 8, 12  # of the outcome and of the name of a check


def run(_options: argparse.Namespace) -> int:
    try:
        project = this_project()
        check_templates(project.settings)
    except (SettingsError, ServiceError) as error:
        show(Check("settings", "failed", str(error)))
        say("The other checks need the settings.")
        return EXIT_INVALID
    show(Check("settings", "ok", SUITE_SETTINGS))
    found = show_checks(project)
    failed, skipped = ([one.name for one in found if one.outcome == outcome] for outcome in ("failed", "skipped"))
    passed = f"passed, without the checks that were skipped: {', '.join(skipped)}" if skipped else "all checks passed"
    say(f"failed: {', '.join(failed)}" if failed else passed)
    return EXIT_INVALID if failed else EXIT_PASS


def show_checks(project: Project) -> list[Check]:
    """Print and return the checks of the environment, of the application and of the base commit."""
    first = [show(check_files(project.root)), show(check_install(project))]
    tried = try_application(project.settings, project.root, preferred=preferred_backends(project.baselines))
    checks = checks_of(
        tried,
        project.settings,
        in_git=_in_git(project.root),
        in_pipeline=bool(os.environ.get("CI")),
        template_of=lambda name: _templates(project.root).get(name, ""),
    )
    found = [*first, *map(show, checks)]
    return [*found, show(check_base(project, found))]


@functools.cache
def _templates(root: Path) -> dict[str, str]:
    """Return the values that `plumbline init` would propose for variables, none without its packages."""
    try:
        from plumbline.adopting.find import find
    except ImportError:
        return {}
    return {one.name: one.template for one in find(root).variables}


def starts_code(settings: Settings) -> bool:
    """Return whether a run starts any code of the project beside the tests."""
    has_app = settings.app is not None and "app" not in settings.external_urls
    return bool(has_app or settings.prepare or settings.processes)


def _in_git(root: Path) -> Callable[[str], bool]:
    """Return a function that returns whether git has a file, given its path from the root of the project."""
    try:
        git = Git(root)
    except NoBase:
        return lambda _: False
    return lambda file: bool(git.ask("ls-files", "--", git.prefix + file))


def show(check: Check) -> Check:
    """Print a check, its outcome first, and return it."""
    first, *rest = check.text.splitlines() or [""]
    begin = check.outcome.ljust(WIDTHS[0]) + check.name.ljust(WIDTHS[1])
    say("\n".join([f"{begin} {first}", *(f"{' ' * len(begin)} {line}" for line in rest)]))
    return check


def check_files(root: Path) -> Check:
    """Check that git does not ignore files of the suite, which pipelines would lack."""
    hidden, lines = suite_lines(root), []
    if lock := ignored_lock(root):
        lines = [
            f"git ignores {lock.path} ({lock.rule}): {WITHOUT_LOCK}",
            f"  next        {lock.advice}, and commit it",
        ]
    text = "\n".join([*hidden, *lines] or ["git ignores no file of the suite"])
    return Check("files", "failed" if hidden else "ok", text)


def check_install(project: Project) -> Check:
    """Check which Python and which files the environment is made from, and that its packages are installed or found."""
    top, root, settings = top_of(project.root), project.root, project.settings
    here, source = platform.python_version(), list[str]()
    part: Part = "suite" if settings.app and settings.app.has_own_environment else "all"
    try:
        _, named = wanted_python(root, top, settings.python)
        if problem := wrong_python(root, settings):
            return Check("install", "failed", f"{problem}: run it with Nox, or change {named}")
        record = read_record()
        if record and record["digest"] == [digest(root, top, record["files"], sys.version, record["nox_python"][0])]:
            packages, source = record["packages"], record["source"]
        else:
            asked, source = asked_for(top, root, settings.install, part=part)
            packages = [line for line in resolve(asked, from_cache=True) if not line.startswith("--")]
            if record is None and Path(sys.prefix, SESSION).is_file():
                raise InstallError("the packages were found, but could not be installed: see the error above")
        has_lock = part == "suite" or read_lock(top, root.relative_to(top).as_posix()).file
    except InstallError as error:
        return Check("install", "failed", f"{', '.join(source) or 'it'}: {error}\n{next_step(str(error))}")
    except NoBase as error:
        return Check("install", "failed", f"{error}: correct that file, or write it again with its tool")
    except OSError as error:
        return Check("install", "failed", str(error))
    except (TypeError, ValueError, AttributeError) as error:
        return Check("install", "failed", malformed(error))
    count = "1 package" if len(packages) == 1 else f"{len(packages)} packages"
    by = f", as {named} asks" if named else ""
    unlocked = "" if has_lock else "; there is no lock file"
    return Check("install", "ok", f"Python {here}{by}; {count} for {', '.join(source) or 'nothing'}{unlocked}")


def check_base(project: Project, before: Sequence[Check]) -> Check:
    """Check that a copy of the base commit starts, as a comparison needs it. `before`: the other checks."""
    settings, root = project.settings, project.root
    if not starts_code(settings):
        return Check("base", "skipped", "this run starts no application")
    if any(one.outcome == "failed" for one in before if one.name in {*BEFORE, *STAGES}):
        return Check("base", "skipped", DEPENDS)
    if not any(one.outcome == "ok" for one in before if one.name in {"prepare", "application"}):
        return Check("base", "skipped", "no code of the project was started")
    try:
        base = _base(root)
    except NoBase as error:
        return Check("base", "skipped", f"there is no base commit: {error}")
    name = f"{base.commit[:10]} ({base.why})"
    try:
        sides = sides_of(settings, root, base.commit)
    except (NoBase, CopyFailed) as error:
        return Check("base", "failed", f"no copy of {name} can be made: {error}")
    side = sides.base
    python = str(side.app.python if side.app else side.python)
    path = python_path(side, sides)
    tried = try_application(
        settings,
        side.root,
        python=python,
        ask=False,
        look=False,
        import_from=path,
        preferred=preferred_backends(project.baselines),
    )
    if tried.failed:
        advice = f"for this change alone, allow_unmeasured = true in [gate] of {SUITE_SETTINGS}"
        text = f"a copy of {name} does not start, so nothing can be compared with it"
        return Check("base", "failed", f"{text}\n{tried.message}\n  or          {advice}")
    return Check("base", "ok", f"a copy of {name} starts")


def _base(root: Path) -> Base:
    """Return the base of the working tree, or else the last commit. Raises NoBase."""
    try:
        return find_base(root)
    except NoBase:
        if commit := Git(root).commit("HEAD"):
            return Base(commit, "the last commit")
        raise NoBase("nothing has been committed yet") from None
