"""The command line and the environment of a worker's pytest."""

import os
from collections.abc import Sequence
from pathlib import Path

from plumbline.comparing.statistics.controls import is_control
from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.comparing.trees.at_start.sitecustomize import TESTS, TRACE
from plumbline.comparing.trees.lock_files import read_toml
from plumbline.comparing.trees.sides import Side, Sides, python_path
from plumbline.comparing.trees.trace import AT_START
from plumbline.processes import WATCHED, watched_with_us

SUITE = Path("tests/performance")
PYTEST_FILES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
PLUGIN = "plumbline"
# Plugins that take a tenth of a worker's time to import, or to collect garbage at its end.
LEFT_OUT = ("cacheprovider", "unraisableexception", "valkey")


def worker_command(side: Side, configured_by: Path, plans: Sequence[BenchmarkPlan], profile: str) -> list[str]:
    """Return the arguments of Python; `configured_by`: head's root, whose configuration of pytest both sides use."""
    files = dict.fromkeys(str(SUITE / plan.key.partition("::")[0]) for plan in plans if not is_control(plan.key))
    command = ["-m", "pytest", *files, "-q", "--no-header", "-s", "-p", PLUGIN, f"--perf-profile={profile}"]
    command += ["--continue-on-collection-errors", *(part for name in LEFT_OUT for part in ("-p", f"no:{name}"))]
    configuration = pytest_configuration(configured_by)
    command += [f"-c={configuration}"] if configuration else []
    # Like pytest itself: if the suite has a configuration of its own, no conftest.py above it is loaded.
    is_suites_own = configuration is not None and configuration.parent == configured_by / SUITE
    top = side.root / SUITE if is_suites_own else side.root
    # PYTHONPATH alone says from where to import.
    return [*command, "-o", "pythonpath=", f"--rootdir={side.root}", f"--confcutdir={top}"]


def worker_environment(side: Side, sides: Sides, hash_seed: int, notes_into: Path | None) -> dict[str, str]:
    """Return the environment of a worker; `notes_into`: the folder for notes of what the sides read, in a rehearsal."""
    path = python_path(side, sides)
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", WATCHED: watched_with_us()}
    # The same on both sides, another one in each pair: the order of sets is no difference between the trees.
    environ |= {"PYTHONPATH": path, "PYTHONHASHSEED": str(hash_seed)}
    if notes_into:
        environ |= {TRACE: str(notes_into / side.name / TESTS), "PYTHONPATH": f"{AT_START}{os.pathsep}{path}"}
    return {**environ, "PATH": os.pathsep.join([str(side.python.parent), environ.get("PATH", os.defpath)])}


def pytest_configuration(root: Path) -> Path | None:
    """Return the file that configures pytest for the suite, if there is one."""
    found = (folder / name for folder in (root / SUITE, root) for name in PYTEST_FILES)
    return next((path for path in found if _configures_pytest(path)), None)


def _configures_pytest(path: Path) -> bool:
    return path.is_file() and (path.name != "pyproject.toml" or "pytest" in read_toml(path).get("tool", {}))
