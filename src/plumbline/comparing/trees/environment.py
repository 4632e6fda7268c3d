"""The base commit's packages: which versions they had, and an environment with those.

The environment is a copy of the one we run in, in which only what differs is installed or removed: nothing else has to
be downloaded, or to be installable still.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from plumbline import cache
from plumbline.comparing.trees.base_commit import NoBase, run, scrub
from plumbline.results.environment import installed_packages

INSTALL_LIMIT_S = 180.0
LOCK_FILES = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml")
HARNESS_GROUPS = ("perf",)
SERVICE_GROUP = "service"
UNDER_TEST = {"redis", "asyncpg", "httpx"}
"""Of the harness's groups, but the user's code runs on them."""
INSTALLERS = {"pip", "setuptools", "uv", "wheel"}

Pins = Mapping[str, str]
"""By normalized name a version, or the URL that pip is given for it."""


def wanted_changes(
    base: Path, head: Path, prefix: str, recorded: Mapping[str, str], say: Callable[[str], None]
) -> dict[str, str]:
    """What to change in the environment we run in to make it the base's: version by name, or "" to remove it.

    `base` and `head` are the trees, `prefix` the project's folder in both. Taken from their lock files where the
    installed packages are those of head's; otherwise from what the baseline recorded. The harness's own dependencies
    stay as they are. Raises NoBase where a lock file can't be read.
    """
    installed = installed_packages()
    project = head / prefix
    harness, forbids = harness_packages(
        read_toml(project / "pyproject.toml"), read_toml(project / "tests/performance/pyproject.toml")
    )
    kept = harness | local_packages() | INSTALLERS
    file, now = locked_versions(head, prefix)
    _, before = locked_versions(base, prefix)
    astray = sorted(
        name for name in now.keys() & installed.keys() - kept if now[name] != installed[name] and "://" not in now[name]
    )
    if astray:
        name = astray[0]
        say(
            f"{name} {installed[name]} is installed, not the {now[name]} of {file}: what the base had is taken from the"
            " baseline's record"
        )
    if astray or not before or not now:
        changes = changed_versions(recorded, installed, installed, kept) if recorded else {}
    else:
        changes = changed_versions(before, now, installed, kept)
    for name in [name for name, version in changes.items() if forbids(name, version)]:
        say(
            f"{name} stays at {installed[name]} in the base, as the harness can't do with {changes.pop(name) or 'none'}"
        )
    return changes


def changed_versions(before: Pins, now: Pins, installed: Pins, kept: Iterable[str] = ()) -> dict[str, str]:
    """What differs between two lists of packages, as changes to what is installed; `kept` stay as they are."""
    changes = {}
    for name in sorted((before.keys() | now.keys()) - set(kept)):
        wanted, has = before.get(name, ""), installed.get(name, "")
        # What head has as well and did not install (another extra, another group) is not installed for base either.
        if wanted != now.get(name, "") and wanted != has and (has or name not in now):
            changes[name] = wanted
    return changes


def locked_versions(tree: Path, prefix: str) -> tuple[str, dict[str, str]]:
    """The lock file that counts for the project in a folder of a tree, and its pins for this Python and platform.

    Without one, `requirements*.txt` count where they pin. Raises NoBase where the file can't be read.
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


def _lock_pins(lock: Mapping[str, Any]) -> dict[str, str]:
    pins: dict[str, str] = {}
    for package in lock.get("package") or lock.get("packages") or []:
        if "version" not in package or not _applies(package):
            continue
        source = package.get("source") or package.get("vcs") or package
        if any(kind in source for kind in ("editable", "virtual", "directory", "path")):
            continue
        if source.get("type") in {"directory", "file"}:
            continue
        pins[canonicalize_name(package["name"])] = _git_url(source) or package["version"]
    return pins


def _git_url(source: Mapping[str, Any]) -> str:
    """What pip is given for a package from git: uv, PDM and Poetry each write it in a way of their own."""
    url = source.get("git") or (source.get("url") if source.get("type") == "git" else None)
    if not url:
        return ""
    url, _, commit = str(url).partition("#")
    commit = commit or source.get("resolved_reference") or source.get("revision") or source.get("commit-id") or ""
    return f"git+{url.partition('?')[0]}@{commit}"


def _applies(package: Mapping[str, Any]) -> bool:
    markers = package.get("resolution-markers") or package.get("markers") or package.get("marker") or []
    if isinstance(markers, str):
        markers = [markers]
    elif isinstance(markers, dict):
        markers = list(markers.values())
    return not markers or any(Marker(marker).evaluate({"extra": ""}) for marker in markers)


