"""Settings for installing the project, if Plumbline's own defaults would not do it right."""

import ast
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from plumbline.adopting.files.dependencies import Dependency, project_folders
from plumbline.adopting.files.starts import Docker
from plumbline.adopting.files.tree import Module, Tree
from plumbline.adopting.findings import FoundInstall
from plumbline.comparing.trees.asked import PREFERRED, is_buildable
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.installers import InstallError
from plumbline.comparing.trees.locks import LOCK_FILES, read_lock
from plumbline.comparing.trees.pythons import OLDEST, wanted_python

FOR_DEVELOPERS = re.compile(r"dev|test|lint|doc|typing|types|\bci\b|local|debug|all|bench")
# The requirements files of production, the likeliest first.
REQUIREMENTS = ("requirements.txt", *(f"requirements/{name}" for name in PREFERRED))
# Modules whose package has another name.
PACKAGES = {
    "psycopg2": "psycopg2-binary",
    "jwt": "pyjwt",
    "jose": "python-jose",
    "dotenv": "python-dotenv",
    "yaml": "pyyaml",
    "multipart": "python-multipart",
    "decouple": "python-decouple",
    "environ": "django-environ",
    "sentry_sdk": "sentry-sdk",
}


def install(
    tree: Tree, directory: str, declared: list[Dependency], dockers: list[Docker], files: Iterable[str]
) -> FoundInstall:
    """Return how to install the project. `directory`: that of the application. `files`: the modules that it imports."""
    pinned, pinned_by = _python(tree, dockers)
    extras, groups, asked_by = _groups(tree, declared, dockers, files)
    folder = _folder(tree, directory)
    requirements, listed_by = _requirements(tree, dockers) if folder == "." else _requirements_in(tree, folder)
    application, built_by = _application(tree, dockers)
    return FoundInstall(
        python=pinned,
        python_seen=pinned_by,
        lock=_lock_of(tree),
        application="dependencies" if application else "auto",
        extras=tuple(extras),
        groups=tuple(groups),
        requirements=tuple(requirements),
        seen="; ".join(filter(None, dict.fromkeys([asked_by, listed_by, built_by]))),
        folder=folder,
    )


def _folder(tree: Tree, directory: str) -> str:
    """Return the folder of the files that list the application's packages, "." if the root has some."""
    names = ("pyproject.toml", "setup.py", "Pipfile", "requirements.txt", "poetry.lock")
    has_packages = bool(tree.table("pyproject.toml", "project") or tree.table("pyproject.toml", "tool", "poetry"))
    if has_packages or any(name in tree.known for name in names[1:]):
        return "."
    for folder in project_folders(directory):
        if any(f"{folder}/{name}" in tree.known for name in (*names, *REQUIREMENTS)):
            return folder
    return "."


def _lock_of(tree: Tree) -> str:
    """Return the file whose versions are installed, "" if there is none."""
    try:
        return read_lock(tree.top, tree.root.relative_to(tree.top).as_posix()).file
    except NoBase:
        return ""


def _python(tree: Tree, dockers: list[Docker]) -> tuple[str, str]:
    """Return the Python of production if neither `.python-version` nor `requires-python` names one.

    One that this machine does not have is left out: not every machine can download it.
    """
    try:
        _, source = wanted_python(tree.root, tree.top, "")
    except (InstallError, NoBase, OSError, ValueError, AttributeError):  # a file that cannot be read
        return "", ""
    if source:
        return "", ""
    for text, seen in _pythons(tree, dockers):
        try:
            version = Version(text)
        except InvalidVersion:
            continue
        chosen = ".".join(map(str, max(version, OLDEST).release[:2]))
        if version < OLDEST:
            seen += f"; the oldest Python that Plumbline runs on is {OLDEST}"
        is_here = shutil.which(f"python{chosen}") or chosen == ".".join(map(str, sys.version_info[:2]))
        return (chosen, seen) if is_here else ("", "")
    return "", ""


def _pythons(tree: Tree, dockers: list[Docker]) -> Iterator[tuple[str, str]]:
    """Return the versions that Dockerfiles and settings of platforms name."""
    for docker in dockers:
        for number, image in docker.images:
            if found := re.search(r"(?:python|uv)[\w./-]*:(?:python)?(3\.\d+)|python(3\.\d+)", image):
                yield found[1] or found[2], f"{docker.file}:{number}: FROM {image}"
    patterns = {
        ".python-version": r"^\D*(3\.\d+)",
        "runtime.txt": r"python-(3\.\d+)",
        ".tool-versions": r"python\s+(3\.\d+)",
        "mise.toml": r"python\s*=\s*\"(3\.\d+)",
        ".mise.toml": r"python\s*=\s*\"(3\.\d+)",
        "Pipfile": r"python_(?:full_)?version\s*=\s*\"(3\.\d+)",
        "setup.cfg": r"python_requires\s*=\s*>=\s*(3\.\d+)",
        "setup.py": r"python_requires\s*=\s*['\"]>=\s*(3\.\d+)",
    }
    for file, pattern in patterns.items():
        for number, line in enumerate(tree.lines(file) if file in tree.known else [], 1):
            if found := re.search(pattern, line):
                yield found[1], f"{file}:{number}: {line.strip()}"


