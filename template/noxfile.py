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
