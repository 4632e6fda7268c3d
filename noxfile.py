# /// script
# dependencies = ["nox>=2026.7.11"]
# ///
"""Sessions of the performance suite: `nox -s ci` in pipelines, `nox -s full` at home, `nox -l` for all."""

import os
import signal
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2026.7.11"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
nox.options.sessions = ["ci"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
# The performance suite itself, and what the code under test needs: dependency groups of pyproject.toml.
PLUMBLINE = ["-e", ".[redis,postgres,docker,embedded,html]"]
GROUPS = ["service"]
# How your own project is installed, for instance ["-e", "."]; empty: imported from the working tree.
PROJECT: list[str] = []
# From a terminal, Ctrl-C reaches the command as well; from elsewhere it has to be told, after this.
OWN_END_LIMIT_S = 1
# How long a command that is interrupted may take to stop its services.
END_LIMIT_S = 20
INVALID = 3
# Or each of many processes would compile all packages again.
COMPILED = {"PYTHONDONTWRITEBYTECODE": None}


@nox.session
def ci(session: nox.Session) -> None:
    """The gate: measure, compare with the baseline, verdict. Arguments after -- go to pytest."""
    _plumbline(session, "ci", "--", *session.posargs)


@nox.session(default=False)
def full(session: nox.Session) -> None:
    """The gate with more samples, resource and recovery tests."""
    _plumbline(session, "full", "--", *session.posargs)


@nox.session(default=False)
def readiness(session: nox.Session) -> None:
    """Start or find the services, probe them until they do real work, run the readiness tests."""
    _plumbline(session, "readiness", "--", *session.posargs)


@nox.session(default=False)
def baseline(session: nox.Session) -> None:
    """Measure in several fresh processes and write the baseline to commit."""
    _plumbline(session, "baseline", "--", *session.posargs)


@nox.session(default=False)
def compare(session: nox.Session) -> None:
    """Compare the working tree in pairs with a commit: nox -s compare -- main."""
    _plumbline(session, "compare", *session.posargs)


@nox.session(default=False)
def accept(session: nox.Session) -> None:
    """Accept regressions of the last run until the next baseline: nox -s accept -- KEY --reason TEXT."""
    _plumbline(session, "accept", *session.posargs)


@nox.session(default=False)
def selfcheck(session: nox.Session) -> None:
    """Measure the gate itself on this machine: false alarms, and what it sees; --minutes=30 for more than 5."""
    _plumbline(session, "selfcheck", *session.posargs)


@nox.session(default=False)
def report(session: nox.Session) -> None:
    """Render the last results again, as HTML as well; --format=NAME for other tools."""
    _plumbline(session, "report", *session.posargs)


def _plumbline(session: nox.Session, *command: str) -> None:
    """Run one of our commands and leave with its own exit code, which Nox would make a plain 1."""
    session.install(*PLUMBLINE, *PROJECT, *nox.project.dependency_groups(PYPROJECT, *GROUPS))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a pipeline that cancels its job: as Ctrl-C
    try:
        session.run(
            "python",
            "-m",
            "plumbline",
            *command,
            env={
                "PERF_WATCH_PIDS": str(os.getpid()),  # the services' reaper ends the run when we die
                **COMPILED,
            },
            interrupt_timeout=OWN_END_LIMIT_S,
            terminate_timeout=END_LIMIT_S,
        )
    except CommandFailed as failure:
        code = failure.return_code
        sys.exit(INVALID if code is None or code < 0 else code)  # below zero: a signal ended the command


# Your own sessions go below this line.

# Packages of applications that share an environment with the suite, as old as the package works with.
LOWEST = ["httpx==0.26.*", "redis==5.0.*", "asyncpg==0.29.*", "uvicorn==0.27.*", "starlette>=0.37", "pytest==8.*"]


@nox.session(default=False)
def tests(session: nox.Session) -> None:
    """The harness's own tests, and the template's."""
    session.install(*PLUMBLINE, *nox.project.dependency_groups(PYPROJECT, "tests"))
    # Those of the template first, which take longest.
    paths = (
        []
        if any(one.startswith("tests/") for one in session.posargs)
        else ["tests/template", "tests/integration", "tests/unit"]
    )
    # What real servers do in a limited time depends on the machine: what fails may try again, and pytest says so.
    whole = ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "--reruns", "2", "-rR"]
    session.run("pytest", *([] if session.posargs else whole), *paths, *session.posargs, env=COMPILED)


@nox.session(default=False)
def lint(session: nox.Session) -> None:
    """ruff, mypy, and the layers of imports."""
    session.install(*PLUMBLINE, *nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("lint-imports")


@nox.session(default=False)
def lowest(session: nox.Session) -> None:
    """The package's tests without Docker, on the oldest versions that it declares."""
    session.install("--resolution=lowest-direct", *PLUMBLINE, *LOWEST)
    session.install("pytest-xdist", "pytest-rerunfailures")
    paths = session.posargs or ["tests/unit/measuring", "tests/unit/services", "tests/unit/counting"]
    session.run("pytest", "-n", "3", "--dist", "loadfile", "--reruns", "2", "-rR", *paths, env=COMPILED)
    session.run("python", "-m", "plumbline", "ci", "--", "-k", "select_1 or test_publish_latency or test_list")


@nox.session(default=False)
def package(session: nox.Session) -> None:
    """Build the wheel and the sdist, install each into an empty environment, and use it from there."""
    folder = session.create_tmp()
    session.install("build[uv]", "twine")
    session.run("python", "-m", "build", "--installer=uv", f"--outdir={folder}")
    session.run("twine", "check", "--strict", *map(str, Path(folder).glob("pytest_plumbline-*")))
    session.run("python", "scripts/try_package.py", folder)
