"""`python -m scripts.compare REV [--limit SECONDS] [-- PYTEST ARGUMENTS]`: compare with any commit, here and now."""

import argparse
import sys

from tests.performance.harness.gate import run_comparison

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m scripts.compare", description="Compare with another commit.")
    parser.add_argument("revision", metavar="REV", help="branch, tag or commit to compare the working tree with")
    parser.add_argument("--limit", type=float, default=300.0, metavar="SECONDS", help="how long (default: 300)")
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="goes to pytest")
    arguments = sys.argv[1:]
    ours = arguments.index("--") if "--" in arguments else len(arguments)  # argparse loses what follows an option
    options = parser.parse_args(arguments[:ours])
    sys.exit(run_comparison(options.revision, [*options.pytest, *arguments[ours + 1 :]], options.limit))
