"""`plumbline ci`: measure the suite, compare it with the baseline and the base commit, and judge."""

import argparse
import time

from msgspec.structs import replace

from plumbline.commands.base import Project
from plumbline.commands.measuring_run import RunEnded, measure, measure_again, with_gone_files
from plumbline.commands.output import make_room, report
from plumbline.comparing.trees.base import Base, find_base, has_changed, is_proposed
from plumbline.comparing.trees.committed import baselines_at, benchmarks_only_at
from plumbline.comparing.trees.git import NoBase
from plumbline.installed import METADATA, NAMED, PATTERNS
from plumbline.judging.accepted import read_accepted
from plumbline.judging.baseline import (
    baseline_path,
    check_baselines,
    edited_entries,
    find_baseline,
    find_counts,
    newest_counts,
)
from plumbline.judging.baseline_check import check_baseline
from plumbline.judging.counts import check_counts
from plumbline.judging.decide import choose_again, choose_pairs, decide
from plumbline.judging.evidence import ComparisonEvidence, ConfirmationEvidence, Evidence, NoComparison
from plumbline.judging.sessions import MOST_RUNS
from plumbline.reporting.content import listed
from plumbline.results.files import earlier_runs
from plumbline.results.schema import Results
from plumbline.suite.shards import parse_shard

EXAMPLE = "plumbline ci -- -k checkout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="ci", metavar="NAME", help="profile in settings.toml (default: ci)")
    add_shard(parser)


def add_shard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shard", type=_shard, metavar="I/N", help="run part I of N; `report --merge` gives the verdict of all"
    )


def _shard(text: str) -> str:
    try:
        parse_shard(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _shard_and_arguments(options: argparse.Namespace) -> tuple[str, list[str]]:
    """Return the shard to run, "" for all, and the arguments for pytest. Nox passes --shard among these."""
    parser = argparse.ArgumentParser("plumbline ci --", add_help=False, allow_abbrev=False)
    add_shard(parser)
    given, arguments = parser.parse_known_args(options.pytest, argparse.Namespace(shard=options.shard))
    return given.shard or "", arguments


def run(project: Project, options: argparse.Namespace) -> int:
    """Measure, judge and report one run of the suite. Return the exit code."""
    began_s = time.monotonic()
    profile, (shard, arguments) = options.profile, _shard_and_arguments(options)
    project.settings.profile(profile)
    check_baselines(project.baselines)
    with make_room(project.results):
        record = measure(project, profile, [*([f"--perf-shard={shard}"] if shard else []), *arguments])
    evidence = Evidence()
    if record.exit_code is None:
        baseline = find_baseline(project.baselines, record.environment)
        known = find_counts(project.baselines, record.environment)
        record = with_gone_files(project, record, baseline or known, arguments)
        gate, limits = project.settings.gate, project.settings.benchmarks
        timings = check_baseline(record, baseline, gate, limits, history=_history(project) if baseline else [])
        evidence = Evidence(
            comparison_required=is_proposed(project.root),
            baseline_file=project.shown(baseline_path(project.baselines, record.environment)),
            baseline=baseline,
            timings=timings,
            baseline_elsewhere=known if baseline is None and known and _is_alike(known, record) else None,
            counts=check_counts(record, known, timings),
            accepted=read_accepted(project.baselines),
        )
        evidence = _compare(project, record, evidence, known)
        evidence = replace(evidence, confirmation=confirm(project, record, evidence))
    results = decide(record, evidence, project.settings.gate, project.settings.benchmarks)
    results = replace(results, duration_s=time.monotonic() - began_s)
    return report(project, results, html=profile == "full", keep=not shard)


def _history(project: Project) -> list[Results]:
    return earlier_runs(project.results, MOST_RUNS)


def _is_alike(known: Results, record: Results) -> bool:
    """Return whether a baseline of another machine should have the same benchmarks."""
    then, now = known.environment, record.environment
    return (then.system, then.services) == (now.system, now.services)


def _compare(project: Project, record: Results, evidence: Evidence, known: Results | None) -> Evidence:
    """Compare with the base what the baseline leaves open. `known`: the baseline that has judged the counts."""
    base, proposed, unjudged = None, evidence.comparison_required, False
    if proposed:
        try:
            base = find_base(project.root)
            evidence = _with_edits(project, record, evidence, known, base)
            evidence = with_gone_benchmarks(project, record, evidence, base)
            # With `app.python` this run uses the packages of that environment, not those of a changed lock file.
            app = project.settings.app
            unjudged = bool(app and app.python and has_changed(project.root, base, [*NAMED, *METADATA, *PATTERNS]))
        except NoBase as error:
            return replace(evidence, comparison=ComparisonEvidence(none=NoComparison("no_base", str(error))))
    chosen = choose_pairs(record, evidence, proposed=proposed, every=unjudged)
    if not chosen:
        return evidence
    from plumbline.commands.paired import with_pairs  # this import takes 0.1 s, and most runs compare nothing

    return with_pairs(project, record, evidence, chosen, project.settings.gate.pairs_limit_s, base)


def _with_edits(project: Project, record: Results, evidence: Evidence, known: Results | None, base: Base) -> Evidence:
    """Add the baseline entries that a proposed change edits. Their counts are judged by the baseline of its base."""
    committed = baselines_at(project.root, base, project.baselines)
    base_baseline = committed.get(baseline_path(project.baselines, record.environment).name)
    known_then = base_baseline or newest_counts(committed.values(), record.environment)
    edited = edited_entries(base_baseline, evidence.baseline) | edited_entries(known_then, known)
    judged = {**evidence.counts}
    judged |= {key: one for key, one in check_counts(record, known_then, evidence.timings).items() if key in edited}
    return replace(evidence, base_baseline=base_baseline, edited=edited, counts=judged)


def with_gone_benchmarks(project: Project, record: Results, evidence: Evidence, base: Base) -> Evidence:
    """Note the benchmarks that only the base has. Those of a baseline are reported by their verdicts.

    Raises NoBase if git fails.
    """
    baselines = filter(None, (evidence.baseline, evidence.base_baseline, evidence.baseline_elsewhere))
    reported = {one.key for run in (record, *baselines) for one in run.benchmarks}
    reported |= {one.key for one in record.tests} | {*record.deselected}
    names = {key.partition("[")[0] for key in reported}
    gone = [key for key in benchmarks_only_at(project.root, base) if key not in names]
    note = f"only the base has these benchmarks, so they are not compared: {listed(gone)}"
    return replace(evidence, notes=[*evidence.notes, note]) if gone else evidence


def confirm(project: Project, record: Results, evidence: Evidence) -> ConfirmationEvidence:
    """Re-measure in fresh processes the benchmarks that would fail by this run alone, and return the evidence."""
    again = choose_again(record, evidence, project.settings.gate)
    if not again.keys:
        return ConfirmationEvidence()
    try:
        fresh = measure_again(project, record.profile or "ci", again)
    except RunEnded as error:
        first, *others = error.reasons
        return ConfirmationEvidence(failed=[replace(first, when_repeated=True), *others])
    timings = {}
    if evidence.timings:
        gate, limits = project.settings.gate, project.settings.benchmarks
        found = check_baseline(record, evidence.baseline, gate, limits, fresh=fresh, history=_history(project))
        timings = {key: found[key] for key in again.timings}
    return ConfirmationEvidence(fresh=fresh, timings=timings)
