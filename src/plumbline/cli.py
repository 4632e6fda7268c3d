"""The command `plumbline`: its arguments; each command is a module in `plumbline.commands`."""

import argparse
import importlib
from collections.abc import Sequence

from plumbline import __version__

COMMANDS = {
    "ci": "measure, compare with the baseline and the base commit, and judge",
    "full": "the same with more samples, resource and recovery tests, and an HTML report",
    "readiness": "start or find the services, and run the readiness tests",
    "baseline": "measure in fresh processes, and write the baseline to commit",
    "compare": "compare the working tree with any commit",
    "accept": "accept regressions of the last run until the next baseline",
    "selfcheck": "measure the gate's own error rates on this machine",
    "report": "show the last results again, or export them",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; `arguments` are those of the process by default."""
    parser = argparse.ArgumentParser(
        prog="plumbline",
        description="Tell whether a change makes a Python service slower, or ask more of Redis and PostgreSQL.",
        epilog="example: plumbline ci -- -k checkout",
    )
    parser.add_argument("--version", action="version", version=f"pytest-plumbline {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    parsers = {name: commands.add_parser(name, help=text, add_help=False) for name, text in COMMANDS.items()}
    chosen, rest = parser.parse_known_args(arguments)
    module = importlib.import_module(f"plumbline.commands.{chosen.command}")
    own = argparse.ArgumentParser(
        prog=parsers[chosen.command].prog,
        description=f"{COMMANDS[chosen.command].capitalize()}.",
        epilog=f"example: {module.EXAMPLE}",
    )
    module.add_arguments(own)
    code: int = module.run(own.parse_intermixed_args(rest))
    return code


def add_pytest_arguments(parser: argparse.ArgumentParser) -> None:
    """Let everything after `--` go to pytest."""
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="is passed on to pytest")
