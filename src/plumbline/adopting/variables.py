"""The environment variables that an application read in a trial, who set each, and which are missing."""

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plumbline.adopting.tried import ReadVariable
from plumbline.services.at_start.sitecustomize import LOADERS, variables_of

# Of every shell or of Python, and so set in a pipeline too.
USUAL = re.compile(
    r"PATH|HOME|USER|LOGNAME|PWD|SHELL|TERM|LANG|LC_\w+|TMPDIR|TZ|CI|HOSTNAME|VIRTUAL_ENV|DEBUG_COLORS|NO_COLOR"
    r"|PYTHON\w*|PLUMBLINE_\w+"
)
EVERYTHING = "PLUMBLINE_RULES"  # a line that reads this one has read all variables
EXAMPLE = re.compile(r"example|sample|template|tmpl|dist\b", re.IGNORECASE)
# In the output of a failure, by the package: django-environ, decouple, environs, Starlette.
NAMED_MISSING = (
    re.compile(r"Set the (\w+) environment variable"),
    re.compile(r"(\w+) not found\. Declare it as envvar"),
    re.compile(r'Environment variable "(\w+)" not set'),
    re.compile(r"Config '(\w+)' is missing, and has no default"),
)
OF_DYNACONF = re.compile(r"ValidationError: (\w+) is required in env")
KEY_ERROR = re.compile(r"KeyError: '(\w+)'")
OF_PYDANTIC = re.compile(
    r"validation errors? for (?P<title>\w+)\n(?P<errors>(?:(?:[ |>]*)[\w.]+\n\s+.+\n?(?:\s+For further .*\n?)?)+)"
)
FIELD_REQUIRED = re.compile(r"^[ |>]*([\w.]+)\n\s+[Ff]ield required", re.MULTILINE)
LIKE_SETTINGS = re.compile("settings|config|env", re.IGNORECASE)


def notes_in(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Return what the processes of the trial have noted: reads of variables, and hosts."""
    found = []
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            try:
                found.append(json.loads(line))
            except ValueError:  # the process was ended while it wrote
                continue
    return found


def missing_variables(
    text: str, settings: Sequence[Mapping[str, Any]], notes: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """Return the variables that the output of a failure names as missing.

    `settings`: the fields of pydantic-settings that were found. `notes`: the reads of variables.
    """
    found = [name for pattern in NAMED_MISSING for name in pattern.findall(text)]
    found += [f"DYNACONF_{name}" for name in OF_DYNACONF.findall(text)]
    unset = {note["name"] for note in notes if not note.get("set", True)}
    found += [name for name in KEY_ERROR.findall(text) if name in unset]
    for error in OF_PYDANTIC.finditer(text):
        known = [one for one in settings if one["class"] == error["title"]]
        for place in FIELD_REQUIRED.findall(error["errors"]):
            names = [one["name"] for one in known if ".".join(one["place"]) == place]
            if not names and LIKE_SETTINGS.search(error["title"]):
                names = [place.replace(".", "__").upper()]
            found += names
    return tuple(dict.fromkeys(found))


class Sources:
    """The places that can set a variable: [env], the environment, and `.env` files."""

    def __init__(self, env: Collection[str], environ: Mapping[str, str], folders: Iterable[str], root: Path) -> None:
        """`env`: the names in the tables `env` of the settings. `environ`: the environment of this process."""
        self._env = env
        self._environ = environ
        self._root = root
        files = [(file, name) for file, name, _ in variables_of(folders) if not EXAMPLE.search(file.name)]
        self._files = {name: self.shown(str(file)) for file, name in reversed(files)}

    def of_read(self, note: Mapping[str, Any], missing: Collection[str]) -> ReadVariable:
        """Return a variable that the project's code read from `os.environ`."""
        name, by = str(note["name"]), str(note["by"])
        set_by, file = self._of_set(name) if note["set"] else ("default", "")
        if not note["set"] and name in self._files and by.partition(".")[0] in {*LOADERS, "starlette"}:
            set_by, file = ".env", self._files[name]
        if set_by == "default" and name in missing:
            set_by = ""
        seen = f"{self.shown(note['file'])}:{note['line']}"
        return ReadVariable(name, set_by, bool(note["needed"]) or set_by == "", seen, file)  # type: ignore[arg-type]

    def of_field(self, field: Mapping[str, Any]) -> ReadVariable:
        """Return a variable that a class of pydantic-settings reads."""
        name, set_by, file = str(field["name"]), field["set_by"], self.shown(field["file"])
        if set_by == "environment":
            set_by, file = self._of_set(name)
        return ReadVariable(name, set_by, field["required"], field["seen"], file)

    def _of_set(self, name: str) -> tuple[str, str]:
        if name in self._env:
            return "env", ""
        if name in self._environ:
            return "environment", ""
        return (".env", self._files[name]) if name in self._files else ("default", "")  # the code has set it

    def shown(self, file: str) -> str:
        path = Path(os.path.normpath(self._root / file)) if file else Path()
        return "" if not file else path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else file


def read_variables(
    fields: Iterable[Mapping[str, Any]], notes: Iterable[Mapping[str, Any]], sources: Sources, missing: Collection[str]
) -> tuple[ReadVariable, ...]:
    """Return each variable once.

    A place without which it may be missing goes first. Then, a class of settings says more than a line of code.
    """
    reads = [note for note in notes if "name" in note]
    of_all = {(note["file"], note["line"]) for note in reads if note["name"] == EVERYTHING}
    found = [sources.of_field(field) for field in fields]
    found += [sources.of_read(note, missing) for note in reads if (note["file"], note["line"]) not in of_all]
    found += [ReadVariable(name, "", True) for name in missing]
    by_name: dict[str, ReadVariable] = {}
    for one in sorted(found, key=lambda one: (one.set_by != "env", one.set_by == "default", not one.required)):
        if not USUAL.fullmatch(one.name):
            by_name.setdefault(one.name, one)
    return tuple(by_name.values())
