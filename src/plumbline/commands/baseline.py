"""`plumbline baseline`: measure in fresh processes, and write the baseline to commit."""

import argparse

from plumbline.cli import add_pytest_arguments
from plumbline.commands.gate import record_baseline

EXAMPLE = "plumbline baseline -- tests/performance/test_checkout.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_pytest_arguments(parser)


def run(options: argparse.Namespace) -> int:
    return record_baseline(options.pytest)
