"""`python -m scripts.gate [--profile ci|full] [-- PYTEST ARGUMENTS]`: measure, judge, tell."""

import argparse
import sys

from tests.performance.harness.gate import run_gate

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m scripts.gate", description="Measure the suite and judge it.")
    parser.add_argument("--profile", default="ci", help="profile of settings.toml (default: ci)")
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="goes to pytest")
    options = parser.parse_args()
    sys.exit(run_gate(options.profile, options.pytest))
