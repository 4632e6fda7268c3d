"""`plumbline compare`: compare the working tree with any commit, in pairs."""

import argparse
import time

from msgspec.structs import replace

from plumbline.commands.base import CommandError, Project, not_empty, seconds
from plumbline.commands.ci import confirm, with_gone_benchmarks
from plumbline.commands.measuring_run import measure
from plumbline.commands.output import make_room, report
from plumbline.commands.paired import with_pairs
from plumbline.comparing.trees.base import find_base
from plumbline.comparing.trees.git import Git, NoBase
from plumbline.judging.accepted import read_accepted
from plumbline.judging.decide import decide
from plumbline.judging.evidence import Evidence
from plumbline.project import EXIT_USAGE

EXAMPLE = "plumbline compare main -- -k checkout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("revision", metavar="REV", type=not_empty, help="branch, tag or commit to compare with")
    parser.add_argument(
        "--limit",
        type=seconds,
        default=300.0,
        metavar="SECONDS",
        help="time limit of all pairs together (default: 300)",
    )


def run(project: Project, options: argparse.Namespace) -> int:
    began_s = time.monotonic()
    with make_room(project.results):
        try:
            base = find_base(project.root, options.revision)
        except NoBase as error:
            raise CommandError(str(error), EXIT_USAGE) from None
        record = measure(project, "ci", options.pytest)
    evidence = Evidence(comparison_required=True)
    if record.exit_code is None:
        evidence = with_pairs(project, record, evidence, record.benchmarks, options.limit, base)
        if evidence.comparison.none is None:
            evidence = with_gone_benchmarks(project, record, evidence, base)
            evidence = replace(evidence, confirmation=confirm(project, record, evidence))
        evidence = replace(evidence, accepted=read_accepted(project.baselines))
    results = decide(record, evidence, project.settings.gate, project.settings.benchmarks)
    commits = int(Git(project.root).ask("rev-list", "--count", f"{base.commit}..HEAD") or 0)
    results = replace(results, revision=options.revision, commits=commits, duration_s=time.monotonic() - began_s)
    return report(project, results, html=False, keep=True)
