"""Read requirements files and the files that they include, as pip does, and return the pins of their packages."""

import codecs
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from plumbline.comparing.trees.pins import ANY, LOCAL_FILE, is_open, is_url

_NAMED_FILE = re.compile(r"(?:-r|-c|--requirements?|--constraints?)[\s=]*(\S.*)")
_EDITABLE = re.compile(r"^(?:-e|--editable)[\s=]*")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_OPTIONS = re.compile(r"\s--?[a-z].*")  # options of one requirement, such as hashes
_NAME = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?")
_EGG = re.compile(r"#(.*&)?egg=([A-Za-z0-9][\w.-]*)")
_EXACT = re.compile(r"===?\s*([^*,\s]+)")
ARCHIVES = (".whl", ".tar.gz", ".zip")
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_requirements(file: Path, texts: dict[Path, str]) -> None:
    """Add the text of a requirements file, and of files that it includes, to `texts`. Raises OSError and ValueError."""
    if file in texts:
        return
    data = file.read_bytes()
    texts[file] = data.decode(next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8"))
    for line in lines_of(texts[file]):
        if (found := _NAMED_FILE.fullmatch(line)) and not is_url(found[1]):
            read_requirements((file.parent / found[1].strip("'\"")).resolve(), texts)


def lines_of(text: str) -> list[str]:
    """Return the lines of a requirements file without comments and options. Continued lines are joined."""
    text = re.sub(r"\\\r?\n", " ", re.sub(r"(?m)^\s*#.*$", "", text))
    lines = (_OPTIONS.sub("", _COMMENT.sub("", line).strip()) for line in text.splitlines())
    return [line for line in lines if line]


def to_pins(lines: Iterable[str]) -> dict[str, str]:
    """Return the pins of requirements by normalized name, for this Python and platform."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        if pinned := _pin(_EDITABLE.sub("", line)):
            found[canonicalize_name(pinned[0])].append(pinned[1])
    return {name: joined(pins) for name, pins in found.items()}


def joined(pins: Iterable[str]) -> str:
    """Return several pins of one package as one pin: the exact one if there is one, otherwise all ranges."""
    known = dict.fromkeys(pins)
    exact = [pin for pin in known if not is_open(pin)]
    return " or ".join(exact) or ",".join(pin for pin in known if pin)


def name_in(line: str) -> str:
    """Return the normalized name that a line of a requirements file begins with."""
    return canonicalize_name(re.split(r"[^\w.-]", line.strip())[0])


def applies(marker: str, others: Mapping[str, str | frozenset[str]] = {}) -> bool | None:
    """Return whether a marker is true here, without extras, or None if it cannot be evaluated."""
    try:
        return not marker or Marker(marker).evaluate({"extra": "", **others})
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, TypeError, ValueError):
        return None


def _pin(line: str) -> tuple[str, str] | None:
    """Return the name and the pin of a line, or None for an option, a folder, or a package for other systems."""
    if line.startswith("-"):
        return None
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return _pin_of_url(line) if is_url(line) or line.startswith((".", "/")) else _unreadable(line)
    if not (does_apply := applies(str(requirement.marker or ""))):
        return None if does_apply is False else (requirement.name, line)
    specifier = str(requirement.specifier)
    exact = _EXACT.fullmatch(specifier)
    return requirement.name, requirement.url or (exact[1] if exact else specifier or ANY)


def _pin_of_url(line: str) -> tuple[str, str] | None:
    """Return the name and the pin of a package that is given only by its URL or path, or None for a folder."""
    address, _, marker = line.partition(" ; ")
    file = address.partition("#")[0].rpartition("/")[2]
    url = address if is_url(address) else f"{LOCAL_FILE}{address}"
    if applies(marker.strip()) is False:
        return None
    if egg := _EGG.search(address):
        return egg[2], url
    if file.endswith(".whl"):
        try:
            return parse_wheel_filename(file)[0], url
        except InvalidWheelFilename:
            return None
    return (file.rpartition("-")[0] or file, url) if file.endswith(ARCHIVES) else None


def _unreadable(line: str) -> tuple[str, str] | None:
    name = _NAME.match(line)
    return (name[0], line) if name else None
