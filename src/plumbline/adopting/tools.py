"""The lines that keep the user's own tools from checking the suite, for the tools that the repository uses.

Within the suite's folder, only ruff reads a configuration: black, isort, flake8 and mypy read that of the repository.
"""

import re
from pathlib import Path, PurePosixPath

from plumbline.project import SUITE

VENDOR = f"{SUITE}/vendor"  # Plumbline's source, in some copies
PROJECT, HOOKS = "pyproject.toml", ".pre-commit-config.yaml"
# Files that name the tools that a repository runs.
NAMING = (
    *(PROJECT, "setup.cfg", "tox.ini", HOOKS, "Makefile", "justfile", "noxfile.py", "*requirements*.txt"),
    *("requirements/*.txt", ".github/workflows/*.y*ml", ".gitlab-ci.yml"),
)
# By tool: its own file, the section there and in setup.cfg or tox.ini, the option, and whether it is needed only if the
# package's source is in the suite.
TOOLS = {
    "mypy": ("mypy.ini", "mypy", "mypy", "exclude", False),
    "coverage": (".coveragerc", "run", "coverage:run", "omit", False),
    "black": ("", "", "", "extend-exclude", True),
    "isort": (".isort.cfg", "settings", "isort", "extend_skip", True),
    "flake8": (".flake8", "flake8", "flake8", "extend-exclude", True),
}
TABLES = {"coverage": "tool.coverage.run"}  # in pyproject.toml, if not `tool.NAME`


def lines_to_add(root: Path, folder: str = "") -> list[tuple[str, str]]:
    """Return files and the lines to add to them, without those that are there already.

    `root`: where the configurations are. `folder`: that of the suite's project below it, "" or with a slash at the end.
    """
    suite, is_vendored = f"{folder}{SUITE}", (root / folder / VENDOR).is_dir()
    noxfiles = [name for name in ("perf-noxfile.py", "noxfile.py") if (root / folder / name).is_file()]
    paths = {"mypy": [f"{suite}/"], "coverage": [f"{suite}/*"], "flake8": [suite]}
    found: dict[str, list[str]] = {}
    for tool, (own, section, shared, option, only_vendored) in TOOLS.items():
        if (only_vendored and not is_vendored) or not _is_used(root, tool):
            continue
        excluded = [*paths[tool], *(f"{folder}{one}" for one in noxfiles[:1])] if tool in paths else [f"{suite}/vendor"]
        file, header = _place(root, tool, own, section, shared)
        if suite in _section(_text(root / file), header):
            continue
        found.setdefault(file, []).append(f"[{header}]\n{option} = {_value(tool, excluded, file)}")
    hooks = _text(root / HOOKS)
    if is_vendored and hooks and suite not in hooks:
        found[HOOKS] = [f"exclude: ^{suite}/vendor/"]
    return [(file, "\n\n".join(parts)) for file, parts in found.items()]


def shown(added: list[tuple[str, str]]) -> str:
    """Return the message for the user."""
    parts = [
        "\n".join([f"Add to {file}:", "", *(f"    {line}".rstrip() for line in lines.splitlines())])
        for file, lines in added
    ]
    return "\n\n".join(parts)


def _is_used(root: Path, tool: str) -> bool:
    own = TOOLS[tool][0]
    names = "coverage|pytest-cov|--cov" if tool == "coverage" else tool
    word = re.compile(rf"^[^#\n]*(?<![\w/-])({names})(?![\w/-])", re.MULTILINE)
    files = [file for pattern in NAMING for file in root.glob(pattern)]
    return bool(own and (root / own).is_file()) or any(word.search(_text(file)) for file in files)


def _place(root: Path, tool: str, own: str, section: str, shared: str) -> tuple[str, str]:
    """Return the file that configures a tool, or that may do so, and the header there."""
    if own and (root / own).is_file():
        return own, section
    for file in ("setup.cfg", "tox.ini") if shared else ():
        if f"[{shared}]" in _text(root / file):
            return file, shared
    if tool == "flake8":
        return own, section
    return PROJECT, TABLES.get(tool, f"tool.{tool}")


def _section(text: str, header: str) -> str:
    return text.partition(f"[{header}]")[2].partition("\n[")[0]


def _value(tool: str, paths: list[str], file: str) -> str:
    """Return the value of an option in the syntax of the file."""
    if tool == "black":
        return f'"^/{paths[0]}/"'
    is_toml = PurePosixPath(file).suffix == ".toml"
    patterns = [f"^{one}" if one.endswith("/") else f"^{one}$" for one in paths] if tool == "mypy" else paths
    if is_toml:
        return "[" + ", ".join(f'"{one}"' for one in patterns) + "]"
    return "|".join(patterns) if tool == "mypy" else ",".join(patterns)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
