"""Earlier runs, for the report: `history/` in the folder of the results, one file a run, without its samples."""

import contextlib
from pathlib import Path

import msgspec

from plumbline.results.schema import Benchmark, Results, ResultsError, read_results, write_results

FOLDER = "history"
MOST_RUNS = 200


def keep(folder: Path, results: Results) -> None:
    """Add a run to the history in the folder of the results, and remove the oldest ones beyond MOST_RUNS.

    A run that measured nothing leaves nothing. Raises ResultsError where it can't be written.
    """
    if not results.benchmarks or not results.created:
        return
    # Sorted by name they are sorted by time; no colon, which not every file system takes.
    name = f"{results.created.replace(':', '').replace('+0000', 'Z')}-{results.environment.commit[:10] or 'none'}.json"
    write_results(folder / FOLDER / name, _without_samples(results))
    for path in sorted((folder / FOLDER).glob("*.json"))[:-MOST_RUNS]:
        with contextlib.suppress(OSError):
            path.unlink()


def read(folder: Path) -> list[Results]:
    """The runs of the history, oldest first, without those that can't be read."""
    found = []
    for path in sorted((folder / FOLDER).glob("*.json"))[-MOST_RUNS:]:
        with contextlib.suppress(ResultsError, OSError):
            found.append(read_results(path))
    return found


def _without_samples(results: Results) -> Results:
    benchmarks = [
        Benchmark(
            key=one.key,
            unit=one.unit,
            verdict=one.verdict,
            median=one.median,
            counts={},
            mean=one.mean,
            p95=one.p95,
            p99=one.p99,
            samples=one.samples,
            change=one.change,
        )
        for one in results.benchmarks
    ]
    return msgspec.structs.replace(
        results,
        benchmarks=benchmarks,
        tests=[],
        environment=msgspec.structs.replace(results.environment, packages={}),
        collected_files=[],
        deselected=[],
        base_differences=[],
        service_lines=[],
    )
