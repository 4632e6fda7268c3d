"""The environment variables that classes of pydantic-settings read."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from plumbline.adopting.files.reads import NAME, Read, default_text
from plumbline.adopting.files.tree import Module, constant, dotted, is_test

BASE, MODEL = "BaseSettings", "BaseModel"
MAX_DEPTH = 4
COMPUTED = "computed"  # a default that is put together from other variables


class Class(NamedTuple):
    """A class of the project."""

    module: Module
    node: ast.ClassDef
    bases: tuple[str, ...]


class Field(NamedTuple):
    """A field of a settings class."""

    name: str
    aliases: tuple[str, ...]
    annotation: str
    has_default: bool
    default: str | None
    node: ast.AnnAssign
    owner: Class
    is_read: bool = False  # whether its default is another variable


def read_by_pydantic(modules: Sequence[Module]) -> Iterator[Read]:
    """Return the variables of the settings classes of these modules, those that only serve as a base excepted."""
    classes: dict[str, Class] = {}
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.ClassDef) and not module.is_aside:
                bases = tuple(dotted(base).rpartition(".")[2] for base in node.bases)
                classes.setdefault(node.name, Class(module, node, bases))
    settings = {name for name in classes if _derives(name, BASE, classes)}
    inherited = {base for name in settings for base in classes[name].bases}
    made = _made(modules, settings)
    for name in sorted(settings, key=lambda name: (name not in made, classes[name].module.path.count("/"))):
        if name in inherited - made or (name.startswith("Test") and not is_test(classes[name].module.path)):
            continue
        yield from _reads(name, classes, settings, "", _config(name, classes), 0)


def _derives(name: str, ancestor: str, classes: Mapping[str, Class], depth: int = 0) -> bool:
    """Return whether a class of the project inherits from another one, by the names of their bases."""
    if depth > 8 or name not in classes:
        return False
    bases = [base for base in classes[name].bases if base != name]
    return ancestor in bases or any(_derives(base, ancestor, classes, depth + 1) for base in bases)


def _made(modules: Sequence[Module], settings: set[str]) -> set[str]:
    """Return the settings classes that something makes, or that are the default of a field."""
    found = set()
    for module in modules:
        if not any(name in line for name in settings for line in module.lines):
            continue
        for node in module.nodes:
            if isinstance(node, ast.Call):
                names = [
                    dotted(node.func),
                    *(dotted(word.value) for word in node.keywords if word.arg == "default_factory"),
                ]
                found |= settings & {name.rpartition(".")[2] for name in names}
    return found


def _config(name: str, classes: Mapping[str, Class]) -> dict[str, ast.AST]:
    """Return the options of `model_config`, `class Config` and of the class line, inherited ones included."""
    found: dict[str, ast.AST] = {}
    if name not in classes:
        return found
    one = classes[name]
    for base in reversed(one.bases):
        if base != name:
            found |= _config(base, classes)
    found |= {word.arg: word.value for word in one.node.keywords if word.arg}
    for node in one.node.body:
        if isinstance(node, ast.ClassDef) and node.name == "Config":
            for inner in node.body:
                if isinstance(inner, ast.Assign) and isinstance(inner.targets[0], ast.Name):
                    found[inner.targets[0].id] = inner.value
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if dotted(target) == "model_config" and isinstance(value, ast.Call):
            found |= {word.arg: word.value for word in value.keywords if word.arg}
        elif dotted(target) == "model_config" and isinstance(value, ast.Dict):
            pairs = zip(value.keys, value.values, strict=True)
            found |= {text: inner for key, inner in pairs if (text := constant(key))}
    return found


def _fields(name: str, classes: Mapping[str, Class]) -> dict[str, Field]:
    """Return the fields of a class, inherited ones included."""
    found: dict[str, Field] = {}
    if name not in classes:
        return found
    one = classes[name]
    for base in reversed(one.bases):
        if base != name:
            found |= _fields(base, classes)
    for node in one.node.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id != "model_config":
            annotation = ast.unparse(node.annotation)
            if not annotation.startswith(("ClassVar", "typing.ClassVar")) and not node.target.id.startswith("_"):
                found[node.target.id] = _field(node, node.target.id, annotation, one)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in found:
            known = found[node.targets[0].id]
            found[known.name] = known._replace(has_default=True, default=default_text(node.value))
    return found


def _field(node: ast.AnnAssign, name: str, annotation: str, owner: Class) -> Field:
    value, aliases = node.value, tuple[str, ...]()
    calls = [one for one in (value, *ast.walk(node.annotation)) if isinstance(one, ast.Call)]
    has_default, default = value is not None, None if value is None else default_text(value)
    if isinstance(value, ast.JoinedStr) and any(isinstance(part, ast.FormattedValue) for part in value.values):
        default = COMPUTED
    for call in calls:
        if dotted(call.func).rpartition(".")[2] not in ("Field", "Setting", "field"):
            continue
        words = {word.arg: word.value for word in call.keywords if word.arg}
        if call is value:
            first = call.args[0] if call.args else words.get("default")
            is_unset = first is None or (isinstance(first, ast.Constant) and first.value is ...)
            has_default = not is_unset or "default_factory" in words
            default = None if is_unset else default_text(first)
        for option in ("validation_alias", "alias", "env"):
            if option in words and not aliases:
                aliases = _aliases(words[option])
    is_read = isinstance(value, ast.Call) and bool(re.search(r"(env|config)(\.\w+)?$", dotted(value.func)))
    default = None if is_read else default
    return Field(name, aliases, re.sub(r"\s+", " ", annotation), has_default, default, node, owner, is_read)


def _aliases(node: ast.AST) -> tuple[str, ...]:
    """Return the names in an alias, a list of names, or `AliasChoices(…)`."""
    return tuple(text for one in ast.walk(node) if (text := constant(one)) and re.fullmatch(r"\w+", text))


def _reads(
    name: str, classes: Mapping[str, Class], settings: set[str], path: str, config: Mapping[str, ast.AST], depth: int
) -> Iterator[Read]:
    prefix = (constant(config.get("env_prefix")) or "") if depth == 0 else path
    delimiter = constant(config.get("env_nested_delimiter")) or ""
    is_exact = constant(config.get("case_sensitive")) == "True"
    for field in _fields(name, classes).values():
        names = list(field.aliases) if field.aliases and depth == 0 else [prefix + field.name]
        variable = names[0] if is_exact else names[0].upper()
        inner = next((word for word in re.findall(r"\w+", field.annotation) if word in classes), "")
        if inner and (inner in settings or _derives(inner, MODEL, classes)):
            if delimiter and depth < MAX_DEPTH and (inner not in settings or not field.has_default):
                yield from _reads(inner, classes, settings, variable + delimiter, config, depth + 1)
            continue
        if NAME.fullmatch(variable.upper()):
            optional = re.search(r"\bOptional\b|\bNone\b", field.annotation)
            yield Read(
                variable,
                not field.has_default and not (optional and "pydantic_settings" not in _source(field.owner)),
                field.default,
                field.annotation,
                field.owner.module.seen(field.node, f"{field.name}: {field.annotation}"),
                _choices(field.annotation, classes),
                is_json=bool(re.match(r"(list|List|set|Set|tuple|Tuple|dict|Dict|frozenset)\b", field.annotation)),
                is_fallback=field.is_read,
            )


def _source(owner: Class) -> str:
    return "\n".join(owner.module.lines)


def _choices(annotation: str, classes: Mapping[str, Class]) -> tuple[str, ...]:
    """Return the values of a Literal, or of an enumeration of the project."""
    if "Literal[" in annotation:
        return tuple(re.findall(r"['\"]([^'\"]*)['\"]", annotation))
    for word in re.findall(r"\w+", annotation):
        if word in classes and any("Enum" in base for base in classes[word].bases):
            nodes = classes[word].node.body
            return tuple(
                text
                for node in nodes
                if isinstance(node, ast.Assign | ast.AnnAssign) and (text := constant(node.value)) is not None
            )
    return ()
