"""Measure how often and how fast `plumbline bisect` finds the one slower commit of 64."""

import argparse
import os
import random
import re

from plumbline.selfcheck.record import Share
from scripts.accuracy import HANDLERS
from scripts.clones import INVALID, PASS, REGRESSION, Clone, cloned, run_sections

COMMITS = 64
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
    run_sections(parser, {"large": large, "small": small})
