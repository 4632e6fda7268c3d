"""Measure the spread of medians between runs, on one core and on all cores: `python -m scripts.spread --help`."""

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from plumbline.results.files import read_results
from scripts.clones import at_least_two, cloned, run_sections

LIMIT = 0.03


def spread(options: argparse.Namespace) -> None:
    """Print the median and spread of each benchmark in alternating runs, pinned to one core and not pinned."""
    medians_s: dict[str, dict[str, list[float]]] = {"auto": {}, "off": {}}
    latencies: set[str] = set()
    with cloned() as clone, tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "results.json"
        for _ in range(options.runs):
            for pin, found in medians_s.items():
                os.environ["PERF_PIN"] = pin
                clone.run("-m", "pytest", "-q", "tests/performance", f"--perf-output={output}")
                for one in read_results(output).benchmarks:
                    found.setdefault(one.key, []).append(one.median)
                    if one.operations == 1:
                        latencies.add(one.key)
    print(f"{'pinned':>16} {'free':>16}")
    for key in sorted(medians_s["auto"]):
        columns = " ".join(
            f"{statistics.median(found[key]) * 1e6:8,.1f}µ {of(found[key]):5.1%}" for found in medians_s.values()
        )
        print(f"{columns}  {key}")
    for title, keys in (("all", set(medians_s["auto"])), ("one operation a sample", latencies)):
        within = sum(of(medians_s["auto"][key]) <= LIMIT for key in keys)
        print(f"pinned, {title}: {within} of {len(keys)} within {LIMIT:.0%} ({within / len(keys):.0%})")


def of(values: Sequence[float]) -> float:
    """Return the standard deviation as a share of the mean."""
    return statistics.stdev(values) / statistics.fmean(values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.spread",
        description="Measure the spread of medians between runs, on one core and on all cores.",
        epilog="example: python -m scripts.spread --runs 5",
    )
    parser.add_argument("--runs", type=at_least_two, default=10, help="runs of each kind (default: 10)")
    run_sections(parser, {"spread": spread})
