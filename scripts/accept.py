"""`python -m scripts.accept KEY … --reason TEXT`: accept regressions of the last run until the next baseline."""

import argparse
import sys

from tests.performance.harness.gate import accept_regressions

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m scripts.accept", description="Accept regressions of the last run.")
    parser.add_argument("keys", nargs="+", metavar="KEY", help="of a benchmark; * and ? stand for any text and letter")
    parser.add_argument("--reason", required=True, help="why it may be slower; stands in every report")
    options = parser.parse_args()
    sys.exit(accept_regressions(options.keys, options.reason))
