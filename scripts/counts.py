"""Measure how often counts differ between runs of the same code: `python -m scripts.counts --help`."""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

from plumbline.judging.counts import compare_counts, counts_of
from plumbline.results.files import read_results
from plumbline.results.schema import CountChange, Counts
from scripts.clones import ROOT, at_least_two, run_sections

# By benchmark, its counts.
Run = Mapping[str, Counts]


def counts(options: argparse.Namespace) -> None:
    """Count the suite in fresh processes, compare each run with each other run, and print the false positives."""
    with tempfile.TemporaryDirectory(prefix="perf-counts-") as folder:
        report([measured(Path(folder) / f"{number}.json", options.pytest) for number in range(options.runs)])


def measured(output: Path, arguments: Sequence[str]) -> Run:
    command = [sys.executable, "-m", "pytest", "-q", "tests/performance", "--perf-memory", *arguments]
    command.append(f"--perf-output={output}")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return {one.key: counts_of(one) for one in read_results(output).benchmarks}


def report(runs: Sequence[Run]) -> None:
    wrong = [false_positives(one, other) for one, other in permutations(runs, 2)]
    compared = sum(len(one.keys() & other.keys()) for one, other in permutations(runs, 2))
    failed = Tally((key, change.name) for one in wrong for key, changes in one.items() for change in changes)
    print(f"{sum(map(bool, wrong))} of {len(wrong)} pairs of runs would fail")
    print(f"{sum(map(len, wrong))} of {compared} pairs of benchmarks would fail")
    for (key, name), times in failed.most_common():
        print(f"  {times}: {name} of {key}")


def false_positives(one: Run, other: Run) -> dict[str, list[CountChange]]:
    """Return by benchmark the counts that would fail if the second run were a change of the first."""
    found = {key: compare_counts(one[key], other[key]) for key in one.keys() & other.keys()}
    gated = {key: [change for change in changes if change.gated] for key, changes in found.items()}
    return {key: changes for key, changes in gated.items() if changes}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.counts",
        description="Measure how often counts differ between runs of the same code.",
        epilog="example: python -m scripts.counts --runs 18 -- -k api",
    )
    parser.add_argument("--runs", type=at_least_two, default=18, help="runs in fresh processes (default: 18)")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest")
    run_sections(parser, {"counts": counts})
