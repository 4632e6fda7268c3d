"""Earlier runs for the HTML report: `history/` beside the results, one file for each run, without its samples."""

import contextlib
from pathlib import Path

from msgspec.structs import replace

from plumbline.results.files import ResultsError, read_results, write_results
from plumbline.results.schema import Benchmark, Results

MOST_RUNS = 200
_KEPT = ("key", "unit", "verdict", "median", "mean", "p95", "p99", "samples", "change")
_NOT_KEPT = ("tests", "collected_files", "deselected", "base_differences", "service_lines")


def keep(folder: Path, results: Results) -> None:
    """Add a run that measured something, and remove the oldest beyond MOST_RUNS; raises ResultsError."""
    if not results.benchmarks or not results.created:
        return
    benchmarks = [Benchmark(counts={}, **{name: getattr(one, name) for name in _KEPT}) for one in results.benchmarks]
    environment = replace(results.environment, packages={})
    lean = replace(results, benchmarks=benchmarks, environment=environment, **{name: [] for name in _NOT_KEPT})
    # Sorted by name, runs are sorted by time; some file systems refuse colons.
    name = f"{results.created.replace(':', '').replace('+0000', 'Z')}-{results.environment.commit[:10] or 'none'}.json"
    write_results(folder / "history" / name, lean)
    for path in sorted((folder / "history").glob("*.json"))[:-MOST_RUNS]:
        with contextlib.suppress(OSError):
            path.unlink()


def read(folder: Path) -> list[Results]:
    """Return the runs of the history, oldest first, without those that cannot be read."""
    found = []
    for path in sorted((folder / "history").glob("*.json"))[-MOST_RUNS:]:
        with contextlib.suppress(ResultsError, OSError):
            found.append(read_results(path))
    return found
