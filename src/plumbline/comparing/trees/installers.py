"""Resolving and installing packages: by uv, or by pip if there is no uv."""

import contextlib
import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from packaging.utils import canonicalize_name

from plumbline.comparing.trees.locks import read_toml
from plumbline.comparing.trees.requirements import lines_of, read_requirements
from plumbline.processes import run_command, without_secrets
from plumbline.results.environment import installed_packages

INSTALL_LIMIT_S = 600.0
LINES_SHOWN = 15
KEPT_BY_PIP = {"pip", "setuptools", "wheel"}
UV_COMPILE = (
    *("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-generate-hashes", "--no-universal"),
    *("--emit-index-url", "--emit-find-links"),
)


class InstallError(Exception):
    """Packages cannot be resolved or installed. The message has the last lines of uv or pip."""


@dataclass(frozen=True)
class Asked:
    """The packages that a tree asks for. Paths are relative to `folder`."""

    folder: Path
    files: Sequence[str]  # requirements files
    lines: Sequence[str] = ()  # further requirements
    declared: bool = False  # whether to add the dependencies in pyproject.toml, without the project itself
    extras: Sequence[str] = ()  # of the dependencies in pyproject.toml
    groups: Sequence[str] = ()  # dependency groups in pyproject.toml
    pins: Sequence[str] = ()  # required versions of packages, if these are needed
    preferred: Sequence[str] = ()  # versions to use if possible


def find_uv() -> list[str]:
    """Return the command that runs uv, [] if there is none."""
    if (uv := shutil.which("uv")) and _runs(uv):
        return [uv]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else []


