"""The values of variables in `.env.example` and compose files. Of a real `.env`, only the names are used."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from plumbline.adopting.files.shell import VARIABLE
from plumbline.adopting.files.starts import ComposeService
from plumbline.adopting.files.tree import Tree

EXAMPLE = re.compile(r"(example|sample|template|dist|default|defaults|tpl|tmpl)s?", re.IGNORECASE)
ENV_FILE = re.compile(r"\.?env([.-].+)?|.+[.-]env|\..*env.*|django|postgres|dotenv.*", re.IGNORECASE)
LINE = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)")


class Example(NamedTuple):
    """A value that a file shows for a variable."""

    name: str
    value: str  # "" if it must not be used
    seen: str
    is_compose: bool = False


def examples(tree: Tree, services: list[ComposeService]) -> dict[str, Example]:
    """Return the variables of example files, then those of compose files and the names of `.env` files."""
    found: dict[str, Example] = {}
    for file in [*tree.files, *tree.above]:
        parts = re.split(r"[._/-]+", file.rpartition("/")[2])
        if ENV_FILE.fullmatch(file.rpartition("/")[2]) and any(EXAMPLE.fullmatch(part) for part in parts):
            for one in _values(tree, file):
                found.setdefault(one.name, one)
    for service in services:
        if service.is_ours or not service.image:
            for name, value in service.environment.items():
                value = "" if VARIABLE.search(value) and "://" not in value else value
                found.setdefault(name, Example(name, value, f"{service.file}:{service.line}: {name}", is_compose=True))
    return found


def names_of_env_files(tree: Tree) -> dict[str, str]:
    """Return the names in the project's `.env` files, and where each was seen. Their values may be secret."""
    found: dict[str, str] = {}
    folders = {"", *(f"{'/'.join(file.split('/')[:depth])}/" for file in tree.files for depth in (1, 2) if "/" in file)}
    for file in sorted(
        {f"{folder}.env" for folder in folders} | {file for file in tree.above if file.endswith("/.env")}
    ):
        for one in _values(tree, file) if tree.exists(file) else ():
            found.setdefault(one.name, one.seen)
    return found


def names_in_git(tree: Tree) -> set[str]:
    """Return the names in `.env` files that git does not ignore, so that the application finds them everywhere."""
    return {one.name for file in tree.named(r"\.env") for one in _values(tree, file) if file in tree.known}


def schemes_of_env_files(tree: Tree) -> dict[str, str]:
    """Return the schemes of the URLs in `.env` files by name: a scheme is no secret."""
    found: dict[str, str] = {}
    for file in names_of_env_files(tree).values():
        for one in _values(tree, file.partition(":")[0]):
            if scheme := re.match(r"([a-z][\w+]*)://", one.value):
                found.setdefault(one.name, scheme[1])
    return found


def _values(tree: Tree, file: str) -> Iterator[Example]:
    known: dict[str, str] = {}
    for number, line in enumerate(tree.lines(file), 1):
        match = LINE.fullmatch(line.strip())
        if not match:
            continue
        name, value = match[1], _unquoted(match[2])
        value = VARIABLE.sub(lambda found: known.get(found[1] or found[3], found[0]), value)
        known[name] = value
        yield Example(name, "" if VARIABLE.search(value) else value, f"{file}:{number}: {name}")


def _unquoted(text: str) -> str:
    if quoted := re.match(r"(['\"])(.*?)\1", text):
        return quoted[2]
    return re.split(r"\s+#", text)[0].strip() if not text.startswith("#") else ""
