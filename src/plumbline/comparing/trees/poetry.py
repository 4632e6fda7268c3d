"""The dependencies of a Poetry project, as requirements that other installers read."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

RELEASE = re.compile(r"([\^~]?)\s*v?(\d+(?:\.\d+)*)([\w.]*)")


def poetry_requirements(dependencies: Mapping[str, Any], wanted: frozenset[str] = frozenset()) -> list[str]:
    """Return the lines of requirements for the table [tool.poetry.dependencies]. Raises ValueError.

    `wanted`: optional packages to include.
    See https://python-poetry.org/docs/dependency-specification/
    """
    lines = list[str]()
    for name, one in dependencies.items():
        if name != "python":
            each = one if isinstance(one, list) else [one]
            lines += [line for part in each for line in _requirement(name, part, wanted)]
    return lines


def _requirement(name: str, one: Any, wanted: frozenset[str]) -> Iterator[str]:
    if isinstance(one, str):
        yield f"{name}{_versions(one)}"
        return
    if not isinstance(one, dict):
        raise ValueError(f"{name} = {one!r}")
    if one.get("optional") and name not in wanted:
        return
    extras = f"[{','.join(one['extras'])}]" if one.get("extras") else ""
    source = _source(name, one)
    markers = [f"({one['markers']})"] if one.get("markers") else []
    pythons = _versions(str(one.get("python") or "*"))
    markers += [_marker(part) for part in pythons.split(",") if part]
    marker = f" ; {' and '.join(markers)}" if markers else ""
    yield f"{name}{extras}{source or _versions(str(one.get('version') or '*'))}{marker}"


def _source(name: str, one: Mapping[str, Any]) -> str:
    if "path" in one:
        raise ValueError(f"{name} is in the folder {one['path']}")
    if "git" in one:
        revision = next((f"@{one[key]}" for key in ("rev", "tag", "branch") if one.get(key)), "")
        return f" @ git+{one['git']}{revision}"
    return f" @ {one['url']}" if "url" in one else ""


def _marker(constraint: str) -> str:
    """Return the marker of one constraint of Python."""
    operator = re.match(r"[<>=!~]+", constraint)
    start = operator[0] if operator else ""
    version = constraint.removeprefix(start)
    name = "python_version" if version.count(".") < 2 or version.endswith(".*") else "python_full_version"
    return f"{name} {start} '{version}'"


def _versions(text: str) -> str:
    """Return a constraint of Poetry as one of PEP 440. Raises ValueError for alternatives."""
    if "|" in text:
        raise ValueError(f"{text!r} has alternatives")
    parts = re.split(r"\s*,\s*|(?<=[\w*])\s+(?=[<>=!~^])", text.strip())
    return ",".join(filter(None, map(_constraint, parts)))


def _constraint(text: str) -> str:
    if text in ("*", ""):
        return ""
    found = RELEASE.fullmatch(text)
    if found is None or (text.startswith("~=")):
        return re.sub(r"\s+", "", text if text[0] in "<>=!~" else f"=={text}")
    operator, release, rest = found.groups()
    numbers = [int(one) for one in release.split(".")]
    if not operator:
        return f"=={release}{rest}"
    # ^ allows what leaves the first number that is not 0; ~ allows what leaves the second.
    first = next((index for index, one in enumerate(numbers) if one), len(numbers) - 1)
    kept = first if operator == "^" else min(1, len(numbers) - 1)
    upper = [*numbers[:kept], numbers[kept] + 1]
    return f">={release}{rest},<{'.'.join(map(str, upper))}"
