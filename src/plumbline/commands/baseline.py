"""`plumbline baseline`: measure in fresh processes, and write the baseline to commit."""

import argparse
from collections.abc import Mapping

from plumbline.commands.base import CommandError, Project
from plumbline.commands.measuring_run import AGAIN, measure_whole, with_gone_files
from plumbline.commands.output import say, say_wrapped
from plumbline.comparing.trees.base import find_base, is_proposed
from plumbline.comparing.trees.committed import accepted_at
from plumbline.comparing.trees.git import NoBase
from plumbline.judging.accepted import read_accepted, still_accepted, write_accepted
from plumbline.judging.baseline import (
    baseline_path,
    changes,
    check_baselines,
    find_baseline,
    keep_uncounted,
    keep_unmeasured,
    merge,
)
from plumbline.judging.baseline_check import differences
from plumbline.judging.evidence import Accepted
from plumbline.judging.missing import missing_benchmarks
from plumbline.project import EXIT_INVALID, EXIT_PASS, EXIT_REGRESSION, EXIT_USAGE
from plumbline.results.files import ResultsError, write_results
from plumbline.results.schema import Results

EXAMPLE = "plumbline baseline -- tests/performance/test_checkout.py"


def run(project: Project, options: argparse.Namespace) -> int:
    arguments: list[str] = options.pytest
    if arguments:
        check_baselines(project.baselines)  # a part of the suite is merged into the old baseline
    runs: list[Results] = []
    for number in range(1, project.settings.gate.baseline_processes + 1):
        say(f"\nprocess {number} of {project.settings.gate.baseline_processes}")
        record = measure_whole(project, "ci", ["--perf-memory", *([AGAIN] if runs else []), *arguments])
        if failed := [test.key for test in record.tests if test.outcome == "failed"]:
            raise CommandError(f"no baseline is written because tests failed: {', '.join(failed)}", EXIT_REGRESSION)
        if not record.benchmarks:
            raise CommandError("no baseline is written: nothing was measured", EXIT_INVALID)
        runs.append(record)
    merged = merge(runs)
    path = baseline_path(project.baselines, merged.environment)
    try:
        old = find_baseline(project.baselines, merged.environment)
    except ResultsError as error:
        say(f"replacing the old baseline, which can't be read: {error}")
        old = None
    new = merged
    if old is not None:
        last = with_gone_files(project, runs[-1], old, arguments)
        kept = keep_unmeasured(old, merged, missing_benchmarks(old, last))
        different = differences(old.environment, merged.environment)
        if different and len(kept.benchmarks) > len(merged.benchmarks):
            raise CommandError(
                f"part of the suite can't be merged into a baseline of {'; '.join(different)}:"
                f" run `baseline` without arguments, or remove {project.shown(path)} first",
                EXIT_USAGE,
            )
        new = keep_uncounted(old, kept)
    write_results(path, new)
    if accepted := read_accepted(project.baselines):
        write_accepted(project.baselines, still_accepted(accepted, merged, _accepted_before(project)))
    say("\n".join(["", *changes(old, new), "", f"written: {project.shown(path)}; commit it"]))
    if new.environment.dirty:
        say("note: the working tree has uncommitted changes; the baseline records that")
    return _check_base(project, runs[-1])


def _accepted_before(project: Project) -> Mapping[str, Accepted] | None:
    """Return what the base of a proposed change has accepted; None if this is no proposed change, or has no base."""
    try:
        if is_proposed(project.root):
            return accepted_at(project.root, find_base(project.root), project.baselines)
    except NoBase as error:
        say(f"note: what was accepted of these benchmarks is accepted no longer, as there is no base: {error}")
    return None


def _check_base(project: Project, record: Results) -> int:
    """Check that later changes can be compared with this commit, print the problems, and return the exit code."""
    from plumbline.commands.paired import rehearse

    say("\nchecking whether later changes can be compared with this commit")
    try:
        problems = rehearse(project, record)
    except NoBase as error:
        say(f"not checked: {error}")
        return EXIT_PASS
    if not problems:
        say("they can")
        return EXIT_PASS
    allowed = project.settings.gate.allow_unmeasured
    say_wrapped("\n".join(problems))
    if allowed:
        say_wrapped("Later changes pass without a comparison, because settings.toml has allow_unmeasured = true.")
        return EXIT_PASS
    advice = "fix that before you propose a change, or set allow_unmeasured = true under [gate] in settings.toml"
    raise CommandError(f"the baseline is written, but later changes can't be compared: {advice}", EXIT_INVALID)
