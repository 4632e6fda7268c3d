"""The pins in a lock file: uv.lock, poetry.lock, pdm.lock, pylock.toml, or requirements*.txt."""

import functools
import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.pins import LOCAL_FILE
from plumbline.comparing.trees.requirements import ARCHIVES, applies, joined, lines_of, read_requirements, to_pins

LOCK_FILES = {"uv.lock": 1, "poetry.lock": 2, "pdm.lock": 4, "pylock.toml": 1}  # with the newest known format
UNKNOWN_LOCK_FILES = ("Pipfile.lock", "pixi.lock", "conda-lock.yml")
FOR_DEVELOPERS = re.compile(r"dev|test|lint|doc|\bci\b")  # in the name of a requirements file
SHA256 = re.compile(r"sha256\W+([0-9a-f]{64})")
FOLDERS = {"editable", "virtual", "directory"}  # keys in the source of a package that is a local folder

Pins = Mapping[str, str]  # by normalized name
Table = Mapping[str, Any]


@dataclass(frozen=True)
class Lock:
    """The content of a lock file; empty if there is none."""

    file: str = ""
    pins: Pins = field(default_factory=dict)  # for this Python and platform
    optional: frozenset[str] = frozenset()  # names of packages that only a group or an extra asks for
    complete: bool = True  # whether it lists all packages; requirements files may lack dependencies of packages
    known: bool = True  # whether its format is known
    text: str = ""
    # SHA-256 hashes of the files of each package, if the lock file has them
    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)


def read_lock(tree: Path, prefix: str) -> Lock:
    """Return the lock file of the folder `prefix` of a tree: the nearest one, up to the tree's root.

    Requirements files count if there is no lock file. Raises NoBase if a file cannot be read.
    """
    project = tree / prefix
    for folder in [project, *(parent for parent in project.parents if parent.is_relative_to(tree))]:
        for file in (folder / name for name in LOCK_FILES):
            if file.is_file():
                return _read_toml_lock(file, project)
        if (lock := _read_requirements(folder)).pins:
            return lock
        for file in (folder / name for name in UNKNOWN_LOCK_FILES):
            if file.is_file():
                return Lock(file.name, known=False, text=file.read_text(encoding="utf-8", errors="replace"))
    return Lock()


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Return {} if it is missing. Raises NoBase if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NoBase(f"{path.name} can't be read: {error}") from None


def _read_requirements(folder: Path) -> Lock:
    files = sorted(folder.glob("requirements*.txt")) or sorted(folder.glob("requirements/*.txt"))
    main = [file for file in files if file.name == "requirements.txt"]
    main = main or [file for file in files if not FOR_DEVELOPERS.search(file.name)]
    wanted, texts = dict[Path, str](), dict[Path, str]()
    for file in files:
        try:
            read_requirements(file.resolve(), texts)
            if file in main:
                read_requirements(file.resolve(), wanted)
        except (OSError, ValueError) as error:
            raise NoBase(f"{file.relative_to(folder)} can't be read: {error}") from None
    pins, own = (to_pins(line for text in some.values() for line in lines_of(text)) for some in (texts, wanted))
    shown, text = files[0].name if len(files) == 1 else "requirements*.txt", "\n".join(texts.values())
    return Lock(shown, {**pins, **own}, frozenset(pins.keys() - own.keys()), complete=False, text=text)


def _read_toml_lock(file: Path, project: Path) -> Lock:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise NoBase(f"{file.name} can't be read: {error}") from None
    name = ""
    if file.name == "uv.lock":
        try:
            name = canonicalize_name(str(read_toml(project / "pyproject.toml").get("project", {}).get("name", "")))
        except AttributeError as error:  # [project] is not a table
            raise NoBase(f"{file.name} can't be read: {error!r}") from None
    return _parsed(file.name, text, os.path.relpath(project, file.parent), name)


