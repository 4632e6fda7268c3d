"""`python -m scripts.compare REV [--limit SECONDS] [-- PYTEST ARGUMENTS]`: compare with any commit, here and now."""

import argparse
import sys

from tests.performance.harness.gate import run_comparison

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m scripts.compare", description="Compare with another commit.")
    parser.add_argument("revision", metavar="REV", help="branch, tag or commit to compare the working tree with")
    parser.add_argument("--limit", type=float, default=300.0, metavar="SECONDS", help="how long (default: 300)")
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="goes to pytest")
    options = parser.parse_intermixed_args()  # or options between REV and -- would not do
    sys.exit(run_comparison(options.revision, options.pytest, options.limit))
