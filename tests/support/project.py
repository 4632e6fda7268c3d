"""A copy of the template with a small suite, driven through Nox."""

import ast
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.comparing.trees.environment import hard_link
from plumbline.comparing.trees.installers import find_uv

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ["noxfile.py", "tests/__init__.py"]
LIMIT_S = 120.0

# Installed in the shared environments of the sessions.
REQUIREMENTS = "pytest-plumbline[docker,embedded,html,init,memory,postgres,redis]\n"

# Without unused plugins, each of hundreds of processes starts a sixth faster.
PYPROJECT = """\
[tool.pytest.ini_options]
minversion = "8.0"
addopts = ["-ra", "-p", "no:anyio", "-p", "no:benchmark", "-p", "no:faker", "-p", "no:valkey"]
testpaths = ["tests"]
filterwarnings = ["error"]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "session"
asyncio_default_test_loop_scope = "session"
timeout = "120"
"""

SETTINGS = """\
backend = "off"
test_limit_s = 10
ready_limit_s = 20

[profiles.ci]
samples = 20
warmup = 5
timed_limit_s = 0.1

[profiles.full]
samples = 40
warmup = 5
timed_limit_s = 0.2

[counts]
memory = false

[gate]
confirm_processes = 3
baseline_processes = 3
"""

REAL_CLOCK = '"""What benchmarks spend their time on."""\n\nfrom time import sleep as spend\n'

STEADY_CLOCK = '''\
"""A clock for `measure` that only benchmarks move on: figures that no busy machine can change."""

from plumbline.measuring.clock import Clock
from plumbline.measuring.machine_speed import Disturbances


def as_fast_as_ever(disturbances: Disturbances) -> float:
    disturbances.machine_speed_s = 1.0
    return 0.0


Disturbances.slowness = as_fast_as_ever


now_s = 0.0
Clock.read = lambda: now_s


def spend(time_s: float) -> None:
    global now_s
    now_s += time_s
'''

SUITE = '''\
"""Two benchmarks whose time is a clock's, however fast the machine is; one is scaled by the environment."""

import os

from tests.performance.clock import spend
from plumbline import Measure

SLOWER = float(os.environ.get("SLOWER", "1"))


def test_addition(measure: Measure) -> None:
    """Add up a range."""
    for timer in measure():
        with timer:
            total = sum(range(1000))
            spend(0.002 * SLOWER)
    assert total >= 0


def test_sorting(measure: Measure) -> None:
    """Sort a list that is in reverse order."""
    for timer in measure():
        with timer:
            ordered = sorted(range(2000, 0, -1))
            spend(0.002)
    assert ordered[0] == 1
'''

# For what takes real time: changes by a factor of three, which a busy machine can't turn into another verdict.
# Without tails: each pair would be measured for seconds until they are decided.
STEADY_SETTINGS = f"""\
pin = "off"
{SETTINGS.replace("confirm_processes = 3", "confirm_processes = 2")}\
tolerance = 0.2
minimum_effect = 0.9
tails = []
"""

CONFTEST = """\
import pytest


@pytest.fixture
def words() -> list[str]:
    return ["plumb", "line"] * 1000
"""

WORDS = '''\
"""Two benchmarks more, one of them with a fixture."""

from tests.performance.clock import spend
from plumbline import Measure


def test_joining(measure: Measure, words: list[str]) -> None:
    """Join words."""
    for timer in measure():
        with timer:
            text = " ".join(words)
            spend(0.002)
    assert text


def test_counting(measure: Measure) -> None:
    """Count a letter."""
    text = "plumbline" * 3000
    for timer in measure():
        with timer:
            found = text.count("l")
            spend(0.002)
    assert found
'''


@dataclass(frozen=True)
class Done:
    """The end of a command."""

    code: int
    output: str


