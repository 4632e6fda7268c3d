"""Read `settings.toml`, and the environment variables that override it for one run."""

import difflib
import hashlib
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from plumbline.load_settings import LoadBudgets, LoadSettings, LoadStage
from plumbline.settings import (
    OVERRIDES,
    URL_VARIABLES,
    AppSettings,
    BenchmarkSettings,
    Budget,
    CompareSettings,
    CountSettings,
    GateSettings,
    HistorySettings,
    InstallSettings,
    PostgresSettings,
    ProcessSettings,
    Profile,
    RedisSettings,
    ServiceSettings,
    Settings,
    SettingsError,
    address_variable,
    nearest,
)

PLACE = re.compile(r"/.+|[^/@]+:\d{1,5}")
# Names of files, sockets and containers begin with these names.
SERVICE_NAME = re.compile("[a-z][a-z0-9_]{0,39}")
PROCESS_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
VARIABLE = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
TAKEN_NAMES = ("redis", "postgres", "app", "prepare", "tests", "backend", "also_allowed")
MOST_SHOWN = 40  # characters of a name that is refused
# `backend` was once `services`. TOML has no room for both a text and tables of that name.
OLDER_BACKEND = re.compile(r"^services *=", re.MULTILINE)
OLDER_NAMES = ("backend", "also_allowed")  # once keys of [services]
SERVICE = re.compile(r"^(\[ *)?services *\.", re.MULTILINE)
NOT_BOTH = ': `services = "…"` and [services.NAME] can\'t stand in one file: write `backend = "…"` instead of the first'
# Options that Plumbline sets itself, by server. Case means nothing in them.
REDIS_OPTIONS = ("bind", "port", "dir", "daemonize", "logfile", "requirepass")
POSTGRES_OPTIONS = (
    *("listen_addresses", "port", "unix_socket_directories", "dynamic_shared_memory_type"),
    *("data_directory", "config_file", "hba_file", "ident_file", "password"),
)


def settings_hash(path: Path) -> str:
    """Return a short hash of the file, the same for all kinds of line ends."""
    return hashlib.sha256(path.read_text(encoding="utf-8").encode()).hexdigest()[:12]


