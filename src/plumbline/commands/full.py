"""`plumbline full`: the gate with more samples, tests of resources and recovery, and an HTML report."""

import argparse

from plumbline.commands import ci
from plumbline.commands.base import Project

EXAMPLE = "plumbline full -- -k checkout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ci.add_shard(parser)


def run(project: Project, options: argparse.Namespace) -> int:
    options.profile = "full"
    return ci.run(project, options)