class Project:
    """A user's repository in `root`, with shared virtual environments of its sessions in `environments`."""

    def __init__(self, root: Path, environments: Path) -> None:
        self.root = root
        self.environments = environments
        self.suite = root / "tests" / "performance"

    @classmethod
    def create(cls, root: Path, environments: Path, *, steady: bool = False) -> "Project":
        """Copy the template's files and add a small suite.

        `steady` makes its benchmarks take an exact time. They then cannot be compared in pairs, which have controls.
        """
        for name in TEMPLATE:
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        (root / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
        (root / ".gitignore").write_text("perf-results/\n__pycache__/\n", encoding="utf-8")
        project = cls(root, environments)
        project.suite.mkdir()
        (project.suite / "__init__.py").touch()
        project.write("requirements.txt", REQUIREMENTS)
        project.write("settings.toml", SETTINGS)
        project.write("clock.py", STEADY_CLOCK if steady else REAL_CLOCK)
        project.write("test_suite.py", SUITE)
        return project

    @classmethod
    def create_recorded(cls, root: Path, environments: Path) -> "Project":
        """The same with four benchmarks, committed to git, and with their baseline."""
        project = cls.create(root, environments, steady=True)
        project.write("settings.toml", STEADY_SETTINGS)
        project.write("conftest.py", CONFTEST)
        project.write("test_words.py", WORDS)
        project.git("init", "--quiet")
        project.commit("Start")
        done = project.run("baseline")
        assert done.code == 0, done.output
        results_validator().validate(json.loads(project.baseline().read_bytes()))
        return project

    def copy(self, root: Path) -> "Project":
        """Return a copy to be changed."""
        shutil.copytree(self.root, root)
        return Project(root, self.environments)

    def write(self, name: str, text: str) -> None:
        """Write a file of the suite."""
        (self.suite / name).write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file of the suite."""
        text = (self.suite / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new))

    def git(self, *arguments: str) -> str:
        """Run git in the project's repository."""
        identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *arguments], cwd=self.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def begin_repository(self, code: str) -> None:
        """Commit everything, with this code_under_test.py, as the first commit of a branch `main`."""
        (self.root / "code_under_test.py").write_text(code, encoding="utf-8")
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("Start")

    def commit(self, message: str = "Change") -> None:
        """Commit all changes."""
        self.git("add", ".")
        self.git("commit", "--quiet", f"--message={message}")

    def start(self, session: str, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """Start a Nox session in a new process group, with one stream for its output."""
        command = [sys.executable, "-m", "nox", "-R", "--envdir", str(self.environments), "-s", session]
        return self._start([*command, "--", *arguments], environ)

    def fresh_nox(self, session: str, *arguments: str, **environ: str) -> Done:
        """Run a Nox session to its end, which first installs its requirements."""
        command = [sys.executable, "-m", "nox", "--envdir", str(self.environments), "-s", session]
        return finish(self._start([*command, "--", *arguments], environ))

    def nox(self, session: str, *arguments: str, **environ: str) -> Done:
        """Run a Nox session to its end."""
        return finish(self.start(session, *arguments, **environ))

    def run(self, session: str, *arguments: str, **environ: str) -> Done:
        """Run a session's command to its end, without Nox."""
        return finish(self.start_without_nox(session, *arguments, **environ))

    def start_without_nox(self, session: str, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """Start a session's command without Nox, which would take a second."""
        return self._start_python("-m", *sessions()[session], *arguments, **environ)

    def python(self, *arguments: str, **environ: str) -> Done:
        """Run the environment's Python to its end."""
        return finish(self._start_python(*arguments, **environ))

    def _start_python(self, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        return self._start([str(self.environments / "ci" / "bin" / "python"), *arguments], environ)

    def own_python(self, *arguments: str, **environ: str) -> Done:
        """Run the Python of these tests to its end. It has pytest-xdist and coverage."""
        return finish(self._start([sys.executable, *arguments], environ))

    def _start(self, command: list[str], environ: Mapping[str, str]) -> "subprocess.Popen[str]":
        # Hide the variables of the outer run. Compiled files make each process a second faster.
        foreign = ("PERF_", "PYTEST_", "PYTHONDONTWRITEBYTECODE", "GITHUB_", "CI_")
        inherited = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith(foreign)}
        return subprocess.Popen(
            command,
            cwd=self.root,
            env={**inherited, "COLUMNS": "120", **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def results(self) -> Any:
        """Return the last results, validated by their published schema."""
        found = json.loads((self.root / "perf-results" / "results.json").read_text(encoding="utf-8"))
        results_validator().validate(found)
        return found

    def verdicts(self) -> dict[str, str]:
        """Return the verdict of each benchmark of the last run."""
        return {benchmark["key"]: benchmark["verdict"] for benchmark in self.results()["benchmarks"]}

    def baseline(self) -> Path:
        """Return the path of the only baseline file."""
        [path] = (self.suite / "baselines").glob("*.json")
        return path


@functools.cache
def results_validator() -> Any:
    """The validator of results.json and of baselines by their published schema."""
    import jsonschema  # type: ignore[import-untyped]  # which a run of the lowest versions does not have

    path = ROOT / "docs" / "reference" / "results.schema.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))


@functools.cache
def sessions() -> dict[str, list[str]]:
    """Return by session the Python command before the user's arguments, or [] if there is none."""
    found = dict[str, list[str]]()
    for one in ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body:
        if isinstance(one, ast.FunctionDef) and one.decorator_list:
            found[one.name] = []
        if isinstance(one, ast.Assign) and (table := ast.unparse(one.targets[0])) in ("MEASURING", "OTHERS"):
            takes_pytest = ["--"] if table == "MEASURING" else []
            found |= {name: ["plumbline", name, *takes_pytest] for name in ast.literal_eval(one.value)}
    return found


def finish(process: "subprocess.Popen[str]") -> Done:
    """Wait for the end of a command. One that hangs is killed with its group, and fails with its output."""
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"not done after {LIMIT_S:g} s:\n{output}") from None
    return Done(process.returncode, output)


def with_lax_budgets(text: str) -> str:
    """Multiply the budgets of settings or benchmarks, so that they are kept on a busy machine."""

    def lax(found: re.Match[str]) -> str:
        factor = 0.01 if found[1].startswith("rate") else 100
        return f"{found[1]}{float(found[2].replace('_', '')) * factor:g}"

    return re.sub(r"\b(\w+_ms ?= ?|rate_per_s ?= ?)([\d_]+)", lax, text)


def make_environments(folder: Path) -> None:
    """Install the requirements of the sessions once: they are the same."""
    install = [sys.executable, "-m", "nox", "--envdir", str(folder), "--install-only", "-s", "ci"]
    subprocess.run(install, cwd=ROOT, check=True, capture_output=True)
    python = str(folder / "ci" / "bin" / "python")
    subprocess.run([*pip_install(python), "nox"], check=True, capture_output=True)  # for tests as another user
    for session in ("full", "readiness", "baseline", "compare", "accept", "report"):
        (folder / session).symlink_to("ci")


def pip_install(python: str) -> list[str]:
    """Return the command that installs into this Python's environment, with uv if available."""
    uv = find_uv()
    return [*uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]


def make_environment(folder: str) -> list[str]:
    """Return the command that creates an environment with this Python, with uv if available."""
    uv = find_uv()
    return (
        [*uv, "venv", "--quiet", "--python", sys.executable, folder] if uv else [sys.executable, "-m", "venv", folder]
    )


def copy_environment(environment: Path, folder: Path) -> Path:
    """Copy a virtual environment with hard links, to install more into it. Return the Python of the copy."""
    shutil.copytree(environment, folder, symlinks=True, copy_function=hard_link)
    return folder / "bin" / "python"


def copy_for_all(environments: Path, folder: Path) -> Path:
    """Copy this interpreter and the environment `ci` to a folder that every user can access. Return the environment."""
    folder.chmod(0o755)
    ignored = shutil.ignore_patterns("site-packages", "test")
    shutil.copytree(sys.base_prefix, folder / "python", symlinks=True, ignore=ignored, copy_function=hard_link)
    environment = folder / "environments" / "ci"
    shutil.copytree(environments / "ci", environment, symlinks=True, copy_function=hard_link)
    # An editable package is in a folder that other users may not enter.
    [packages] = environment.glob("lib/python*/site-packages")
    for link in packages.glob("_*plumbline*.pth"):
        link.unlink()
    shutil.copytree(ROOT / "src" / "plumbline", packages / "plumbline", ignore=shutil.ignore_patterns("__pycache__"))
    interpreter = folder / "python" / "bin" / Path(sys.executable).resolve().name
    (environment / "bin" / "python").unlink()
    (environment / "bin" / "python").symlink_to(interpreter)
    configuration = environment / "pyvenv.cfg"
    text = re.sub(r"^home = .*$", f"home = {interpreter.parent}", configuration.read_text(), flags=re.MULTILINE)
    configuration.unlink()  # a new file: the old one is a hard link
    configuration.write_text(text)
    return environment
