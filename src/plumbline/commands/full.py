"""`plumbline full`: the gate with more samples, resource and recovery tests, and an HTML report."""

import argparse

from plumbline.commands.ci import run_gate

EXAMPLE = "plumbline full -- -k checkout"


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Add none: all arguments are pytest's."""


def run(options: argparse.Namespace) -> int:
    return run_gate("full", options.pytest)
