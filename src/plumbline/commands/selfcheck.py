"""`plumbline selfcheck`: measure the gate's own error rates on this machine."""

import argparse
import time

from plumbline.commands.exit import CommandError, Project
from plumbline.commands.measuring_run import measure_whole
from plumbline.commands.output import SELFCHECK, say
from plumbline.comparing.comparison import plans_of, sides_of
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.trees.git import NoBase
from plumbline.exit_codes import EXIT_INVALID, EXIT_PASS
from plumbline.selfcheck.findings import report_lines, with_findings
from plumbline.selfcheck.record import left_out, places, record, write_recording

EXAMPLE = "plumbline selfcheck --minutes 30"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to measure (default: 5)")


def run(project: Project, options: argparse.Namespace) -> int:
    began_s = time.monotonic()
    measured = measure_whole(project, "ci", options.pytest)
    plans = plans_of(project.settings, measured.benchmarks)
    if not plans:
        raise CommandError("nothing to check: nothing was measured", EXIT_INVALID)
    path = project.results / SELFCHECK
    limit_s = options.minutes * 60 - (time.monotonic() - began_s)
    slowed = places(project.settings, measured, plans)
    title = f"self-check: {len(plans)} benchmarks, two copies of the same tree, {limit_s:.0f} s"
    say("\n".join(["", title, *left_out(slowed)]))
    try:
        recording = record(
            project.settings,
            sides_of(project.settings, project.root, None),
            slowed,
            backends=measured.environment.services,
            limit_s=limit_s,
            keep=lambda one: write_recording(path, one),
            say=say,
        )
    except (NoBase, ComparisonInvalid) as error:
        raise CommandError(str(error), EXIT_INVALID) from None
    recording = with_findings(recording, {plan.key: plan.thresholds for plan in plans}, project.settings.gate)
    write_recording(path, recording)
    say("\n".join(["", *report_lines(recording, project.settings.gate), "", f"written: {project.shown(path)}"]))
    return EXIT_PASS
