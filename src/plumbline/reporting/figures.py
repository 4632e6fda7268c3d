"""Benchmarks and runs as the reports show them: rows of the table, remarks, notes and the environment."""

from collections.abc import Callable, Iterable

from plumbline.judging.budgets import broken
from plumbline.judging.counts import group_changes
from plumbline.reporting import format as form
from plumbline.reporting import wording
from plumbline.reporting.verdicts import verdict
from plumbline.results.schema import Benchmark, Results

MOST_FUNCTIONS = 3


def now(benchmark: Benchmark) -> float | None:
    """Return the median of this run in seconds; None if it was not measured."""
    return None if benchmark.verdict == "missing" or not benchmark.median else benchmark.median


def before(benchmark: Benchmark) -> float | None:
    """Return the median of the baseline in seconds; a missing benchmark is its baseline's entry."""
    return benchmark.baseline_median or (benchmark.median if benchmark.verdict == "missing" else None) or None


def remarks(benchmark: Benchmark) -> list[str]:
    """Return everything wrong or unusual about a benchmark; a pass needs no reasons."""
    return [
        *(wording.text(reason) for reason in benchmark.reasons if benchmark.verdict != "pass"),
        *(f"budget broken: {form.budget(result)}" for result in broken(benchmark)),
        *(f"budget {result.name}: {result.note}" for result in benchmark.budgets if result.note),
        *(f"slower under a profiler: {form.function(one)}" for one in benchmark.functions[:MOST_FUNCTIONS]),
        *benchmark.warnings,
    ]


def _time(seconds: float | None) -> str:
    return form.duration(seconds) if seconds else ""


def _measured(cell: Callable[[Benchmark], str]) -> Callable[[Benchmark], str]:
    return lambda benchmark: "" if now(benchmark) is None else cell(benchmark)


# The table beside the names of benchmarks: heading to cell, which is empty if nothing is known.
COLUMNS: dict[str, Callable[[Benchmark], str]] = {
    "n": _measured(lambda b: f"{b.samples:,}"),
    "baseline": lambda b: _time(before(b)),
    "now": lambda b: _time(now(b)),
    "change": lambda b: "" if b.change is None else form.percent(b.change),
    "interval": lambda b: form.interval(b.change_low, b.change_high),
    "verdict": verdict,
    "detectable": lambda b: (
        "" if b.minimum_detectable_effect is None else form.percent(b.minimum_detectable_effect).lstrip("+")
    ),
    "p95": _measured(lambda b: _time(b.p95)),
    "rate": _measured(lambda b: form.rate(b.rate_per_s) if b.rate_per_s else ""),
    "mean": _measured(lambda b: _time(b.mean)),
    "p99": _measured(lambda b: _time(b.p99)),
}


def line(benchmark: Benchmark) -> str:
    """57.1 µs → 61.7 µs, change +8.1 %, interval +6.9…+9.4, n 100, detectable 5.2 %"""
    cells = {heading: cell(benchmark) for heading, cell in COLUMNS.items()}
    medians = " → ".join(cells[heading] for heading in ("baseline", "now") if cells[heading])
    others = (f"{heading} {cells[heading]}" for heading in ("change", "interval", "n", "detectable") if cells[heading])
    return ", ".join(text for text in (medians, *others) if text)


def notes(results: Results) -> list[str]:
    """Return the notes on a run, beginning with the counts that changed but fail nothing."""
    return [*map(wording.count_text, group_changes(results.benchmarks, gated=False)), *results.notes]


def environment(results: Results) -> dict[str, str]:
    """Return the machine, servers and commit of a run by their name."""
    of = results.environment
    services = {name: f"{backend} {of.versions.get(name, '')}" for name, backend in sorted(of.services.items())}
    return {
        "machine": f"{of.machine}, {of.cpu_count} cores, {of.cpu}",
        "system": f"{of.system} {of.kernel}, {of.architecture}",
        "Python": of.python,
        "core": "any" if of.pin is None else f"pinned to {of.pin}",
        **services,
        "commit": of.commit + (", with uncommitted changes" if of.dirty else ""),
        "recorded": results.created,
        "profile": results.profile,
    }


def by_file(benchmarks: Iterable[Benchmark]) -> dict[str, list[Benchmark]]:
    """Return benchmarks by the file of their test."""
    files: dict[str, list[Benchmark]] = {}
    for benchmark in benchmarks:
        files.setdefault(form.file_and_name(benchmark.key)[0], []).append(benchmark)
    return files
