"""The applications that start commands name: `uvicorn shop.main:app`, `gunicorn shop.wsgi`, `fastapi run` …"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

from plumbline.adopting.files.imports import import_folder
from plumbline.adopting.files.starts import Start, compose_services, dockerfiles
from plumbline.adopting.files.tree import Tree
from plumbline.adopting.findings import Kind

TARGET = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*)(?::([A-Za-z_][\w.]*)(\(.*\))?)?")
SERVERS: Mapping[str, Kind] = {
    "uvicorn": "asgi",
    "hypercorn": "asgi",
    "daphne": "asgi",
    "granian": "asgi",
    "gunicorn": "wsgi",
    "waitress-serve": "wsgi",
    "uwsgi": "wsgi",
}
# Variables that name an application, in Dockerfiles, compose files and .env files.
VARIABLES: Mapping[str, Kind] = {
    "FLASK_APP": "wsgi",
    "LITESTAR_APP": "asgi",
    "UVICORN_APP": "asgi",
    "APP_MODULE": "asgi",
    "GRANIAN_APP": "asgi",
}
DJANGO = re.compile(r"^(WSGI|ASGI)_APPLICATION\s*=\s*[\"']([\w.]+)[\"']", re.MULTILINE)
FASTAPI_PATHS = ("main.py", "app.py", "api.py", "app/main.py", "app/app.py", "app/api.py")


class Named(NamedTuple):
    """An application that a command or a setting names."""

    file: str
    attribute: str  # "" if only the module is named
    directory: str
    kind: Kind
    seen: str
    is_factory: bool = False
    is_command: bool = True


def named_targets(tree: Tree, started: Iterable[Start]) -> list[Named]:
    """Return the applications that are named, those of production first."""
    found = [one for start in started for one in _of_command(tree, start)]
    entry = tree.table("pyproject.toml", "tool", "fastapi").get("entrypoint")
    if isinstance(entry, str):
        found += _resolved(tree, entry, "asgi", f"pyproject.toml: entrypoint = {entry!r}", [])
    found += [one for name, text, seen in _variables(tree) for one in _of_variable(tree, name, text, seen)]
    found += _in_code(tree)
    unique: dict[tuple[str, str], Named] = {}
    for one in found:
        unique.setdefault((one.file, one.attribute), one)
    return list(unique.values())


def _of_command(tree: Tree, start: Start) -> Iterator[Named]:
    program, *words = start.words
    name = program.rpartition("/")[2]
    if name in SERVERS:
        options = dict(pairwise(words))
        worker = next((options[one] for one in ("-k", "--worker-class") if one in options), "")
        worker += " ".join(word for word in words if word.startswith(("--worker-class=", "-k=")))
        kind: Kind = "asgi" if re.search("uvicorn|asgi", worker, re.IGNORECASE) else SERVERS[name]
        kind = "wsgi" if "wsgi" in (options.get("--interface"), options.get("--interface=wsgi")) else kind
        folders = [options[one] for one in ("--app-dir", "--chdir") if one in options]
        folders += [word.partition("=")[2] for word in words if word.startswith(("--app-dir=", "--chdir="))]
        factory = "--factory" in words
        for word in words:
            if ":" in word or "." in word or word in _top_modules(tree):
                found = list(_resolved(tree, word.removeprefix("asgi:"), kind, start.seen, folders, factory))
                if found and not (word != words[-1] and words[words.index(word) - 1] in ("-c", "--config")):
                    yield from found
                    return
    elif name == "fastapi" and words[:1] in (["run"], ["dev"]):
        files = [word for word in words[1:] if word.endswith(".py")]
        app = dict(pairwise(words)).get("--app", "")
        for file in files or FASTAPI_PATHS:
            ends = [one for one in tree.modules if one == file or one.endswith(f"/{file}")] if files else [file]
            for path in (one for one in ends if one in tree.modules):
                yield Named(path, app, import_folder(tree, tree.modules[path]), "asgi", start.seen)
                return
    elif name in ("flask", "litestar"):
        options = dict(pairwise(words))
        value = next((options[one] for one in ("--app", "-A") if one in options), "")
        value = value or next((word.partition("=")[2] for word in words if word.startswith("--app=")), "")
        if value:
            yield from _resolved(tree, value, "wsgi" if name == "flask" else "asgi", start.seen, [])


def _top_modules(tree: Tree) -> set[str]:
    return {PurePosixPath(file).stem for file in tree.modules if "/" not in file}


def _resolved(
    tree: Tree, target: str, kind: Kind, seen: str, folders: Iterable[str], factory: bool = False
) -> Iterator[Named]:
    """Return the application of a target such as `shop.main:app` if the project has its module."""
    if target.endswith(".py"):
        target = target.removesuffix(".py").replace("/", ".").strip(".")
    found = TARGET.fullmatch(target)
    if not found:
        return
    module, attribute = found[1], found[2] or ""
    known = [PurePosixPath(folder).name for folder in folders]
    places = tree.folders_of(module)
    if not places and not attribute and "." in module:  # `shop.wsgi.application`, as Django and flask write it
        module, _, attribute = module.rpartition(".")
        places = tree.folders_of(module)
    places.sort(key=lambda folder: PurePosixPath(folder).name not in known)
    if places:
        folder = places[0]
        file = tree.module_at(module, folder)
        yield Named(file, attribute, folder, kind, seen, factory or bool(found[3]))


def _variables(tree: Tree) -> Iterator[tuple[str, str, str]]:
    for docker in dockerfiles(tree):
        yield from ((name, value, f"{docker.file}: {name}={value}") for name, value in docker.variables.items())
    for service in compose_services(tree):
        for name, value in service.environment.items():
            yield name, value, f"{service.file}:{service.line}: {name}={value}"
    for file in tree.named(r"\.flaskenv|.*\.?env[\w.-]*"):
        for number, line in enumerate(tree.lines(file), 1):
            name, _, value = line.strip().removeprefix("export ").partition("=")
            if name in VARIABLES:
                yield name, value.strip("\"'"), f"{file}:{number}: {name}={value}"


def _of_variable(tree: Tree, name: str, text: str, seen: str) -> Iterator[Named]:
    if name in VARIABLES:
        yield from _resolved(tree, text, VARIABLES[name], seen, [])


def _in_code(tree: Tree) -> Iterator[Named]:
    """Return the applications that strings in code name, as in `uvicorn.run("shop.main:app")`."""
    for module in tree.modules.values():
        if module.is_aside:
            continue
        for kind, target in DJANGO.findall(module.text):
            line = next(number for number, text in enumerate(module.lines, 1) if target in text)
            seen = f"{module.path}:{line}: {kind}_APPLICATION"
            yield from _resolved(tree, target, "asgi" if kind == "ASGI" else "wsgi", seen, [])
        for node in module.strings:
            text = str(node.value)
            if ":" in text and re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*", text):
                for one in _resolved(tree, text, "asgi", module.seen(node), []):
                    yield one._replace(is_command=False)
