"""Finds the environment variables that pydantic-settings reads. It reads all of `os.environ`, so no hook can tell."""

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

reads: Any = importlib.import_module("plumbline_reads")  # of the folder `at_start`
instantiated: set[type] = set()


def note_instances() -> None:
    """Record the classes of settings that are used from now on."""
    try:
        base: Any = importlib.import_module("pydantic_settings").BaseSettings
    except ImportError:
        return
    original = base.__init__

    def note(self: Any, *values: Any, **more: Any) -> None:
        instantiated.add(type(self))
        original(self, *values, **more)

    base.__init__ = functools.wraps(original)(note)


def read_by(root: str) -> list[dict[str, Any]]:
    """Return the variables that the project's settings read."""
    module = sys.modules.get("pydantic_settings")
    found = []
    for cls in _subclasses(module.BaseSettings) if module else ():
        file = _file_of(cls.__module__)
        # A class that others inherit from is read only if the project makes an instance of it.
        if file and reads.is_own(file, [root]) and (cls in instantiated or not cls.__subclasses__()):
            found += list(_variables(cls))
    return found


def _file_of(name: str) -> str:
    """Return the file of a module, which may have failed while it was imported."""
    if found := getattr(sys.modules.get(name), "__file__", None):
        return str(found)
    with contextlib.suppress(ImportError, ValueError):
        return str(getattr(importlib.util.find_spec(name), "origin", None) or "")
    return ""


def missing_in(error: BaseException) -> list[str]:
    """Return the variables that an error, or one of its causes, names as missing."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyError) and _reads_environ(cause):
            return [str(cause.args[0])]
        if hasattr(cause, "errors") and "pydantic_settings" in sys.modules:
            return _missing_fields(cause)
        cause = cause.__cause__ or cause.__context__
    return []


def _missing_fields(error: Any) -> list[str]:
    base = sys.modules["pydantic_settings"].BaseSettings
    details: list[dict[str, Any]] = error.errors()
    places = [list(map(str, one["loc"])) for one in details if one.get("type") == "missing"]
    classes = [cls for cls in _subclasses(base) if cls.__name__ == getattr(error, "title", "")]
    return [one["name"] for cls in classes[:1] for one in _variables(cls) if one["place"] in places]


def _reads_environ(error: BaseException) -> bool:
    """Return whether a KeyError comes from `os.environ`."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "os"


def _subclasses(cls: Any) -> Iterator[Any]:
    for one in cls.__subclasses__():
        yield one
        yield from _subclasses(one)


def _variables(cls: Any) -> Iterator[dict[str, Any]]:
    config = cls.model_config
    files = config.get("env_file") or ()
    contents = _contents([files] if isinstance(files, (str, os.PathLike)) else list(files), config)
    prefix, delimiter = config.get("env_prefix") or "", config.get("env_nested_delimiter") or ""
    for name, field in cls.model_fields.items():
        for place, names, required in _fields([name], field, prefix, delimiter, bool(field.is_required())):
            yield _variable(cls, config, place, names, required, contents)


def _fields(
    place: list[str], field: Any, prefix: str, delimiter: str, required: bool
) -> Iterator[tuple[list[str], list[str], bool]]:
    """Yield the place of each field in its class, the variables that it may have, and whether it needs a value."""
    alias = field.validation_alias if len(place) == 1 else None
    choices = getattr(alias, "choices", [alias] if alias is not None else [])
    names = [one if isinstance(one, str) else str(one.path[0]) for one in choices]
    names = names or [prefix + place[-1]]
    nested = [one for one in (field.annotation, *get_args(field.annotation)) if hasattr(one, "model_fields")]
    settings = getattr(sys.modules.get("pydantic_settings"), "BaseSettings", ())
    if nested and isinstance(nested[0], type) and issubclass(nested[0], settings):
        return  # a class of its own
    if not nested or not delimiter:
        yield place, names, required
        return
    for name, inner in nested[0].model_fields.items():
        needed = required and bool(inner.is_required())
        yield from _fields([*place, name], inner, names[0] + delimiter, delimiter, needed)


def _variable(
    cls: Any,
    config: Mapping[str, Any],
    place: list[str],
    names: list[str],
    required: bool,
    contents: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    exact = bool(config.get("case_sensitive"))
    wanted = names if exact else [name.lower() for name in names]

    def among(given: Mapping[str, Any]) -> str:
        return next((key for key in given if (key if exact else key.lower()) in wanted), "")

    name, file = among(os.environ), ""
    set_by = "environment" if name else "" if required else "default"
    for path, values in contents.items():
        if not name and (name := among(values)):
            set_by, file = ".env", path
    return {
        "name": name or (names[0] if exact else names[0].upper()),
        "set_by": set_by,
        "required": required,
        "seen": f"{cls.__module__}.{cls.__qualname__}.{'.'.join(place)}",
        "class": cls.__name__,
        "place": place,
        "file": file,
    }


def _contents(files: list[Any], config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the variables of each `.env` file. The last file has precedence, so it comes first."""
    try:
        dotenv_values = importlib.import_module("dotenv").dotenv_values
    except ImportError:
        return {}
    paths = [Path(file).expanduser() for file in reversed(files)]
    encoding = config.get("env_file_encoding")
    return {str(path): dotenv_values(path, encoding=encoding or "utf-8") for path in paths if path.is_file()}
