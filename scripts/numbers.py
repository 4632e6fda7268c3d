"""`python -m scripts.numbers [SECTION …]`: measure this suite itself, and print what its documentation states.

Sections: sample, suite, redis, fresh, spread, leftovers; all where none is named. `--runs` sets how often each is
measured (10), `--backends` where (embedded docker). The figures are medians with their range. How far the gate can be
trusted is measured by `python -m scripts.gate_numbers`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter

import psutil

from plumbline.measuring.loop import Timer

ROOT = Path(__file__).resolve().parents[1]
NOX = [sys.executable, "-m", "nox"]
SPREAD_LIMIT = 0.03


def empty_sample(runs: int) -> None:
    """What an empty sample reads, beside a bare pair of calls."""
    ratios = []
    for _ in range(runs):
        bare_s = []
        for _ in range(20_000):
            start_s = perf_counter()
            end_s = perf_counter()
            bare_s.append(end_s - start_s)
        timed_s: list[float] = []
        timer = Timer(timed_s)
        for _ in range(20_000):
            with timer:
                pass
        ratios.append(statistics.median(timed_s) / statistics.median(bare_s))
    print(f"empty sample over a bare pair of perf_counter calls: {value_range(ratios)}")


def suite(runs: int, backend: str) -> None:
    """The whole command with its environment made."""
    _nox("ci", backend, root=ROOT)
    print(f"nox -s ci, {backend}: {value_range(_timed(runs, lambda: _nox('ci', backend, root=ROOT)))} s")


def redis_alone(runs: int, backend: str) -> None:
    """Publishing, connections and memory: the first 15 tests of the file, services included, without Nox."""
    names = _original_tests()
    command = [sys.executable, "-m", "pytest", "-q", *names]
    # With compiled files, as in our sessions.
    environment = {**os.environ, "PERF_SERVICES": backend, "PYTHONDONTWRITEBYTECODE": ""}

    def run() -> None:
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)

    run()
    print(f"the first {len(names)} Redis tests alone, {backend}: {value_range(_timed(runs, run))} s")


def _original_tests() -> list[str]:
    file = "tests/performance/test_redis_benchmarks.py"
    names = [line.split("(")[0].split()[-1] for line in (ROOT / file).read_text().splitlines() if "def test_" in line]
    return [f"{file}::{name}" for name in names[:15]]


def fresh(runs: int, backend: str) -> None:
    """From a clone in an empty folder, environments made from a warm package cache."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            clone = Path(folder) / "clone"
            subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
            _nox("ci", backend, root=clone)

    run()
    print(f"clone and nox -s ci, {backend}, warm package cache: {value_range(_timed(runs, run))} s")


def spread(runs: int, backend: str) -> None:
    """Standard deviation over the mean, between runs, of each benchmark's median: pinned and free in turn."""
    medians: dict[str, dict[str, list[float]]] = {"auto": {}, "off": {}}
    latencies: set[str] = set()
    for _ in range(runs):
        for pin, found in medians.items():
            with tempfile.TemporaryDirectory() as folder:
                output = Path(folder) / "results.json"
                command = [sys.executable, "-m", "pytest", "-q", "tests/performance", f"--perf-output={output}"]
                environment = {**os.environ, "PERF_SERVICES": backend, "PERF_PIN": pin}
                subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
                for benchmark in json.loads(output.read_text())["benchmarks"]:
                    found.setdefault(benchmark["key"], []).append(benchmark["median"])
                    if benchmark.get("operations", 1) == 1:
                        latencies.add(benchmark["key"])
    print(f"spread of medians between {runs} runs, {backend}:")
    print(f"{'pinned':>16} {'free':>16}")
    for key in sorted(medians["auto"]):
        pinned, free = medians["auto"][key], medians["off"][key]
        print(f"{_median_us(pinned)} {_spread(pinned):5.1%} {_median_us(free)} {_spread(free):5.1%}  {key}")
    for what, keys in (("all", set(medians["auto"])), ("one operation a sample (latency)", latencies)):
        within = sum(_spread(medians["auto"][key]) <= SPREAD_LIMIT for key in keys)
        print(f"pinned, {what}: {within} of {len(keys)} within {SPREAD_LIMIT:.0%} ({within / len(keys):.0%})")


def leftovers(_runs: int, backend: str) -> None:
    """Processes, containers and directories that are there after a run and were not before."""
    before = _inventory()
    _nox("ci", backend, root=ROOT)
    deadline_s = time.monotonic() + 5
    while (left := _inventory() - before) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    print(f"left after nox -s ci, {backend}: {sorted(left) or 'nothing'}")


def _inventory() -> set[str]:
    # Without the kernel's own threads, which have no command.
    processes = [process.info for process in psutil.process_iter(["pid", "cmdline"]) if process.info["cmdline"]]
    found = {f"process {process['pid']} {process['cmdline'][0]}" for process in processes}
    if docker := shutil.which("docker"):
        listed = subprocess.run([docker, "ps", "-aq"], capture_output=True, text=True, check=False).stdout
        found |= {f"container {name}" for name in listed.split()}
    for folder in (Path(tempfile.gettempdir()), Path("/dev/shm")):  # noqa: S108
        found |= {str(path) for path in folder.glob("*") if folder.is_dir()}
    return found


def _nox(session: str, backend: str, root: Path) -> None:
    environment = {**os.environ, "PERF_SERVICES": backend}
    done = subprocess.run([*NOX, "-s", session], cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"nox -s {session} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _timed(runs: int, run: Callable[[], None]) -> list[float]:
    durations_s = []
    for _ in range(runs):
        start_s = perf_counter()
        run()
        durations_s.append(perf_counter() - start_s)
    return durations_s


def value_range(values: Iterable[float]) -> str:
    values = sorted(values)
    return f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f}, n={len(values)})"


def _spread(values: list[float]) -> float:
    return statistics.stdev(values) / statistics.fmean(values) if len(values) > 1 else 0.0


def _median_us(values: list[float]) -> str:
    return f"{statistics.median(values) * 1e6:9,.1f}"


SECTIONS: dict[str, Callable[[int, str], None]] = {
    "suite": suite,
    "redis": redis_alone,
    "fresh": fresh,
    "spread": spread,
    "leftovers": leftovers,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m scripts.numbers", description="Measure this suite itself.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="all where none is named")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--backends", nargs="+", default=["embedded", "docker"], choices=["embedded", "docker"])
    options = parser.parse_args()
    wanted = options.sections or ["sample", *SECTIONS]
    known = ["sample", *SECTIONS]
    if unknown := set(wanted).difference(known):
        parser.error(f"no section {unknown.pop()!r}: there are {', '.join(known)}")
    if "sample" in wanted:
        empty_sample(options.runs)
    for section, measure in SECTIONS.items():
        for backend in options.backends if section in wanted else []:
            measure(options.runs, backend)
