"""Pins: the version or URL of a package in a lock file.

A pin is a version (`4.9`), a range of versions (`>=4,<5`, or ANY), or a URL. Any other text cannot be read.
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
    """Return whether a pin allows several versions."""
    return _allowed(pin) is not None


def is_readable(pin: str) -> bool:
    return is_url(pin) or is_open(pin) or _version(pin) is not None


def is_lasting(pin: str) -> bool:
    """Return whether a pin always means the same package. A local file or a git branch does not."""
    return not is_url(pin) or not (pin.startswith(LOCAL_FILE) or ("git+" in pin and not _COMMIT.search(pin)))


def same(one: str | None, other: str | None) -> bool:
    """Return whether two pins mean the same, such as 4.9 and 4.9.0, or None and None."""
    if one is None or other is None or one == other:
        return one == other
    version = _version(one)
    return version is not None and version == _version(other)


def fits(pin: str, version: str, origin: str = "") -> bool:
    """Return whether an installed version fits a pin. `origin`: the contents of its direct_url.json, if any."""
    if is_url(pin):
        return _is_from(pin, origin)
    has, wanted, allowed = _version(version), _version(pin), _allowed(pin)
    if has is None:
        return pin in (ANY, version)
    if wanted is not None:
        return wanted in (has, Version(has.public))  # 1.0+local fits 1.0
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
    """Return whether a package with this direct_url.json (PEP 610) was installed from the URL of a pin."""
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
    """Return the host and path of a URL, without secrets, and the revision at its end."""
    parts = urlsplit(url.partition("+")[2] or url if url.startswith(("git+", "hg+", "svn+", "bzr+")) else url)
    path, at, revision = parts.path.rpartition("@")
    path = path if at else revision
    host = parts.netloc.rpartition("@")[2]
    return f"{host}/{path.strip('/').removesuffix('.git')}", revision if at else ""
