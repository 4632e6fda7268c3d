"""`plumbline selfcheck`: measure the error rates of the gate on this machine."""

import argparse
import json
import time
from collections.abc import Mapping

from plumbline.adopting.proposal import Proposed
from plumbline.adopting.settings_text import with_settings
from plumbline.commands.base import SELFCHECK, CommandError, Project, text_of
from plumbline.commands.measuring_run import measure_whole
from plumbline.commands.output import say
from plumbline.comparing.comparison import plans_of, sides_of
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.ignored import CopyFailed
from plumbline.comparing.workers.pair_runner import pair_runner
from plumbline.project import EXIT_INVALID, EXIT_PASS, EXIT_USAGE, SETTINGS
from plumbline.results.files import write_whole
from plumbline.selfcheck.findings import findings_of, findings_of_placebos, report_lines
from plumbline.selfcheck.record import Recorder, Recording, left_out, places, write_recording

EXAMPLE = "plumbline selfcheck --minutes 30"
MOST_MINUTES = 24 * 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=minutes, default=5.0, help="duration of the measurement (default: 5)")
    parser.add_argument(
        "--placebos", action="store_true", help="measure how much timings differ after changes without effect"
    )
    parser.add_argument("--save", action="store_true", help="with --placebos: write what it finds to settings.toml")


def minutes(text: str) -> float:
    if not 0 < (number := float(text)) <= MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text} is no positive number up to {MOST_MINUTES:,}, which is a day")
    return number


def run(project: Project, options: argparse.Namespace) -> int:
    if options.save and not options.placebos:
        raise CommandError("--save writes what --placebos finds: add --placebos", EXIT_USAGE)
    began_s, settings = time.monotonic(), project.settings
    measured = measure_whole(project, "ci", options.pytest)
    plans = plans_of(settings, measured.benchmarks)
    if not plans:
        raise CommandError("nothing to check: nothing was measured", EXIT_INVALID)
    path = project.results / SELFCHECK
    suite_s = time.monotonic() - began_s
    if (limit_s := options.minutes * 60 - suite_s) <= 0:
        raise CommandError(f"no time is left, because the suite took {suite_s:.0f} s: raise --minutes", EXIT_INVALID)
    slowed = places(settings, measured, plans)
    title = f"self-check: {len(plans)} benchmarks, two copies of the same tree, {limit_s:.0f} s"
    say("\n".join(["", title, *left_out(slowed)]))
    recording = Recording({plan.key: plan.sample_s for plan in plans})
    gate, services = settings.gate, measured.environment.services
    try:
        sides = sides_of(settings, project.root, None)
        began_s = time.monotonic()
        with pair_runner(settings, sides, [*plans, *slowed.get("server", [])], "ci", services) as runner:
            recorder = Recorder(runner, slowed, gate.pairs_limit_s, began_s, limit_s, path, say, recording)
            if options.placebos:
                recorder.record_placebos(sides.head.tree)
            else:
                recorder.record()
    except (NoBase, CopyFailed, ComparisonInvalid) as error:
        raise CommandError(str(error), EXIT_INVALID) from None
    find = findings_of_placebos if options.placebos else findings_of
    recording.findings = findings = find(recording, {plan.key: plan.thresholds for plan in plans}, gate)
    write_recording(path, recording)
    say("\n".join(["", *report_lines(findings, len(recording.pairs), gate), "", f"written: {project.shown(path)}"]))
    if options.save:
        save_bias(project, findings.bias)
    return EXIT_PASS


def save_bias(project: Project, found: Mapping[str, float]) -> None:
    """Write the bias of each benchmark to settings.toml. One without a bias loses the older one."""
    path, before = project.suite / SETTINGS, project.settings.benchmarks
    kept = {key: bias for key, bias in found.items() if bias or (key in before and before[key].bias)}
    tables = {key: f"benchmarks.{json.dumps(key, ensure_ascii=False)}" for key in kept}
    lines = [Proposed(tables[key], "bias", round(bias, 4)) for key, bias in sorted(kept.items())]
    try:
        write_whole(path, with_settings(text_of(path), lines, replace=True))
    except ValueError as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    say("\n".join(f"  [{one.table}] {one.key} = {one.value}" for one in lines) or "  no benchmark has a bias")
    say(f"written: {project.shown(path)}; commit it")
