"""The base's environment: a copy of this one in which only the packages that differ are installed or removed.

Nothing else has to be downloaded, or has to be installable still.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

from plumbline import cache
from plumbline.comparing.trees.environment import distributions, local_packages
from plumbline.comparing.trees.git import NoBase
from plumbline.processes import last_lines, run_command, without_secrets

INSTALL_LIMIT_S = 180.0
LINES_SHOWN = 6


def base_python(changes: Mapping[str, str], folder: Path, project: Path, say: Callable[[str], None]) -> Path:
    """Return the Python of an environment like this one with these changes, made in the cache `folder` if need be.

    `project` is the folder whose pip or uv settings count. The caller holds the lock of the cache. Raises NoBase if a
    version cannot be installed, and OSError.
    """
    if not changes:
        return Path(sys.executable)
    ours = sorted((name, distribution.version) for name, distribution in distributions().items())
    name = cache.digest(sorted(changes.items()), ours, sys.version, sys.executable, sys.base_prefix)

    def make(target: Path) -> None:
        say("making the base environment: " + ", ".join(f"{name} {_shown(pin)}" for name, pin in changes.items()))
        _copy_environment(target)
        _install(changes, _paths(target)["python"], project)
        _forget_urls(target)

    return _paths(cache.keep(folder, name, make))["python"]


def package_folders(python: Path) -> list[str]:
    """Return the folders of the packages of an environment, given its Python."""
    paths = _paths(python.parent.parent)
    return sorted({str(paths["purelib"]), str(paths["platlib"])})


def find_uv() -> list[str]:
    """Return the command that runs uv; empty if there is none."""
    if uv := shutil.which("uv"):
        return [uv]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else []


def _shown(pin: str) -> str:
    return without_secrets(pin) if pin else "removed"


def _paths(environment: Path) -> dict[str, Path]:
    base = {"base": str(environment), "platbase": str(environment)}
    paths = {name: Path(sysconfig.get_path(name, "venv", base)) for name in ("purelib", "platlib", "scripts")}
    return {**paths, "python": paths["scripts"] / "python"}


def _copy_environment(target: Path) -> None:
    """Make a virtual environment with this one's packages, by hard links if the file system has them."""
    code, _, errors = run_command([sys.executable, "-m", "venv", "--without-pip", str(target)], limit_s=INSTALL_LIMIT_S)
    if code:
        raise NoBase(f"the base environment can't be made: {last_lines(errors, LINES_SHOWN)}")
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
    # The project itself keeps only its metadata: its code comes from the copy of the tree.
    for name in local_packages():
        for file in distributions()[name].files or []:
            if not file.parts[0].endswith(".dist-info") and ".." not in file.parts:
                (paths["purelib"] / file).unlink(missing_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _forget_urls(environment: Path) -> None:
    """Remove the installers' notes of where packages came from: such a URL can hold a token."""
    for folder in package_folders(_paths(environment)["python"]):
        for file in Path(folder).glob("*.dist-info/direct_url.json"):
            if '"file://' not in file.read_text(encoding="utf-8"):
                file.unlink()


def _install(changes: Mapping[str, str], python: Path, project: Path) -> None:
    install, uninstall = _installer(python)
    removed = [name for name, pin in changes.items() if not pin]
    if removed and (problem := _run_installer([*uninstall, *removed], project)):
        raise NoBase(f"{', '.join(removed)} can't be removed from the base environment: {problem}")
    added = {name: pin for name, pin in changes.items() if pin}
    if not added:
        return
    install += [f"{name} @ {pin}" if "://" in pin else f"{name}=={pin}" for name, pin in added.items()]
    # From uv's cache first: faster, and it needs no network.
    if "--python" in install and not _run_installer([*install, "--offline"], project):
        return
    if problem := _run_installer(install, project):
        named = {name: pin for name, pin in added.items() if re.search(rf"\b{re.escape(name)}\b", problem)} or added
        which = ", ".join(f"{name} {_shown(pin)}" for name, pin in named.items())
        raise NoBase(f"{which} of the base can't be installed now: {problem}")


def _installer(python: Path) -> tuple[list[str], list[str]]:
    """Return the commands that install and uninstall there.

    They are those of the tool that installed this environment, because its settings name the package indexes.
    """
    by_uv = any((one.read_text("INSTALLER") or "").strip() == "uv" for one in distributions().values())
    has_pip = importlib.util.find_spec("pip") is not None
    if (uv := find_uv()) and (by_uv or not has_pip):
        options = ["--quiet", "--python", str(python)]
        return [*uv, "pip", "install", *options, "--no-deps"], [*uv, "pip", "uninstall", *options]
    if not has_pip:
        run_command([str(python), "-I", "-m", "ensurepip"], limit_s=INSTALL_LIMIT_S)
    pip = [str(python), "-I", "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
    return [*pip, "install", "--no-deps", "--force-reinstall"], [*pip, "uninstall", "--yes"]


def _run_installer(command: list[str], project: Path) -> str:
    """Return the last lines of a command that fails, without secrets; empty if it worked."""
    try:
        code, output, errors = run_command(command, limit_s=INSTALL_LIMIT_S, cwd=project)
    except subprocess.TimeoutExpired:
        return f"not done within {INSTALL_LIMIT_S:g} s"
    # If pip cannot reach an index, it prints the URL's path alone.
    text = re.sub(r"(?<=': )/\S+", "/…", without_secrets(output + errors))
    return (last_lines(text, LINES_SHOWN) or f"exit code {code}") if code else ""
