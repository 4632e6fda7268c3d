"""`plumbline readiness`: start or find the services, and run the readiness tests."""

import argparse

from plumbline.commands.gate import run_readiness

EXAMPLE = "PERF_SERVICES=embedded plumbline readiness"


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Add none: all arguments are pytest's."""


def run(options: argparse.Namespace) -> int:
    return run_readiness(options.pytest)
