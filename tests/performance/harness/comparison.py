"""From the screen's verdicts to those of the paired comparison: which base, which benchmarks, what their pairs say."""

import math
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from .arms import describe, make_arms, nothing_differs
from .base import NoBase, find_base
from .base_environment import read_toml
from .baseline import baseline_at, edited_entries
from .duet import compare, shared_by_arms
from .pairs import Judgement, Thresholds
from .report.progress import Progress
from .results import Benchmark, Results
from .services.run import state_folder
from .settings import BenchmarkSettings, GateSettings, Settings
from .trial import Trial, Wish

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
    wish: str = "",
    recorded_packages: Mapping[str, str] = {},
) -> set[str]:
    """Give these benchmarks of the results the verdict of a paired comparison with the base commit.

    `wish`: the commit to compare with, instead of the one that the situation asks for. `recorded_packages`: versions by
    name, for a base commit without a baseline of this kind of machine. Returns the keys of those that run nothing that
    differs. Raises NoBase where there is no base or it can't be rebuilt, TrialInvalid where the trial says nothing.
    """
    if os.name != "posix":
        raise NoBase("a paired comparison needs Linux or macOS")
    base = find_base(root, wish, baseline)
    results.base = f"{base.commit[:10]}, {base.why}"
    of_base = baseline_at(root, base, baseline)
    arms = make_arms(
        root,
        base.commit,
        recorded_packages=of_base.environment.packages if of_base else recorded_packages,
        directories=directories_of(settings, root),
        cache=arms_folder(),
        say=say,
    )
    results.base_differences = describe(arms)
    say("\n".join([f"\npaired comparison with {results.base}", *(f"  {line}" for line in results.base_differences)]))
    if nothing_differs(arms):
        for benchmark in benchmarks:
            judge_unchanged(benchmark, settings.gate, results.base)
        return {benchmark.key for benchmark in benchmarks}
    results.notes += shared_by_arms(settings)
    wishes = wishes_of(settings, benchmarks)
    say(f"  {len(wishes)} benchmarks, in pairs of fresh processes, for up to {budget_s:g} s")
    progress = Progress(sys.stdout)
    try:
        trial = compare(
            settings,
            arms,
            wishes,
            budget_s=budget_s,
            profile=results.profile or "ci",
            backends=results.environment.services,
            on_pair=progress.say,
        )
    finally:
        progress.close()
    if trial.unreached:
        say(f"  {len(trial.unreached)} of them run nothing that differs")
    if trial.pairs:
        say(f"  {trial.pairs} pairs in {trial.elapsed_s:.0f} s")
    convicted = sum(one.verdict == "regression" for one in trial.judgements.values())
    if 0 < len(trial.functions) < convicted:
        results.notes.append(f"of {convicted} that got slower, a profiler has run on the worst {len(trial.functions)}")
    edited = set() if wish else edited_entries(of_base, baseline)
    for benchmark in benchmarks:
        if benchmark.key in trial.unreached:
            judge_unchanged(benchmark, settings.gate, results.base)
        else:
            judge_compared(benchmark, trial, settings.gate, edited)
    return trial.unreached


def arms_folder() -> Path:
    """Where copies and environments of arms are kept."""
    return state_folder() / "arms"


def directories_of(settings: Settings, root: Path) -> list[str]:
    """Folders that the application, the processes or pytest itself import from; raises NoBase."""
    directories = [process.directory for process in (settings.app, *settings.processes.values()) if process]
    tool = read_toml(root / "pyproject.toml").get("tool", {}).get("pytest", {})
    folders = tool.get("ini_options", tool).get("pythonpath", [])
    return directories + (folders.split() if isinstance(folders, str) else folders)


def wishes_of(settings: Settings, benchmarks: Collection[Benchmark]) -> list[Wish]:
    """What a paired comparison is to compare, in this order."""
    return [
        Wish(one.key, one.median * one.operations, thresholds(settings.gate, settings.benchmarks.get(one.key)))
        for one in benchmarks
    ]


def thresholds(gate: GateSettings, own: BenchmarkSettings | None) -> Thresholds:
    gate = gate.with_own(own)
    return Thresholds(gate.tolerance, gate.minimum_effect, gate.false_alarms, gate.power)


NOTHING_DIFFERS = "nothing that it runs differs from"


def judge_unchanged(benchmark: Benchmark, gate: GateSettings, base: str) -> None:
    """The verdict where there is nothing to compare: what the base runs is what head runs."""
    benchmark.verdict = "drift" if slower_than_baseline(benchmark, gate) else "pass"
    benchmark.reasons = [f"{NOTHING_DIFFERS} {base}"]


def judge_compared(benchmark: Benchmark, trial: Trial, gate: GateSettings, edited: Collection[str]) -> None:
    """The verdict by what a trial found; `edited`: keys whose baseline entry this change edits."""
    slower = slower_than_baseline(benchmark, gate)
    judgement = trial.judgements.get(benchmark.key)
    if benchmark.key in trial.failures:
        benchmark.verdict = "new" if benchmark.verdict == "new" else "inconclusive"
        benchmark.reasons = [f"not to be compared with the base: {trial.failures[benchmark.key]}"]
    elif judgement is None and benchmark.verdict in ("pass", "improvement"):
        pass  # the screen has acquitted it already
    elif judgement is None:
        benchmark.verdict = "inconclusive"
        benchmark.reasons = ["not compared with the base: the time was up"]
    else:
        benchmark.verdict = judgement.verdict
        benchmark.change, benchmark.resolution = judgement.change, judgement.resolution
        benchmark.change_low, benchmark.change_high = judgement.low, judgement.high
        benchmark.differences = trial.differences[benchmark.key]
        base_s, head_s = trial.samples_s.get(benchmark.key, ([], []))
        benchmark.base_samples_s, benchmark.head_samples_s = thinned(base_s), thinned(head_s)
        benchmark.functions = trial.functions.get(benchmark.key, [])
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
