"""`plumbline report`: show the last results again, or export them for another tool."""

import argparse
from pathlib import Path

from plumbline.commands.gate import export, report_again

EXAMPLE = "plumbline report --format bencher --output bencher.json"
FORMATS = "github-action-benchmark, bencher, pyperf, pytest-benchmark, openmetrics or csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", metavar="NAME", help=f"for another tool: {FORMATS}")
    parser.add_argument("--output", type=Path, metavar="PATH", help="file for --format; printed by default")


def run(options: argparse.Namespace) -> int:
    if options.output and not options.format:
        raise SystemExit("plumbline report: --output goes with --format")
    return export(options.format, options.output) if options.format else report_again()
