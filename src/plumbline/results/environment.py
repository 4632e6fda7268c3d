"""The environment of a run: machine, Python, packages and commit."""

import datetime
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from plumbline.processes import addresses_are_fixed
from plumbline.repository import git_command
from plumbline.results.schema import Environment

# The variables in which GitHub and GitLab name the branch of a proposed change, and of a push.
CI_BRANCH = ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_BRANCH")


def describe_environment(
    root: Path, *, machine: str, services: Mapping[str, str], versions: Mapping[str, str], pin: int | None
) -> Environment:
    """Return the environment that a baseline records. `machine`: the user's name for the machine, or empty."""
    commit, dirty = git_state(root)
    return Environment(
        machine=machine or machine_id(),
        system=platform.system().lower(),
        architecture=platform.machine().lower(),
        cpu=cpu_model(),
        cpu_count=os.cpu_count() or 1,
        kernel=platform.release(),
        python=platform.python_version(),
        services=dict(services),
        versions=dict(versions),
        pin=pin,
        commit=commit,
        dirty=dirty,
        packages=installed_packages(),
        branch=git_branch(root),
        fixed_addresses=addresses_are_fixed(),
    )


def project_name(root: Path) -> str:
    """Return the project's name in pyproject.toml; that of its folder if there is none."""
    try:
        named = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        named = ""
    return named if named and isinstance(named, str) else root.resolve().name


def baseline_name(system: str, architecture: str, cpu: str, services: Mapping[str, str]) -> str:
    """Return the file name of the baseline for one kind of machine: system-architecture-cpu-backend.json."""
    backends = sorted({services[name] for name in ("redis", "postgres") if name in services}) or ["none"]
    parts = [re.sub(r"\((r|tm|c)\)", " ", part.lower()) for part in (system, architecture, cpu)]
    slugs = [re.sub(r"[^a-z0-9]+", "-", part).strip("-") for part in parts]
    return "-".join([*slugs, *backends]) + ".json"


def machine_id() -> str:
    """Return a short hash that identifies this machine without revealing anything about it."""
    parts = [platform.node(), platform.machine(), cpu_model(), str(os.cpu_count())]
    ids = [Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")]
    parts += [path.read_text(encoding="ascii", errors="replace").strip() for path in ids if path.is_file()][:1]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def cpu_model() -> str:
    """Return the vendor's name of the CPU, with family, model and stepping on x86."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        fields: dict[str, str] = {}
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
        name = fields.get("model name") or fields.get("CPU part") or platform.machine()
        numbers = [fields[key] for key in ("cpu family", "model", "stepping") if key in fields]
        return " ".join([name, "/".join(numbers)]).strip()
    return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor() or platform.machine()


def installed_packages() -> dict[str, str]:
    """Return the version of each installed distribution, by normalized name."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name, version = name_and_version(distribution)
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return dict(sorted(found.items()))


def name_and_version(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """Return both from the headers, "" if missing. `distribution.metadata` would parse the whole description."""
    text = next(filter(None, map(distribution.read_text, ("METADATA", "PKG-INFO", ""))), "")
    fields = dict(line.partition(": ")[::2] for line in text.partition("\n\n")[0].splitlines())
    return fields.get("Name", ""), fields.get("Version", "")


def git_state(root: Path) -> tuple[str, bool]:
    """Return the current commit, and whether tracked files differ from it. Without git: ("", False).

    If `git status` fails, the files count as different.
    """
    commit = _output(*git_command(root, "rev-parse", "--verify", "--quiet", "HEAD"))
    if not commit:
        return "", False
    changes = _output(*git_command(root, "status", "--porcelain", "--untracked-files=no", "--no-renames"))
    return commit, changes is None or bool(changes)


def commit_time(root: Path) -> datetime.datetime | None:
    """Return when the current commit was made, in UTC; None without git."""
    seconds = _output(*git_command(root, "log", "-1", "--no-show-signature", "--format=%ct"))
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC) if seconds else None


def git_branch(root: Path) -> str:
    """Return the branch that is checked out, or, as CI checks out a commit, the one that CI names; "" for none."""
    if branch := _output(*git_command(root, "symbolic-ref", "--quiet", "--short", "HEAD")):
        return branch
    names = [name for name in CI_BRANCH if (name, os.environ.get("GITHUB_REF_TYPE")) != ("GITHUB_REF_NAME", "tag")]
    return next((branch for name in names if (branch := os.environ.get(name))), "")


def _output(command: list[str], environ: Mapping[str, str] | None = None) -> str | None:
    """Return the output of a command, or None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environ)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def origins(modules: Iterable[str]) -> dict[str, str]:
    """Return the real path of the file or folder that each top-level module would be imported from, or ""."""
    found = {}
    for name in modules:
        try:
            specification = importlib.util.find_spec(name)
        except ValueError:  # a module in sys.modules without a specification, such as __main__
            specification = None
        found[name] = ""
        if specification is not None:
            folders = list(specification.submodule_search_locations or [])
            path = specification.origin if specification.has_location else next(iter(folders), None)
            found[name] = os.path.realpath(path) if path else str(specification.origin)
    return found
