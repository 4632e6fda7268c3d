"""The trend of the last runs on the default branch, in lines of text."""

import math
import statistics
from collections.abc import Sequence

from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.results.schema import Benchmark, Results

MOST_RUNS, LEAST_RUNS = 20, 3
MOST_BENCHMARKS = 5
LEAST_RANGE = 0.1  # from the lowest value to the highest, as a logarithm: noise is to look flat
BARS = "▁▂▃▄▅▆▇█"


def runs_on_default_branch(results: Results, history: Sequence[Results], named: str = "") -> list[Results]:
    """Return the last runs of committed code on the default branch, on the same kind of machine, the oldest first.

    `named`: the name of that branch, if it is known; otherwise `main` or `master`.
    """
    branches = {run.environment.branch for run in history}
    branch = next((name for name in (named, "main", "master") if name and name in branches), None)
    now = results.environment
    return [
        run
        for run in history
        if run.environment.branch == branch
        and not run.environment.dirty
        and run.created != results.created
        and (run.environment.cpu, run.environment.services) == (now.cpu, now.services)
    ][-MOST_RUNS:]


def trend_lines(results: Results, runs: Sequence[Results]) -> list[tuple[str, str]]:
    """Return bars and figures of all benchmarks together, and of the failing ones with their keys, if runs suffice."""
    found = [("", text)] if (text := _together(runs)) else []
    failing = [one for one in content.by_urgency(results.benchmarks) if content.verdict(one) in content.FAILING]
    of_failing = [(one.key, _of_one(one, runs)) for one in failing[:MOST_BENCHMARKS]]
    return found + [(key, text) for key, text in of_failing if text]


def bars(values: Sequence[float]) -> str:
    """Return one bar for each value; values are logarithms of times."""
    low, range_ = scale(values)
    return "".join(BARS[min(int((value - low) / range_ * len(BARS)), len(BARS) - 1)] for value in values)


def scale(values: Sequence[float]) -> tuple[float, float]:
    """Return the lowest value of a drawing of logarithms of times, and its range."""
    low, range_ = min(values), max(values) - min(values)
    return low - max(0.0, LEAST_RANGE - range_) / 2, max(range_, LEAST_RANGE)


def _together(runs: Sequence[Results]) -> str:
    medians_s = [{one.key: one.median for one in run.benchmarks if one.median} for run in runs]
    common = sorted(set.intersection(*map(set, medians_s))) if len(runs) >= LEAST_RUNS else []
    if not common:
        return ""
    means = [statistics.fmean(math.log(each[key]) for key in common) for each in medians_s]
    low, high = (form.percent(math.expm1(value - means[0])) for value in (min(means), max(means)))
    number = f"{len(common):,} benchmarks together" if len(common) > 1 else "1 benchmark"
    return f"{bars(means)} {number}: {low} to {high}, compared with the first of these runs"


def _of_one(benchmark: Benchmark, runs: Sequence[Results]) -> str:
    keys = {benchmark.key, benchmark.renamed_from}
    medians_s = [one.median for run in runs for one in run.benchmarks if one.key in keys and one.median]
    if len(medians_s) < LEAST_RUNS:
        return ""
    low, high, last = (form.duration(value) for value in (min(medians_s), max(medians_s), medians_s[-1]))
    return f"{bars([math.log(median_s) for median_s in medians_s])} {low} to {high}, last {last}{form.per(benchmark)}"
