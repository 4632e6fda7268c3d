"""`plumbline readiness`: start or find the services, and run the readiness tests."""

import argparse

from plumbline.cli import add_pytest_arguments
from plumbline.commands.gate import run_readiness

EXAMPLE = "PERF_SERVICES=embedded plumbline readiness"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_pytest_arguments(parser)


def run(options: argparse.Namespace) -> int:
    return run_readiness(options.pytest)
