"""`python -m scripts.readiness [-- PYTEST ARGUMENTS]`: start or find the services, probe them, run their tests."""

import argparse
import sys

from tests.performance.harness.gate import run_readiness

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.readiness",
        description="Start or find the services, probe them, run the readiness tests.",
    )
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="goes to pytest")
    sys.exit(run_readiness(parser.parse_args().pytest))
