"""Measure how large the history of the default branch gets, and the processor time of reading it."""

import argparse
import datetime
import os
import random
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from plumbline.comparing.trees.data_branch import read_branch
from plumbline.judging.chain import MOST_RUNS, levels
from plumbline.results.history import HISTORY_SCHEMA, Entry, Run, file_of, read_folder, read_lines

BRANCH = "plumbline-data"
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


def write_branch(folder: Path, files: Iterable[tuple[str, bytes]]) -> float:
    """Create a repository whose branch BRANCH got each file in a commit of its own. Return its packed size in bytes."""
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    git = ["git", "-C", str(folder)]
    with subprocess.Popen([*git, "fast-import", "--quiet"], stdin=subprocess.PIPE) as process:
        assert process.stdin
        for number, (name, content) in enumerate(files):
            commit = (
                f"commit refs/heads/{BRANCH}\ncommitter Plumbline <plumbline@localhost> {number} +0000\ndata 3\nrun\n"
            )
            process.stdin.write(f"{commit}M 100644 inline {name}\ndata {len(content)}\n".encode() + content + b"\n")
    subprocess.run([*git, "repack", "-adfq"], check=True)
    counted = subprocess.run([*git, "count-objects", "-v"], check=True, capture_output=True, text=True).stdout
    return 1024 * float(re.findall(r"^size-pack: (\d+)", counted, re.MULTILINE)[0])


def processor_s() -> float:
    """Return the processor time of this process and of its children, which other work on the machine hardly changes."""
    return sum(os.times()[:4])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.history", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="default: 10000")
    parser.add_argument("--benchmarks", type=int, default=59, help="default: 59")
    options = parser.parse_args()
    rng, commit, files = random.Random(1), "", dict[str, bytes]()
    with tempfile.TemporaryDirectory() as made:
        folder, repository = Path(made) / "folder", Path(made) / "repository"
        for number in range(options.runs):
            run = made_up(number, commit, options.benchmarks, rng)
            name, content = file_of(run)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
            files[name], commit = content, run.commit
        size_bytes, in_git_bytes = sum(map(len, files.values())), write_branch(repository, files.items())
        print(f"{len(files):,} runs of {options.benchmarks} benchmarks: ", end="")
        print(f"{size_bytes / 1e6:.1f} MB, in git {in_git_bytes / 1e6:.1f} MB")
        for most in (None, MOST_RUNS):
            sources = {"the folder": read_folder(folder, most), "git": read_branch(repository, BRANCH, most)}
            for source, found in sources.items():
                began_s = processor_s()
                runs = read_lines(found).runs
                print(f"read {len(runs):,} runs from {source} in {processor_s() - began_s:.2f} s")
        began_s = processor_s()
        chains = [levels(runs[-MOST_RUNS:], [key]) for key in runs[-1].keys]
        print(f"{len(chains)} chains of {MOST_RUNS} runs in {processor_s() - began_s:.2f} s")


if __name__ == "__main__":
    main()
