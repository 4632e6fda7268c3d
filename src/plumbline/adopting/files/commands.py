"""The commands that prepare the database, and the processes that run beside the application."""

import ast
import configparser
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath

from plumbline.adopting.files.imports import import_folder, module_name
from plumbline.adopting.files.starts import COMPOSE_FILES, Start
from plumbline.adopting.files.tree import Module, Tree, constant, dotted, statements
from plumbline.adopting.findings import FoundApplication, FoundCommand

SEED = re.compile(
    r"initial|init_|seed|fixture|populate|create_first|first_|load_?data|loaddata|bootstrap_data|superuser"
)
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
DEVELOPERS_OPTIONS = {"--reload", "--watch", "-r", "--autoreload"}


def prepare(tree: Tree, started: list[Start], application: FoundApplication | None) -> list[FoundCommand]:
    """Return the commands that prepare the database, in the order in which to run them."""
    directory = application.directory if application else "."
    found = [
        one
        for one in (
            _django(tree, application),
            _flask(tree, application),
            _litestar(tree, started, application),
            _aerich(tree),
            _alembic(tree, started, directory),
            _yoyo(tree),
        )
        if one
    ][:1]
    return found + (list(_seeds(started, directory)) if found else [])


def _django(tree: Tree, application: FoundApplication | None) -> FoundCommand | None:
    if not application or application.framework != "django":
        return None
    for file in tree.named(r"manage\.py", above=False):
        if "DJANGO_SETTINGS_MODULE" in tree.text(file):
            folder = str(PurePosixPath(file).parent)
            return FoundCommand(
                "django", ("python", "manage.py", "migrate", "--noinput"), f"{file}:1: manage.py", folder
            )
    return None


def _flask(tree: Tree, application: FoundApplication | None) -> FoundCommand | None:
    if not application or application.framework != "flask":
        return None
    for module in tree.modules.values():
        for node in module.nodes:
            if isinstance(node, ast.ImportFrom | ast.Import) and "flask_migrate" in ast.unparse(node):
                if not tree.named(r"env\.py", above=False):
                    return None  # no migrations yet
                app = application.target + ("()" if application.factory else "")
                command = ("flask", "--app", app, "db", "upgrade")
                return FoundCommand("flask-migrate", command, module.seen(node), application.directory)
    return None


def _litestar(tree: Tree, started: list[Start], application: FoundApplication | None) -> FoundCommand | None:
    if not application or application.framework != "litestar":
        return None
    uses = next((one for one in tree.modules.values() if "advanced_alchemy" in tree.text(one.path)), None)
    start = next((one for one in started if one.words[1:3] == ("database", "upgrade")), None)
    if not start and not (uses and _has_versions(tree, "migrations")):
        return None
    command = ("litestar", "--app", application.target, "database", "upgrade", "--no-prompt")
    seen = start.seen if start else f"{uses.path}:1: advanced_alchemy" if uses else ""
    return FoundCommand("litestar", command, seen, application.directory)


def _has_versions(tree: Tree, folder: str) -> bool:
    """Return whether a folder of migrations holds some."""
    pattern = re.compile(
        rf"(.*/)?{re.escape(folder)}/([\w-]+/)*(versions/([\w-]+/)*)?(?!env\.py|__init__\.py)[\w.-]+\.py"
    )
    return any(pattern.fullmatch(file) for file in tree.files)


def _aerich(tree: Tree) -> FoundCommand | None:
    for file in tree.named(r"pyproject\.toml|aerich\.ini", above=False):
        for number, line in enumerate(tree.lines(file), 1):
            if line.strip() in ("[tool.aerich]", "[aerich]"):
                folder = str(PurePosixPath(file).parent)
                return FoundCommand("aerich", ("aerich", "upgrade"), f"{file}:{number}: {line.strip()}", folder)
    return None


