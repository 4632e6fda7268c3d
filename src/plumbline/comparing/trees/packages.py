"""The packages that differ between base and head: those to install for base, and those that cannot be judged."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from plumbline.comparing.trees.environment import PLUMBLINE, distributions, local_packages
from plumbline.comparing.trees.locks import Lock, Pins, read_lock, read_toml
from plumbline.comparing.trees.pins import ANY, LOCAL_FILE, fits, is_lasting, is_open, is_readable, same
from plumbline.comparing.trees.requirements import name_in, to_pins
from plumbline.processes import without_secrets
from plumbline.project import SUITE_REQUIREMENTS
from plumbline.results.environment import installed_packages
from plumbline.results.schema import UnjudgedCause, UnjudgedPackage

UNDER_TEST = {"redis", "asyncpg", "httpx"}  # Plumbline needs these, but the user's code uses them, too
RUNNERS = {"nox", "pytest"}  # they run the suite
INSTALLERS = {"pip", "setuptools", "uv", "wheel"}
MOST_NAMED = 5

Needs = Mapping[str, Collection[Requirement]]


@dataclass(frozen=True)
class Installed:
    """The packages of head's environment, by normalized name."""

    versions: Pins
    origins: Mapping[str, str] = field(default_factory=dict)  # contents of direct_url.json, of packages with one
    needs: Needs = field(default_factory=dict)
    kept: Collection[str] = frozenset()  # packages that are the same in base, whatever lock files say
    suite: Collection[str] = frozenset()  # packages that the suite always needs, in any version
    forbids: Callable[[str, str], bool] = lambda *_: False  # whether Plumbline does not support a version


@dataclass(frozen=True)
class PackageChanges:
    """The changes from head's environment to base's."""

    changes: Mapping[str, str] = field(default_factory=dict)  # by name: a version or URL to install, or "" to remove
    unjudged: list[UnjudgedPackage] = field(default_factory=list)  # changed packages that base has in head's version
    astray: list[str] = field(default_factory=list)  # installed in another version than in both lock files
    complete: bool = True  # whether no other packages need to change
    file: str = ""  # the lock file


def wanted_changes(
    base: Path,
    head: Path,
    prefix: str,
    recorded: Pins,
    say: Callable[[str], None] = lambda _: None,
    resolved: tuple[Lock, Lock] | None = None,
    installed: Installed | None = None,
) -> PackageChanges:
    """Return the changes from this environment, or from the `installed` packages of the application, to the base's.

    `base` and `head` are the trees, `prefix` is the project's folder in both. The packages come from the first of these
    that is known: what was `resolved` for both trees, their lock files, the versions that the baseline `recorded`, the
    dependencies in pyproject.toml. Raises NoBase if a file cannot be read.
    """
    before, now = (with_contents(read_lock(tree, prefix), tree / prefix) for tree in (base, head))
    installed = installed or head_packages(head / prefix, now)
    if resolved:
        resolved_before, resolved_now = map(with_contents, resolved, (base / prefix, head / prefix))
        found = _with_unpinned(compare_packages(resolved_before, resolved_now, installed), before, now, installed)
        return _with_other_files(found, before, now, installed)
    if not before.file and recorded:
        before, now = Lock(pins=recorded), Lock(pins=installed.versions)
    elif not before.file and not now.file:
        before, now = _declared(base / prefix), _declared(head / prefix)
    elif not now.file:
        listed = installed.versions.keys() if before.complete else before.pins.keys()
        now = Lock(pins={name: installed.versions[name] for name in listed & installed.versions.keys()})
    found = compare_packages(before, now, installed)
    if found.astray:
        named = [f"{name} {installed.versions[name]}, not {now.pins[name]}" for name in found.astray[:MOST_NAMED]]
        more = f" and {len(found.astray) - MOST_NAMED} more" if len(found.astray) > MOST_NAMED else ""
        say(f"not installed as in {now.file}, on both sides: {', '.join(named)}{more}")
    return _with_other_files(found, before, now, installed)


