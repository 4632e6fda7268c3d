"""Measure how often and how fast `plumbline bisect` finds the one slower commit of 64."""

import argparse
import itertools
import math
import os
import random
import re
import statistics
from collections.abc import Sequence

from plumbline.comparing.statistics.plan import BenchmarkPlan, Pair, expected_s
from plumbline.comparing.statistics.schedule import conduct
from plumbline.comparing.statistics.search import Answer, answer_of, search, step_thresholds, steps_of
from plumbline.judging.evidence import Judgement, Thresholds
from plumbline.selfcheck.record import Share
from plumbline.settings import GateSettings
from scripts.accuracy import HANDLERS
from scripts.clones import INVALID, PASS, REGRESSION, Clone, cloned, run_sections

COMMITS = 64
# Simulated comparisons: the time limit, one sample, and the standard deviation of block differences.
LIMIT_S, SAMPLE_S, SPREAD_OF_BLOCKS = 120.0, 1e-3, 0.03
KEY, GATE = "test_it.py::test_it", Thresholds.of(GateSettings(), None)
STEP = re.compile(r"^  [0-9a-f]{10} .*?: (good|bad|skipped)[,:]", re.MULTILINE)
FOUND = re.compile(r"^First bad commit: ([0-9a-f]{40})$", re.MULTILINE)


def make_history(clone: Clone, handler: str, extra_s: float, rng: random.Random) -> str:
    """Commit COMMITS changes of the sample service. One, by chance, adds this work to a handler: return its hash."""
    slower, found = rng.randrange(COMMITS), ""
    for number in range(COMMITS):
        clone.touch()
        if number == slower:
            clone.slow_down(handler, extra_s)
        clone.commit()
        found = clone.git("rev-parse", "HEAD") if number == slower else found
    return found


def measure(size: float, runs: int, seed: int) -> None:
    rng, right, times_s = random.Random(seed), 0, []
    with cloned() as clone:
        for _ in range(runs):
            handler = rng.choice([*HANDLERS])
            name = HANDLERS[handler].partition("::")[2]
            [median_s] = [one.median for one in clone.gate("-k", name).benchmarks if one.key == HANDLERS[handler]]
            good = clone.git("rev-parse", "HEAD")
            slower = make_history(clone, handler, size * median_s, rng)
            key = f"tests/performance/{HANDLERS[handler]}"
            done = clone.run("-m", "plumbline", "bisect", good, "--", key, codes=(PASS, REGRESSION, 2, INVALID))
            found = FOUND.search(done.output)
            is_right = found is not None and found[1] == slower
            right += is_right
            times_s.append(done.duration_s)
            steps = len(STEP.findall(done.output))
            answer = "right" if is_right else "wrong" if found else "not found"
            load = os.getloadavg()[0]
            print(f"  {handler}: {answer}, {steps} steps, {done.duration_s:.0f} s, load {load:.1f}", flush=True)
            if not is_right:
                print(done.output, flush=True)
            clone.git("reset", "--quiet", "--hard", good)
    print(f"one of {COMMITS} commits {size:.0%} slower: right {Share(right, runs)}, at most {max(times_s):.0f} s")


def compared(size: float, limits: Thresholds, spread: float, rng: random.Random) -> tuple[Judgement, float]:
    """Simulate a comparison with a side that is slower by `size`: return the result, and its time in seconds."""
    elapsed_s = 0.0

    def run_pair(chosen: Sequence[BenchmarkPlan], then: Sequence[BenchmarkPlan] = ()) -> Pair:
        del then
        nonlocal elapsed_s
        elapsed_s += expected_s(chosen)
        center = math.log1p(size) + rng.gauss(0, spread)
        return Pair({KEY: [center + rng.gauss(0, SPREAD_OF_BLOCKS) for _ in range(2 * chosen[0].blocks - 1)]})

    plans = [BenchmarkPlan(KEY, SAMPLE_S, limits)]
    found = conduct(plans, run_pair, limit_s=LIMIT_S, clock=lambda: elapsed_s)
    return found.judgements[KEY], elapsed_s


def searched(size: float, spread: float, rng: random.Random) -> tuple[bool, float]:
    """Simulate a search: return whether it is right, and the time of all comparisons in seconds."""
    commits, culprit = [*map(str, range(COMMITS + 1))], rng.randrange(1, COMMITS + 1)
    whole, elapsed_s = compared(size, GATE, spread, rng)
    limits = step_thresholds(GATE, whole.change, steps_of(commits))

    def test(commit: str) -> Answer:
        nonlocal elapsed_s
        judgement, took_s = compared(size * (int(commit) >= culprit), limits, spread, rng)
        elapsed_s += took_s
        return answer_of(judgement, whole.change)

    return whole.verdict == "regression" and int(search(commits, test).bad) == culprit, elapsed_s


def simulated(options: argparse.Namespace) -> None:
    """Searches with simulated pairs, by the spread between pairs: 20 times as many."""
    for size, spread in itertools.product((0.1, 0.05), (0.007, 0.015, 0.03)):
        rng = random.Random(options.seed)
        found = [searched(size, spread, rng) for _ in range(20 * options.runs)]
        right, time_s = Share(sum(one for one, _ in found), len(found)), statistics.median(one for _, one in found)
        print(f"{size:.0%} slower, spread of {spread:.1%}: right {right}, {time_s:.0f} s of pairs", flush=True)


def large(options: argparse.Namespace) -> None:
    """One commit makes a handler 10 % slower."""
    measure(0.1, options.runs, options.seed)


def small(options: argparse.Namespace) -> None:
    """One commit makes a handler 5 % slower."""
    measure(0.05, options.runs, options.seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bisections",
        description="Measure how often and how fast `plumbline bisect` finds the one slower commit of 64.",
        epilog="example: python -m scripts.bisections large --runs 3",
    )
    parser.add_argument("--runs", type=int, default=3, help="searches for each size (default: 3)")
    parser.add_argument("--seed", type=int, default=1, help="chooses handlers and commits (default: 1)")
    run_sections(parser, {"simulated": simulated, "large": large, "small": small})
