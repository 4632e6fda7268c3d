"""Which packages the base commit had: what to change in this environment to make it the base's."""

import importlib.metadata
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plumbline.comparing.trees.lock_files import Pins, locked_versions, parse_requirement, read_toml
from plumbline.project import SUITE
from plumbline.results.environment import installed_packages

PLUMBLINE = "pytest-plumbline"
# Plumbline depends on these, but the user's code runs on them.
UNDER_TEST = {"redis", "asyncpg", "httpx"}
# They run the suite, whatever else needs them.
RUNNERS = {"nox", "pytest"}
INSTALLERS = {"pip", "setuptools", "uv", "wheel"}


def wanted_changes(
    base: Path, head: Path, prefix: str, recorded: Mapping[str, str], say: Callable[[str], None]
) -> dict[str, str]:
    """Return what turns this environment into the base's: a version by name, or "" for a package to remove.

    `base` and `head` are the trees, `prefix` is the project's folder in both. If the installed packages are those of
    head's lock file, the base's lock file counts, otherwise the versions that the baseline recorded. The packages that
    Plumbline needs stay as they are. Raises NoBase if a lock file cannot be read.
    """
    installed = installed_packages()
    project = head / prefix
    file = project / SUITE / "requirements.txt"
    requirements = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    own, forbids = own_packages(read_toml(project / "pyproject.toml"), requirements)
    kept = own | local_packages() | INSTALLERS
    lock, now = locked_versions(head, prefix)
    _, before = locked_versions(base, prefix)
    astray = sorted(
        name for name in now.keys() & installed.keys() - kept if now[name] != installed[name] and "://" not in now[name]
    )
    if astray:
        name = astray[0]
        say(f"{name} {installed[name]} is installed, not the {now[name]} of {lock}: base gets the baseline's versions")
    if astray or not before or not now:
        changes = changed_versions(recorded, installed, installed, kept) if recorded else {}
    else:
        changes = changed_versions(before, now, installed, kept)
    for name in [name for name, version in changes.items() if forbids(name, version)]:
        version = changes.pop(name) or "none"
        say(f"{name} stays at {installed[name]} in the base: Plumbline does not work with {version}")
    return changes


def changed_versions(before: Pins, now: Pins, installed: Pins, kept: Iterable[str] = ()) -> dict[str, str]:
    """Return the differences of two lists of packages as changes of the installed ones; `kept` stay as they are."""
    changes = {}
    for name in sorted((before.keys() | now.keys()) - set(kept)):
        wanted, has = before.get(name, ""), installed.get(name, "")
        # Head may list a package that is not installed (another extra, another group): the base doesn't get it either.
        if wanted != now.get(name, "") and wanted != has and (has or name not in now):
            changes[name] = wanted
    return changes


def own_packages(
    pyproject: Mapping[str, Any], requirements: Sequence[str] = ()
) -> tuple[set[str], Callable[[str, str], bool]]:
    """Return the packages that are here for Plumbline alone, and whether those forbid a version of another package.

    They are the installed requirements of Plumbline with all its extras, and theirs, without what the code under test
    needs. `pyproject` is the project's file, `requirements` are the lines of the suite's requirements.txt.
    """
    declared = [*requirements]
    project = pyproject.get("project", {})
    if canonicalize_name(project.get("name", "")) != PLUMBLINE:
        declared += project.get("dependencies", [])
    declared += pyproject.get("tool", {}).get("poetry", {}).get("dependencies", {})
    names = {canonicalize_name(re.split(r"[^\w.-]", line.strip())[0]) for line in declared if isinstance(line, str)}
    needs = {name: _needs(distribution) for name, distribution in distributions().items()}
    # A project that depends on Plumbline does not put Plumbline under test.
    under_test = _with_needs({*UNDER_TEST, *local_packages(), *names}, {**needs, PLUMBLINE: []}) - {PLUMBLINE}
    own = _with_needs({PLUMBLINE, *RUNNERS}, needs) - under_test

    def forbids(name: str, version: str) -> bool:
        asked = [need for package in own for need in needs.get(package, []) if need.name == name]
        if not version:
            return any(not _is_optional(need) for need in asked)
        return any(not need.specifier.contains(version, prereleases=True) for need in asked)

    return own, forbids


def _with_needs(names: set[str], needs: Mapping[str, list[Requirement]]) -> set[str]:
    found: set[str] = set()
    while names := names - found:
        found |= names
        names = {need.name for name in names for need in needs.get(name, [])}
    return found


def _needs(distribution: Distribution) -> list[Requirement]:
    """Return what an installed package requires here; of Plumbline, with what its extras require."""
    extras = [""]
    if canonicalize_name(distribution.metadata["Name"]) == PLUMBLINE:
        extras += distribution.metadata.get_all("Provides-Extra") or []
    needs = [need for line in distribution.requires or [] if (need := parse_requirement(line))]
    return [need for need in needs if not need.marker or any(need.marker.evaluate({"extra": one}) for one in extras)]


def _is_optional(need: Requirement) -> bool:
    return need.marker is not None and not need.marker.evaluate({"extra": ""})


def distributions() -> dict[str, Distribution]:
    """Return the installed packages by normalized name."""
    found: dict[str, Distribution] = {}
    for distribution in importlib.metadata.distributions():
        if name := distribution.metadata["Name"]:
            found.setdefault(canonicalize_name(name), distribution)
    return found


def local_packages() -> set[str]:
    """Return the packages that are installed from a folder (PEP 610), as the project under test is.

    Plumbline never is the project under test: uv and pip record a folder for a vendored or editable install of it, too.
    """
    return {
        name
        for name, distribution in distributions().items()
        if name != PLUMBLINE and '"dir_info"' in (distribution.read_text("direct_url.json") or "")
    }