def _with_other_files(found: PackageChanges, before: Lock, now: Lock, installed: Installed) -> PackageChanges:
    """Add the packages that have the same version in both lock files, but other files."""
    known = {*found.changes, *(one.name for one in found.unjudged), *installed.kept}
    other = []
    for name in sorted(before.hashes.keys() & now.hashes.keys() & installed.versions.keys() - known):
        ours, theirs = now.hashes[name], before.hashes[name]
        pins = before.pins.get(name, ""), now.pins.get(name, "")
        if same(*pins) and ours and theirs and ours.isdisjoint(theirs):
            other.append(UnjudgedPackage(name, "other_files", *pins, installed.versions[name], now.file))
    return replace(found, unjudged=[*found.unjudged, *other])


def _with_unpinned(found: PackageChanges, before: Lock, now: Lock, installed: Installed) -> PackageChanges:
    """Add the packages that only head's lock file pins. Base has head's versions of these."""
    written = compare_packages(before, now, installed).unjudged if before.file else []
    unpinned = [one for one in written if one.cause == "not_pinned" and one.name not in found.changes]
    return replace(found, unjudged=[*found.unjudged, *unpinned])


def with_contents(lock: Lock, project: Path) -> Lock:
    """Add hashes of the contents to pins that name local files, which can change and keep their names."""
    pins = {**lock.pins}
    for name, pin in lock.pins.items():
        path = project / unquote(urlsplit(pin).path) if pin.startswith(LOCAL_FILE) and "#" not in pin else None
        if path and path.is_file():
            with path.open("rb") as file:
                pins[name] = f"{LOCAL_FILE}{path.name}#{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return replace(lock, pins=pins)


def _declared(project: Path) -> Lock:
    dependencies = read_toml(project / "pyproject.toml").get("project", {}).get("dependencies", [])
    lines = [line for line in dependencies if isinstance(line, str)]
    return Lock("pyproject.toml" if lines else "", to_pins(lines), complete=False)


def compare_packages(base: Lock, head: Lock, installed: Installed) -> PackageChanges:
    """Compare the lock files of two trees, package by package."""
    file = head.file or base.file
    if head.file and not base.file and head.pins and not base.pins:
        return PackageChanges(unjudged=[UnjudgedPackage(file, "no_base_lock")])
    if not (base.known and head.known):
        differs = (base.file, base.text) != (head.file, head.text)
        unknown = head if not head.known else base
        return PackageChanges(unjudged=[UnjudgedPackage(unknown.file, "unknown_format")] if differs else [])
    found: dict[str, str] = {}
    unjudged, astray = list[UnjudgedPackage](), list[str]()
    before_by_name, now_by_name = _with_unlisted(base, head, installed), _with_unlisted(head, base, installed)
    for name in sorted((base.pins.keys() | head.pins.keys()) - set(installed.kept)):
        one = _Package(name, before_by_name.get(name), now_by_name.get(name), installed)
        if same(one.before, one.now):
            astray += [name] if one.has and not one.is_as_locked else []
            continue
        if not one.has and name in (head if one.now is not None else base).optional:
            continue  # its group or extra is not installed
        if cause := one.why_not():
            before, now = ("" if pin is None else without_secrets(pin) or "any" for pin in (one.before, one.now))
            unjudged.append(UnjudgedPackage(name, cause, before, now, one.has, file))
        elif not one.is_alike:
            found[name] = one.before or ""
    return PackageChanges(found, unjudged, astray, base.complete, file)


def _with_unlisted(lock: Lock, other: Lock, installed: Installed) -> dict[str, str]:
    """Return the pins of a lock file, and pins of installed packages that it does not list.

    These are packages of the suite, in the installed version, and dependencies that a requirements file leaves out, in
    any version.
    """
    unlisted = {name for name in other.pins.keys() - lock.pins.keys() if name in installed.versions}
    pins = {name: installed.versions[name] for name in unlisted if name in installed.suite}
    if not lock.complete:
        needed = _with_needs(installed.versions.keys() - unlisted, installed.needs)
        pins |= dict.fromkeys((unlisted & needed) - pins.keys(), ANY)
    return {**pins, **lock.pins}


