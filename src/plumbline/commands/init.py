"""`plumbline init`: find the application, propose settings and benchmarks, and run them once."""

import argparse

EXAMPLE = "plumbline init --yes"


def run(options: argparse.Namespace) -> int:
    raise NotImplementedError
