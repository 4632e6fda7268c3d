# /// script
# dependencies = ["nox>=2026.7.11"]
# ///
"""Sessions of the performance suite: `nox -s ci` in pipelines, `nox -l` for the others."""

import os
import signal
import sys

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2026.7.11"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
nox.options.sessions = ["ci"]

REQUIREMENTS = "tests/performance/requirements.txt"
HAS_PLUMBLINE = ("python", "-c", "import plumbline.install")
INVALID = 3


@nox.session
def ci(session: nox.Session) -> None:
    """The gate: measure, compare with the baseline and the base commit. Arguments after -- go to pytest."""
    plumbline(session, "ci", "--", *session.posargs)


@nox.session(default=False)
def full(session: nox.Session) -> None:
    """The gate with more samples, resource and recovery tests."""
    plumbline(session, "full", "--", *session.posargs)


@nox.session(default=False)
def readiness(session: nox.Session) -> None:
    """Start or find the services, print how each became ready, run the readiness tests."""
    plumbline(session, "readiness", "--", *session.posargs)


@nox.session(default=False)
def baseline(session: nox.Session) -> None:
    """Measure in fresh processes and write the baseline to commit."""
    plumbline(session, "baseline", "--", *session.posargs)


@nox.session(default=False)
def compare(session: nox.Session) -> None:
    """Compare the working tree with any commit: nox -s compare -- main."""
    plumbline(session, "compare", *session.posargs)


@nox.session(default=False)
def accept(session: nox.Session) -> None:
    """Accept regressions of the last run until the next baseline: nox -s accept -- KEY --reason TEXT."""
    plumbline(session, "accept", *session.posargs)


@nox.session(default=False)
def selfcheck(session: nox.Session) -> None:
    """Measure the gate's own error rates on this machine: nox -s selfcheck -- --minutes=30."""
    plumbline(session, "selfcheck", *session.posargs)


@nox.session(default=False)
def report(session: nox.Session) -> None:
    """Show the last results again, also as HTML: nox -s report -- --format=NAME for other tools."""
    plumbline(session, "report", *session.posargs)


def plumbline(session: nox.Session, *command: str) -> None:
    """Run a command of Plumbline and exit with its own code, in place of which Nox would exit with 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cancelled pipeline ends as Ctrl-C does
    # If this process dies, the command ends too. Compiled modules make its many processes start faster.
    environ = {"PERF_WATCH_PIDS": str(os.getpid()), "PYTHONDONTWRITEBYTECODE": None}
    ours = False  # whether an exit code is one of Plumbline's
    try:  # with 1 s to end by itself on Ctrl-C, and 20 s to stop its services
        if session.run_install(*HAS_PLUMBLINE, silent=True, log=False, success_codes=[0, 1]):  # prints an error
            session.install("-r", REQUIREMENTS)
        # This installs what your lock file and the suite ask for, and removes the rest.
        session.run_install("python", "-m", "plumbline.install", "" if session.python else sys.executable, log=False)
        ours = True
        session.run("python", "-m", "plumbline", *command, env=environ, interrupt_timeout=1, terminate_timeout=20)
    except CommandFailed as failure:
        ended_by_signal = failure.return_code is None or failure.return_code < 0
        sys.exit(failure.return_code if ours and not ended_by_signal else INVALID)


# Your own sessions go below this line.
