"""`plumbline full`: the gate with more samples, resource and recovery tests, and an HTML report."""

import argparse

from plumbline.commands.ci import run_gate
from plumbline.commands.exit import Project

EXAMPLE = "plumbline full -- -k checkout"


def run(project: Project, options: argparse.Namespace) -> int:
    return run_gate(project, "full", options.pytest)