def _alembic(tree: Tree, started: list[Start], directory: str) -> FoundCommand | None:
    """Return the Alembic command, unless there are no migrations: then the application makes its tables itself."""
    files = tree.named(r"alembic.*\.ini", above=False)
    near = sorted(files, key=lambda file: (not directory.startswith(str(PurePosixPath(file).parent)), file.count("/")))
    for file in near:
        folder = str(PurePosixPath(file).parent)
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(tree.text(file))
        except configparser.Error:
            continue
        location = parser.get("alembic", "script_location", fallback="").strip()
        place = location.replace("%(here)s", folder)
        if not place:
            continue
        inside = place.replace(":", "/").replace(".", "/") if ":" in place else place
        base = str(PurePosixPath(inside))
        found = [
            one for one in (base, str(PurePosixPath(folder) / base)) if _has_versions(tree, one.removeprefix("./"))
        ]
        if not found:
            continue
        at_root = (
            folder != "."
            and place == location
            and base == found[0]
            and not _has_versions(tree, str(PurePosixPath(folder) / base))
        )
        start = next((one for one in started if one.words[:1] == ("alembic",) and "upgrade" in one.words), None)
        target = start.words[start.words.index("upgrade") + 1 :][:1] if start else ()
        name = PurePosixPath(file).name
        option = ("-c", file) if at_root else ("-c", name) if name != "alembic.ini" else ()
        command = ("alembic", *option, "upgrade", *(target if target in (("head",), ("heads",)) else ("head",)))
        seen = start.seen if start else f"{file}: script_location = {place}"
        return FoundCommand("alembic", command, seen, "." if at_root else folder)
    return None


def _yoyo(tree: Tree) -> FoundCommand | None:
    for file in tree.named(r"yoyo\.ini", above=False):
        return FoundCommand(
            "yoyo", ("yoyo", "apply", "--batch"), f"{file}:1: yoyo.ini", str(PurePosixPath(file).parent)
        )
    return None


def _seeds(started: Iterable[Start], directory: str) -> Iterator[FoundCommand]:
    """Return the Python commands that follow a migration in the same file and fill the database."""
    migrated: set[str] = set()
    seen: set[tuple[str, ...]] = set()
    for one in sorted(started, key=lambda one: (one.rank, one.file, one.line)):
        text = " ".join(one.words)
        if re.search(r"\bupgrade\b|manage\.py migrate", text):
            migrated.add(one.file)
        elif one.file in migrated and one.rank <= 4 and one.words not in seen:
            asks = "superuser" in text and "--no" not in text and ".py createsuperuser" in text
            if one.words[0].startswith("python") and SEED.search(text) and "$" not in text and not asks:
                seen.add(one.words)
                yield FoundCommand(PurePosixPath(one.words[-1]).stem, one.words, one.seen, directory)


def processes(
    tree: Tree, started: list[Start], application: FoundApplication | None, brokers: Collection[str]
) -> list[FoundCommand]:
    """Return the workers that start commands or the code show.

    Workers cannot start without their broker, so none is returned unless `brokers`, those that the project uses, has
    Redis.
    """
    directory = application.directory if application else "."
    found = {one.name: one for one in reversed(list(_started(tree, started, directory)))}
    for one in (*_in_code(tree), *_dramatiq(tree)):
        found.setdefault(one.name, one)
    texts = [module.text for module in tree.modules.values()] + [tree.text(file) for file in tree.named(COMPOSE_FILES)]
    if any(re.search(r"BROKER\w*[^\n]{0,60}amqps?://", text, re.IGNORECASE) for text in texts):
        return []
    return list(found.values()) if "redis" in brokers else []


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
    """Return the worker of dramatiq's actors, if a module sets Redis as their broker. RabbitMQ is its default."""
    modules = [one for one in tree.modules.values() if not one.is_aside and "dramatiq" in one.text]
    if any("dramatiq.brokers.redis.RedisBroker" in one.text for one in modules):  # in the settings of django_dramatiq
        for file in tree.named(r"manage\.py", above=False)[:1]:
            words, seen = ["manage.py", "rundramatiq"], f"{file}:1: manage.py"
            yield _worker("dramatiq", "python", words, seen, str(PurePosixPath(file).parent))
        return
    brokers = [one for one in modules if any(_is_of(one, node, "RedisBroker") for node in statements(one.body.body))]
    actors = {
        module: node
        for module in modules
        for node in statements(module.body.body)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(_is_of(module, decorator, "actor") for decorator in node.decorator_list)
    }
    for broker in brokers[:1] if actors else []:
        folder = import_folder(tree, broker)
        found = [one for one in (broker, *actors) if import_folder(tree, one) == folder]
        names = [module_name(one.path, folder) for one in dict.fromkeys(found)]
        module, node = next(iter(actors.items()))
        yield _worker("dramatiq", "dramatiq", names, module.seen(node), folder)


def _is_of(module: Module, node: ast.AST, name: str) -> bool:
    """Return whether a decorator, or a value that a statement assigns or passes on, is a `name` of dramatiq."""
    for one in ast.walk(node) if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr) else [node]:
        text = dotted(one.func if isinstance(one, ast.Call) else one)
        source = module.imports.get(text.partition(".")[0])
        used = source.name if source and "." not in text and source.name else text.rpartition(".")[2]
        if used == name and source and source.module.partition(".")[0] == "dramatiq":
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