def _requirements_pins(text: str) -> dict[str, str]:
    pins = {}
    for line in text.replace("\\\n", " ").splitlines():
        requirement = _requirement(re.split(r"\s#|\s--", line)[0].strip())
        if requirement is None:  # an option, a comment, another file
            continue
        pinned = re.fullmatch(r"===?([^*,]+)", str(requirement.specifier))
        if (pinned or requirement.url) and (not requirement.marker or requirement.marker.evaluate()):
            pins[requirement.name] = pinned[1] if pinned else str(requirement.url)
    return pins


def harness_packages(
    pyproject: Mapping[str, Any], of_suite: Mapping[str, Any] = {}
) -> tuple[set[str], Callable[[str, str], bool]]:
    """What is installed for the harness alone, and a question: does it forbid this version of another package?

    `of_suite`: the pyproject.toml beside the suite, where it keeps its dependency groups apart from the project's.
    """
    groups = (of_suite or pyproject).get("dependency-groups", {})
    own = [line for name in HARNESS_GROUPS for line in groups.get(name, []) if isinstance(line, str)]
    declared = [line for line in groups.get(SERVICE_GROUP, []) if isinstance(line, str)]
    declared += pyproject.get("project", {}).get("dependencies", [])
    declared += pyproject.get("tool", {}).get("poetry", {}).get("dependencies", {})
    needs = {name: _needs(distribution) for name, distribution in _distributions().items()}
    under_test = _with_needs({*UNDER_TEST, *local_packages(), *_names(declared)}, needs)
    harness = _with_needs(_names(own) - UNDER_TEST, needs) - under_test

    def forbidden(name: str, version: str) -> bool:
        asked = [need for package in harness for need in needs.get(package, []) if need.name == name]
        return any(not version or not need.specifier.contains(version, prereleases=True) for need in asked)

    return harness, forbidden


def _names(requirements: Iterable[str]) -> set[str]:
    return {canonicalize_name(re.split(r"[^\w.-]", requirement.strip())[0]) for requirement in requirements}


def _with_needs(names: set[str], needs: Mapping[str, list[Requirement]]) -> set[str]:
    found: set[str] = set()
    while names:
        found |= names
        names = {need.name for name in names for need in needs.get(name, [])} - found
    return found


def _needs(distribution: Distribution) -> list[Requirement]:
    needs = [need for line in distribution.requires or [] if (need := _requirement(line))]
    return [need for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]


def _requirement(line: str) -> Requirement | None:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    requirement.name = canonicalize_name(requirement.name)
    return requirement


def _distributions() -> dict[str, Distribution]:
    found: dict[str, Distribution] = {}
    for distribution in importlib.metadata.distributions():
        if name := distribution.metadata["Name"]:
            found.setdefault(canonicalize_name(name), distribution)
    return found


def local_packages() -> set[str]:
    """What is installed from a folder, as the project itself: PEP 610."""
    return {
        name
        for name, distribution in _distributions().items()
        if name != "pytest-plumbline" and '"dir_info"' in (distribution.read_text("direct_url.json") or "")
    }


def base_python(changes: Mapping[str, str], folder: Path, project: Path, say: Callable[[str], None]) -> Path:
    """The Python of an environment like ours with these changes, made in the cache `folder`; its lock is held.

    `project` is the folder whose pip or uv settings count. Raises NoBase where a version can't be installed, OSError.
    """
    if not changes:
        return Path(sys.executable)
    ours = sorted((name, distribution.version) for name, distribution in _distributions().items())
    name = cache.digest(sorted(changes.items()), ours, sys.version, sys.executable, sys.base_prefix)

    def make(target: Path) -> None:
        say("making the base environment: " + ", ".join(f"{name} {_shown(pin)}" for name, pin in changes.items()))
        _copy_environment(target)
        _install(changes, _paths(target)["python"], project)
        _forget_urls(target)

    return _paths(cache.keep(folder, name, make))["python"]


def _shown(pin: str) -> str:
    return scrub(pin) if pin else "removed"


def _paths(environment: Path) -> dict[str, Path]:
    base = {"base": str(environment), "platbase": str(environment)}
    paths = {name: Path(sysconfig.get_path(name, "venv", base)) for name in ("purelib", "platlib", "scripts")}
    return {**paths, "python": paths["scripts"] / ("python.exe" if os.name == "nt" else "python")}


def package_folders(python: Path) -> list[str]:
    """Where the packages of an environment lie, given its Python."""
    paths = _paths(python.parent.parent)
    return sorted({str(paths["purelib"]), str(paths["platlib"])})


