"""`plumbline ci`: the gate."""

import argparse

from plumbline.commands.gate import run_gate

EXAMPLE = "plumbline ci -- -k checkout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="ci", metavar="NAME", help="profile in settings.toml (default: ci)")


def run(options: argparse.Namespace) -> int:
    return run_gate(options.profile, options.pytest)