def _groups(
    tree: Tree, declared: list[Dependency], dockers: list[Docker], files: Iterable[str]
) -> tuple[list[str], list[str], str]:
    """Return the extras and groups that production installs, or that have a package which the application imports."""
    known_extras = {one.group for one in declared if one.group and one.is_extra}
    known_groups = {one.group for one in declared if one.group and not one.is_extra}
    if "poetry.lock" in tree.known:  # only Poetry itself can install its groups
        known_groups = set()
    extras: dict[str, str] = {}
    groups: dict[str, str] = {}
    for docker in dockers:
        for number, words in docker.runs:
            seen = f"{docker.file}:{number}: {' '.join(words)[:100]}"
            for name in _options(words):
                if FOR_DEVELOPERS.search(name):
                    continue
                if name in known_extras:
                    extras.setdefault(name, seen)
                elif name in known_groups:
                    groups.setdefault(name, seen)
    always = {one.name for one in declared if not one.group}
    imported = {name for file in files if file in tree.modules for name in _needed(tree.modules[file])}
    needed = {canonicalize_name(name) for name in imported} | {PACKAGES[one] for one in imported if one in PACKAGES}
    for one in declared:
        is_known = one.group in known_extras | known_groups
        if is_known and one.name in needed - always and not FOR_DEVELOPERS.search(one.group):
            (extras if one.is_extra else groups).setdefault(one.group, one.seen)
    return list(extras), list(groups), "; ".join([*extras.values(), *groups.values()])


def _needed(module: Module) -> Iterator[str]:
    """Return the packages that a module cannot be imported without."""
    for node in module.body.body:
        if isinstance(node, ast.Import):
            yield from (one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


def _options(words: list[str]) -> Iterator[str]:
    """Return the names of extras and groups in an install command."""
    if not {"install", "sync", "export"} & set(words[:4]):
        return
    names = ("--with", "--extras", "-E", "--extra", "--group", "-G", "--only", "--only-group")
    for word, value in zip(words, [*words[1:], ""], strict=True):
        option, equals, rest = word.partition("=")
        if option in names:
            yield from re.split(r"[,\s]+", rest if equals else value)
        elif found := re.fullmatch(r"(?:-e)?\.?[\w./-]*\[([\w,-]+)\]", word):
            yield from found[1].split(",")


def _requirements(tree: Tree, dockers: list[Docker]) -> tuple[list[str], str]:
    """Return the requirements files that production installs, if Plumbline would not choose them."""
    if any(name in tree.known for name in LOCK_FILES) or "requirements.txt" in tree.known:
        return [], ""
    usual = [file for file in tree.named(r"requirements.*\.txt|.*\.txt", above=False) if "requirements" in file]
    for docker in dockers:
        for number, words in docker.runs:
            for option, name in pairwise(words):
                found = [
                    file for file in usual if option in ("-r", "--requirement") and file.endswith(name.lstrip("./"))
                ]
                if found and not FOR_DEVELOPERS.search(found[0]) and not _is_usual(found[0]):
                    return found[:1], f"{docker.file}:{number}: {' '.join(words)[:100]}"
    return [], ""


def _requirements_in(tree: Tree, folder: str) -> tuple[list[str], str]:
    """Return the requirements file of production in a folder below the root, where Plumbline would not find it."""
    file = next((file for name in REQUIREMENTS if (file := f"{folder}/{name}") in tree.known), "")
    return ([file], f"{file}: the packages of the application") if file else ([], "")


def _is_usual(file: str) -> bool:
    """Return whether Plumbline finds a requirements file by itself."""
    return bool(
        re.fullmatch(r"requirements/(production|prod|base|main|requirements)\.txt|requirements[\w.-]*\.txt", file)
    )


def _application(tree: Tree, dockers: list[Docker]) -> tuple[bool, str]:
    """Return whether to install the dependencies alone, because production does so or the project can't be built."""
    content, file = tree.table("pyproject.toml"), "pyproject.toml"
    try:
        if not content or not is_buildable(tree.root, content):
            return False, ""  # Plumbline finds this by itself
    except (AttributeError, TypeError):  # a table that is none
        return False, ""
    for docker in dockers:
        for number, words in docker.runs:
            if words[:1] == ["poetry"] and "--no-root" in words:
                later = [one for _, one in docker.runs if one[:2] in (["poetry", "install"], ["poetry", "sync"])]
                if all("--no-root" in one for one in later):
                    return True, f"{docker.file}:{number}: {' '.join(words)[:100]}"
    backend = str(tree.table(file, "build-system").get("build-backend", ""))
    name = canonicalize_name(str(tree.table(file, "project").get("name", ""))).replace("-", "_")
    if backend.startswith("hatchling") and not tree.table(file, "tool", "hatch", "build"):
        places = [f"{folder}{name}{end}" for folder in ("", "src/") for end in ("/__init__.py", ".py")]
        if not any(place in tree.known for place in places):
            return True, f"pyproject.toml: hatchling finds no package with the name {name}"
    has_setup = bool(tree.table(file, "tool", "setuptools"))
    if backend.startswith("setuptools") and not has_setup and "setup.py" not in tree.known:
        packages = {file.split("/")[0] for file in tree.known if re.fullmatch(r"[\w-]+/__init__\.py", file)}
        if len(packages - {"src", "tests", "docs", "scripts", "migrations"}) > 1 and "setup.cfg" not in tree.known:
            return True, "pyproject.toml: setuptools finds several packages and builds none"
    return False, ""
