"""Copies the suite into a repository that has none, and goes on in a session of its own."""

import importlib.metadata
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from plumbline.commands.base import CommandError
from plumbline.commands.consent import may_write
from plumbline.commands.output import say
from plumbline.project import EXIT_PASS, EXIT_USAGE, SETTINGS, SUITE, noxfile_options

DISTRIBUTION = "pytest-plumbline"
TEMPLATE = "copier.yml"
VENDOR = f"{SUITE}/vendor/"
ESCAPE = re.compile(r"\x1b\[[\d;]*m")
CREATED = re.compile(r"^ *create +(.+)$", re.MULTILINE)  # in the output of Copier


def copy_suite(template: str, *, app: str, yes: bool, log_in: bool) -> int:
    """Copy the suite into the current folder with Copier, run its session `init`, and return an exit code.

    The files are shown before they are written. `template` is a URL or a folder. If it is empty, it is where this
    package was installed from. `app`, `yes` and `log_in` are options of `init`. Raises CommandError.
    """
    source = [template] if template else _installed_from()
    if not source:
        message = "there is no performance suite here: name the template, as in `plumbline init --template URL`"
        raise CommandError(message, EXIT_USAGE)
    if any(Path(SUITE).glob("*")):
        raise CommandError(f"{SUITE} exists already, without {SETTINGS}: move or rename it first", EXIT_USAGE)
    say(f"There is no performance suite in {Path.cwd()} yet. It is copied from {source[-1]}, in three steps:")
    say("copy its files, find your application, measure once.\n")
    copier, arguments = _tool("copier"), [*source, "."]
    created = CREATED.findall(ESCAPE.sub("", _run([*copier, "copy", "--defaults", "--pretend", *arguments])))
    say("\n".join(["The copy adds these files. It changes none of yours:", *(f"  {one}" for one in _listed(created))]))
    say(f"\nFor other answers, such as another pipeline, run `{_shown('copier', 'copy', *arguments)}` instead.")
    if not may_write(
        "Copy them?",
        shlex.join(["plumbline", "init", "--yes", *(["--template", template] if template else [])]),
        yes=yes,
    ):
        return EXIT_PASS
    _run([*copier, "copy", "--defaults", "--quiet", *arguments])
    options = [*(["--yes"] if yes else []), *(["--log-in"] if log_in else []), *(["--app", app] if app else [])]
    session = [*noxfile_options(), "-s", "init", *(["--", *options] if options else [])]
    say(f"\nThe files are copied. Next: `{_shown('nox', *session)}`\n")
    return subprocess.run([*_tool("nox"), *session], check=False).returncode


def _run(command: list[str]) -> str:
    """Run Copier, and return its output. Raises CommandError if it fails."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise CommandError(f"the suite can't be copied: `{shlex.join(command)}` failed:\n{done.stdout}", EXIT_USAGE)
    return done.stdout


def _listed(created: Sequence[str]) -> list[str]:
    """Return the files in their order, with the source of Plumbline as one line."""
    own = [one for one in created if not one.startswith(VENDOR)]
    vendored = len(created) - len(own)
    return sorted([*own, *([f"{VENDOR} (the source of Plumbline, {vendored} files)"] if vendored else [])])


def _shown(tool: str, *arguments: str) -> str:
    return shlex.join([*([] if shutil.which(tool) else ["uvx"]), tool, *arguments])


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
