"""The applications of a project: ASGI and WSGI, made by a module or by a function."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from plumbline.adopting.files.imports import fits, import_folder, module_name
from plumbline.adopting.files.servers import Named, named_targets
from plumbline.adopting.files.starts import Start
from plumbline.adopting.files.tree import Import, Module, Tree, dotted, is_test, statements
from plumbline.adopting.findings import FoundApplication, Kind

# Classes and functions that make an application, by the package that they are imported from.
MAKERS: Mapping[str, tuple[Kind, str]] = {
    "fastapi.FastAPI": ("asgi", "fastapi"),
    "fastapi.applications.FastAPI": ("asgi", "fastapi"),
    "starlette.applications.Starlette": ("asgi", "starlette"),
    "litestar.Litestar": ("asgi", "litestar"),
    "litestar.app.Litestar": ("asgi", "litestar"),
    "starlite.Starlite": ("asgi", "starlite"),
    "quart.Quart": ("asgi", "quart"),
    "sanic.Sanic": ("asgi", "sanic"),
    "blacksheep.Application": ("asgi", "blacksheep"),
    "falcon.asgi.App": ("asgi", "falcon"),
    "esmerald.Esmerald": ("asgi", "esmerald"),
    "channels.routing.ProtocolTypeRouter": ("asgi", "django"),
    "django.core.asgi.get_asgi_application": ("asgi", "django"),
    "django.core.wsgi.get_wsgi_application": ("wsgi", "django"),
    "flask.Flask": ("wsgi", "flask"),
    "flask.app.Flask": ("wsgi", "flask"),
    "apiflask.APIFlask": ("wsgi", "flask"),
    "falcon.App": ("wsgi", "falcon"),
    "bottle.Bottle": ("wsgi", "bottle"),
}
USUAL_MODULES = ("main", "app", "wsgi", "asgi", "application", "server", "api", "__init__")
MAX_FOUND = 8


class Candidate(NamedTuple):
    """An application in a module."""

    module: Module
    name: str
    made_by: tuple[Kind, str]
    node: ast.AST
    is_factory: bool


def applications(tree: Tree, started: Iterable[Start]) -> list[FoundApplication]:
    """Return the applications, the likeliest first."""
    found = list(_candidates(tree))
    named = named_targets(tree, started)
    mounted = _mounted(found)
    shown: dict[tuple[str, str], tuple[tuple[object, ...], FoundApplication]] = {}
    for one in found:
        by = next((name for name in named if _is_named(one, name)), None)
        directory = by.directory if by and fits(tree, one.module, by.directory) else import_folder(tree, one.module)
        target = f"{module_name(one.module.path, directory)}:{one.name}"
        application = FoundApplication(
            kind=one.made_by[0],
            target=target,
            directory=directory,
            framework=one.made_by[1],
            seen=one.module.seen(one.node),
            factory=one.is_factory,
        )
        rank = (
            named.index(by) if by else len(named),
            one.module.is_aside or is_test(one.module.path) or "migrations" in one.module.path.split("/"),
            (one.module.path, one.name) in mounted,
            _is_alone(tree, one, found),
            _is_unlikely(one, found),
            _module_rank(one.module.path),
            one.module.path.count("/"),
            one.module.path,
        )
        shown.setdefault((one.module.path, one.name), (rank, application))
    shown |= _only_named(tree, named, shown.keys())
    return [application for _, application in sorted(shown.values(), key=lambda pair: pair[0])][:MAX_FOUND]


def _candidates(tree: Tree) -> Iterator[Candidate]:
    """Return the applications that modules make, and the functions that return one."""
    names = {module.path: module.imports for module in tree.modules.values()}
    subclasses = _subclasses(tree, names)
    factories: dict[str, list[Candidate]] = {}
    for module in tree.modules.values():
        for node in module.body.body:
            if isinstance(node, ast.FunctionDef) and (made_by := _returned(node, names[module.path], subclasses)):
                factories.setdefault(node.name, []).append(Candidate(module, node.name, made_by, node, True))
    for module in tree.modules.values():
        used = set()
        for node in statements(module.body.body):
            target, value = _assigned(node)
            if not target or not isinstance(value, ast.Call):
                continue
            maker = _maker(value, names[module.path], subclasses)
            if not maker and (factory := _called_factory(value, factories, names[module.path], module)):
                maker = factory.made_by
                used.add(factory.name)
            if maker:
                yield Candidate(module, target, maker, node, False)
        for factory in (one for some in factories.values() for one in some if one.module is module):
            if factory.name not in used and not factory.name.startswith("_") and _takes_nothing(factory.node):
                yield factory


def _subclasses(tree: Tree, names: Mapping[str, Mapping[str, Import]]) -> dict[str, tuple[Kind, str]]:
    """Return the project's own subclasses of application classes by name."""
    found = {}
    for module in tree.modules.values():
        for node in (one for one in module.body.body if isinstance(one, ast.ClassDef)):
            for base in node.bases:
                if made_by := MAKERS.get(_full_name(base, names[module.path])):
                    found[node.name] = made_by
    return found


def _full_name(node: ast.AST | None, names: Mapping[str, Import]) -> str:
    """Return the name of an object with the module that it is imported from."""
    first, _, rest = dotted(node).partition(".")
    if first not in names:
        return dotted(node)
    imported = names[first]
    return ".".join(filter(None, [imported.module, imported.name, rest]))


