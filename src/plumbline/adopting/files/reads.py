"""The environment variables that code reads: `os.environ`, django-environ, environs, python-decouple, Starlette."""

import ast
import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeGuard

from plumbline.adopting.files.tree import Module, Tree, constant, dotted

NAME = re.compile(r"[A-Z][A-Z0-9_]{1,60}")
# `env("X")`, `env.str("X")`, `config("X")`, `os.getenv("X")`, and a project's own `get_env("X", default)`.
READER = re.compile(r"(\w+\.)*(?:env|environ|config|(?:os\.)?getenv)", re.IGNORECASE)
OWN_READER = re.compile(r"(\w+\.)*\w*env\w*", re.IGNORECASE)  # a function of the project, such as get_env
TYPE = re.compile(r"str|int|bool|float|list|dict|tuple|[A-Z][a-z]\w*")
METHODS = {
    *(
        "get",
        "str",
        "bool",
        "int",
        "float",
        "json",
        "list",
        "tuple",
        "dict",
        "url",
        "path",
        "decimal",
        "date",
        "datetime",
    ),
    *("timedelta", "uuid", "enum", "log_level", "bytes", "cache", "cache_url", "db", "db_url", "dj_db_url", "redis"),
    *(
        "dj_cache_url",
        "dj_email_url",
        "email",
        "email_url",
        "search_url",
        "channels",
        "getenv",
        "setdefault",
        "unicode",
    ),
}
DEFAULT_NAMES = {
    kind: f"{name}_URL"
    for name, kinds in {"DATABASE": "db db_url", "CACHE": "cache cache_url", "EMAIL": "email email_url"}.items()
    for kind in kinds.split()
}


class Read(NamedTuple):
    """A place that reads an environment variable."""

    name: str
    required: bool
    default: str | None  # None if it is unknown or there is none
    kind: str  # its type, such as "PostgresDsn" or "int"; "" if unknown
    seen: str
    choices: tuple[str, ...] = ()
    is_json: bool = False  # whether lists are written as JSON
    is_set: bool = False  # whether the code sets it itself if it is missing
    is_fallback: bool = False  # whether it is read in place of another variable


def read_by_code(modules: Iterable[Module]) -> Iterator[Read]:
    """Return the variables that calls and subscripts of these modules read."""
    for module in modules:
        if not module.is_aside and re.search(r"env|config\(", module.text):
            yield from _Reader(module).reads()


