"""Measure how often slow-downs of some calls are found on this machine: `python -m scripts.some_calls --help`."""

import argparse
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from plumbline.commands.base import this_project
from plumbline.commands.measuring_run import measure_whole
from plumbline.comparing.comparison import plans_of, sides_of
from plumbline.comparing.statistics.plan import MOST_BLOCKS_OF_TAIL
from plumbline.comparing.statistics.schedule import MOST_MEASURED_S, conduct
from plumbline.comparing.statistics.tails import TAILS
from plumbline.comparing.workers.pair_runner import pair_runner
from plumbline.judging.evidence import TAIL_EFFECT, Judgement
from plumbline.measuring.statistics import tail_figure
from plumbline.processes import fix_addresses
from plumbline.selfcheck.record import SOME_CALLS, Share
from plumbline.settings import Tail
from scripts.clones import at_least_two, run_sections

KINDS = (*SOME_CALLS, (0.0, 0.0))  # the last one: nothing is slower
LIMIT_S = 60.0
DRAWS = 20  # of the slower calls of one series of samples
# By the number of limits that the larger slow-down of a mean and a 90th percentile exceeds.
TRUTHS = ("within the tolerance", "between the limits", "that must be found")


def gates(options: argparse.Namespace) -> None:
    """Compare two copies of this tree. In head, some calls of one benchmark are slower, another one in each gate."""
    project, rng = this_project(), random.Random(options.seed)
    record = measure_whole(project, "ci", [])
    plans = plans_of(project.settings, record.benchmarks)
    quick = [plan for plan in plans if plan.sample_s < options.longest_ms / 1000]
    sides = sides_of(project.settings, project.root, None)
    found = dict.fromkeys(KINDS, 0)
    took_s, wrong = dict.fromkeys(KINDS, 0.0), 0
    by_truth: dict[str, list[bool]] = {truth: [] for truth in TRUTHS}
    with pair_runner(project.settings, sides, plans, "ci", record.environment.services) as runner:
        for _ in range(options.runs):
            for calls, size in KINDS:
                plan = rng.choice(quick)
                slowed = plan.key
                chosen = [replace(one, slow_down=size * (one.key == slowed), slowed_calls=calls or 1) for one in plans]
                began_s = time.monotonic()
                compared = conduct(chosen, runner.run_pair, limit_s=LIMIT_S)
                failed = {key for key, one in compared.judgements.items() if one.verdict == "regression"}
                found[calls, size] += slowed in failed
                wrong += bool(failed - ({slowed} if size else set()))
                took_s[calls, size] += time.monotonic() - began_s
                series = runner.run_pair([plan.within(MOST_MEASURED_S, MOST_BLOCKS_OF_TAIL)]).samples_s[slowed]
                truth = true_changes([*series[0], *series[1]], calls, size, rng)
                limits = plan.thresholds.tail_tolerance, TAIL_EFFECT * plan.thresholds.tail_tolerance
                by_truth[TRUTHS[sum(max(truth.values()) > limit for limit in limits)]].append(slowed in failed)
                print(f"  {_named(calls, size)}: {slowed}: {_read(compared.judgements.get(slowed), truth)}", flush=True)
    for (calls, size), count in found.items():
        mean_s = took_s[calls, size] / options.runs
        print(f"{_named(calls, size)}: {Share(count, options.runs)} failed, {mean_s:.0f} s a gate")
    for name, outcomes in by_truth.items():
        print(f"slow-downs of the mean or the 90th percentile {name}: {Share(sum(outcomes), len(outcomes))} failed")
    print(f"false positives: {Share(wrong, options.runs * len(KINDS))} gates")


def true_changes(samples_s: Sequence[float], calls: float, size: float, rng: random.Random) -> dict[Tail, float]:
    """Return by how much slower calls change the mean and the 90th percentile of these samples, as shares."""
    slower_s = [one * (1 + size * (rng.random() < calls)) for one in [*samples_s] * DRAWS]
    return {tail: tail_figure(tail, slower_s) / tail_figure(tail, samples_s) - 1 for tail in TAILS}


def _read(judged: Judgement | None, truth: Mapping[Tail, float]) -> str:
    if judged is None:
        return "not judged"
    tails = [f"{tail} {one.change:+.1%}, truly {truth[tail]:+.1%}" for tail, one in judged.tails.items()]
    return f"{judged.verdict} after {judged.pairs} pairs ({'; '.join(tails)})"


def _named(calls: float, size: float) -> str:
    return f"{calls:.0%} of calls {1 + size:g} times as slow" if size else "nothing slower"


if __name__ == "__main__":
    fix_addresses()
    parser = argparse.ArgumentParser(
        prog="python -m scripts.some_calls",
        description="Measure how often slow-downs of some calls are found on this machine.",
        epilog="example: python -m scripts.some_calls --runs 6",
    )
    parser.add_argument("--runs", type=at_least_two, default=6, help="gates of each kind (default: 6)")
    parser.add_argument("--longest-ms", type=float, default=5.0, help="slow down benchmarks shorter than this")
    parser.add_argument("--seed", type=int, default=1)
    run_sections(parser, {"gates": gates})
