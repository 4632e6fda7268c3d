"""The packages that a tree asks for: in its lock file, pyproject.toml, requirements files, and those of its suite."""

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from plumbline.comparing.trees.installers import Asked, InstallError, copied_folders, find_uv, folder_of
from plumbline.comparing.trees.locks import FOR_DEVELOPERS, LOCK_FILES, Lock, read_lock, read_toml
from plumbline.comparing.trees.pins import LOCAL_FILE, is_open
from plumbline.comparing.trees.poetry import poetry_requirements
from plumbline.comparing.trees.requirements import name_in, read_requirements
from plumbline.installed import METADATA
from plumbline.processes import run_command
from plumbline.project import SUITE, SUITE_REQUIREMENTS
from plumbline.settings import InstallSettings

ADVICE = f'list them in {SUITE_REQUIREMENTS}, and set `application = "off"` in [install] of {SUITE}/settings.toml'
EXPORT_LIMIT_S = 60.0
# Commands of the tools that export their own lock file, with their options for an extra and a group.
EXPORTS: Mapping[str, tuple[str, str, str]] = {
    "uv.lock": (
        "uv export --quiet --frozen --no-hashes --no-header --no-annotate --no-emit-project --no-default-groups",
        "--extra",
        "--group",
    ),
    "poetry.lock": ("poetry export --no-interaction --without-hashes --format=requirements.txt", "--extras", "--with"),
    "pdm.lock": ("pdm export --no-hashes --prod --format=requirements", "--group", "--group"),
}
# If there are several requirements files, the first of these is the application's.
PREFERRED = ("requirements.txt", "production.txt", "prod.txt", "base.txt", "main.txt")

Table = Mapping[str, Any]
Part = Literal["all", "application", "suite"]


def asked_for(
    tree: Path, project: Path, install: InstallSettings, before: Iterable[str] = (), part: Part = "all"
) -> tuple[Asked, list[str]]:
    """Return the packages that the folder `project` of a tree asks for, and the names of the files that list them.

    `part`: "suite" or "application" if they have separate environments. `before`: installed packages, as lines of a
    requirements file; their versions are kept if possible. Raises InstallError, and NoBase if a file cannot be read.
    """
    files = [SUITE_REQUIREMENTS] if (project / SUITE_REQUIREMENTS).is_file() and part != "application" else []
    if part == "suite":
        return Asked(project, files, preferred=[line for line in before if "==" in line]), files
    pyproject, lock = read_toml(project / "pyproject.toml"), read_lock(tree, project.relative_to(tree).as_posix())
    exported = _exported(lock, project, install)
    pins = exported or _pins(lock, lock.pins.keys() - lock.optional)
    names = {name_in(pin) for pin in pins}
    preferred = [*_pins(lock, lock.pins.keys() - names)]
    names |= {name_in(pin) for pin in preferred}
    preferred += [line for line in before if "==" in line and name_in(line) not in names]
    own = _requirements_files(tree, project, lock, install)
    readable = {} if own and not _has_valid_name(pyproject) else pyproject
    lines, declared, source = _application(project, readable, pins if lock.file in LOCK_FILES else [], install)
    asked = Asked(
        project,
        [*files, *own],
        lines,
        declared=declared,
        extras=install.extras,
        groups=install.groups,
        pins=pins,
        preferred=preferred,
    )
    file = "" if own else lock.file
    locked_by = f"{lock.file} by `{' '.join(EXPORTS[lock.file][0].split()[:2])}`" if exported else file
    named = [locked_by if lock.known else f"{lock.file} is not read, as its format is unknown", *own, source, *files]
    return asked, list(dict.fromkeys(name for name in named if name))


def is_buildable(project: Path, pyproject: Table) -> bool:
    """Return whether the project can be installed, according to pyproject.toml."""
    tool = pyproject.get("tool", {})
    poetry, uv = tool.get("poetry", {}), tool.get("uv", {})
    declared = (poetry.get("package-mode"), uv.get("package"), tool.get("pdm", {}).get("distribution"))
    if False in declared:
        return False
    if "build-system" not in pyproject:
        is_old = "project" not in pyproject and not poetry and (project / "setup.py").is_file()
        return is_old or uv.get("package") is True
    if str(pyproject["build-system"].get("build-backend", "")).startswith("poetry.") and "packages" not in poetry:
        # Poetry builds the folder or module with the name of the project.
        name = poetry.get("name") or pyproject.get("project", {}).get("name") or ""
        module = canonicalize_name(name).replace("-", "_")
        found = [project / folder / file for folder in ("", "src") for file in (module, f"{module}.py")]
        return any(path.exists() for path in found)
    return True


def _has_valid_name(pyproject: Table) -> bool:
    """Return whether tools can read pyproject.toml: they refuse one whose project has a wrong name."""
    try:
        Requirement(pyproject.get("project", {}).get("name", "none"))
    except InvalidRequirement:
        return False
    return True


