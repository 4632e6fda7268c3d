# /// script
# dependencies = ["nox>=2026.7.11"]
# ///
"""Sessions of the performance suite. Pipelines run `nox -s ci`; `nox -l` lists all sessions."""
# fmt: off

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
HAS_PLUMBLINE, INSTALL = ("python", "-c", "import plumbline.install"), ("python", "-m", "plumbline.install")
INVALID = 3
HELPS = ("init", "doctor")  # they say what to do if the project can't be installed


# Each session runs the command of Plumbline with its name. Arguments after -- go to pytest.
MEASURING = {
    "ci": "Measure, compare with the baseline and the base commit, and judge. Arguments after -- go to pytest.",
    "full": "Run the gate with more samples, and with tests of resources and recovery.",
    "readiness": "Start or find the services, print how each became ready, and run the readiness tests.",
    "baseline": "Measure in fresh processes and write the baseline to commit.",
}
# Arguments after -- go to the command.
OTHERS = {
    "init": "Find the application, propose settings and benchmarks, and run them once. Asks before it writes.",
    "doctor": "Check whether the project installs, starts and answers, and say what to change in which file.",
    "compare": "Compare the working tree with a commit: nox -s compare -- main.",
    "accept": "Accept regressions of the last run until the next baseline: nox -s accept -- KEY --reason TEXT.",
    "selfcheck": "Measure the error rates of the gate on this machine: nox -s selfcheck -- --minutes=30.",
    "report": "Show the last results again and write the HTML report. For other tools: nox -s report -- --format=NAME.",
}


def add_session(name: str, text: str) -> None:
    """Add a session to those that `nox -l` lists."""

    def run(session: nox.Session) -> None:
        plumbline(session, name, *(["--"] if name in MEASURING else []), *session.posargs)

    run.__doc__ = text
    nox.session(name=name, default=name == "ci")(run)


for session_name, help_text in {**MEASURING, **OTHERS}.items():
    add_session(session_name, help_text)


def plumbline(session: nox.Session, *command: str) -> None:
    """Run a command of Plumbline and exit with its exit code. By itself Nox would exit with 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cancelled pipeline ends like Ctrl-C
    # Plumbline ends if this process dies. Its many processes start faster with compiled modules.
    environ = {"PERF_WATCH_PIDS": str(os.getpid()), "PYTHONDONTWRITEBYTECODE": None}
    ours = False  # whether a failure's exit code comes from Plumbline
    try:  # the import prints an error if Plumbline is not installed
        if session.run_install(*HAS_PLUMBLINE, silent=True, log=False, success_codes=[0, 1]):
            session.install("-r", REQUIREMENTS)
        # Install what your lock file and the suite ask for, and remove all other packages. Say so on standard error.
        nox_python, codes = "" if session.python else sys.executable, [0, *([INVALID] if command[0] in HELPS else [])]
        session.run_install(*INSTALL, nox_python, log=False, stderr=None, success_codes=codes)
        ours = True
        session.run("python", "-m", "plumbline", *command, env=environ, interrupt_timeout=1, terminate_timeout=20)
    except CommandFailed as failure:
        ended_by_signal = failure.return_code is None or failure.return_code < 0
        sys.exit(failure.return_code if ours and not ended_by_signal else INVALID)


# fmt: on
# Your own sessions go below this line.
