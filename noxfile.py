# /// script
# dependencies = ["nox>=2026.7.11"]
# ///
"""Sessions of the performance suite: `nox -s ci` runs in pipelines."""

import os
import signal
import sys

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2026.7.11"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True

REQUIREMENTS = "tests/performance/requirements.txt"
HAS_PLUMBLINE = ("python", "-c", "import plumbline.install")
INSTALL = ("python", "-m", "plumbline.install")
INVALID = 3
# They say what to do if the project can't be installed.
HELPS = ("init", "doctor")


# Each session runs the command of Plumbline with its name.
# Arguments after -- go to pytest.
MEASURING = {
    "ci": "Measure, compare with the baseline and the base commit, and judge.",
    "full": "Take more samples, and run tests of resources and recovery.",
    "readiness": "Start the services, and run the readiness tests.",
    "baseline": "Measure in fresh processes and write the baseline to commit.",
}
# Arguments after -- go to the command.
OTHERS = {
    "init": "Propose settings and benchmarks, and run them once. Asks first.",
    "doctor": "Check whether the project installs, starts and answers.",
    "compare": "Compare with a commit: nox -s compare -- main.",
    "bisect": "Find the commit that made a benchmark slower: -- GOOD [BAD].",
    "load": "Put load on the application with Locust, and judge.",
    "accept": "Accept regressions: nox -s accept -- KEY --reason TEXT.",
    "selfcheck": "Measure the error rates of the gate on this machine.",
    "report": "Show the last results again, and write the HTML report.",
}


def add_session(name: str, text: str) -> None:
    """Add a session to those that `nox -l` lists."""

    def run(session: nox.Session) -> None:
        separator = ["--"] if name in MEASURING else []
        plumbline(session, name, *separator, *session.posargs)

    run.__doc__ = text
    nox.session(name=name, default=name == "ci")(run)


for session_name, help_text in {**MEASURING, **OTHERS}.items():
    add_session(session_name, help_text)


def plumbline(session: nox.Session, *command: str) -> None:
    """Run a command of Plumbline, and exit with its exit code."""
    # A cancelled pipeline ends like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    environ = {
        # Plumbline ends if this process dies.
        "PERF_WATCH_PIDS": str(os.getpid()),
        # Its many processes start faster with compiled modules.
        "PYTHONDONTWRITEBYTECODE": None,
    }
    ours = False  # whether a failure's exit code comes from Plumbline
    try:
        # The import prints an error if Plumbline is not installed.
        if session.run_install(
            *HAS_PLUMBLINE,
            silent=True,
            log=False,
            success_codes=[0, 1],
        ):
            session.install("-r", REQUIREMENTS)
        # Install what your lock file and the suite ask for, and remove all
        # other packages. Say so on standard error.
        session.run_install(
            *INSTALL,
            "" if session.python else sys.executable,
            log=False,
            stderr=None,
            success_codes=[0, INVALID] if command[0] in HELPS else [0],
        )
        ours = True
        session.run(
            "python",
            "-m",
            "plumbline",
            *command,
            env=environ,
            interrupt_timeout=1,
            terminate_timeout=20,
        )
    except CommandFailed as failure:
        code = failure.return_code
        ended_by_signal = code is None or code < 0
        sys.exit(code if ours and not ended_by_signal else INVALID)


# Your own sessions go below this line.

from pathlib import Path  # noqa: E402

PLUMBLINE = ["-e", ".[docker,embedded,html,init,memory,postgres,redis]"]
PYPROJECT = nox.project.load_toml("pyproject.toml")
# Keep compiled modules, so that the many processes of the tests do not compile all packages again.
COMPILED = {"PYTHONDONTWRITEBYTECODE": None}
# The oldest versions of the packages of applications that Plumbline supports.
LOWEST = ["httpx==0.26.*", "redis==5.0.1", "asyncpg==0.29.*", "uvicorn==0.27.*", "fastapi==0.110.*"]


@nox.session(default=False)
def tests(session: nox.Session) -> None:
    """Run the tests of the package and of the template, without the slow ones."""
    run_tests(session, "not slow")


@nox.session(default=False)
def slow_tests(session: nox.Session) -> None:
    """Run the slow tests."""
    run_tests(session, "slow")


def run_tests(session: nox.Session, marked: str) -> None:
    """Run the tests with these marks, or those that the arguments choose."""
    session.install(*PLUMBLINE, *nox.project.dependency_groups(PYPROJECT, "tests"))
    # Those that take longest start first, so that no process waits for another one at the end.
    longest = ["tests/template", "tests/integration", "tests/unit/services", "tests/unit/test_pytest_plugin.py"]
    others = [*Path("tests/unit").glob("[!_]*/"), *Path("tests/unit").glob("test_*.py")]
    chosen = any(one.startswith("tests/") for one in session.posargs)
    paths = [] if chosen else list(dict.fromkeys([*longest, *sorted(map(str, others))]))
    # Tests of real servers depend on the machine's speed. A failed test runs again, and pytest reports that.
    whole = ["-m", marked, "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "--reruns", "3", "-rR"]
    session.run("pytest", *([] if session.posargs else whole), *paths, *session.posargs, env=COMPILED)


@nox.session(default=False)
def lint(session: nox.Session) -> None:
    """Run ruff and mypy, and check the layers of imports."""
    session.install(*PLUMBLINE, *nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check", "--config=pyproject.toml")
    session.run("ruff", "check", "--extend-select=I,RUF100", "tests/performance")  # as in a copy
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("lint-imports")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build: warnings, such as dead links, are errors."""
    session.install(*PLUMBLINE, *nox.project.dependency_groups(PYPROJECT, "docs"))
    session.run("sphinx-build", "-W", "--keep-going", "-n", "-q", "docs", "docs/_build")
    session.log("open docs/_build/index.html")


@nox.session(default=False)
def lowest(session: nox.Session) -> None:
    """Run tests of the package, without Docker, on the oldest versions of its dependencies."""
    session.install("--resolution=lowest-direct", *PLUMBLINE, *LOWEST)
    session.install("jsonschema", "nox", "pydantic-settings", "pytest-xdist", "pytest-rerunfailures")
    session.install("granian", "gunicorn", "hypercorn", "psycopg[binary]")  # what applications of these tests use
    session.install("django", "fastapi", "jinja2", "psycopg2-binary", "sqlalchemy[asyncio]", "uvloop")
    # Those that use dependencies. The oldest pytest-asyncio does not replace the event loops that test_holds.py ends.
    services = ("application", "clients", "embedded", "external", "services", "serving")
    files = [f"tests/unit/services/test_{name}.py" for name in services]
    files += [f"tests/unit/counting/test_{name}.py" for name in ("call_sites", "counter", "memory")]
    paths = session.posargs or ["tests/unit/measuring", *files]
    session.run("pytest", "-n", "3", "--dist", "loadfile", "--reruns", "2", "-rR", *paths, env=COMPILED)
    session.run("python", "-m", "plumbline", "ci", "--", "-k", "select_1 or test_publish_latency or test_list")


@nox.session(default=False)
def package(session: nox.Session) -> None:
    """Build the wheel and the sdist, and use each in an empty environment."""
    folder = session.create_tmp()
    session.install("build[uv]", "twine")
    session.run("python", "-m", "build", "--installer=uv", f"--outdir={folder}")
    session.run("twine", "check", "--strict", *map(str, Path(folder).glob("pytest_plumbline-*")))
    session.run("python", "scripts/try_package.py", folder)
