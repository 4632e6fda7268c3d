"""`python -m scripts.baseline [-- PYTEST ARGUMENTS]`: measure in fresh processes and write the baseline to commit."""

import argparse
import sys

from tests.performance.harness.gate import record_baseline

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.baseline", description="Measure in fresh processes and write the baseline to commit."
    )
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="goes to pytest")
    sys.exit(record_baseline(parser.parse_args().pytest))
