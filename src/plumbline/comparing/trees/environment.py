"""The environment of the base: a copy of this one in which the changed packages are installed or removed."""

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name

from plumbline import cache
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.installers import InstallError, find_uv, run_installer
from plumbline.processes import last_lines, run_command, without_secrets
from plumbline.results.environment import name_and_version

PLUMBLINE = "pytest-plumbline"
INSTALL_LIMIT_S = 180.0
LINES_SHOWN = 6


def distributions() -> dict[str, importlib.metadata.Distribution]:
    """Return the installed packages by normalized name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        if name := name_and_version(distribution)[0]:
            found.setdefault(canonicalize_name(name), distribution)
    return found


def local_packages() -> set[str]:
    """Return the packages that are installed from a folder (PEP 610), such as the project under test; not Plumbline."""
    urls = {name: one.read_text("direct_url.json") or "" for name, one in distributions().items() if name != PLUMBLINE}
    return {name for name, url in urls.items() if '"dir_info"' in url}


def installed_copies(top: Path) -> dict[str, tuple[str, set[Path]]]:
    """Return the packages that are installed from a folder of the repository `top`, but not editable.

    By name: the folder relative to `top`, and the installed files.
    """
    found: dict[str, tuple[str, set[Path]]] = {}
    for name in local_packages():
        distribution = distributions()[name]
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        folder = Path(os.path.realpath(unquote(urlsplit(origin["url"]).path)))
        if not origin["dir_info"].get("editable") and folder.is_relative_to(top):
            code = [file for file in distribution.files or [] if not file.parts[0].endswith(".dist-info")]
            files = {Path(str(distribution.locate_file(file))) for file in code}
            found[name] = folder.relative_to(top).as_posix(), files
    return found


def base_python(
    changes: Mapping[str, str],
    folder: Path,
    project: Path,
    say: Callable[[str], None],
    *,
    complete: bool = True,
    options: Sequence[str] = (),
) -> Path:
    """Return the Python of an environment like this one with these changes. It is cached in `folder`.

    `changes`: by package a version or URL, or "" to remove it. `project`: the folder with settings for pip or uv.
    `options`: lines of a requirements file that name package indexes. `complete`: whether no other packages need to
    change with these. The caller must hold the lock of the cache. Raises NoBase if a package cannot be installed, and
    OSError.
    """
    if not changes:
        return Path(sys.executable)

    def make(target: Path) -> None:
        say(f"making the base environment: {_shown(changes)}")
        _copy_environment(target)
        _install(changes, _paths(target)["python"], project, complete, options)
        forget_urls(_paths(target)["python"])

    name = cache.digest(changes, complete, _installed(), sys.version, sys.executable, sys.base_prefix)
    return _paths(cache.keep(folder, name, make))["python"]


def _installed() -> dict[str, str]:
    """Return what is installed: versions, and the files of what a commit or folder with the same version may change."""
    return {
        name: f"{one.version} {one.read_text('RECORD') if one.read_text('direct_url.json') else ''}"
        for name, one in distributions().items()
    }


def forget_urls(python: Path) -> None:
    """Remove the URLs that packages in this environment were installed from, because a URL can contain a token."""
    for packages in package_folders(python):
        for file in Path(packages).glob("*.dist-info/direct_url.json"):
            if '"file://' not in file.read_text(encoding="utf-8"):
                file.unlink()


def package_folders(python: Path) -> list[str]:
    """Return the package folders of the environment of a Python."""
    paths = _paths(python.parent.parent)
    return sorted({str(paths["purelib"]), str(paths["platlib"])})


def packages_in(folders: Iterable[str]) -> dict[str, str]:
    """Return the versions of the packages in some folders, by normalized name."""
    found = importlib.metadata.distributions(path=[*folders])
    return {canonicalize_name(name): one.version for one in found if (name := one.metadata["Name"])}


def _shown(changes: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {without_secrets(pin) or 'removed'}" for name, pin in changes.items())


def _paths(environment: Path) -> dict[str, Path]:
    base = {"base": str(environment), "platbase": str(environment)}
    paths = {name: Path(sysconfig.get_path(name, "venv", base)) for name in ("purelib", "platlib", "scripts")}
    return {**paths, "python": paths["scripts"] / "python"}


def _copy_environment(target: Path) -> None:
    """Make a virtual environment with the packages of this one, by hard links if possible."""
    try:
        venv.create(target, symlinks=True)
    except ValueError as error:  # a path with a colon in it
        raise NoBase(f"the base environment can't be made: {error}") from None
    paths = _paths(target)
    folders = {(Path(sysconfig.get_path(kind)).resolve(), paths[kind].resolve()) for kind in ("purelib", "platlib")}
    for ours, copy in folders:
        shutil.copytree(ours, copy, symlinks=True, copy_function=hard_link, dirs_exist_ok=True)
    before, after = (os.fsencode(folder) for folder in (Path(sys.executable).parent, paths["scripts"]))
    for script in Path(sysconfig.get_path("scripts")).iterdir():
        copy = paths["scripts"] / script.name
        if script.is_file() and not copy.exists() and before in (text := script.read_bytes())[:1000]:
            copy.write_bytes(text.replace(before, after))
            copy.chmod(script.stat().st_mode)
    # Keep only the metadata of the project itself, because its code is imported from the copy of the tree.
    for file in (file for name in local_packages() for file in distributions()[name].files or []):
        if not file.parts[0].endswith(".dist-info") and ".." not in file.parts:
            (paths["purelib"] / file).unlink(missing_ok=True)


def hard_link(source: str, target: str) -> None:
    """Create a hard link if both paths are on one file system, or else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _install(changes: Mapping[str, str], python: Path, project: Path, complete: bool, options: Sequence[str]) -> None:
    """Install and remove packages with the tool that made this environment. Its settings name the package indexes."""
    by_uv = any((one.read_text("INSTALLER") or "").strip() == "uv" for one in distributions().values())
    has_pip = importlib.util.find_spec("pip") is not None
    uv = find_uv() if by_uv or not has_pip else []
    if uv:
        where = ["--quiet", "--python", str(python)]
        install, uninstall = [*uv, "pip", "install", *where, "--no-deps"], [*uv, "pip", "uninstall", *where]
    else:
        if not has_pip:
            run_command([str(python), "-I", "-m", "ensurepip"], INSTALL_LIMIT_S)
        pip = [str(python), "-I", "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
        install, uninstall = [*pip, "install", "--no-deps", "--force-reinstall"], [*pip, "uninstall", "--yes"]
    removed = [name for name, pin in changes.items() if not pin]
    if removed and (problem := _problem([*uninstall, *removed], project)):
        raise NoBase(f"{', '.join(removed)} can't be removed from the base environment: {problem}")
    added = {name: pin for name, pin in changes.items() if pin}
    asked = [f"{name} @ {pin}" if "://" in pin else f"{name}=={pin}" for name, pin in added.items()]
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, "packages.txt")  # not in the command line, because an index URL may contain a token
        file.write_text("\n".join([*options, *asked]), encoding="utf-8")
        steps = [[*install, "-r", str(file)]]
        if not complete:
            steps.append([word for word in steps[0] if word not in ("--no-deps", "--force-reinstall")])
        for command in steps if added else []:
            # Try uv's cache first, which is faster and needs no network.
            if (uv and not _problem([*command, "--offline"], project)) or not (problem := _problem(command, project)):
                continue
            named = {name: pin for name, pin in added.items() if re.search(rf"\b{re.escape(name)}\b", problem)}
            raise NoBase(f"{_shown(named or added)} of the base can't be installed: {problem}")


def _problem(command: list[str], project: Path) -> str:
    """Run a command. Return its last lines as one line if it fails, otherwise ""."""
    try:
        run_installer(command, project, limit_s=INSTALL_LIMIT_S)
    except InstallError as error:
        return last_lines(str(error), LINES_SHOWN)
    return ""