@dataclass(frozen=True)
class _Package:
    """A package and its pins in both lock files, None in a lock file that does not list it."""

    name: str
    before: str | None
    now: str | None
    installed: Installed

    @property
    def has(self) -> str:
        return self.installed.versions.get(self.name, "")

    @property
    def is_as_locked(self) -> bool:
        return self.now is not None and fits(self.now, self.has, self._origin)

    @property
    def is_alike(self) -> bool:
        """Return whether the installed package also fits base's pin."""
        if self.before is None or not self.has:
            return self.before is None and not self.has
        return fits(self.before, self.has, self._origin)

    @property
    def _origin(self) -> str:
        return self.installed.origins.get(self.name, "")

    def why_not(self) -> UnjudgedCause | None:
        """Return why this package cannot be judged, or None if it can."""
        if self.now is None and self.has:
            return "still_installed"
        if self.now is not None and not self.has:
            return "not_installed"
        if self.now is not None and not self.is_as_locked:
            return "installed_otherwise" if is_readable(self.now) else "unreadable"
        if self.before is None:
            return None
        if is_open(self.before):
            both_open = self.now is not None and is_open(self.now) and self.is_alike
            return None if both_open else "not_pinned"
        if not is_readable(self.before):
            return "unreadable"
        # An installer may accept the installed package for base's pin, for example 1.0+local for 1.0.
        is_doubtful = self.now is not None and not is_open(self.now) and self.is_alike
        if is_doubtful or not is_lasting(self.before):
            return "not_a_release"
        return "held_back" if self.installed.forbids(self.name, self.before) else None


def head_packages(project: Path, lock: Lock) -> Installed:
    """Return the packages of this environment. `project`: the folder with pyproject.toml and the suite."""
    needs, origins = dict[str, list[Requirement]](), dict[str, str]()
    for name, distribution in distributions().items():
        extras = ["", *(distribution.metadata.get_all("Provides-Extra") or [] if name == PLUMBLINE else [])]
        listed = [need for line in distribution.requires or [] if (need := _requirement(line))]
        needs[name] = [one for one in listed if any(_applies(one, extra) for extra in extras)]
        if origin := distribution.read_text("direct_url.json"):
            origins[name] = origin
    requirements = project / SUITE_REQUIREMENTS
    lines = requirements.read_text(encoding="utf-8", errors="replace").splitlines() if requirements.is_file() else []
    suite = _names(lines)
    own = _with_needs({PLUMBLINE, *RUNNERS}, needs) - _under_test(project, lock, suite, needs)

    def forbids(name: str, version: str) -> bool:
        asked = [need for package in own for need in needs.get(package, []) if need.name == name]
        return any(not need.specifier.contains(version, prereleases=True) for need in asked)

    kept = own | local_packages() | INSTALLERS
    in_any_case = _with_needs({PLUMBLINE, *RUNNERS, *suite}, needs)
    return Installed(installed_packages(), origins, needs, kept, in_any_case, forbids)


def _under_test(project: Path, lock: Lock, suite: Collection[str], needs: Needs) -> set[str]:
    """Return the packages that the project and its suite need."""
    pyproject = read_toml(project / "pyproject.toml")
    names = {*UNDER_TEST, *suite, *local_packages()}
    names |= _names(pyproject.get("tool", {}).get("poetry", {}).get("dependencies", {}))
    if canonicalize_name(pyproject.get("project", {}).get("name", "")) != PLUMBLINE:
        names |= _names(pyproject.get("project", {}).get("dependencies", []))
    # If the project depends on Plumbline, its lock file lists Plumbline's dependencies, too: these are not under test.
    if PLUMBLINE not in (locked := lock.pins.keys() - lock.optional):
        names |= locked - RUNNERS
    return _with_needs(names, {**needs, PLUMBLINE: []}) - {PLUMBLINE}


def _names(requirements: Collection[object]) -> set[str]:
    return {name_in(one) for one in requirements if isinstance(one, str)}


def _requirement(line: str) -> Requirement | None:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    requirement.name = canonicalize_name(requirement.name)
    return requirement


def _applies(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def _with_needs(names: Collection[str], needs: Needs) -> set[str]:
    found, left = set[str](), {*names}
    while left := left - found:
        found |= left
        left = {need.name for name in left for need in needs.get(name, [])}
    return found
