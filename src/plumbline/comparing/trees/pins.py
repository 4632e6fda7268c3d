"""Pins: the text that a lock file has for a package, and what it means.

A pin is a version (`4.9`), the versions that are allowed (`>=4,<5`, or ANY), or the URL that the package is installed
from. Any other text is a pin that cannot be read.
"""

import json
import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

ANY = ""
LOCAL_FILE = "file:"
_COMMIT = re.compile(r"@[0-9a-f]{7,64}$")


def is_url(pin: str) -> bool:
    return "://" in pin or pin.startswith(LOCAL_FILE)


def is_open(pin: str) -> bool:
    """Return whether a pin leaves a choice of versions."""
    return _allowed(pin) is not None


def is_readable(pin: str) -> bool:
    return is_url(pin) or is_open(pin) or _version(pin) is not None


def is_lasting(pin: str) -> bool:
    """Return whether a version or URL names the same package everywhere: not a file of this machine, nor a branch."""
    return not is_url(pin) or not (pin.startswith(LOCAL_FILE) or ("git+" in pin and not _COMMIT.search(pin)))


def same(one: str | None, other: str | None) -> bool:
    """Return whether two pins mean the same, as 4.9 and 4.9.0 do; None if there is none."""
    if one is None or other is None or one == other:
        return one == other
    version = _version(one)
    return version is not None and version == _version(other)


def fits(pin: str, version: str, origin: str = "") -> bool:
    """Return whether an installed version is what a pin asks for; `origin`: its direct_url.json, if it has one."""
    if is_url(pin):
        return _is_from(pin, origin)
    has, wanted, allowed = _version(version), _version(pin), _allowed(pin)
    if has is None:
        return pin in (ANY, version)
    if wanted is not None:
        return wanted in (has, Version(has.public))  # 1.0 stands for 1.0+local, too
    return allowed is not None and allowed.contains(has, prereleases=True)


def _version(pin: str) -> Version | None:
    try:
        return Version(pin)
    except InvalidVersion:
        return None


def _allowed(pin: str) -> SpecifierSet | None:
    try:
        return SpecifierSet(pin)
    except InvalidSpecifier:
        return None


def _is_from(pin: str, origin: str) -> bool:
    """Return whether a package that has this direct_url.json (PEP 610) was installed from the URL of a pin."""
    try:
        record = json.loads(origin)
        installed, vcs = str(record["url"]), dict(record.get("vcs_info", {}))
    except (ValueError, TypeError, KeyError):
        return False
    (place, revision), (its_place, _) = _parts(pin), _parts(installed)
    if pin.startswith(LOCAL_FILE):
        return PurePosixPath(place).name == PurePosixPath(its_place).name
    known = [str(vcs.get(name) or "") for name in ("requested_revision", "commit_id")]
    return place == its_place and (not revision or revision == known[0] or known[1].startswith(revision))


def _parts(url: str) -> tuple[str, str]:
    """Return the place of a URL without secrets, and the revision that it ends with."""
    parts = urlsplit(url.partition("+")[2] or url if url.startswith(("git+", "hg+", "svn+", "bzr+")) else url)
    path, at, revision = parts.path.rpartition("@")
    path = path if at else revision
    host = parts.netloc.rpartition("@")[2]
    return f"{host}/{path.strip('/').removesuffix('.git')}", revision if at else ""
