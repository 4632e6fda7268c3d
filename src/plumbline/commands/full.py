"""`plumbline full`: the gate with more samples, resource and recovery tests, and an HTML report."""

import argparse

from plumbline.commands.ci import run_gate
from plumbline.project import Project
from plumbline.settings import Settings

EXAMPLE = "plumbline full -- -k checkout"


def run(project: Project, settings: Settings, options: argparse.Namespace) -> int:
    return run_gate(project, settings, "full", options.pytest)