@functools.lru_cache(maxsize=8)  # a comparison reads the same files several times, and parsing takes half a second
def _parsed(file: str, text: str, folder: str, project: str) -> Lock:
    """Parse a lock file. `folder`: the project's folder relative to it. `project`: the project's name."""
    try:
        lock = tomllib.loads(text)
    except ValueError as error:
        raise NoBase(f"{file} can't be read: {error}") from None
    try:
        if _format(lock) > LOCK_FILES[file]:
            return Lock(file, known=False, text=text)
        packages = lock.get("package") or lock.get("packages") or []
        groups = frozenset(lock.get("default-groups") or [])
        if file == "uv.lock":
            wanted = _asked_for(packages, _project_in(packages, folder, project))
        else:
            wanted = [package for package in packages if _is_wanted(package)]
        pins, own = (_pins(some, groups) for some in (packages, wanted))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise NoBase(f"{file} can't be read: {error!r}") from None
    hashes: dict[str, frozenset[str]] = defaultdict(frozenset)
    for package in packages:
        hashes[canonicalize_name(package["name"])] |= set(SHA256.findall(repr(package)))
    return Lock(file, {**pins, **own}, frozenset(pins.keys() - own.keys()), text=text, hashes=hashes)


def _format(lock: Table) -> int:
    """Return the major version of the format."""
    metadata = lock.get("metadata") or {}
    version = lock.get("version") or lock.get("lock-version") or metadata.get("lock-version")
    return int(str(version or metadata.get("lock_version") or 1).partition(".")[0])


def _pins(packages: Iterable[Table], groups: frozenset[str]) -> dict[str, str]:
    found: dict[str, list[str]] = defaultdict(list)
    for package in packages:
        markers = package.get("resolution-markers") or package.get("markers") or package.get("marker") or [""]
        markers = markers.values() if isinstance(markers, dict) else [markers] if isinstance(markers, str) else markers
        here = {applies(marker, {"extras": frozenset(), "dependency_groups": groups}) for marker in markers}
        if here != {False} and (pin := _pin(package)):
            found[canonicalize_name(package["name"])].append(pin if True in here else f"{pin} ; {markers}")
    return {name: joined(pins) for name, pins in found.items()}


def _pin(package: Table) -> str:
    """Return the pin of a package, "" for a local folder, whose code is part of the tree."""
    source = package.get("source") or package.get("vcs") or package.get("archive") or package
    kind, url, path = source.get("type", ""), str(source.get("url") or ""), str(source.get("path") or "")
    path = url if kind == "file" else path
    if kind == "directory" or not FOLDERS.isdisjoint(source) or (path and not path.endswith(ARCHIVES)):
        return ""
    if path:
        content = re.search(r"sha256:\w+", repr(package))  # a file can change and keep its name
        return f"{LOCAL_FILE}{path}#{content[0] if content else ''}"
    # Each tool has its own form for packages from git.
    if git := source.get("git") or (url if kind == "git" else ""):
        place, _, commit = str(git).partition("#")
        commit = commit or source.get("resolved_reference") or source.get("revision") or source.get("commit-id") or ""
        return f"git+{place.partition('?')[0]}@{commit}"
    return url if url and kind in ("", "url") else str(package.get("version") or "")


def _is_wanted(package: Table) -> bool:
    """Return whether poetry.lock, pdm.lock or pylock.toml lists a package without any group or extra."""
    groups = package.get("groups") or ["main"]
    optional = package.get("optional") or package.get("category") == "dev"
    return not optional and not {"main", "default"}.isdisjoint(groups)


def _project_in(packages: Iterable[Table], folder: str, name: str) -> Table:
    """Return the entry of the project itself in uv.lock, by its folder or its name."""
    for package in packages:
        source = package.get("source") or {}
        place = source.get("editable") or source.get("virtual") or source.get("directory")
        if place and os.path.normpath(place) == folder:
            return package
        if place and canonicalize_name(package["name"]) == name:
            return package
    return {}


def _asked_for(packages: Iterable[Table], project: Table) -> list[Table]:
    """Return the packages of uv.lock that a project needs on this Python and platform."""
    by_name: dict[str, list[Table]] = defaultdict(list)
    for package in packages:
        by_name[canonicalize_name(package["name"])].append(package)
    found: dict[tuple[int, str], Table] = {}
    left = [(project, "")]
    while left:
        package, extra = left.pop()
        if (id(package), extra) in found:
            continue
        found[id(package), extra] = package
        needs = package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
        for need in (one for one in needs if applies(one.get("marker", "")) is not False):
            for other in by_name[canonicalize_name(need["name"])]:
                if need.get("version") in (None, other.get("version")):
                    left += [(other, one) for one in ("", *need.get("extra", []))]
    return [package for (_, extra), package in found.items() if package and not extra]
