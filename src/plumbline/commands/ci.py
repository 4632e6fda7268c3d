"""`plumbline ci`: the gate."""

import argparse

from plumbline.commands.gate import run_gate

EXAMPLE = "plumbline ci -- -k checkout"


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Add none: all arguments are pytest's."""


def run(options: argparse.Namespace) -> int:
    return run_gate("ci", options.pytest)
