"""The commands that start a project: in Procfiles, Dockerfiles, compose files, scripts and settings of platforms."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import yaml

from plumbline.adopting.files.shell import commands_in, expand, split, unwrapped
from plumbline.adopting.files.tree import SKIPPED, Tree

DOCKERFILES = r"(.+\.)?Dockerfile(\..+)?|Containerfile"
COMPOSE_FILES = r"(docker-)?compose[\w.-]*\.ya?ml|(local|production|docker)\.ya?ml"
SCRIPTS = r".+\.(sh|bash)|(start|run|boot|entrypoint|prestart|migrate|release|web|server|worker)[\w-]*"
FOR_DEVELOPERS = re.compile(r"(^|[^a-z])(local|dev|development|debug|override|tests?|ci)([^a-z]|$)")
MAX_SCRIPTS = 200


class Start(NamedTuple):
    """A command of a file that starts or prepares something."""

    words: tuple[str, ...]
    seen: str
    file: str
    line: int
    rank: int  # 0 for what runs in production; higher for scripts that perhaps nobody calls


class Docker(NamedTuple):
    """The content of a Dockerfile."""

    file: str
    images: list[tuple[int, str]]  # with line numbers
    variables: dict[str, str]
    runs: list[tuple[int, list[str]]]
    starts: list[tuple[int, list[str]]]
    health: list[tuple[int, str]]


class ComposeService(NamedTuple):
    """A service of a compose file."""

    file: str
    name: str
    line: int
    image: str
    words: list[list[str]]
    environment: dict[str, str]
    health: str
    is_ours: bool  # whether it is built from this project
    volumes: list[tuple[str, str]]  # what is mounted from the project, and where


def dockerfiles(tree: Tree) -> list[Docker]:
    """Return the Dockerfiles, those of production first."""
    files = [file for file in tree.named(DOCKERFILES) if not file.endswith((".dockerignore", ".md"))]
    return [_docker(file, tree.text(file)) for file in sorted(files, key=lambda file: _is_for_developers(file))]


def _docker(file: str, text: str) -> Docker:
    found = Docker(file, [], {}, [], [], [])
    for number, name, rest in _instructions(text):
        rest = expand(rest, found.variables) if name in ("FROM", "ENV", "ARG", "CMD", "ENTRYPOINT") else rest
        if name == "FROM":
            found.images.append((number, next((word for word in rest.split() if not word.startswith("--")), "")))
        elif name in ("ENV", "ARG"):
            for word in split(rest):
                variable, equals, value = word.partition("=")
                if equals:
                    found.variables[variable] = value
            if "=" not in rest.partition(" ")[0]:
                variable, _, value = rest.partition(" ")
                found.variables.setdefault(variable, value.strip("\"' "))
        elif name == "RUN":
            found.runs.extend((number, words) for _, words in commands_in(rest, found.variables))
        elif name in ("CMD", "ENTRYPOINT"):
            found.starts.extend((number, words) for words in _command(rest, found.variables))
        elif name == "HEALTHCHECK":
            found.health.append((number, rest))
    return found


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    number, held = 0, ""
    for index, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        number = number if held else index
        held += line.rstrip().removesuffix("\\") + (" " if line.rstrip().endswith("\\") else "")
        if not line.rstrip().endswith("\\"):
            name, _, rest = held.strip().partition(" ")
            if name:
                yield number, name.upper(), rest.strip()
            held = ""


def compose_services(tree: Tree) -> list[ComposeService]:
    """Return the services of all compose files, those of files for developers last."""
    found = []
    for file in sorted(tree.named(COMPOSE_FILES), key=lambda file: (file.startswith(".."), _is_for_developers(file))):
        content = load_yaml(tree.text(file))
        services = content.get("services") if isinstance(content, dict) else None
        for name, service in services.items() if isinstance(services, dict) else ():
            if isinstance(service, dict):
                found.append(_compose_service(tree, file, str(name), service))
    return found


def _compose_service(tree: Tree, file: str, name: str, service: Mapping[str, Any]) -> ComposeService:
    pattern = re.compile(rf"\s+[\"']?{re.escape(name)}[\"']?:")
    line = next((number for number, text in enumerate(tree.lines(file), 1) if pattern.match(text)), 1)
    build = service.get("build")
    build = build if isinstance(build, dict) else {"context": build} if isinstance(build, str) else {}
    commands = (service.get("entrypoint"), service.get("command"))
    environment = service.get("environment") or {}
    if isinstance(environment, list):
        environment = dict(str(one).partition("=")[::2] for one in environment)
    environment = environment if isinstance(environment, dict) else {}
    check = service.get("healthcheck") or {}
    test = check.get("test", "") if isinstance(check, dict) else ""
    return ComposeService(
        file,
        name,
        line,
        str(service.get("image") or ""),
        [words for one in commands if one for words in _command(one if isinstance(one, str) else json.dumps(one), {})],
        {str(key): "" if value is None else str(value) for key, value in environment.items()},
        " ".join(map(str, test)) if isinstance(test, list) else str(test),
        _is_ours(tree, file, build),
        list(_volumes(service.get("volumes"))),
    )


def _volumes(volumes: object) -> Iterator[tuple[str, str]]:
    """Return the sources and targets of mounts, from their short or their long form."""
    for one in volumes if isinstance(volumes, list) else ():
        short = [*str(one).split(":"), ""][:2]
        source, target = (one.get("source"), one.get("target")) if isinstance(one, dict) else short
        if isinstance(source, str) and isinstance(target, str):
            yield source, target


def _is_ours(tree: Tree, file: str, build: Mapping[str, Any]) -> bool:
    """Return whether a service is built from a folder or a Dockerfile of this project."""
    if not build:
        return False
    if not file.startswith(".."):
        return True
    folder = (tree.path(file).parent / str(build.get("context") or ".")).resolve()
    named = folder / str(build.get("dockerfile") or "Dockerfile")
    return folder.is_relative_to(tree.root) or named.resolve().is_relative_to(tree.root)


def starts(tree: Tree) -> list[Start]:
    """Return the commands that start something, those of production first."""
    found: list[Start] = []
    known: dict[str, str] = {}
    for file in tree.named(r"Procfile[\w.]*"):
        for number, line in enumerate(tree.lines(file), 1):
            _, colon, command = line.partition(":")
            if colon:
                found += [_start(words, file, number, _rank(file)) for _, words in commands_in(command)]
    for docker in dockerfiles(tree):
        known |= docker.variables
        found += [_start(words, docker.file, number, _rank(docker.file)) for number, words in docker.starts]
    for service in compose_services(tree):
        if service.is_ours or not service.image or not service.file.startswith(".."):
            known |= {name: value for name, value in service.environment.items() if value and "$" not in value}
            found += [_start(words, service.file, service.line, _rank(service.file)) for words in service.words]
    for file, command in _platforms(tree):
        found += [_start(words, file, _line_of(tree, file, command), 1) for _, words in commands_in(command)]
    found += _scripts(tree, found, known)
    found += _recipes(tree)
    return sorted(found, key=lambda one: one.rank)


def _start(words: list[str], file: str, line: int, rank: int) -> Start:
    return Start(tuple(words), f"{file}:{line}: {' '.join(words)[:120]}", file, line, rank)


def _rank(file: str) -> int:
    return 1 + 2 * _is_for_developers(file)


def _is_for_developers(file: str) -> bool:
    return bool(FOR_DEVELOPERS.search(file.lower()))


def _scripts(tree: Tree, called: Iterable[Start], known: Mapping[str, str]) -> list[Start]:
    """Return the commands of shell scripts. Those that a command of `called` runs come first."""
    words = [word for start in called for word in start.words]
    found: list[Start] = []
    for file in tree.named(SCRIPTS, above=False)[:MAX_SCRIPTS]:
        text = tree.text(file)
        if not file.endswith((".sh", ".bash")) and not text.startswith("#!"):
            continue
        is_called = any(_names(word, file) for word in words)
        rank = (1 if is_called else 4) + 2 * _is_for_developers(file)
        found += [_start(command, file, line, rank) for line, command in commands_in(text, known)]
    return found


def _names(word: str, file: str) -> bool:
    """Return whether a word of a command is the path of a script, perhaps that of its place in an image."""
    name = PurePosixPath(word).name
    return bool(name) and PurePosixPath(file).name in (name, f"{name}.sh") and ("/" in word or name.endswith(".sh"))


def _recipes(tree: Tree) -> list[Start]:
    """Return the commands of Makefiles and justfiles, and those of Poe and PDM scripts in pyproject.toml."""
    found: list[Start] = []
    for file in tree.named(r"Makefile|GNUmakefile|[Jj]ustfile|Taskfile\.ya?ml", above=False)[:5]:
        lines = "\n".join(line if line[:1].isspace() else "" for line in tree.lines(file))
        found += [_start(words, file, line, 5) for line, words in commands_in(lines.replace("\n\t", "\n"))]
    tool = ("pyproject.toml", "tool")
    tasks = tree.table(*tool, "poe", "tasks") | tree.table(*tool, "pdm", "scripts")
    for task in tasks.values():
        text: Any = (task.get("cmd") or task.get("shell")) if isinstance(task, dict) else task
        if isinstance(text, str) and text:
            line = _line_of(tree, "pyproject.toml", text)
            found += [_start(words, "pyproject.toml", line, 5) for _, words in commands_in(text)]
    return found


def _platforms(tree: Tree) -> Iterator[tuple[str, str]]:
    """Return the commands in the settings of Fly, Render, Railway and Kubernetes."""
    for file in tree.named(r"fly[\w.-]*\.toml"):
        processes, release = tree.table(file, "processes"), tree.table(file, "deploy").get("release_command")
        for command in [*processes.values(), release]:
            if isinstance(command, str):
                yield file, command
    for file in tree.named(r"render\.ya?ml|railway[\w.]*\.(toml|json)|app\.ya?ml|nixpacks\.toml"):
        pattern = r"(?:startCommand|preDeployCommand|entrypoint|cmd)[\"']?\s*[:=]\s*[\"']?(.+?)[\"']?,?$"
        for found in re.finditer(pattern, tree.text(file), re.MULTILINE):
            yield file, found[1]


def manifests(tree: Tree) -> list[str]:
    """Return YAML files that may be of Kubernetes."""
    files = tree.named(r".+\.ya?ml", above=False)
    return [file for file in files if SKIPPED.isdisjoint(file.split("/")) and "kind:" in tree.text(file)][:100]


def _line_of(tree: Tree, file: str, text: str) -> int:
    return next((number for number, line in enumerate(tree.lines(file), 1) if text[:60] in line), 1)


class _Loader(yaml.SafeLoader):
    """Reads unknown tags, such as Compose's `!reset`, as nothing."""


_Loader.add_multi_constructor("!", lambda *_: None)


def load_yaml(text: str) -> Any:
    """Return the content of a YAML file, None if it cannot be parsed."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506, as it is a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _command(text: str, variables: Mapping[str, str]) -> list[list[str]]:
    """Return the commands of CMD, ENTRYPOINT or `command:`, which may be a list."""
    text = text.strip()
    if text.startswith("["):
        try:
            words = [str(word) for word in json.loads(text)]
        except ValueError:
            words = split(text.strip("[]").replace(",", " "))
        if "&&" in words:
            return [inner for _, inner in commands_in(" ".join(words), variables)]
        return list(unwrapped([expand(word, variables) for word in words]))
    return [words for _, words in commands_in(text, variables)]