def _maker(
    node: ast.AST | None, names: Mapping[str, Import], subclasses: Mapping[str, tuple[Kind, str]]
) -> tuple[Kind, str] | None:
    """Return what a call makes, or what an annotation names, if it is an application."""
    node = node.func if isinstance(node, ast.Call) else node
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.Name(node.value.rpartition(".")[2])
    full = _full_name(node, names)
    return MAKERS.get(full) or subclasses.get(full.rpartition(".")[2])


def _returned(
    node: ast.FunctionDef, names: Mapping[str, Import], subclasses: Mapping[str, tuple[Kind, str]]
) -> tuple[Kind, str] | None:
    """Return what a function returns if it is an application."""
    inside = {target: value for one in ast.walk(node) for target, value in [_assigned(one)] if target}
    for one in ast.walk(node):
        if isinstance(one, ast.Return) and one.value is not None:
            value = inside.get(one.value.id) if isinstance(one.value, ast.Name) else one.value
            if isinstance(value, ast.Call) and (found := _maker(value, names, subclasses)):
                return found
    return _maker(node.returns, names, subclasses) if node.returns else None


def _assigned(node: ast.AST) -> tuple[str, ast.expr | None]:
    """Return the name that a statement assigns to, and the value."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id, node.value
    return "", None


def _called_factory(
    call: ast.Call, factories: Mapping[str, list[Candidate]], names: Mapping[str, Import], module: Module
) -> Candidate | None:
    first, _, rest = dotted(call.func).partition(".")
    name = rest.rpartition(".")[2] or (names[first].name if first in names else first)
    found = factories.get(name, [])
    own = [one for one in found if one.module is module]
    if own and not rest:
        return own[0]
    source = names[first].module.strip(".").replace(".", "/") if first in names else ""
    return next((one for one in found if first in names and (source in one.module.path or not source)), None)


def _takes_nothing(node: ast.AST) -> bool:
    """Return whether a function can be called without arguments."""
    if not isinstance(node, ast.FunctionDef):
        return False
    arguments = node.args
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return required == 0 and all(default is not None for default in arguments.kw_defaults)


def _mounted(found: Iterable[Candidate]) -> set[tuple[str, str]]:
    """Return the applications, by file and name, that another one mounts."""
    mounted = set()
    known = {(one.module.path, one.name): one for one in found}
    for module in {one.module.path: one.module for one in known.values()}.values():
        names = module.imports
        for node in module.nodes:
            if isinstance(node, ast.Call) and dotted(node.func).endswith((".mount", "Mount")):
                values = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "app")]
                for name in filter(None, map(dotted, values)):
                    imported = names.get(name)
                    for path, attribute in known:
                        here = path == module.path and attribute == name
                        if here or (imported and imported.name == attribute and path != module.path):
                            mounted.add((path, attribute))
    return mounted


def _is_unlikely(one: Candidate, found: Iterable[Candidate]) -> bool:
    """Return whether it is a factory while a module of the project makes an application of the same framework."""
    return one.is_factory and any(
        not other.is_factory and other.made_by == one.made_by and not other.module.is_aside for other in found
    )


def _is_alone(tree: Tree, one: Candidate, found: Iterable[Candidate]) -> bool:
    """Return whether it uses no other module of the project, while another application does."""
    return not _uses_project(tree, one.module) and any(
        _uses_project(tree, other.module) and not other.module.is_aside for other in found
    )


def _uses_project(tree: Tree, module: Module) -> bool:
    imported = module.imports.values()
    names = {name for one in imported for name in (one.module, f"{one.module}.{one.name}") if name.strip(".")}
    return any(name.startswith(".") or tree.folders_of(name) for name in names)


def _module_rank(path: str) -> int:
    name = PurePosixPath(path).stem
    return USUAL_MODULES.index(name) if name in USUAL_MODULES else len(USUAL_MODULES)


def _is_named(one: Candidate, name: Named) -> bool:
    return one.module.path == name.file and (one.name == name.attribute or (not name.attribute and not one.is_factory))


def _only_named(
    tree: Tree, named: list[Named], known: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], tuple[tuple[object, ...], FoundApplication]]:
    """Return the applications that a start command names, but that the code does not show."""
    found: dict[tuple[str, str], tuple[tuple[object, ...], FoundApplication]] = {}
    for index, name in enumerate(named):
        module = tree.modules.get(name.file)
        if not name.attribute or (name.file, name.attribute) in known or not name.is_command or not module:
            continue
        if any(file == name.file for file, _ in known) and not re.search(
            rf"\b{name.attribute}\b", tree.text(name.file)
        ):
            continue
        imported = {one.module.partition(".")[0] for one in module.imports.values()}
        framework = next((made[1] for full, made in MAKERS.items() if full.partition(".")[0] in imported), "")
        framework = "django" if name.seen.endswith("_APPLICATION") else framework
        rank = (index, module.is_aside, False, False, 0, 0, name.file)
        target = f"{module_name(name.file, name.directory)}:{name.attribute}"
        application = FoundApplication(name.kind, target, name.directory, framework, name.seen, name.is_factory)
        found.setdefault((name.file, name.attribute), (rank, application))
    return found
