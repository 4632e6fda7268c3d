"""The versions that lock files pin: those of uv, Poetry and PDM, pylock.toml and requirements*.txt."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from plumbline.comparing.trees.git import NoBase

LOCK_FILES = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml")
LOCAL = {"editable", "virtual", "directory", "path"}  # in the source of a package that is a folder or a file here
Pins = Mapping[str, str]  # by normalized name a version, or the URL that pip installs the package from


def locked_versions(tree: Path, prefix: str) -> tuple[str, dict[str, str]]:
    """Return the lock file that counts for the folder `prefix` of a tree, and its pins for this Python and platform.

    Without a lock file, the versions that `requirements*.txt` pin count. Raises NoBase if the file cannot be read.
    """
    project = tree / prefix
    for folder in [project, *(parent for parent in project.parents if parent.is_relative_to(tree))]:
        for name in LOCK_FILES:
            if (folder / name).is_file():
                return name, _lock_pins(read_toml(folder / name))
        pins: dict[str, str] = {}
        for path in sorted(folder.glob("requirements*.txt")):
            pins |= _requirements_pins(path.read_text(encoding="utf-8", errors="replace"))
        if pins:
            return "requirements*.txt", pins
    return "", {}


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; a missing one is empty. Raises NoBase if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NoBase(f"{path.name} can't be read: {error}") from None


def parse_requirement(line: str) -> Requirement | None:
    """Parse a requirement, its name normalized; None if it is none."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    requirement.name = canonicalize_name(requirement.name)
    return requirement


def _lock_pins(lock: Mapping[str, Any]) -> dict[str, str]:
    pins: dict[str, str] = {}
    for package in lock.get("package") or lock.get("packages") or []:
        source = package.get("source") or package.get("vcs") or package
        is_local = source.get("type") in ("directory", "file") or not LOCAL.isdisjoint(source)
        markers = package.get("resolution-markers") or package.get("markers") or package.get("marker") or [""]
        markers = [markers] if isinstance(markers, str) else markers
        markers = markers.values() if isinstance(markers, dict) else markers
        applies = any(not marker or Marker(marker).evaluate({"extra": ""}) for marker in markers)
        if "version" not in package or is_local or not applies:
            continue
        pin = package["version"]
        # Installed from git. uv, PDM and Poetry each write that in their own way.
        if url := source.get("git") or (source.get("url") if source.get("type") == "git" else ""):
            url, _, commit = str(url).partition("#")
            commit = commit or source.get("resolved_reference") or source.get("revision") or source.get("commit-id")
            pin = f"git+{url.partition('?')[0]}@{commit or ''}"
        pins[canonicalize_name(package["name"])] = pin
    return pins


def _requirements_pins(text: str) -> dict[str, str]:
    pins = {}
    for line in text.replace("\\\n", " ").splitlines():
        requirement = parse_requirement(re.split(r"\s#|\s--", line)[0].strip())
        if requirement is None:  # an option, a comment, another file
            continue
        pinned = re.fullmatch(r"===?([^*,]+)", str(requirement.specifier))
        if (pinned or requirement.url) and (not requirement.marker or requirement.marker.evaluate()):
            pins[requirement.name] = pinned[1] if pinned else str(requirement.url)
    return pins
