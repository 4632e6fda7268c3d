"""`plumbline selfcheck`: measure the gate's own error rates on this machine."""

import argparse

from plumbline.commands.gate import run_selfcheck

EXAMPLE = "plumbline selfcheck --minutes 30"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to measure (default: 5)")


def run(options: argparse.Namespace) -> int:
    return run_selfcheck(options.pytest, options.minutes)
