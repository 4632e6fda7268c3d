"""`python -m scripts.report`: render the last results again, and exit as their run did."""

import sys

from tests.performance.harness.gate import report_again

if __name__ == "__main__":
    sys.exit(report_again())
