"""Paths that may say whether the application works: from health checks of containers, and from routes."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from plumbline.adopting.files.reach import file_of
from plumbline.adopting.files.starts import ComposeService, Docker, manifests
from plumbline.adopting.files.tree import Module, Tree, constant, dotted

USUAL = ("/health", "/healthz", "/health/", "/api/health", "/ping", "/", "/docs", "/schema", "/admin/login/")
HEALTH = re.compile(
    r"health|\bping\b|ready|readiness|\blivez?\b|liveness|heartbeat|\balive\b|^/status/?$|^/api/status/?$|\bup\b",
    re.IGNORECASE,
)
OPEN = re.compile(r"/(login|signin|sign-in|version|about|info|index)/?$", re.IGNORECASE)  # for everybody
CHECKED = re.compile(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(?::[\w${}:-]+)?(/[^\s\"'|)\]\\]*)")
PROBE = re.compile(r"(?:path|health_?[Cc]heck_?[Pp]ath)[\"']?\s*[:=]\s*[\"']?(/[\w./-]*)")
METHODS = {"get", "route", "api_route", "head", "add_api_route", "add_route"}
MAX_PATHS = 16
MAX_DEPTH = 6

Router = tuple[str, str]  # the file of its module, and its name there


def health_paths(
    tree: Tree, files: Iterable[str], folder: str, dockers: list[Docker], services: list[ComposeService]
) -> tuple[str, ...]:
    """Return candidates for `health_path`, the likeliest first.

    `files` are the modules of the application. `folder` is where its imports start from.
    """
    modules = [tree.modules[file] for file in files if file in tree.modules]
    routes = list(_routes(tree, modules, folder))
    named = [path for path in routes if HEALTH.search(path)]
    others = [path for path in routes if OPEN.search(path)]
    found = [*_checks(tree, dockers, services), *named, *USUAL, *others]
    clean = [path.partition("?")[0] for path in found if not re.search(r"[{}<$]", path)]
    return tuple(dict.fromkeys(clean))[:MAX_PATHS]


def _checks(tree: Tree, dockers: list[Docker], services: list[ComposeService]) -> Iterator[str]:
    texts = [text for docker in dockers for _, text in docker.health]
    texts += [service.health for service in services if service.is_ours or not service.image]
    for text in texts:
        yield from CHECKED.findall(text)
        for file in tree.named(r".*\.(sh|py)", above=False) if re.search(r"\.(sh|py)\b", text) else ():
            if file.rpartition("/")[2] in text:
                yield from CHECKED.findall(tree.text(file))
    for file in [*tree.named(r"fly[\w.-]*\.toml|render\.ya?ml|railway[\w.]*\.(toml|json)|app\.json"), *manifests(tree)]:
        for path in PROBE.findall(tree.text(file)):
            if path != "/" and (HEALTH.search(path) or "robe" in tree.text(file)):
                yield path


def _routes(tree: Tree, modules: list[Module], folder: str) -> Iterator[str]:
    """Return the paths of routes, with the prefixes that routers have in front of them."""
    outer = _outer(tree, modules, folder)
    for module in modules:
        for receiver, path in _paths(module):
            own = outer.get(_resolved(tree, module, receiver, folder), [""]) if receiver else [""]
            for full in (re.sub("//+", "/", f"{prefix}{path}") for prefix in own):
                if full:
                    yield full


def _paths(module: Module) -> Iterator[tuple[str, str]]:
    """Return the paths of routes, each with the name of the router that has it."""
    for node in module.calls:
        receiver, _, method = dotted(node.func).rpartition(".")
        words = {word.arg: word.value for word in node.keywords if word.arg}
        path = constant(words.get("path") or (node.args[0] if node.args else None))
        if path is None or len(path) > 100 or " " in path:
            continue
        if method in METHODS and (path.startswith("/") or (path == "" and receiver)):
            yield receiver, path
        elif dotted(node.func) in ("path", "re_path", "url") and len(node.args) > 1:  # Django
            yield "", "/" + path.strip("^$").removeprefix("/")
        elif dotted(node.func) in ("Route", "HTTPRoute") and path.startswith("/"):
            yield "", path


def _outer(tree: Tree, modules: list[Module], folder: str) -> dict[Router, list[str]]:
    """Return the prefixes of all routers and blueprints, from the application to the routes."""
    own: dict[Router, str] = {}
    parents: defaultdict[Router, list[tuple[Router, str | None]]] = defaultdict(list)
    settings = _settings(modules)
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                own[module.path, dotted(node.targets[0])] = _prefix(node.value, settings) or ""
        for call in module.calls:
            values = [*call.args[:1], *(word.value for word in call.keywords if word.arg in ("router", "blueprint"))]
            if dotted(call.func).endswith((".include_router", ".register_blueprint")) and values:
                parent = (module.path, dotted(call.func).rpartition(".")[0])
                child = _resolved(tree, module, dotted(values[0]), folder)
                parents[child].append((parent, _prefix(call, settings)))
    found = {}
    for router in {*own, *parents}:
        found[router] = list(dict.fromkeys(_prefixes(router, own, parents, 0)))
    return found


def _prefixes(
    router: Router, own: Mapping[Router, str], parents: Mapping[Router, list[tuple[Router, str | None]]], depth: int
) -> Iterator[str]:
    inner = own.get(router, "")
    if depth > MAX_DEPTH or router not in parents:
        yield inner
        return
    for parent, prefix in parents[router]:
        for before in _prefixes(parent, own, parents, depth + 1):
            yield before + (prefix or "") + inner


def _resolved(tree: Tree, module: Module, name: str, folder: str, depth: int = 0) -> Router:
    """Return the module that makes a router, and the router's name in it."""
    first, _, rest = name.partition(".")
    imported = module.imports.get(first)
    if imported is None or depth > MAX_DEPTH:
        return module.path, name
    dot = "" if imported.module.endswith(".") else "."
    inner = file_of(tree, module, f"{imported.module}{dot}{imported.name}", folder) if imported.name else ""
    if inner and rest:
        return _resolved(tree, tree.modules[inner], rest, folder, depth + 1) if inner in tree.modules else (inner, rest)
    source = file_of(tree, module, imported.module, folder)
    if source not in tree.modules or source == module.path:
        return module.path, name
    return _resolved(tree, tree.modules[source], imported.name or rest, folder, depth + 1)


def _prefix(call: ast.Call, settings: Mapping[str, str]) -> str | None:
    for word in call.keywords:
        if word.arg in ("prefix", "url_prefix"):
            text = constant(word.value)
            return settings.get(dotted(word.value).rpartition(".")[2], "") if text is None else text
    return None


def _settings(modules: Iterable[Module]) -> dict[str, str]:
    """Return the fields and constants whose value is a path: prefixes may be among them."""
    found: dict[str, str] = {}
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                text = constant(node.value)
                if text and text.startswith("/") and isinstance(target, ast.Name):
                    found.setdefault(target.id, text)
    return found
