"""Resolving and installing packages: by uv, or by pip if there is no uv."""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from packaging.utils import canonicalize_name

from plumbline.comparing.trees.locks import read_toml
from plumbline.comparing.trees.requirements import lines_of, read_requirements
from plumbline.processes import run_command, without_secrets

INSTALL_LIMIT_S = 600.0
LINES_SHOWN = 15
KEPT_BY_PIP = {"pip", "setuptools", "wheel"}
UV_COMPILE = (
    *("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-generate-hashes", "--no-universal"),
    *("--emit-index-url", "--emit-find-links"),
)


class InstallError(Exception):
    """Packages cannot be resolved or installed: the last lines of the tool that tried."""


@dataclass(frozen=True)
class Asked:
    """The packages that a tree asks for. Relative paths count from `folder`."""

    folder: Path
    files: Sequence[str]  # requirements files
    lines: Sequence[str] = ()  # requirements beside them
    declared: bool = False  # whether the dependencies in pyproject.toml of `folder` count, without the project itself
    extras: Sequence[str] = ()  # of those
    groups: Sequence[str] = ()  # dependency groups in pyproject.toml of `folder`
    pins: Sequence[str] = ()  # versions that have to be taken, if a package is needed
    preferred: Sequence[str] = field(default=())  # versions that are taken if nothing forbids them


def find_uv() -> list[str]:
    """Return the command that runs uv; empty if there is none."""
    if uv := shutil.which("uv"):
        return [uv]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else []


def resolve(asked: Asked, *, from_cache: bool = False) -> list[str]:
    """Return all packages that are asked for, and that those need, as lines of a requirements file.

    If `from_cache`, uv asks an index only if its cache is not enough, otherwise the other way round.
    Raises InstallError.
    """
    with tempfile.TemporaryDirectory() as temporary:
        lines, pins, output = (Path(temporary, name) for name in ("lines.in", "pins.txt", "packages.txt"))
        lines.write_text("\n".join(asked.lines), encoding="utf-8")
        if not (uv := find_uv()):
            with contextlib.suppress(InstallError):  # pip knows no preferences
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
        # A path counts from the file that names it.
        found = re.sub(r"(?m)^(--find-links )(?!\w+://)(.*)$", lambda one: f"{one[1]}{asked.folder / one[2]}", found)
        return [line for line in found.splitlines() if line.strip()]


def folder_of(line: str, folder: Path) -> Path:
    """Return the folder that a line of a requirements file names, if it names one, and counts from `folder`."""
    place = re.sub(r"^(-e |[\w.-]+ @ )?(file://)?|(\[.*\])?(#.*)?$", "", line)
    return folder / unquote(place)


def copied_folders(lines: Iterable[str], folder: Path) -> list[Path]:
    """Return the folders of which these lines install a copy, and not the folder itself."""
    found = [folder_of(line, folder) for line in lines if not line.startswith("-")]
    return [path for path in found if path.is_dir()]


def _again(lines: Iterable[str], folder: Path) -> list[str]:
    """Return options that make uv install folders again: it looks at the time of pyproject.toml alone."""
    names = [
        read_toml(path / "pyproject.toml").get("project", {}).get("name") for path in copied_folders(lines, folder)
    ]
    return [f"--reinstall-package={name}" for name in names if isinstance(name, str)]


def synchronise(lines: Sequence[str], folder: Path) -> None:
    """Make this environment hold these packages and no others; relative paths count from `folder`.

    Raises InstallError.
    """
    install_into(Path(sys.executable), lines, folder)
    if find_uv():  # has removed the others
        return
    found = (re.match(r"([\w.-]+) *(?:==|@)|-e .*#egg=([\w.-]+)", line) for line in lines)
    wanted = {canonicalize_name(one[1] or one[2]) for one in found if one} | KEPT_BY_PIP
    names = (one.metadata["Name"] for one in importlib.metadata.distributions())
    installed = {canonicalize_name(name) for name in names if name}
    if surplus := sorted(installed - wanted):
        run_installer([*_pip(), "uninstall", "--yes", *surplus], folder)


def install_into(python: Path, lines: Sequence[str], folder: Path) -> None:
    """Install these packages into the environment of this Python; otherwise as `synchronise`."""
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, "packages.txt")
        # uv knows only when it resolves which packages come from an index that is for some packages alone.
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
    """Run uv with and without its cache alone; raise the error of the run with an index if both fail."""
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
    """Let pip resolve as if nothing were installed, with these versions. It does not read pyproject.toml.

    If one requirement had hashes, pip would ask for those of all.
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
        raise InstallError(f"not done within {limit_s:g} s") from None
    if code:
        # If pip cannot reach an index, it prints the URL's path alone.
        text = re.sub(r"(?<=': )/\S+", "/…", without_secrets(output + errors))
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        raise InstallError("\n".join(lines[-LINES_SHOWN:]) or f"exit code {code}")
