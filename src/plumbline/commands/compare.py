"""`plumbline compare`: a paired comparison of the working tree with any commit."""

import argparse

from msgspec.structs import replace

from plumbline.commands.ci import confirm
from plumbline.commands.exit import CommandError
from plumbline.commands.measuring_run import measure
from plumbline.commands.output import make_room, progress, report, say_wrapped
from plumbline.comparing.comparison import compare_with_base
from plumbline.comparing.trees.base_commit import find_base
from plumbline.comparing.trees.git import NoBase
from plumbline.exit_codes import EXIT_USAGE
from plumbline.judging.accepted import read_accepted
from plumbline.judging.choice import Pairs
from plumbline.judging.decide import decide
from plumbline.judging.evidence import ComparisonEvidence, Evidence
from plumbline.project import Project
from plumbline.results.schema import Results
from plumbline.settings import Settings

EXAMPLE = "plumbline compare main -- -k checkout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("revision", metavar="REV", help="branch, tag or commit to compare with")
    parser.add_argument("--limit", type=float, default=300.0, metavar="SECONDS", help="how long (default: 300)")


def run(project: Project, settings: Settings, options: argparse.Namespace) -> int:
    make_room(project.root / settings.results)
    try:
        find_base(project.root, options.revision)
    except NoBase as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    record = measure(project, settings, "ci", options.pytest)
    evidence = Evidence(comparison_required=True)
    if record.exit_code is None:
        evidence = _evidence(project, settings, record, options.revision, options.limit)
    results = decide(record, evidence, settings.gate, settings.benchmarks)
    return report(project, settings, results, html=False, keep=True)


def _evidence(project: Project, settings: Settings, record: Results, revision: str, limit_s: float) -> Evidence:
    pairs = Pairs.of(record, record.benchmarks)
    comparison = ComparisonEvidence()
    if pairs.benchmarks:
        comparison = compare_with_base(
            project,
            settings,
            record,
            pairs.benchmarks,
            None,
            budget_s=limit_s,
            say=say_wrapped,
            progress=progress,
            revision=revision,
        )
    evidence = Evidence(
        application_elsewhere=pairs.application_elsewhere, comparison=comparison, comparison_required=True
    )
    if comparison.none is None:
        evidence = replace(evidence, confirmation=confirm(project, settings, record, evidence))
    return replace(evidence, accepted=read_accepted(project.baselines))
