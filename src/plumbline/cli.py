"""The command `plumbline` and its arguments. Each command is a module in `plumbline.commands`."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from plumbline import __version__, inherited
from plumbline.project import EXIT_INTERRUPTED, EXIT_INVALID

COMMANDS = {
    "init": "find the application, propose settings and benchmarks, and run them once",
    "ci": "measure, compare with the baseline and the base commit, and judge",
    "full": "do the same as ci with more samples, run tests of resources and recovery, and write an HTML report",
    "readiness": "start or find the services, and run the readiness tests",
    "doctor": "check whether the project installs, starts and answers, and say what to change",
    "baseline": "measure in fresh processes, and write the baseline to commit",
    "compare": "compare the working tree with any commit",
    "bisect": "find the commit that made a benchmark slower, or that made a count grow",
    "load": "put load on the application with Locust, beside the base commit, and judge",
    "accept": "accept regressions of the last run until the next baseline",
    "selfcheck": "measure the gate's own error rates on this machine",
    "report": "show the last results again, or export them",
    "explain": "print what a code in a report means, and what to do",
}
WITHOUT_PYTEST = {"init", "doctor", "load", "accept", "report", "explain"}
WITHOUT_PROJECT = {"init", "doctor", "explain"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; `arguments` are those of the process by default."""
    try:
        try:
            return _main(arguments)
        except SystemExit as exit_:  # from argparse, which has printed the help, the version or an error
            try:
                sys.stdout.flush()
            except OSError:
                from plumbline.processes import drop_output

                drop_output(sys.stdout)
                return exit_.code if isinstance(exit_.code, int) and exit_.code else EXIT_INVALID
            raise
    except KeyboardInterrupt:  # while it imports what it needs
        sys.stderr.write(f"\ninterrupted: no verdict\nexit code {EXIT_INTERRUPTED}\n")
        return EXIT_INTERRUPTED


def open_streams() -> None:
    """Replace closed standard streams of this process, and so of its children, by the null device."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.dup2(descriptor, number)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
            if name == "stdout":
                from plumbline.processes import output_lost

                output_lost.append("it is closed")


def _main(arguments: Sequence[str] | None) -> int:
    open_streams()
    if arguments is None:
        inherited.leave_behind()
    # These may not be found under a wrong PYTHONHOME.
    from plumbline.commands.base import documented_exit, this_project
    from plumbline.processes import fix_addresses

    fix_addresses()

    parser = argparse.ArgumentParser(
        prog="plumbline",
        description="Show whether a change makes a Python service slower, or makes it use Redis and PostgreSQL more.",
        epilog="example: plumbline ci -- -k checkout",
    )
    parser.add_argument("--version", action="version", version=f"pytest-plumbline {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        subparsers.add_parser(name, help=text)
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in COMMANDS:
        parser.parse_args(given)  # prints the help or the version, or refuses
    name, *rest = given
    command = importlib.import_module(f"plumbline.commands.{name}")
    takes_pytest = name not in WITHOUT_PYTEST
    own = argparse.ArgumentParser(
        prog=f"plumbline {name}",
        description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.",
        epilog=f"{'Arguments after -- go to pytest. ' if takes_pytest else ''}Example: {command.EXAMPLE}",
    )
    if hasattr(command, "add_arguments"):
        command.add_arguments(own)
    end = rest.index("--") if "--" in rest else len(rest)
    options = own.parse_args(rest[:end])
    options.pytest = rest[end + 1 :]
    if options.pytest and not takes_pytest:
        own.error("this command runs no tests: remove -- and what follows")
    if name in WITHOUT_PROJECT:
        return documented_exit(lambda: command.run(options))
    return documented_exit(lambda: command.run(this_project(), options))
