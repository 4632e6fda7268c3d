"""The separate environment of the application: an existing one, or one that is made from its lock file."""

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from plumbline import cache
from plumbline.comparing.trees.asked import asked_for
from plumbline.comparing.trees.environment import forget_urls, packages_in
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.installers import Asked, InstallError, install_into, resolve
from plumbline.comparing.trees.locks import Lock, read_lock
from plumbline.comparing.trees.packages import Installed, wanted_changes, with_contents
from plumbline.comparing.trees.requirements import read_requirements
from plumbline.installed import top_of
from plumbline.processes import last_lines, run_command
from plumbline.project import SUITE_SETTINGS
from plumbline.results.schema import UnjudgedPackage
from plumbline.services.errors import NotReady
from plumbline.services.serving import SERVERS
from plumbline.settings import Settings

SIDES, APPLICATIONS = "sides", "applications"  # folders in the cache
ASK_LIMIT_S = 30.0
# Python code that prints the version and package folders, and the oldest Python that can run the profiler.
FACTS = (
    "import json, sys, sysconfig; print(json.dumps([sys.version_info[:2],"
    " sorted({sysconfig.get_path('purelib'), sysconfig.get_path('platlib')})]))"
)
OLDEST = (3, 10)
MOST_LINES = 6


@dataclass(frozen=True)
class ApplicationEnvironment:
    python: Path
    folders: tuple[str, ...]  # package folders


def application_environment(
    settings: Settings, root: Path, tree: Path, project: Path, folder: Path, say: Callable[[str], None]
) -> ApplicationEnvironment | None:
    """Return the separate environment of the application in the folder `project` of a tree, if it has one.

    `python` in the settings is relative to `root`, the project in the working tree. An environment that is missing is
    made in `folder`. Raises NoBase and OSError.
    """
    app = settings.app
    if app is None or not app.has_own_environment:
        return None
    if not app.python:
        return _facts(_made(settings, tree, project, folder, say), "the application's environment")
    python = root / Path(app.python).expanduser()
    python = python / "bin" / "python" if python.is_dir() else python
    return _facts(python, f"python = {app.python!r} of [app] in settings.toml")


def application_python(settings: Settings, root: Path) -> Path:
    """Return the Python of the application in the working tree. Raises NotReady."""
    try:
        folder = cache.state_folder() / SIDES / APPLICATIONS
        found = application_environment(settings, root, top_of(root), root, folder, lambda _: None)
    except (NoBase, OSError) as error:
        raise NotReady(f"app is not ready: {error}") from None
    return found.python if found else Path(sys.executable)


def application_changes(
    base_tree: Path, head_tree: Path, prefix: str, base: ApplicationEnvironment, head: ApplicationEnvironment
) -> tuple[list[tuple[str, str, str]], list[UnjudgedPackage]]:
    """Return the changed packages of the application (name, version in base and in head), and the unjudged ones.

    If both sides share one environment, no change of a lock file can be judged.
    """
    before, now = packages_in(base.folders), packages_in(head.folders)
    found = wanted_changes(base_tree, head_tree, prefix, {}, installed=Installed(now))
    if base.python == head.python:
        changed = [
            UnjudgedPackage(name, "one_environment", pin, now.get(name, ""), now.get(name, ""), found.file)
            for name, pin in found.changes.items()
        ]
        return [], [*found.unjudged, *changed]
    names = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    # The same version may come from another URL.
    names |= ({*found.changes} | {one.name for one in found.unjudged}) & now.keys()
    packages = [(name, before.get(name, ""), now.get(name, "")) for name in sorted(names)]
    return packages, [one for one in found.unjudged if one.cause == "unknown_format"]


def _facts(python: Path, named: str) -> ApplicationEnvironment:
    try:
        code, output, errors = run_command([str(python), "-I", "-c", FACTS], ASK_LIMIT_S)
        version, folders = json.loads(output) if code == 0 else ((), ())
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise NoBase(f"{named} can't be run: {error}; create that environment, or correct the setting") from None
    if code:
        raise NoBase(f"{named} can't be run: {last_lines(errors, MOST_LINES)}")
    if tuple(version) < OLDEST:
        found = ".".join(map(str, version))
        raise NoBase(f"{named} is Python {found}: Plumbline can serve applications on {OLDEST[0]}.{OLDEST[1]} or newer")
    return ApplicationEnvironment(python, tuple(folders))


def _made(settings: Settings, tree: Path, project: Path, folder: Path, say: Callable[[str], None]) -> Path:
    """Make an environment with the application's dependencies and its server, without the application itself."""
    install = structs.replace(settings.install, application="dependencies")
    source: list[str] = []
    try:
        lock = with_contents(read_lock(tree, project.relative_to(tree).as_posix()), project)
        asked, source = asked_for(tree, project, install, part="application")
        if not source:
            raise InstallError("there is no lock file, and no requirements.txt or pyproject.toml with dependencies")
        asked = replace(asked, lines=[*asked.lines, *(SERVERS[key] for key in SERVERS if getattr(settings.app, key))])

        def make(target: Path) -> None:
            say(f"making the application's environment for {', '.join(source)}")
            venv.create(target, symlinks=True)
            python = target / "bin" / "python"
            install_into(python, resolve(asked, from_cache=True), asked.folder)
            forget_urls(python)

        return cache.make_once(folder, _key(asked, lock), make) / "bin" / "python"
    except (InstallError, ValueError) as error:
        what = f" for {', '.join(source)}" if source else ""
        files = [name.partition(" by ")[0] for name in source]
        step = f"correct {' or '.join(files)}" if files else "add one of these files"
        advice = f"  next        {step}, or let `python` in [app] of {SUITE_SETTINGS} name an environment that exists"
        raise NoBase(f"the application's own environment can't be made{what}:\n{error}\n{advice}") from None


def _key(asked: Asked, lock: Lock) -> str:
    texts: dict[Path, str] = {}
    for file in [*asked.files, *(["pyproject.toml"] if asked.declared else [])]:
        if file.endswith(".txt"):
            read_requirements((asked.folder / file).resolve(), texts)
        else:
            texts[Path(file)] = (asked.folder / file).read_text(encoding="utf-8")
    asks = [*texts.values()], asked.lines, asked.pins, asked.extras, asked.groups, lock.pins
    return cache.digest(*asks, sys.version, sys.base_prefix)
