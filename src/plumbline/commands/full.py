"""`plumbline full`: the gate with more samples, resource and recovery tests, and an HTML report."""

import argparse

from plumbline.cli import add_pytest_arguments
from plumbline.commands.gate import run_gate

EXAMPLE = "plumbline full -- -k checkout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_pytest_arguments(parser)


def run(options: argparse.Namespace) -> int:
    return run_gate("full", options.pytest)
