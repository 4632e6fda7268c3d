"""`plumbline accept`: accept regressions of the last run until the next baseline."""

import argparse

from plumbline.commands.gate import accept_regressions

EXAMPLE = 'plumbline accept "test_checkout.py::*" --reason "prices are checked now"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("keys", nargs="+", metavar="KEY", help="of a benchmark; * and ? stand for any text and letter")
    parser.add_argument("--reason", required=True, help="why it may be slower; shown in every report")


def run(options: argparse.Namespace) -> int:
    return accept_regressions(options.keys, options.reason)