def _copy_environment(target: Path) -> None:
    """A virtual environment with the packages of ours, by hard links where the disk has them."""
    code, _, errors = run([sys.executable, "-m", "venv", "--without-pip", str(target)], limit_s=INSTALL_LIMIT_S)
    if code:
        raise NoBase(f"the base environment can't be made: {_last_lines(errors)}")
    paths = _paths(target)
    for kind in ("purelib", "platlib"):
        source = Path(sysconfig.get_path(kind))
        if kind == "purelib" or paths["platlib"] != paths["purelib"]:
            shutil.copytree(source, paths[kind], symlinks=True, copy_function=_link, dirs_exist_ok=True)
    ours, theirs = (os.fsencode(folder) for folder in (Path(sys.executable).parent, paths["scripts"]))
    for script in Path(sysconfig.get_path("scripts")).iterdir():
        copy = paths["scripts"] / script.name
        if script.is_file() and not copy.exists() and ours in (text := script.read_bytes())[:1000]:
            copy.write_bytes(text.replace(ours, theirs))
            copy.chmod(script.stat().st_mode)
    # Of the project itself the metadata alone: its code comes from the copy of the tree.
    for name in local_packages():
        for file in _distributions()[name].files or []:
            if not file.parts[0].endswith(".dist-info") and ".." not in file.parts:
                (paths["purelib"] / file).unlink(missing_ok=True)


def _forget_urls(environment: Path) -> None:
    """Installers note where a package came from, with a token in it perhaps: not in what we keep."""
    for folder in package_folders(_paths(environment)["python"]):
        for file in Path(folder).glob("*.dist-info/direct_url.json"):
            if '"file://' not in file.read_text(encoding="utf-8"):
                file.unlink()


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _install(changes: Mapping[str, str], python: Path, project: Path) -> None:
    install, uninstall = _installer(python)
    if removed := [name for name, pin in changes.items() if not pin]:
        problem = _run_installer([*uninstall, *removed], project)
        if problem:
            raise NoBase(f"{', '.join(removed)} can't be removed from the base environment: {problem}")
    added = {name: pin for name, pin in changes.items() if pin}
    if not added:
        return
    install += [f"{name} @ {pin}" if "://" in pin else f"{name}=={pin}" for name, pin in added.items()]
    # Out of uv's cache first: faster, and good without a network.
    if "--python" in install and not _run_installer([*install, "--offline"], project):
        return
    if problem := _run_installer(install, project):
        named = {name: pin for name, pin in added.items() if re.search(rf"\b{re.escape(name)}\b", problem)} or added
        which = ", ".join(f"{name} {_shown(pin)}" for name, pin in named.items())
        raise NoBase(f"{which} of the base can't be installed now: {problem}")


def _installer(python: Path) -> tuple[list[str], list[str]]:
    """The commands that install and uninstall there: of what installed our packages, as that knows their indexes."""
    by_uv = any((one.read_text("INSTALLER") or "").strip() == "uv" for one in _distributions().values())
    has_pip = importlib.util.find_spec("pip") is not None
    if (uv := find_uv()) and (by_uv or not has_pip):
        return (
            [*uv, "pip", "install", "--quiet", "--python", str(python), "--no-deps"],
            [*uv, "pip", "uninstall", "--quiet", "--python", str(python)],
        )
    if not has_pip:
        run([str(python), "-I", "-m", "ensurepip"], limit_s=INSTALL_LIMIT_S)
    pip = [str(python), "-I", "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
    return [*pip, "install", "--no-deps", "--force-reinstall"], [*pip, "uninstall", "--yes"]


def find_uv() -> list[str]:
    """The command that runs uv; empty where there is none."""
    if uv := shutil.which("uv"):
        return [uv]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else []


def _run_installer(command: list[str], project: Path) -> str:
    """What a failing command said, without what its URLs may hold; empty where it worked."""
    try:
        code, output, errors = run(command, limit_s=INSTALL_LIMIT_S, cwd=project)
    except subprocess.TimeoutExpired:
        return f"not done within {INSTALL_LIMIT_S:g} s"
    return (_last_lines(output + errors) or f"exit code {code}") if code else ""


def _last_lines(text: str, count: int = 6) -> str:
    # pip names a path of an index that it can't reach without the URL's beginning.
    text = re.sub(r"(?<=': )/\S+", "/…", scrub(text))
    return " / ".join([line.strip() for line in text.splitlines() if line.strip()][-count:])


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file; nothing where there is none. Raises NoBase where it can't be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NoBase(f"{path.name} can't be read: {error}") from None
