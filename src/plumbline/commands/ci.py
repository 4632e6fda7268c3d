"""`plumbline ci`: the gate."""

import argparse

from plumbline.cli import add_pytest_arguments
from plumbline.commands.gate import run_gate

EXAMPLE = "plumbline ci -- -k checkout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_pytest_arguments(parser)


def run(options: argparse.Namespace) -> int:
    return run_gate("ci", options.pytest)
