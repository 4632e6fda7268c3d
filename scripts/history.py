"""Measure how large the history of the default branch gets, and how long reading it takes."""

import argparse
import datetime
import random
import tempfile
import time
from pathlib import Path

from plumbline.judging.chain import MOST_RUNS, levels
from plumbline.results.history import HISTORY_SCHEMA, Entry, Run, file_of, read_folder, read_lines

UNAFFECTED = 0.6  # the share of benchmarks that a change does not affect


def made_up(number: int, before: str, benchmarks: int, rng: random.Random) -> Run:
    """Return a run whose benchmarks have names of usual length and figures that all differ a little."""
    entries: dict[str, dict[str, Entry]] = {}
    for index in range(benchmarks):
        change, error = (0.0, 0.0) if rng.random() < UNAFFECTED else (rng.gauss(0, 30), rng.uniform(20, 60))
        median_ns, allocations = 50_000 * (1 + index) * rng.gauss(1, 0.03), rng.randint(50, 60)
        entry = Entry(median_ns, rng.choice([2, 4]), 1, 1, allocations, change, error)
        entries.setdefault(f"test_{index % 4}_benchmarks.py", {})[f"test_the_operation_{index}_of_it"] = entry
    date = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(hours=2 * number)
    commit = f"{rng.getrandbits(160):040x}"
    machine = "linux-x86-64-amd-epyc-7763-64-core-processor-25-1-1-embedded"
    return Run(HISTORY_SCHEMA, commit, date.isoformat(), machine, "pass", entries, before[:10])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.history", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="default: 10000")
    parser.add_argument("--benchmarks", type=int, default=59, help="default: 59")
    options = parser.parse_args()
    rng, size_bytes, commit = random.Random(1), 0, ""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for number in range(options.runs):
            run = made_up(number, commit, options.benchmarks, rng)
            name, content = file_of(run)
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
            size_bytes, commit = size_bytes + len(content), run.commit
        print(f"{options.runs:,} runs of {options.benchmarks} benchmarks: {size_bytes / 1e6:.1f} MB")
        for most in (None, MOST_RUNS):
            began_s = time.perf_counter()
            runs = read_lines(read_folder(folder, most)).runs
            read_s = time.perf_counter()
            chains = [levels(runs[-MOST_RUNS:], [key]) for key in runs[-1].keys]
            ended_s = time.perf_counter()
            print(f"read {len(runs):,} runs in {read_s - began_s:.2f} s", end="; ")
            print(f"{len(chains)} chains of {MOST_RUNS} runs in {ended_s - read_s:.2f} s")


if __name__ == "__main__":
    main()