def _application(
    project: Path, pyproject: Table, pins: Sequence[str], install: InstallSettings
) -> tuple[list[str], bool, str]:
    """Return requirements for the application, whether to use its declared dependencies instead, and the file name."""
    text = (
        (project / SUITE_REQUIREMENTS).read_text(encoding="utf-8") if (project / SUITE_REQUIREMENTS).is_file() else ""
    )
    is_installed = re.search(r"^(-e|--editable)[ =]\.(\[|\s|$)", text, re.MULTILINE)
    if install.application == "off" or (is_installed and install.application == "auto"):
        return [], False, ""
    file = "pyproject.toml" if pyproject else "setup.py" if (project / "setup.py").is_file() else ""
    if install.application == "auto" and is_buildable(project, pyproject):
        extras = f"[{','.join(install.extras)}]" if install.extras else ""
        return [f"-e .{extras}"], False, file
    table, poetry = pyproject.get("project", {}), pyproject.get("tool", {}).get("poetry", {})
    is_static = "dependencies" in table
    if not is_static and pins and not install.extras:
        return list(pins), False, ""
    if is_static and not find_uv():
        optional = table.get("optional-dependencies", {})
        return (
            [*table["dependencies"], *(line for name in install.extras for line in optional.get(name, []))],
            False,
            file,
        )
    is_package = poetry.get("package-mode", True) and "build-system" in pyproject
    if poetry.get("dependencies") and not is_static and not is_package:  # Poetry's backend refuses to read it
        chosen = frozenset(one for name in install.extras for one in poetry.get("extras", {}).get(name, []))
        try:
            return poetry_requirements(poetry["dependencies"], chosen), False, file
        except ValueError as error:
            raise InstallError(f"only Poetry can read a dependency in pyproject.toml: {error}: {ADVICE}") from None
    if is_static or "dependencies" in table.get("dynamic", []) or (poetry and "build-system" in pyproject):
        if not find_uv():
            raise InstallError(f"only uv can read the dependencies in pyproject.toml: install uv, or {ADVICE}")
        return [], True, file
    return [], False, ""


def local_files(asked: Asked, packages: Iterable[str]) -> list[str]:
    """Return further files that list packages: those that requirements files include, and metadata of local packages.

    Their paths are relative to the project if possible.
    """
    texts: dict[Path, str] = {}
    for file in asked.files:
        read_requirements((asked.folder / file).resolve(), texts)
    found = {*texts}
    for line in packages:
        folder = folder_of(line, asked.folder)
        found |= {folder / name for name in METADATA if (folder / name).is_file()}
    return sorted({os.path.relpath(path, asked.folder) for path in found})


def copied_code(folder: Path, packages: Iterable[str]) -> list[str]:
    """Return the Python files of folders that are installed as copies, relative to `folder` if possible."""
    found = {path for place in copied_folders(packages, folder) for path in place.rglob("*.py") if path.is_file()}
    return sorted({os.path.relpath(path, folder) for path in found})


def _requirements_files(tree: Path, project: Path, lock: Lock, install: InstallSettings) -> list[str]:
    """Return the application's requirements files: those of the settings, or those of production."""
    if install.requirements:
        return list(install.requirements)
    if lock.file in LOCK_FILES or install.application == "off":
        return []
    for folder in (project, *(parent for parent in project.parents if parent.is_relative_to(tree))):
        found = sorted(folder.glob("requirements*.txt")) or sorted(folder.glob("requirements/*.txt"))
        named = {re.sub(r"^requirements[-_.]?(?=\w+\.txt)(?!txt)", "", file.name): file for file in reversed(found)}
        chosen = next((named[name] for name in PREFERRED if name in named), None)
        wanted = [chosen] if chosen else [file for file in found if not FOR_DEVELOPERS.search(file.name)]
        if wanted:
            return [os.path.relpath(file, project) for file in wanted]
    return []


def _exported(lock: Lock, project: Path, install: InstallSettings) -> list[str]:
    """Return the pins that the tool of a lock file exports, none if the tool is missing or fails."""
    if lock.file not in EXPORTS:
        return []
    command, extra, group = EXPORTS[lock.file]
    words = find_uv() + command.split()[1:] if lock.file == "uv.lock" else command.split()
    words += [word for name in install.extras for word in (extra, name)]
    words += [word for name in install.groups for word in (group, name)]
    try:
        code, output, _ = run_command(words, EXPORT_LIMIT_S, cwd=project)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [pin for line in output.splitlines() if (pin := _pin(line))] if code == 0 else []


def _pin(line: str) -> str:
    """Return a line of an export without extras, which constraints must not have. "" if the line pins nothing."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return ""
    requirement.extras = set()
    return str(requirement) if requirement.specifier or requirement.url else ""


def _pins(lock: Lock, names: Iterable[str]) -> list[str]:
    pins = {name: lock.pins[name] for name in sorted(names)}
    exact = {name: pin for name, pin in pins.items() if not is_open(pin) and not pin.startswith(LOCAL_FILE)}
    lines = [f"{name} @ {pin}" if "://" in pin else f"{name}=={pin}" for name, pin in exact.items()]
    return [line for line in lines if _pin(line)]
