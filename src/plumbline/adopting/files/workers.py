"""The workers that run beside the application."""

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath

from msgspec.structs import replace

from plumbline.adopting.files.brokers import RABBITMQ, broker_of
from plumbline.adopting.files.imports import import_folder, module_name
from plumbline.adopting.files.starts import Start
from plumbline.adopting.files.tree import Module, Tree, constant, dotted, statements
from plumbline.adopting.findings import FoundApplication, FoundCommand

# The text that each tool prints when its worker is ready.
READY = {
    "arq": "Starting worker for",
    "celery": " ready.",
    "taskiq": "Listening started.",
    "dramatiq": "Worker process is ready for action.",
    "saq": "Worker starting:",
    "litestar-saq": "SAQ version",  # of its command `workers run`, which may log no more than warnings
    "rq": "*** Listening on",
    "huey": "Huey consumer started",
}
QUIET = ("--without-heartbeat", "--without-gossip", "--without-mingle")
DEVELOPERS_OPTIONS = {"--reload", "--watch", "-r", "--autoreload"}


def processes(
    tree: Tree, started: list[Start], application: FoundApplication | None, used: Collection[str]
) -> list[FoundCommand]:
    """Return the workers that start commands or the code show. `used`: the servers that the project uses."""
    directory = application.directory if application else "."
    found = {one.name: one for one in reversed(list(_started(tree, started, directory)))}
    for one in (*_in_code(tree), *_dramatiq(tree)):
        found.setdefault(one.name, one)
    return [_with_broker(one, broker_of(one.name, tree, used)) for one in found.values()]


def _with_broker(worker: FoundCommand, broker: str) -> FoundCommand:
    # With RabbitMQ, Celery sends messages even if it has no task: counts would vary.
    quiet = QUIET if worker.name == "celery" and broker == RABBITMQ else ()
    more = [option for option in quiet if option not in worker.command]
    return replace(worker, command=(*worker.command, *more), needs=broker)


def _started(tree: Tree, started: Iterable[Start], directory: str) -> Iterator[FoundCommand]:
    for start in started:
        program, words = start.words[0].rpartition("/")[2], list(start.words[1:])
        words = [word for word in words if word not in DEVELOPERS_OPTIONS and not word.startswith("--logfile")]
        tool = _tool(program, words)
        if tool and not any("$" in word for word in words):
            yield _worker(tool, program, words, start.seen, _folder(tree, words, directory))


def _tool(program: str, words: Sequence[str]) -> str:
    """Return the key in READY of the tool whose worker a command starts, "" if it starts none."""
    if ("workers", "run") in pairwise(words):  # of `litestar`, or of a program with another name
        return "litestar-saq"
    if ("manage.py", "rundramatiq") in pairwise(words):
        return "dramatiq"
    needed = {"celery": "worker" in words, "taskiq": words[:1] == ["worker"], "rq": words[:1] == ["worker"]}
    return program if needed.get(program, program in ("arq", "dramatiq", "saq")) else ""


def _folder(tree: Tree, words: Iterable[str], directory: str) -> str:
    """Return the folder from which the module that a worker names can be imported."""
    for word in words:
        name = word.partition(":")[0]
        for module in (name, name.rpartition(".")[0]):
            if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", module) and (folders := tree.folders_of(module)):
                return directory if directory in folders else folders[0]
    return directory


def _worker(tool: str, program: str, words: list[str], seen: str, folder: str) -> FoundCommand:
    if program == "celery" and not any(word.startswith(("-l", "--loglevel")) for word in words):
        words = [*words, "--loglevel=info"]  # without it, celery does not print that it is ready
    if program == "celery":
        words = ["--loglevel=info" if re.match(r"--loglevel=(?i:warn|error)", word) else word for word in words]
    if program == "saq" and not {"-v", "--verbose"} & set(words):
        words = [*words, "-v"]
    return FoundCommand(tool.removeprefix("litestar-"), (program, *words), seen, folder, READY[tool])


def _in_code(tree: Tree) -> Iterator[FoundCommand]:
    """Return the workers whose settings or applications modules define."""
    for module in tree.modules.values():
        if module.is_aside:
            continue
        names = module.imports
        used = {one.module.partition(".")[0] for one in names.values()}
        for node in statements(module.body.body):
            if (
                isinstance(node, ast.ClassDef)
                and any(_assigns(one, "functions") for one in node.body)
                and "arq" in used
            ):
                yield _from_module(tree, module, "arq", node, f".{node.name}")
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            target = dotted(node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None))
            if isinstance(value, ast.Dict) and {"queue", "functions"} <= {constant(key) for key in value.keys}:
                yield _from_module(tree, module, "saq", node, f".{target}")
            while (
                isinstance(value, ast.Call)
                and isinstance(value.func, ast.Attribute)
                and isinstance(value.func.value, ast.Call)
            ):
                value = value.func.value  # `Broker(…).with_result_backend(…)`
            maker = dotted(value.func) if isinstance(value, ast.Call) else ""
            source = names[maker.partition(".")[0]].module if maker.partition(".")[0] in names else ""
            if maker.rpartition(".")[2] == "Celery" and target:
                yield _from_module(tree, module, "celery", node, "")
            elif source.startswith("taskiq") and maker.endswith("Broker") and "InMemory" not in maker:
                yield _from_module(tree, module, "taskiq", node, f":{target}")


def _dramatiq(tree: Tree) -> Iterator[FoundCommand]:
    """Return the worker of dramatiq's actors, with the module that sets their broker."""
    modules = [one for one in tree.modules.values() if not one.is_aside and "dramatiq" in one.text]
    if any(re.search(r"dramatiq\.brokers\.\w+\.\w+Broker", one.text) for one in modules):  # settings of django_dramatiq
        for file in tree.named(r"manage\.py", above=False)[:1]:
            words, seen = ["manage.py", "rundramatiq"], f"{file}:1: manage.py"
            yield _worker("dramatiq", "python", words, seen, str(PurePosixPath(file).parent))
        return
    makers = ("RedisBroker", "RabbitmqBroker")
    brokers = [one for one in modules if any(_is_of(one, node, makers) for node in statements(one.body.body))]
    actors = {
        module: node
        for module in modules
        for node in statements(module.body.body)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(_is_of(module, decorator, ("actor",)) for decorator in node.decorator_list)
    }
    if actors:
        first = [*brokers[:1], *actors]
        folder = import_folder(tree, first[0])
        found = [one for one in first if import_folder(tree, one) == folder]
        names = [module_name(one.path, folder) for one in dict.fromkeys(found)]
        module, node = next(iter(actors.items()))
        yield _worker("dramatiq", "dramatiq", names, module.seen(node), folder)


def _is_of(module: Module, node: ast.AST, names: Collection[str]) -> bool:
    """Return whether a decorator, or a value that a statement assigns or passes on, is one of `names` of dramatiq."""
    for one in ast.walk(node) if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr) else [node]:
        text = dotted(one.func if isinstance(one, ast.Call) else one)
        source = module.imports.get(text.partition(".")[0])
        used = source.name if source and "." not in text and source.name else text.rpartition(".")[2]
        if used in names and source and source.module.partition(".")[0] == "dramatiq":
            return True
    return False


def _assigns(node: ast.stmt, name: str) -> bool:
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return dotted(target) == name


def _from_module(tree: Tree, module: Module, program: str, node: ast.AST, end: str) -> FoundCommand:
    folder = import_folder(tree, module)
    name = module_name(module.path, folder)
    words = {"celery": ["-A", name, "worker"], "taskiq": ["worker", name + end]}.get(program, [name + end])
    return _worker(program, program, words, module.seen(node), folder)