class _Reader:
    """Finds reads in a module, and whether they run without a condition when it is imported."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._found: list[Read] = []

    def reads(self) -> list[Read]:
        with contextlib.suppress(RecursionError):  # an expression of a thousand parts
            self._visit(self._module.body, certain=True, prefix="", default=False, fallback=False)
        return self._found

    def _visit(self, node: ast.AST, *, certain: bool, prefix: str, default: bool, fallback: bool) -> None:
        """Visit a node.

        `certain`: whether it runs at import. `default`: whether a missing value is replaced. `fallback`: whether it
        replaces a missing value itself.
        """
        if read := self._read(node, prefix):
            self._found.append(read._replace(required=read.required and certain and not default, is_fallback=fallback))
        if isinstance(node, ast.With):
            for item in node.items:  # environs: `with env.prefixed("SHOP_"):`
                call = item.context_expr
                if isinstance(call, ast.Call) and dotted(call.func).endswith(".prefixed") and call.args:
                    prefix += constant(call.args[0]) or ""
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        is_condition = isinstance(node, ast.If | ast.IfExp | ast.Try | ast.For | ast.While)
        is_or = isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or)
        first = node.values[0] if isinstance(node, ast.BoolOp) else None
        for child in ast.iter_child_nodes(node):
            in_test = is_condition and child is getattr(node, "test", None)
            self._visit(
                child,
                certain=certain and not is_function and (not is_condition or in_test),
                prefix=prefix,
                default=default or is_or,
                fallback=fallback or bool(read) or (is_or and child is not first),
            )

    def _read(self, node: ast.AST, prefix: str) -> Read | None:
        if isinstance(node, ast.Subscript) and dotted(node.value).rpartition(".")[2] == "environ":
            name = constant(node.slice) or ""
            if NAME.fullmatch(name) and isinstance(node.ctx, ast.Load):
                return Read(name, True, None, "", self._module.seen(node, f'{dotted(node.value)}["{name}"]'))
        if not isinstance(node, ast.Call):
            return None
        function = dotted(node.func)
        base, _, method = function.rpartition(".")
        words = {one.arg: one.value for one in node.keywords if one.arg}
        if function.endswith("dj_database_url.config") or function == "dj_database_url.parse":
            name = constant(words.get("env")) or "DATABASE_URL"
            return Read(name, False, constant(words.get("default")), "", self._module.seen(node, f"{function}()"))
        is_method = method in METHODS and READER.fullmatch(base)
        is_own = not is_method and not READER.fullmatch(function)
        if is_own and not OWN_READER.fullmatch(function):
            return None
        first = node.args[0] if node.args else words.get("var_name") or words.get("var") or words.get("env_var")
        name = constant(first) or (DEFAULT_NAMES.get(method, "") if first is None and is_method else "")
        if not NAME.fullmatch(name) or (method == "get" and re.search(r"\.config$", base)):  # Flask's `app.config`
            return None
        second = node.args[1] if len(node.args) > 1 else None
        if TYPE.fullmatch(dotted(second).rpartition(".")[2]) and not function.endswith(("getenv", ".get")):
            second = None  # a type to cast to
        default = words.get("default") or second
        default = default.args[1] if _reads_default(default) else default
        never_fails = is_own or function.endswith(("getenv", "environ.get")) or method == "setdefault"
        kind = dotted(words.get("cast")) or (method if is_method and method != "get" else "")
        return Read(
            prefix + name,
            default is None and not never_fails,
            default_text(default),
            kind,
            self._module.seen(node, f'{function}("{prefix}{name}")' if first else f"{function}()"),
            is_set=method == "setdefault",
        )


def _reads_default(node: ast.AST | None) -> TypeGuard[ast.Call]:
    """Return whether a default is `os.getenv("Y", "value")` again."""
    if not isinstance(node, ast.Call) or len(node.args) != 2:
        return False
    return READER.fullmatch(dotted(node.func).removesuffix(".get")) is not None


def read_by_dynaconf(tree: Tree, modules: Iterable[Module]) -> Iterator[Read]:
    """Return the variables that replace the values in the settings files of Dynaconf."""
    for module in modules:
        for call in module.calls:
            if dotted(call.func).rpartition(".")[2] not in ("Dynaconf", "LazySettings", "DjangoDynaconf"):
                continue
            words = {word.arg: constant(word.value) for word in call.keywords if word.arg}
            prefix = words.get("envvar_prefix") or ("DJANGO" if "Django" in dotted(call.func) else "DYNACONF")
            for file in tree.named(r"settings\.toml|\.secrets\.toml", above=False):
                content = tree.table(file)
                for table in (content, *(one for one in content.values() if isinstance(one, dict))):
                    for key, value in table.items():
                        name = f"{prefix}_{key}".upper()
                        if isinstance(value, str | int) and NAME.fullmatch(name):
                            default = "" if "secret" in file else str(value)
                            yield Read(name, False, default, "", f"{file}: {key}")


def schemes(modules: Iterable[Module]) -> Iterator[Read]:
    """Return the defaults that django-environ's `Env(DEBUG=(bool, False))` declares."""
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.Call) and dotted(node.func) in ("environ.Env", "Env", "environ.FileAwareEnv"):
                for word in node.keywords:
                    if word.arg and NAME.fullmatch(word.arg):
                        pair = word.value.elts if isinstance(word.value, ast.Tuple) else [word.value]
                        default = default_text(pair[1]) if len(pair) > 1 else None
                        yield Read(
                            word.arg, False, default, dotted(pair[0]), module.seen(word.value, f"Env({word.arg}=…)")
                        )


def default_text(node: ast.AST | None) -> str | None:
    """Return a default as text, None if it is unknown. Of an f-string, the constant parts: they name the scheme."""
    if isinstance(node, ast.JoinedStr):
        return "".join(constant(part) or "" for part in node.values)
    if isinstance(node, ast.Call) and node.args:  # `Secret("x")`, `SecretStr("x")`
        return default_text(node.args[0])
    return ast.unparse(node)[:100] if isinstance(node, ast.List | ast.Tuple | ast.Dict | ast.Set) else constant(node)