@functools.cache
def _runs(program: str) -> bool:
    """Return whether the program can be run. One that pyenv puts on PATH may belong to another version of Python."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run([program, "--version"], capture_output=True, timeout=30).returncode == 0
    return False


def resolve(asked: Asked, *, from_cache: bool = False) -> list[str]:
    """Return all packages that are asked for, with their dependencies, as lines of a requirements file.

    If `from_cache`, uv tries its cache first and then the index, otherwise the index first. Raises InstallError.
    """
    with tempfile.TemporaryDirectory() as temporary:
        lines, pins, output = (Path(temporary, name) for name in ("lines.in", "pins.txt", "packages.txt"))
        lines.write_text("\n".join(asked.lines), encoding="utf-8")
        if not (uv := find_uv()):
            with contextlib.suppress(InstallError):  # pip has no preferred versions, so try them as pins
                return _resolve_by_pip(asked, lines, [*asked.pins, *asked.preferred], output)
            return _resolve_by_pip(asked, lines, asked.pins, output)
        pins.write_text("\n".join(asked.pins), encoding="utf-8")
        output.write_text("\n".join(asked.preferred), encoding="utf-8")
        command = [*uv, *UV_COMPILE, f"--python={sys.executable}", f"--constraint={pins}", f"--output-file={output}"]
        command += [f"--group={name}" for name in asked.groups]
        command += [*asked.files, *([str(lines)] if asked.lines else [])]
        if asked.declared:
            command += ["pyproject.toml", *(f"--extra={name}" for name in asked.extras)]
        _run_uv(command, asked.folder, from_cache=from_cache)
        found = output.read_text(encoding="utf-8")
        # Make relative paths absolute, because they would be relative to the requirements file.
        found = re.sub(r"(?m)^(--find-links )(?!\w+://)(.*)$", lambda one: f"{one[1]}{asked.folder / one[2]}", found)
        return [line for line in found.splitlines() if line.strip()]


def folder_of(line: str, folder: Path) -> Path:
    """Return the folder that a line of a requirements file may name, relative to `folder`."""
    place = re.sub(r"^(-e |[\w.-]+ @ )?(file://)?|(\[.*\])?(#.*)?$", "", line)
    return folder / unquote(place)


def copied_folders(lines: Iterable[str], folder: Path) -> list[Path]:
    """Return the local folders that these lines install without -e."""
    found = [folder_of(line, folder) for line in lines if not line.startswith("-")]
    return [path for path in found if path.is_dir()]


def _again(lines: Iterable[str], folder: Path) -> list[str]:
    """Return options that make uv install local folders again. By itself it only checks pyproject.toml for changes."""
    names = [
        read_toml(path / "pyproject.toml").get("project", {}).get("name") for path in copied_folders(lines, folder)
    ]
    return [f"--reinstall-package={name}" for name in names if isinstance(name, str)]


def synchronise(lines: Sequence[str], folder: Path) -> None:
    """Install these packages in this environment and remove all others. Paths are relative to `folder`.

    Raises InstallError.
    """
    install_into(Path(sys.executable), lines, folder)
    if find_uv():  # uv has removed the others
        return
    found = (re.match(r"([\w.-]+) *(?:==|@)|-e .*#egg=([\w.-]+)", line) for line in lines)
    wanted = {canonicalize_name(one[1] or one[2]) for one in found if one} | KEPT_BY_PIP
    if surplus := sorted({canonicalize_name(name) for name in installed_packages()} - wanted):
        run_installer([*_pip(), "uninstall", "--yes", *surplus], folder)


def install_into(python: Path, lines: Sequence[str], folder: Path) -> None:
    """Install these packages into the environment of a Python. Paths are relative to `folder`. Raises InstallError."""
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, "packages.txt")
        # `uv pip sync` does not use indexes with `explicit = true`, so name them here.
        explicit = [f"--extra-index-url {one['url']}" for one in _uv_indexes(folder) if one.get("explicit")]
        file.write_text("\n".join([*explicit, *lines]), encoding="utf-8")
        if uv := find_uv():
            command = [*uv, "pip", "sync", "--quiet", f"--python={python}", *_again(lines, folder), str(file)]
            _run_uv(command + ["--index-strategy=unsafe-best-match"] * bool(explicit), folder, from_cache=True)
            return
        where = [] if python == Path(sys.executable) else [f"--python={python}"]
        run_installer([*_pip(), *where, "install", "--no-deps", "-r", str(file)], folder)


def _uv_indexes(folder: Path) -> list[dict[str, str]]:
    indexes: list[dict[str, str]] = read_toml(folder / "pyproject.toml").get("tool", {}).get("uv", {}).get("index", [])
    return indexes


def _run_uv(command: Sequence[str], folder: Path, *, from_cache: bool) -> None:
    """Run uv with only its cache and with an index, in either order. Raises the error of the run with an index."""
    offline = [*command, "--offline"]
    first, second = (offline, command) if from_cache else (command, offline)
    try:
        run_installer(first, folder)
    except InstallError as error:
        try:
            run_installer(second, folder)
        except InstallError:
            if from_cache:
                raise
            raise error from None


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is None:
        run_command([sys.executable, "-I", "-m", "ensurepip"], INSTALL_LIMIT_S)
    return [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]


def _resolve_by_pip(asked: Asked, lines: Path, pins: Sequence[str], output: Path) -> list[str]:
    """Resolve with pip, ignoring installed packages. pip does not read pyproject.toml.

    Hashes are left out, because pip would require hashes of all packages.
    """
    texts: dict[Path, str] = {}
    for file in asked.files:
        read_requirements((asked.folder / file).resolve(), texts)
    found = [line for text in texts.values() for line in lines_of(text) if not re.match(r"-r|-c|--req|--con", line)]
    lines.write_text("\n".join([*found, *asked.lines]), encoding="utf-8")
    constraints = lines.with_name("pins.txt")
    constraints.write_text("\n".join(pins), encoding="utf-8")
    command = [*_pip(), "install", "--dry-run", "--ignore-installed", "--report", str(output), "-c", str(constraints)]
    command += ["-r", str(lines)]
    command += [part for name in asked.groups for part in ("--group", name)]
    run_installer(command, asked.folder)
    found = []
    for package in json.loads(output.read_text(encoding="utf-8"))["install"]:
        name, source = package["metadata"]["name"], package["download_info"]
        if source.get("dir_info", {}).get("editable"):
            found.append(f"-e {source['url']}#egg={name}")
        elif package["is_direct"]:
            vcs = source.get("vcs_info")
            found.append(
                f"{name} @ {vcs['vcs']}+{source['url']}@{vcs['commit_id']}" if vcs else f"{name} @ {source['url']}"
            )
        else:
            found.append(f"{name}=={package['metadata']['version']}")
    return found


def run_installer(command: Sequence[str], folder: Path, limit_s: float = INSTALL_LIMIT_S) -> None:
    """Run a command in a folder. Raises InstallError with its last lines, without secrets, if it fails."""
    try:
        code, output, errors = run_command(command, limit_s, {**os.environ, "NO_COLOR": "1"}, folder)
    except subprocess.TimeoutExpired:
        raise InstallError(f"`{Path(command[0]).name}` was not done within {limit_s:g} s") from None
    if code:
        # If pip cannot reach an index, it prints the path of a URL without its host; the path may contain a token.
        text = re.sub(r"(?<=': )/\S+", "/…", without_secrets(output + errors))
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        raise InstallError("\n".join(lines[-LINES_SHOWN:]) or f"exit code {code}")
