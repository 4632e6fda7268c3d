"""`plumbline accept`: accept regressions of the last run until the next baseline."""

import argparse

from plumbline.commands.base import CommandError, Project, not_empty
from plumbline.commands.output import last_results, say
from plumbline.judging.accepted import FILE, accepted_now, matching, read_accepted, write_accepted
from plumbline.project import EXIT_PASS, EXIT_USAGE, nox_command
from plumbline.results.environment import git_branch

EXAMPLE = 'plumbline accept "test_checkout.py::*" --reason "prices are checked now"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("keys", nargs="+", metavar="KEY", help="key of a benchmark; * and ? match as in file names")
    parser.add_argument(
        "--reason", required=True, type=not_empty, help="why it may be slower; every report shows this text"
    )


def run(project: Project, options: argparse.Namespace) -> int:
    results = last_results(project.results)
    here, there = git_branch(project.root), results.environment.branch
    if here and there and here != there:
        advice = f"run `{nox_command()} -s ci` here first, or check out {there}"
        raise CommandError(f"the last results are of the branch {there}, and this is {here}: {advice}", EXIT_USAGE)
    slower = {benchmark.key: benchmark for benchmark in results.benchmarks if benchmark.verdict == "regression"}
    keys, unknown = matching(options.keys, slower)
    if unknown:
        known = f"its regressions are {', '.join(slower)}" if slower else "it has no regressions"
        raise CommandError(f"the last run has no regression {', '.join(unknown)}: {known}", EXIT_USAGE)
    folder = project.baselines
    new = {key: accepted_now(slower[key], options.reason) for key in keys}
    write_accepted(folder, read_accepted(folder) | new)
    say("\n".join([*(f"accepted: {key}" for key in keys), "", f"written: {project.shown(folder / FILE)}; commit it"]))
    return EXIT_PASS
