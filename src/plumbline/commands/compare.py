"""`plumbline compare`: a paired comparison of the working tree with any commit."""

import argparse

from plumbline.commands.gate import run_comparison

EXAMPLE = "plumbline compare main -- -k checkout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("revision", metavar="REV", help="branch, tag or commit to compare with")
    parser.add_argument("--limit", type=float, default=300.0, metavar="SECONDS", help="how long (default: 300)")


def run(options: argparse.Namespace) -> int:
    return run_comparison(options.revision, options.pytest, options.limit)
