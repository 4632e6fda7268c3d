"""The commands that prepare the database."""

import ast
import configparser
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from plumbline.adopting.files.piccolo import piccolo_migrations
from plumbline.adopting.files.starts import Start
from plumbline.adopting.files.tree import Tree
from plumbline.adopting.findings import FoundApplication, FoundCommand

SEED = re.compile(
    r"initial|init_|seed|fixture|populate|create_first|first_|load_?data|loaddata|bootstrap_data|superuser"
)
MIGRATES = re.compile(r"\bupgrade\b|manage\.py migrate")
FOLDER = re.compile(r"(?![-/~])(?!.*\.\.)[\w./-]+")
# Commands of Flask's command line that create the tables.
CREATES = re.compile(r"(init|create|setup)[-_]?(db|database|tables|all)|(db|database)[-_]?(init|create|setup)")


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
            piccolo_migrations(tree, directory),
            _yoyo(tree),
        )
        if one
    ][:1]
    return [*_folders(started), *found, *_seeds(started, directory)] if found else []


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
    return _flask_command(tree, application)


def _flask_command(tree: Tree, application: FoundApplication) -> FoundCommand | None:
    """Return the command of Flask's command line that a function of the project defines to create the tables."""
    for module in tree.modules.values():
        for node in () if module.is_aside or "command" not in module.text else module.nodes:
            if isinstance(node, ast.FunctionDef) and (name := _command_name(node)) and CREATES.fullmatch(name):
                command = ("flask", "--app", application.target, name)
                return FoundCommand("flask", command, module.seen(node), application.directory)
    return None


def _command_name(function: ast.FunctionDef) -> str:
    """Return the name of the command that a function is, as Click derives it; "" if it is none, or has parameters."""
    for one in function.decorator_list:
        called = one.func if isinstance(one, ast.Call) else one
        if isinstance(called, ast.Attribute) and called.attr == "command" and not function.args.args:
            given = one.args[0] if isinstance(one, ast.Call) and one.args else None
            name = given.value if isinstance(given, ast.Constant) else function.name.replace("_", "-")
            return str(name).removesuffix("-command")
    return ""


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


def _folders(started: Iterable[Start]) -> Iterator[FoundCommand]:
    """Return the commands that make folders of the project before a migration in the same script."""
    migrations = {one.file: one.line for one in started if MIGRATES.search(" ".join(one.words)) and one.rank <= 4}
    made: dict[str, str] = {}
    for one in sorted(started, key=lambda one: (one.file, one.line)):
        if one.words[:2] == ("mkdir", "-p") and one.line < migrations.get(one.file, 0):
            made |= {name: one.seen for name in one.words[2:] if FOLDER.fullmatch(name) and name not in made}
    if made:
        yield FoundCommand("folders", ("mkdir", "-p", *made), next(iter(made.values())))


def _seeds(started: Iterable[Start], directory: str) -> Iterator[FoundCommand]:
    """Return the Python commands that follow a migration in the same file and fill the database."""
    migrated: set[str] = set()
    seen: set[tuple[str, ...]] = set()
    for one in sorted(started, key=lambda one: (one.rank, one.file, one.line)):
        text = " ".join(one.words)
        if MIGRATES.search(text):
            migrated.add(one.file)
        elif one.file in migrated and one.rank <= 4 and one.words not in seen:
            asks = "superuser" in text and "--no" not in text and ".py createsuperuser" in text
            if one.words[0].startswith("python") and SEED.search(text) and "$" not in text and not asks:
                seen.add(one.words)
                yield FoundCommand(PurePosixPath(one.words[-1]).stem, one.words, one.seen, directory)