def load_settings(path: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the settings; raises SettingsError that names the key and the nearest right one."""
    text = ""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise SettingsError(f"{path.name} can't be read: it is a pipe or a device")  # reading a pipe would wait
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except FileNotFoundError:
        raise SettingsError(f"{path.name} is missing: expected at {path}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        advice = NOT_BOTH if OLDER_BACKEND.search(text) and SERVICE.search(text) else ""
        raise SettingsError(f"{path.name} can't be read: {error}{advice}") from None
    if "external_urls" in raw:
        raise SettingsError(f"{path.name}: URLs may hold passwords: set {', '.join(URL_VARIABLES.values())} instead")
    _take_older_names(raw, path.name)
    _check_values(raw, path.name)
    settings = _convert(raw, path.name)
    for place in settings.also_allowed:
        if not PLACE.fullmatch(place) and not place.startswith("./"):
            wanted = '"host:port", nor the path of a socket, nor "./" with a file of SQLite'
            raise SettingsError(f"{path.name}: also_allowed: {place!r} is not {wanted}")
    for variable, key in OVERRIDES.items():
        if value := environ.get(variable):
            raw[key] = int(value) if key == "pin" and value.isdecimal() else value
            settings = _convert(raw, variable)
    _check_server_options(settings, path.name)
    _check_names(settings, path.name)
    urls = {name: environ[variable] for name, variable in URL_VARIABLES.items() if environ.get(variable)}
    urls |= _places(settings, environ)
    changed: dict[str, Any] = {}
    for name in ("redis", "postgres"):
        server = getattr(settings, name)
        if name in urls:
            changed[name] = msgspec.structs.replace(server, backend="external")
        elif environ.get("PERF_SERVICES") and server.backend != "off":  # what is off in the file isn't needed
            changed[name] = msgspec.structs.replace(server, backend=settings.backend)
    return msgspec.structs.replace(settings, **changed, external_urls=urls)


def _take_older_names(raw: dict[str, Any], source: str) -> None:
    """Read keys of earlier versions: `services`, both keys of a table [services], and `duet_budget_s` of [gate]."""
    gate = raw.get("gate")
    if isinstance(gate, dict) and "duet_budget_s" in gate:
        if "pairs_limit_s" in gate:
            raise SettingsError(f"{source}: [gate]: `duet_budget_s` is the older name of `pairs_limit_s`: delete it")
        gate["pairs_limit_s"] = gate.pop("duet_budget_s")
    given = raw.get("services")
    older = {"backend": raw.pop("services")} if isinstance(given, str) else {}
    if isinstance(given, dict):
        older = {name: given.pop(name) for name in OLDER_NAMES if not isinstance(given.get(name, {}), dict)}
    for name in older.keys() & raw.keys():
        written = "services" if isinstance(given, str) else f"services.{name}"
        raise SettingsError(f"{source}: `{written}` and `{name}` mean the same: keep `{name}`")
    raw |= older


def _check_names(settings: Settings, source: str) -> None:
    """Refuse names of services, processes and variables that nothing can have, or that are taken."""
    kinds = (
        ("services", settings.services, SERVICE_NAME, "lower-case letters, digits and _, and begin with a letter"),
        ("processes", settings.processes, PROCESS_NAME, "letters, digits, _ and -, and begin with a letter or digit"),
    )
    tables = {"env": settings.env, "app.env": settings.app.env if settings.app else {}}
    for table, named, pattern, allowed in kinds:
        for name, one in named.items():
            place = f"{source}: [{table}.{_shown(name)}]"
            if not pattern.fullmatch(name):
                raise SettingsError(f"{place}: files and placeholders have this name: use up to 40 {allowed}")
            if name in TAKEN_NAMES or (table == "services" and name in settings.processes):
                owner = "Plumbline itself" if name in TAKEN_NAMES else f"[processes.{name}]"
                raise SettingsError(f"{place}: {owner} uses this name: choose another one")
            tables[f"{table}.{name}.env"] = one.env
    for table, variables in tables.items():
        for name in variables:
            if not VARIABLE.fullmatch(name):
                advice = "use up to 255 letters, digits, _, - and ."
                raise SettingsError(f"{source}: [{table}]: {_shown(name)} can't be the name of a variable: {advice}")


def _shown(name: str) -> str:
    """Return a name as TOML has it, on one line, and shortened if it is long."""
    short = name if len(name) <= MOST_SHOWN else f"{name[:MOST_SHOWN]}…"
    return short if re.fullmatch("[A-Za-z0-9_-]+", short) else json.dumps(short, ensure_ascii=False)


def _places(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the `host:port` of the services that the environment names."""
    known = {address_variable(name): name for name in settings.services}
    found = {}
    for variable, value in environ.items():
        if not variable.startswith(address_variable("")) or not value:
            continue
        if variable not in known:
            near = difflib.get_close_matches(variable, known, n=1)
            guess = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{variable} is set, but settings.toml has no such service{guess}")
        if "/" in value or not PLACE.fullmatch(value):
            raise SettingsError(f'{variable} is not "host:port"')
        found[known[variable]] = value
    return found


def _check_server_options(settings: Settings, source: str) -> None:
    """Refuse server options that would be overridden silently."""
    for server, ours in (("redis", REDIS_OPTIONS), ("postgres", POSTGRES_OPTIONS)):
        for name, value in getattr(settings, server).config.items():
            option = name.lower()
            if option not in ours or (option == "requirepass" and value == ""):
                continue
            advice = f"Plumbline sets it itself: remove it, and read the address from {{{server}.url}} in [env]"
            if option in {"requirepass", "password"}:
                own = "password = false lets clients in without one"
                own = own if server == "redis" else "password is for one that the application hard-codes"
                advice = f"each run has a password of its own: remove it, and use {{{server}.password}} in [env]"
                advice += f"; in [{server}], {own}"
            raise SettingsError(f"{source}: {server}.config.{name}: {advice}")


def check_keys(settings: Settings, known: Collection[str], is_whole: Callable[[str], bool]) -> None:
    """Raise SettingsError at keys under `budgets` or `benchmarks` that name no benchmark, with the nearest right ones.

    `known`: the keys of all that was collected. `is_whole`: whether all of a file was collected, by its name.
    """
    # A key without its parameters stands for all of them.
    names = {*known, *(key.partition("[")[0] for key in known)}
    wrong = []
    for table in ("budgets", "benchmarks"):
        for key in getattr(settings, table):
            if key not in names and is_whole(key.partition("::")[0]):
                near = difflib.get_close_matches(key, names, n=1)
                guess = f"; did you mean {near[0]!r}?" if near else ""
                wrong.append(f"settings.toml: [{table}] has {key!r}, but there is no such benchmark{guess}")
    if wrong:
        raise SettingsError("\n".join(wrong))


TABLES = {
    "load": LoadSettings,
    "load.stages": LoadStage,
    "load.budgets": LoadBudgets,
    "profiles.NAME": Profile,
    "processes.NAME": ProcessSettings,
    "services.NAME": ServiceSettings,
    "budgets.KEY": Budget,
    "benchmarks.KEY": BenchmarkSettings,
    "app": AppSettings,
    "install": InstallSettings,
    "postgres": PostgresSettings,
    "redis": RedisSettings,
    "gate": GateSettings,
    "counts": CountSettings,
    "compare": CompareSettings,
    "history": HistorySettings,
}


def _check_values(value: object, source: str, key: str = "") -> None:
    """Raise SettingsError at a number or a text that TOML allows, but that no limit, path or command can be."""
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{source}: {key} = {value}: expected a finite number")
    if isinstance(value, str) and "\0" in value:
        raise SettingsError(f"{source}: {key} has a character U+0000, which no path and no command may have")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_values(name, source, repr(name))
            _check_values(inner, source, f"{key}.{name}" if key else name)
    for inner in value if isinstance(value, list) else ():
        _check_values(inner, source, key)


def _convert(raw: dict[str, Any], source: str) -> Settings:
    try:
        return msgspec.convert(raw, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{source}: {_explain(str(error), raw)}") from None


def _explain(error: str, raw: dict[str, Any]) -> str:
    """Return msgspec's message with the path as in TOML, the nearest right name, and what an enumeration allows."""
    message, _, path = error.partition(" - at `$")
    keys: list[str] = []
    holder: Any = raw
    for part in re.findall(r"\.\.\.|[^.\[\]`]+", path):
        if isinstance(holder, list):
            break
        keys.append(_culprit(error, raw, holder) if part == "..." else part)
        holder = holder.get(keys[-1])
    where = ".".join(f'"{key}"' if "." in key else key for key in keys)
    first = next((TABLES[name] for name in TABLES if name.split(".")[0] in keys[:1]), Settings)
    table = TABLES.get(where, first)
    if unknown := re.search(r"unknown field `(.+)`", message):
        name = unknown.group(1)
        elsewhere = [f"{other}.{key}" for other in TABLES for key in TABLES[other].__struct_encode_fields__]
        near = nearest(name, [*elsewhere, *table.__struct_encode_fields__])
        return f"unknown key {name!r}{f' in [{where}]' if where else ''}{near}"
    if wrong := re.match(r"Invalid enum value '(.*)'", message):
        allowed = _allowed(get_type_hints(table)[keys[-1]])
        message += f" (allowed: {', '.join(allowed)}){nearest(wrong.group(1), allowed)}"
    return f"{where}: {message}" if where else message


def _culprit(error: str, raw: dict[str, Any], table: dict[str, Any]) -> str:
    """Return the key that msgspec writes as `...`, the first that alone in this table of `raw` causes the error."""
    for key, value in list(table.items()):
        table.clear()
        table[key] = value
        try:
            msgspec.convert(raw, Settings)
        except msgspec.ValidationError as other:
            if str(other) == error:
                return key
    raise AssertionError(error)


def _allowed(annotation: object) -> list[str]:
    """Return what an annotation enumerates, in whatever union or list it stands."""
    if annotation is int:
        return ["a number"]
    if isinstance(annotation, str):
        return [annotation]
    return [value for part in get_args(annotation) for value in _allowed(part)]
