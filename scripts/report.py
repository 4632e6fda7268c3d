"""`python -m scripts.report [--format NAME [--output PATH]]`: render the last results again, or for another tool."""

import argparse
import sys
from pathlib import Path

from tests.performance.harness.gate import export, report_again

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.report",
        description="Print the last results again, with report.html, and exit as their run did.",
    )
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="for another tool: github-action-benchmark, bencher, pyperf, pytest-benchmark, openmetrics or csv",
    )
    parser.add_argument("--output", type=Path, metavar="PATH", help="of --format; otherwise it is printed")
    options = parser.parse_args()
    if options.output and not options.format:
        parser.error("--output goes with --format")
    sys.exit(export(options.format, options.output) if options.format else report_again())
