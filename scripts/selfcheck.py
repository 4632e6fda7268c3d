"""`python -m scripts.selfcheck [--minutes N] [-- PYTEST ARGUMENTS]`: measure the gate itself on this machine."""

import argparse
import sys

from tests.performance.harness.gate import run_selfcheck

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m scripts.selfcheck", description="Measure the gate itself.")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to measure (default: 5)")
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="goes to pytest")
    options = parser.parse_args()
    sys.exit(run_selfcheck(options.pytest, options.minutes))
