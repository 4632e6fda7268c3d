"""From the screen's verdicts to those of the paired comparison: which base, which benchmarks, what their pairs say."""

import math
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from plumbline.cache import state_folder
from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.comparing.statistics.schedule import PairedComparison
from plumbline.comparing.trees.base_commit import find_base
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.lock_files import read_toml
from plumbline.comparing.trees.sides import describe, make_sides, nothing_differs
from plumbline.comparing.workers.pair_runner import compare
from plumbline.comparing.workers.pair_servers import shared_by_sides
from plumbline.judging.baseline import baseline_at, edited_entries
from plumbline.judging.thresholds import Judgement, Thresholds
from plumbline.reporting.progress import Progress
from plumbline.results.schema import Benchmark, Results
from plumbline.settings import GateSettings, Settings

MOST_SAMPLES_KEPT = 200


def compare_with_base(
    settings: Settings,
    results: Results,
    benchmarks: Collection[Benchmark],
    *,
    root: Path,
    baseline: Path,
    budget_s: float,
    say: Callable[[str], None],
    revision: str = "",
    recorded_packages: Mapping[str, str] = {},
) -> set[str]:
    """Give these benchmarks of the results the verdict of a paired comparison with the base commit.

    `revision`: the commit to compare with, instead of the one that the situation asks for. `recorded_packages`: versions by
    name, for a base commit without a baseline of this kind of machine. Returns the keys of those that run nothing that
    differs. Raises NoBase where there is no base or it can't be rebuilt, ComparisonInvalid where the comparison says nothing.
    """
    if os.name != "posix":
        raise NoBase("a paired comparison needs Linux or macOS")
    base = find_base(root, revision, baseline)
    results.base = f"{base.commit[:10]}, {base.why}"
    of_base = baseline_at(root, base, baseline)
    sides = make_sides(
        root,
        base.commit,
        recorded_packages=of_base.environment.packages if of_base else recorded_packages,
        directories=directories_of(settings, root),
        cache=sides_folder(),
        say=say,
    )
    results.base_differences = describe(sides)
    say("\n".join([f"\npaired comparison with {results.base}", *(f"  {line}" for line in results.base_differences)]))
    if nothing_differs(sides):
        for benchmark in benchmarks:
            judge_unchanged(benchmark, settings.gate, results.base)
        return {benchmark.key for benchmark in benchmarks}
    results.notes += shared_by_sides(settings)
    plans = plans_of(settings, benchmarks)
    say(f"  {len(plans)} benchmarks, in pairs of fresh processes, for up to {budget_s:g} s")
    progress = Progress(sys.stdout)
    try:
        comparison = compare(
            settings,
            sides,
            plans,
            budget_s=budget_s,
            profile=results.profile or "ci",
            backends=results.environment.services,
            on_pair=progress.say,
        )
    finally:
        progress.close()
    if comparison.unaffected:
        say(f"  {len(comparison.unaffected)} of them run nothing that differs")
    if comparison.pairs:
        say(f"  {comparison.pairs} pairs in {comparison.elapsed_s:.0f} s")
    convicted = sum(one.verdict == "regression" for one in comparison.judgements.values())
    if 0 < len(comparison.functions) < convicted:
        results.notes.append(
            f"of {convicted} that got slower, a profiler has run on the worst {len(comparison.functions)}"
        )
    edited = set() if revision else edited_entries(of_base, baseline)
    for benchmark in benchmarks:
        if benchmark.key in comparison.unaffected:
            judge_unchanged(benchmark, settings.gate, results.base)
        else:
            judge_compared(benchmark, comparison, settings.gate, edited)
    return comparison.unaffected


def sides_folder() -> Path:
    """Return the folder of the sides' copies and environments; raises NoBase."""
    try:
        return state_folder() / "sides"
    except OSError as error:
        raise NoBase(str(error)) from None


def directories_of(settings: Settings, root: Path) -> list[str]:
    """Folders that the application, the processes or pytest itself import from; raises NoBase."""
    directories = [process.directory for process in (settings.app, *settings.processes.values()) if process]
    tool = read_toml(root / "pyproject.toml").get("tool", {}).get("pytest", {})
    folders = tool.get("ini_options", tool).get("pythonpath", [])
    return directories + (folders.split() if isinstance(folders, str) else folders)


def plans_of(settings: Settings, benchmarks: Collection[Benchmark]) -> list[BenchmarkPlan]:
    """What a paired comparison is to compare, in this order."""
    return [
        BenchmarkPlan(
            one.key, one.median * one.operations, Thresholds.of(settings.gate, settings.benchmarks.get(one.key))
        )
        for one in benchmarks
    ]


NOTHING_DIFFERS = "nothing that it runs differs from"


def judge_unchanged(benchmark: Benchmark, gate: GateSettings, base: str) -> None:
    """The verdict where there is nothing to compare: what the base runs is what head runs."""
    benchmark.verdict = "drift" if slower_than_baseline(benchmark, gate) else "pass"
    benchmark.reasons = [f"{NOTHING_DIFFERS} {base}"]


def judge_compared(
    benchmark: Benchmark, comparison: PairedComparison, gate: GateSettings, edited: Collection[str]
) -> None:
    """The verdict by what a comparison found; `edited`: keys whose baseline entry this change edits."""
    slower = slower_than_baseline(benchmark, gate)
    judgement = comparison.judgements.get(benchmark.key)
    if benchmark.key in comparison.failures:
        benchmark.verdict = "new" if benchmark.verdict == "new" else "inconclusive"
        benchmark.reasons = [f"not to be compared with the base: {comparison.failures[benchmark.key]}"]
    elif judgement is None and benchmark.verdict in ("pass", "improvement"):
        pass  # the screen has acquitted it already
    elif judgement is None:
        benchmark.verdict = "inconclusive"
        benchmark.reasons = ["not compared with the base: the time was up"]
    else:
        benchmark.verdict = judgement.verdict
        benchmark.change, benchmark.minimum_detectable_effect = judgement.change, judgement.minimum_detectable_effect
        benchmark.change_low, benchmark.change_high = judgement.low, judgement.high
        benchmark.differences = comparison.differences[benchmark.key]
        base_s, head_s = comparison.samples_s.get(benchmark.key, ([], []))
        benchmark.base_samples_s, benchmark.head_samples_s = thinned(base_s), thinned(head_s)
        benchmark.functions = comparison.functions.get(benchmark.key, [])
        benchmark.reasons = _reasons(judgement)
        if judgement.verdict == "regression" and benchmark.key in edited:
            benchmark.verdict = "accepted"
            benchmark.reasons.append("this change edits its baseline")
        elif judgement.verdict == "pass" and slower:
            benchmark.verdict = "drift"
            benchmark.reasons.append("slower than the baseline, not than the base")


def _reasons(judgement: Judgement) -> list[str]:
    if judgement.verdict == "inconclusive":
        return [f"{judgement.pairs} pairs neither convict nor acquit it"]
    return [f"compared in {judgement.pairs} pairs"]


def thinned(samples_s: Sequence[float]) -> list[float]:
    """At most MOST_SAMPLES_KEPT of them, evenly."""
    return list(samples_s[:: math.ceil(len(samples_s) / MOST_SAMPLES_KEPT) or 1])


def slower_than_baseline(benchmark: Benchmark, gate: GateSettings) -> bool:
    """Whether the screen, on the baseline's own machine, saw it to be slower by more than the tolerance."""
    return benchmark.change_low is not None and benchmark.change_low > gate.tolerance
