"""Simulate the baseline check where sessions differ: `python -m scripts.baseline_check --help`.

Suites are recorded in one session and measured in another. Medians of both differ by chance, within a session as much
as between its processes (`spread`), and between sessions more: each benchmark by an amount of its own, or all by the
same. One benchmark is slower. The last columns say how often the check passes it, and how often it passes the others.
"""

import argparse
import math
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from plumbline.judging.baseline_check import PASSED, check_baseline
from plumbline.measuring.statistics import log_spread
from plumbline.results.schema import SCHEMA, Benchmark, Environment, Results
from plumbline.settings import GateSettings

ENVIRONMENT = Environment("m", "linux", "x86_64", "", 2, "", "3.13.1", {}, {}, None, "", False, {})
PROCESSES = 5


class Case(NamedTuple):
    """Suites of one kind. Shares: 0.01 is 1 %."""

    benchmarks: int
    spread: float  # between processes of a session
    sessions: float = 0.0  # standard deviation of the difference between two sessions
    together: bool = False  # whether all benchmarks differ by the same
    earlier: int = 0  # runs in the history
    machine: float = 1.0  # time of the fixed piece of work, compared with the baseline: below 1 on a faster machine
    slower: float = 0.05  # the slow-down of one benchmark


class Passed(NamedTuple):
    """The share of benchmarks that the check passes: slower ones, and the others."""

    slower: float
    others: float


def simulate(case: Case, suites: int) -> Passed:
    """Check so many suites of a kind."""
    rng, gate = random.Random(1), GateSettings()
    slower = others = 0
    for _ in range(suites):
        levels = [rng.gauss(0, case.spread / 10) for _ in range(case.benchmarks)]
        offset = _session(case, rng)
        medians = [
            [math.exp(level + more + rng.gauss(0, case.spread)) for _ in range(PROCESSES)]
            for level, more in zip(levels, offset, strict=True)
        ]
        entries = [
            Benchmark(
                str(number), "s", None, one[0], {}, process_medians=one, spread=log_spread(one), machine_speed_s=1.0
            )
            for number, one in enumerate(medians)
        ]
        baseline = Results(SCHEMA, None, ENVIRONMENT, entries, created="then")
        history = [_run(case, levels, rng, 0.0) for _ in range(case.earlier)]
        record = _run(case, levels, rng, math.log1p(case.slower))
        found = check_baseline(record, baseline, gate, {}, history=history)
        passed = [one.verdict in PASSED for one in found.values()]
        slower += passed[0]
        others += sum(passed[1:])
    return Passed(slower / suites, others / suites / max(case.benchmarks - 1, 1))


def _run(case: Case, levels: Sequence[float], rng: random.Random, slower: float) -> Results:
    """Return a run of another session, in which the first benchmark is slower by this logarithm."""
    offset, faster = _session(case, rng), math.log(case.machine)
    measured = [
        Benchmark(
            str(number),
            "s",
            "pass",
            math.exp(level + more + faster + (0 if number else slower) + rng.gauss(0, case.spread)),
            {},
            machine_speed_s=case.machine,
        )
        for number, (level, more) in enumerate(zip(levels, offset, strict=True))
    ]
    return Results(SCHEMA, None, ENVIRONMENT, measured, baseline_created="then")


def _session(case: Case, rng: random.Random) -> list[float]:
    """Return by how much the benchmarks of one session are slower than their level."""
    each = case.sessions / math.sqrt(2)
    if case.together:
        return [rng.gauss(0, each)] * case.benchmarks
    return [rng.gauss(0, each) for _ in range(case.benchmarks)]


def cases() -> Iterator[Case]:
    for benchmarks, earlier in ((38, 0), (3, 0), (3, 20)):
        for spread in (0.005, 0.01):
            for sessions in (0.0, 0.01, 0.02, 0.03):
                for together in (False, True) if sessions else (False,):
                    yield Case(benchmarks, spread, sessions, together, earlier)
    for spread in (0.005, 0.01):
        yield Case(38, spread, machine=0.981)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.baseline_check",
        description="Simulate how often the baseline check passes a slower benchmark where sessions differ.",
        epilog="example: python -m scripts.baseline_check --suites 100",
    )
    parser.add_argument("--suites", type=int, default=400, help="suites of each kind (default: 400)")
    options = parser.parse_args()
    print("benchmarks  spread  sessions  together  earlier runs  machine  slower one passes  others pass")
    for case in cases():
        passed = simulate(case, options.suites)
        print(
            f"{case.benchmarks:10}  {case.spread:6.1%}  {case.sessions:8.1%}  {'yes' if case.together else 'no':>8}"
            f"  {case.earlier:12}  {case.machine:7.1%}  {passed.slower:17.1%}  {passed.others:11.1%}"
        )
