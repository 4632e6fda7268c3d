"""Commands in shell scripts, Dockerfiles and Makefiles, split into words without running anything."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping

ASSIGNMENT = re.compile(r"(?:export\s+|readonly\s+)?([A-Za-z_]\w*)=(.*)", re.DOTALL)
VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?[-=?]([^{}]*))?\}|(\w+))")
# Programs that run the rest of their words, with those of their options that take a value.
WRAPPERS: Mapping[str, tuple[str, ...]] = {
    "exec": (),
    "nohup": (),
    "time": (),
    "sudo": ("-u", "-E"),
    "tini": ("-p", "-e"),
    "dumb-init": (),
    "env": ("-u",),
    "gosu": (),
    "ddtrace-run": (),
    "opentelemetry-instrument": ("--service_name",),
    "wait-for-it": (),
    "watchfiles": ("--filter",),
    "watchmedo": ("-d", "-p", "--directory", "--pattern"),
}
RUNNERS = {
    "poetry",
    "uv",
    "pdm",
    "pipenv",
    "hatch",
    "rye",
    "pixi",
    "conda",
    "micromamba",
    "heroku",
    "railway",
    "newrelic-admin",
}
UV_OPTIONS = (
    "--extra",
    "--group",
    "--package",
    "--project",
    "--directory",
    "--env-file",
    "--python",
    "-p",
    "--with",
    "-n",
)
SHELLS = {"sh", "bash", "zsh", "/bin/sh", "/bin/bash", "/usr/bin/env"}
PROGRAMS = {  # that are called as `python -m`, too
    *("uvicorn", "gunicorn", "hypercorn", "granian", "daphne", "fastapi", "flask", "litestar", "alembic"),
    *("aerich", "yoyo", "celery", "arq", "taskiq", "dramatiq", "saq", "rq", "poetry", "uv", "pdm", "pip", "pipenv"),
}
CUT = re.compile(r"&&|\|\||[;|\n]|(?<!\d)(?<!>)&(?!\d|>)")


def commands_in(text: str, variables: Mapping[str, str] | None = None) -> Iterator[tuple[int, list[str]]]:
    """Return the simple commands of a script, each with the number of its line, without what wraps them.

    Variables are replaced if the script or `variables` gives them a value, or a default.
    """
    known = dict(variables or {})
    for number, line in _joined(text.splitlines()):
        for part in _parts(line):
            found = ASSIGNMENT.fullmatch(part.strip())
            if found and not re.search(r"\s", re.sub(r"\"[^\"]*\"|'[^']*'", "", found[2])):
                known[found[1]] = _value(found[2], known)
                continue
            yield from ((number, words) for words in unwrapped(split(expand(part, known))))


def split(text: str) -> list[str]:
    """Split a command into words; by spaces if its quotes are not closed."""
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace variables that are known, or that have a default."""
    for _ in range(4):  # defaults may be variables again
        replaced = VARIABLE.sub(lambda found: _of(found, known), text)
        if replaced == text:
            break
        text = replaced
    return text


def unwrapped(words: list[str]) -> Iterator[list[str]]:
    """Return the command, or those within `sh -c "…"`, without assignments, `poetry run`, `exec` and the like."""
    if words:
        words = [words[0].lstrip("@-("), *words[1:]]
    while words:
        name = words[0].rpartition("/")[2]
        if ASSIGNMENT.fullmatch(words[0]) or words[0] in ("if", "then", "do", "else", "while", "until", "!", "", "{"):
            words = words[1:]
        elif name in SHELLS or words[0] in SHELLS:
            after = next((index for index, word in enumerate(words) if re.fullmatch(r"-\w*c", word)), 0)
            if after and len(words) > after + 1:
                yield from (inner for _, inner in commands_in(words[after + 1]))
                return
            words = _without_options(words[1:], ())
        elif name in WRAPPERS:
            words = _without_options(words[1:], WRAPPERS[name])
        elif name in RUNNERS and "run" in words[:4]:
            words = _without_options(words[words.index("run") + 1 :], UV_OPTIONS)
        elif name in RUNNERS and "run-program" in words[:2]:
            words = words[2:]
        elif name == "docker-compose" or (name == "docker" and words[1:2] == ["compose"]):
            at = next((index for index, word in enumerate(words) if word in ("run", "exec")), len(words))
            words = _without_options(words[at + 1 :], ("-e", "-u", "-w", "--name", "-v", "-p"))[1:]
        elif re.fullmatch(r"python[\d.]*", name) and "-m" in words[1:4]:
            rest = words[words.index("-m") + 1 :]
            if not rest or rest[0] not in PROGRAMS:
                yield ["python", "-m", *rest]
                return
            words = rest
        else:
            yield [name if "/bin/" in words[0] else words[0], *words[1:]]
            return


def _without_options(words: list[str], with_value: Iterable[str]) -> list[str]:
    while words and words[0].startswith("-"):
        if words[0] == "--":
            return words[1:]
        words = words[2 if words[0] in with_value else 1 :]
    return words


def _joined(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Return the lines with their continuations, and the number of the first."""
    start, text = 0, ""
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("#"):
            continue
        start = start if text else number
        text += line.removesuffix("\\") + " " * line.endswith("\\")
        if not line.endswith("\\"):
            yield start, text
            text = ""
    if text:
        yield start, text


def _parts(line: str) -> Iterator[str]:
    """Split a line at `&&`, `;` and `|`, but not within quotes."""
    hidden = re.sub(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|\$\{[^}]*\}", lambda found: "_" * len(found[0]), line)
    start = 0
    for found in CUT.finditer(hidden):
        yield line[start : found.start()]
        start = found.end()
    yield line[start:]


def _value(text: str, known: Mapping[str, str]) -> str:
    return expand(text.strip().strip("\"'"), known)


def _of(found: re.Match[str], known: Mapping[str, str]) -> str:
    name, default = found[1] or found[3], found[2]
    return known.get(name) or (default.strip("\"'") if default is not None else found[0])
