"""Copies the suite into a repository that has none, and goes on in a session of its own."""

import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

from plumbline.commands.base import CommandError
from plumbline.commands.output import say
from plumbline.project import EXIT_PASS, EXIT_USAGE, SETTINGS, SUITE, noxfile_options

DISTRIBUTION = "pytest-plumbline"
TEMPLATE = "copier.yml"


def copy_suite(template: str, *, yes: bool, log_in: bool = False) -> int:
    """Copy the suite into the current folder with Copier, run its session `init`, and return an exit code.

    `template` is a URL or a folder. If it is empty, it is where this package was installed from. Raises CommandError.
    """
    source = [template] if template else _installed_from()
    if not source:
        message = "there is no performance suite here: name the template, as in `plumbline init --template URL`"
        raise CommandError(message, EXIT_USAGE)
    if any(Path(SUITE).glob("*")):
        raise CommandError(f"{SUITE} exists already, without {SETTINGS}: move or rename it first", EXIT_USAGE)
    copy = [*_tool("copier"), "copy", *(["--defaults"] if yes else []), *source, "."]
    options = [*(["--yes"] if yes else []), *(["--log-in"] if log_in else [])]
    nox = [*_tool("nox"), *noxfile_options(), "-s", "init", "--", *options]
    for command in copy, nox:
        say(f"> {' '.join(command)}")
        if code := subprocess.run(command, check=False).returncode:
            return code if command is nox else EXIT_USAGE
    return EXIT_PASS


def _tool(name: str) -> list[str]:
    """Return the command of a tool: in this environment, or in one that uv makes."""
    if importlib.util.find_spec(name):
        return [sys.executable, "-m", name]
    if uvx := shutil.which("uvx"):
        return [uvx, name]
    raise CommandError(f"{name} is missing: install uv or {name}", EXIT_USAGE)


def _installed_from() -> list[str]:
    """Return Copier's arguments for the repository that this package was installed from; [] if it is unknown."""
    try:
        text = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        found = json.loads(text or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return []
    url = found.get("url", "")
    if commit := found.get("vcs_info", {}).get("commit_id"):
        return ["--vcs-ref", commit, f"git+{url}"]
    folder = url.removeprefix("file://")
    return [folder] if url.startswith("file://") and (Path(folder) / TEMPLATE).is_file() else []
