"""The Python version of the sessions. If it is another one than here, the environment is made again."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from plumbline.comparing.trees.installers import INSTALL_LIMIT_S, InstallError, find_uv, run_installer
from plumbline.comparing.trees.locks import read_toml
from plumbline.processes import last_lines, run_command
from plumbline.project import SETTINGS, SUITE, SUITE_REQUIREMENTS
from plumbline.results.schema import UnjudgedPackage

NEWEST_MINOR = 30
OLDEST = Version("3.11")  # that Plumbline runs on
VERSION = "import platform; print(platform.python_version(), end='')"
SETTING = f"`python` in {SUITE}/{SETTINGS}"


def wanted_python(project: Path, top: Path, setting: str, oldest: Version = OLDEST) -> tuple[SpecifierSet, str]:
    """Return the Python versions that a project asks for, and the file or setting that does, "" if none does.

    The setting counts first, then `.python-version` without its patch release, then `requires-python`. `oldest`: an
    older `.python-version` does not count. Raises InstallError.
    """
    if setting:
        try:
            return SpecifierSet(f"=={setting}.*" if re.fullmatch(r"\d+(\.\d+){0,2}", setting) else setting), SETTING
        except InvalidSpecifier:
            raise InstallError(
                f"{SETTING} is {setting!r}: write a version such as 3.13, or a range such as >=3.12"
            ) from None
    for file in (folder / ".python-version" for folder in (project, *project.parents) if folder.is_relative_to(top)):
        if file.is_file() and (found := re.match(r"(?:cpython-|python)?(\d+\.\d+)", file.read_text(encoding="utf-8"))):
            if Version(found[1]) >= oldest:
                return SpecifierSet(f"=={found[1]}.*"), file.name
            break
    pyproject = read_toml(project / "pyproject.toml")
    poetry = pyproject.get("tool", {}).get("poetry", {}).get("dependencies", {})
    asked = str(pyproject.get("project", {}).get("requires-python") or poetry.get("python") or "")
    if found := re.fullmatch(r"([\^~])(\d+)(\.\d+)?(\.\d+)?", asked):  # as Poetry writes it
        next_one = f"{int(found[2]) + 1}" if found[1] == "^" or not found[3] else f"{found[2]}.{int(found[3][1:]) + 1}"
        asked = f">={asked[1:]},<{next_one}"
    try:
        return SpecifierSet(asked), "pyproject.toml" if asked else ""
    except InvalidSpecifier:
        return SpecifierSet(), ""


def other_python(base: Path, head: Path, prefix: str, settings: tuple[str, str]) -> list[UnjudgedPackage]:
    """Return Python as an unjudged package if the base asks for another version than this one.

    `base` and `head` are the trees, `prefix` is the project's folder in both, `settings` are the setting `python` of
    both.
    """
    try:
        (then, file), (now, _) = (
            wanted_python(tree / prefix, tree, setting, Version("0"))
            for tree, setting in zip((base, head), settings, strict=True)
        )
    except InstallError:
        return []
    here = ".".join(map(str, sys.version_info[:3]))
    if then == now or here in then:
        return []
    return [UnjudgedPackage("Python", "other_python", str(then), str(now) or here, here, file)]


def use_python(asked: SpecifierSet, source: str, nox_python: str, project: Path) -> None:
    """If this environment has a wrong Python, make it again with a right one, and start this program again in it.

    The Python that runs Nox is used if it is in `asked`. Raises InstallError.
    """
    own = run_command([nox_python, "-c", VERSION], INSTALL_LIMIT_S)[1]
    here = ".".join(map(str, sys.version_info[:3]))
    if here in asked and (own == here or own not in asked):
        return
    command = [nox_python] if own in asked else _find(asked, source)
    if uv := find_uv():
        run_installer([*uv, "venv", "--quiet", "--clear", "--python", *command, sys.prefix], project)
        install = [*uv, "pip", "install", "--quiet", "--python", sys.executable]
    else:
        run_installer([*command, "-m", "venv", "--clear", sys.prefix], project)
        install = [sys.executable, "-m", "pip", "install", "--quiet"]
    try:
        run_installer([*install, "-r", SUITE_REQUIREMENTS], project)
    except InstallError:
        shutil.rmtree(sys.prefix, ignore_errors=True)  # without Plumbline, the next run could not go on
        raise
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "plumbline.install", *sys.argv[1:]])  # noqa: S606


def _find(asked: SpecifierSet, source: str) -> Sequence[str]:
    """Return the command of a Python of this machine, or of one that uv installs. Raises InstallError."""
    if uv := find_uv():
        # For uv, 3.13 means any 3.13 release.
        request = re.sub(r"^==([\d.]+)\.\*$", r"\1", str(asked))
        if (oldest := re.search(r">=(\d+\.\d+)", str(asked))) and oldest[1] in asked:
            # Locked packages may have no wheels for newer ones.
            code, output, _ = _asked_of([*uv, "python", "find", "--system", oldest[1]])
            if code == 0:
                return [output.strip()]
        for command in (["find", "--system"], ["install"], ["find", "--system"]):
            code, output, errors = _asked_of([*uv, "python", *command, request])
            if code == 0 and command[0] == "find":
                return [output.strip()]
            if code == 0 or command[0] == "find":
                continue
            raise InstallError(_missing(asked, source, last_lines(errors, 2) or f"exit code {code}"))
        raise InstallError(_missing(asked, source, "uv installed it, but does not find it"))
    for minor in range(NEWEST_MINOR, 10, -1):
        python = shutil.which(f"python3.{minor}", path=search_path())
        if python and _asked_of([python, "-c", VERSION])[1] in asked:
            return [python]
    raise InstallError(_missing(asked, source, "neither this Python nor uv is on the PATH"))


def search_path() -> str:
    """Return the PATH with the folders of all Pythons of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or f"{os.environ.get('HOME', '')}/.pyenv")
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, sorted(pyenv.glob("versions/*/bin")))])


def _asked_of(command: Sequence[str]) -> tuple[int, str, str]:
    try:
        return run_command(command, INSTALL_LIMIT_S, {**os.environ, "PATH": search_path()})
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, "", str(error)


def _missing(asked: SpecifierSet, source: str, problem: str) -> str:
    return (
        f"{source} asks for Python {asked}, which is not installed: {problem}\n"
        f"Install it (`uv python install VERSION`), or set {SETTING} to a version that you have."
    )
