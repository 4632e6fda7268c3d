"""`plumbline baseline`: measure in fresh processes, and write the baseline to commit."""

import argparse

from plumbline.commands.gate import record_baseline

EXAMPLE = "plumbline baseline -- tests/performance/test_checkout.py"


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Add none: all arguments are pytest's."""


def run(options: argparse.Namespace) -> int:
    return record_baseline(options.pytest)
