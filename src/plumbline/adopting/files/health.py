"""Paths that may say whether the application works: from health checks of containers, and from routes."""

import ast
import re
from collections.abc import Iterable, Iterator

from plumbline.adopting.files.starts import ComposeService, Docker, manifests
from plumbline.adopting.files.tree import Module, Tree, constant, dotted

USUAL = ("/health", "/healthz", "/health/", "/api/health", "/ping", "/", "/docs", "/schema", "/admin/login/")
HEALTH = re.compile(
    r"health|\bping\b|ready|readiness|\blive\b|liveness|heartbeat|\balive\b|(^|/)status/?$|\bup\b", re.IGNORECASE
)
CHECKED = re.compile(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(?::[\w${}:-]+)?(/[^\s\"'|)\]\\]*)")
PROBE = re.compile(
    r"(?:path|healthCheckPath|healthcheckPath|health_check_path|healthcheck_path)[\"']?\s*[:=]\s*[\"']?(/[\w./-]*)"
)
METHODS = {"get", "route", "api_route", "head", "add_api_route", "add_route"}
MAX_PATHS = 16


def health_paths(
    tree: Tree, files: Iterable[str], dockers: list[Docker], services: list[ComposeService]
) -> tuple[str, ...]:
    """Return candidates for `health_path`, the likeliest first. `files`: the modules of the application."""
    found = [*_checks(tree, dockers, services), *_routes(tree, list(files)), *USUAL]
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


def _routes(tree: Tree, files: list[str]) -> Iterator[str]:
    """Return the routes that are named like a health check, with the prefixes that routers have in front of them."""
    modules = [tree.modules[file] for file in files if file in tree.modules]
    prefixes = list(dict.fromkeys(_included(modules)))
    for module in modules:
        own = _own_prefixes(module)
        for receiver, path in _paths(module):
            if HEALTH.search(path) or HEALTH.search(own.get(receiver, "")):
                full = own.get(receiver, "") + path
                is_django = receiver == "path"
                path = f"/{full}".replace("//", "/") if full else ""
                outer = [f"{prefix}{path}" for prefix in prefixes if not path.startswith(prefix)]
                yield from (one for one in ([path, *outer] if is_django or not outer else [*outer, path]) if one)


def _paths(module: Module) -> Iterator[tuple[str, str]]:
    """Return the paths of routes, each with the name of the router that has it."""
    for node in ast.walk(module.body):
        if not isinstance(node, ast.Call):
            continue
        receiver, _, method = dotted(node.func).rpartition(".")
        words = {word.arg: word.value for word in node.keywords if word.arg}
        first = words.get("path") or (node.args[0] if node.args else None)
        path = constant(first)
        if path is None or len(path) > 100 or " " in path:
            continue
        if method in METHODS and (path.startswith("/") or (path == "" and receiver)):
            yield receiver, path
        elif dotted(node.func) in ("path", "re_path", "url") and len(node.args) > 1:
            yield "path", "/" + path.strip("^$").removeprefix("/")
        elif dotted(node.func) in ("get", "Route", "HTTPRoute", "route") and path.startswith("/"):
            yield "", path


def _own_prefixes(module: Module) -> dict[str, str]:
    """Return the prefixes of the routers and blueprints that a module makes."""
    found = {}
    for node in ast.walk(module.body):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            for word in node.value.keywords:
                if word.arg in ("prefix", "url_prefix") and (text := constant(word.value)):
                    found[dotted(node.targets[0])] = text
    return found


def _included(modules: Iterable[Module]) -> Iterator[str]:
    """Return the prefixes with which routers are included, also those of settings."""
    modules = list(modules)
    for module in modules:
        own = _own_prefixes(module)
        for node in ast.walk(module.body):
            if isinstance(node, ast.Call) and dotted(node.func).endswith(("include_router", "register_blueprint")):
                outer = own.get(dotted(node.func).rpartition(".")[0], "")
                for word in node.keywords:
                    if word.arg in ("prefix", "url_prefix"):
                        text = constant(word.value) or _setting(modules, dotted(word.value).rpartition(".")[2])
                        if text and text.startswith("/"):
                            yield outer + text
                if outer:
                    yield outer


def _setting(modules: Iterable[Module], name: str) -> str:
    """Return the default of a field or constant with this name."""
    for module in modules:
        for node in ast.walk(module.body):
            target = getattr(node, "target", None) if isinstance(node, ast.AnnAssign) else None
            target = node.targets[0] if isinstance(node, ast.Assign) else target
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            if name and dotted(target) == name and (text := constant(value)):
                return text
    return ""
