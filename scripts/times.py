"""Measure the durations of the gate and its parts: `python -m scripts.times --help`.

The script prints medians and ranges. `scripts.plugin_cost` measures imports, and runs of pytest without a suite.
"""

import argparse
import importlib.metadata
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from plumbline import Timer
from plumbline.comparing.trees.environment import base_python
from plumbline.results.files import read_results
from scripts.accuracy import HANDLERS, SLOW_DOWN, is_unaffected
from scripts.clones import INVALID, NOX, PASS, REGRESSION, ROOT, Clone, Done, cloned, median_and_range, run_sections

OLDER = {"redis": "6.4.0", "asyncpg": "0.30.0"}
# A change of this file affects all benchmarks, because `prepare` imports it.
READ_BY_ALL = "tests/sample_service/settings.py"
THREE = "test_list or test_select_1 or test_publish_latency"
EMPTY_SAMPLES = 20_000


def timer(options: argparse.Namespace) -> None:
    """An empty `with timer`, relative to two bare calls of perf_counter."""
    ratios = []
    for _ in range(options.runs):
        bare_s = []
        for _ in range(EMPTY_SAMPLES):
            start_s = perf_counter()
            end_s = perf_counter()
            bare_s.append(end_s - start_s)
        timed_s: list[float] = []
        timer = Timer(timed_s)
        for _ in range(EMPTY_SAMPLES):
            with timer:
                pass
        ratios.append(statistics.median(timed_s) / statistics.median(bare_s))
    print(f"empty sample over a bare pair of perf_counter calls: {median_and_range(ratios)}")


def gate(options: argparse.Namespace) -> None:
    """`plumbline ci` and `nox -s ci`, and the same suite run by pytest alone."""
    with cloned() as clone, tempfile.TemporaryDirectory() as folder:
        python = environment_of(clone)
        clone.record_baseline(python=python)
        pytest = ("-m", "pytest", "tests/performance", f"--perf-output={folder}/results.json")
        ended = (PASS, REGRESSION, INVALID)
        commands: dict[str, Callable[[], Done]] = {
            "pytest": lambda: clone.run(*pytest, python=python),
            "plumbline ci": lambda: clone.run("-m", "plumbline", "ci", python=python, codes=ended),
            "nox -s ci": lambda: clone.run(*NOX, "-s", "ci", codes=ended),
        }
        ran: dict[str, list[tuple[Done, str]]] = {name: [] for name in commands}
        for _ in range(options.runs):
            for name, command in commands.items():
                done = command()
                ran[name].append((done, "" if name == "pytest" else how_it_ended(clone, done)))
        pytest_s = statistics.median(done.duration_s for done, _ in ran["pytest"])
        for name, found in ran.items():
            for end in sorted({end for _, end in found}):
                durations_s = [done.duration_s for done, ended in found if ended == end]
                more = f", {statistics.median(durations_s) - pytest_s:+.2f} s beside pytest" if end else ""
                print(f"{name}{end}: {median_and_range(durations_s)} s{more}")


def environment_of(clone: Clone) -> Path:
    """Return the Python of the session `ci`, so that the baseline has the same packages."""
    clone.run(*NOX, "-s", "ci", "--install-only")
    return clone.root / ".nox" / "ci" / "bin" / "python"


def how_it_ended(clone: Clone, done: Done) -> str:
    if "measured again" in done.output:
        return ", measured again"
    results = read_results(clone.root / "perf-results" / "results.json")
    if not results.base:
        return ", passed by the baseline check"
    return (
        ", unaffected"
        if all(one.verdict == "pass" and is_unaffected(one) for one in results.benchmarks)
        else (", compared in pairs")
    )


def fresh(options: argparse.Namespace) -> None:
    """A clone of the repository, its environment from a warm package cache, and `nox -s ci`."""
    durations_s = []
    for _ in range(options.runs + 1):  # the first fills the package cache
        began_s = perf_counter()
        with cloned() as clone:
            clone.run(*NOX, "-s", "ci", codes=(PASS, REGRESSION, INVALID))
            durations_s.append(perf_counter() - began_s)
    print(f"clone and nox -s ci: {median_and_range(durations_s[1:])} s")


def comparison(options: argparse.Namespace) -> None:
    """A paired comparison of all benchmarks and of three, unchanged and with one benchmark 10 % slower."""
    with cloned() as clone:
        python = environment_of(clone)
        recorded = clone.record_baseline(python=python)
        key = HANDLERS["list_items"]
        extra_s = SLOW_DOWN * next(one.median for one in recorded.benchmarks if one.key == key)
        changes: dict[str, Callable[[], None]] = {
            "an unused constant added": lambda: None,
            f"GET /items {SLOW_DOWN:.0%} slower": lambda: clone.slow_down("list_items", extra_s),
        }
        for which, arguments in (("all benchmarks", ()), ("three benchmarks", ("--", "-k", THREE))):
            for title, change in changes.items():
                found = []
                for _ in range(options.runs):
                    change()
                    clone.touch(READ_BY_ALL)
                    compare = ("-m", "plumbline", "compare", "HEAD", "--limit=60", *arguments)
                    found.append(clone.run(*compare, python=python, codes=(PASS, REGRESSION, INVALID)))
                    clone.restore()
                codes = dict(Counter(done.code for done in found))
                durations = median_and_range(done.after_suite_s for done in found)
                print(f"{which} compared within 60 s, {title}: {durations} s after the suite; exit codes {codes}")


def environment(options: argparse.Namespace) -> None:
    """The environment of a base with an older redis-py or asyncpg, from a warm package cache."""
    for name, version in OLDER.items():
        durations_s = []
        with tempfile.TemporaryDirectory() as folder:
            for run in range(options.runs + 1):  # the first fills the package cache
                began_s = perf_counter()
                base_python({name: version}, Path(folder) / f"environments-{run}", ROOT, lambda _: None)
                durations_s.append(perf_counter() - began_s)
        newer = importlib.metadata.version(name)
        print(f"environment of a base with {name} {version}, not {newer}: {median_and_range(durations_s[1:])} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.times",
        description="Measure the durations of the gate and its parts, with embedded servers.",
        epilog="example: python -m scripts.times gate comparison --runs 5",
    )
    parser.add_argument("--runs", type=int, default=5, help="measurements of each duration (default: 5)")
    sections = {
        "timer": timer,
        "gate": gate,
        "fresh": fresh,
        "comparison": comparison,
        "environment": environment,
    }
    run_sections(parser, sections)
