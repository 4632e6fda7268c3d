"""The resolved packages of base and head, if `plumbline.install` made this environment."""

import sys
from collections.abc import Mapping
from pathlib import Path

from plumbline.comparing.trees.asked import Part, asked_for
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.installers import InstallError, resolve
from plumbline.comparing.trees.locks import Lock, read_lock
from plumbline.comparing.trees.requirements import to_pins
from plumbline.installed import digest, read_record, top_of
from plumbline.settings import InstallSettings


def resolved_packages(
    root: Path, base: Path, prefix: str, install: InstallSettings, recorded: Mapping[str, str]
) -> tuple[tuple[Lock, Lock] | None, list[str]]:
    """Return the packages of base and head with all dependencies, and options with the package indexes of base.

    `root` is the project in the working tree, `base` the base's tree, and `prefix` the project's folder in it. If the
    base allows several versions of a package, it gets the one that the baseline `recorded`, or else head's. The
    packages are None if this environment is older than the working tree, or if only head has a lock file. Raises
    NoBase.
    """
    record, top = read_record(), top_of(root)
    if record is None or record["digest"] != [digest(root, top, record["files"], sys.version, *record["nox_python"])]:
        return None, []
    now = Lock(record["source"][0], to_pins(record["packages"]))
    ours, theirs = (digest(tree / prefix, tree, record["files"]) for tree in (top, base))
    has_lock, had_lock = (read_lock(tree, prefix) for tree in (top, base))
    if not (has_lock.known and had_lock.known) or (has_lock.file and not had_lock.file):
        return None, []
    open_ones = [f"{name}=={version}" for name, version in recorded.items()] if not had_lock.file else []
    if ours == theirs and not open_ones:
        return (now, now), []
    try:
        part: Part = "suite" if "suite" in record["part"] else "all"
        asked, _ = asked_for(base, base / prefix, install, open_ones or record["packages"], part)
        packages = resolve(asked, from_cache=True)
    except (InstallError, TypeError, ValueError, AttributeError) as error:
        raise NoBase(f"the packages of the base can't be resolved: {' / '.join(str(error).splitlines())}") from None
    return (Lock(had_lock.file or now.file, to_pins(packages)), now), [one for one in packages if one.startswith("--")]
