"""The history of the default branch as the CSV that Apache Otava reads, which looks for change points in it."""

import csv
import io
from collections.abc import Sequence

from plumbline.judging.chain import entry_of
from plumbline.results.files import ResultsError
from plumbline.results.history import COUNTS, Entry, Run


def render(runs: Sequence[Run]) -> str:
    """Return a row for each run on the newest run's kind of machine, and columns for the benchmarks of that run.

    Otava needs a number in each cell. A run that lacks one has that of the run before, or else of the next one, as
    Otava itself fills gaps. Raises ResultsError if the history is empty.
    """
    if not runs:
        raise ResultsError("there is no history to export: fetch its branch, or set `folder` in [history]")
    alike = [run for run in runs if run.machine == runs[-1].machine]
    columns: dict[str, list[float]] = {}
    for key in sorted(runs[-1].keys):
        entries = [entry_of(run, [key]) or Entry() for run in alike]
        medians_us = [None if one.median_ns is None else round(one.median_ns / 1e3, 6) for one in entries]
        figures = {"median_us": medians_us} | {name: [getattr(one, name) for one in entries] for name in COUNTS}
        columns |= {f"{key} {name}": _filled(values) for name, values in figures.items() if any(map(_known, values))}
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["time", "commit", *columns])
    for index, run in enumerate(alike):
        writer.writerow([run.date, run.commit, *(values[index] for values in columns.values())])
    return file.getvalue()


def _known(value: float | None) -> bool:
    return value is not None


def _filled(values: Sequence[float | None]) -> list[float]:
    last = next(value for value in values if value is not None)
    filled = []
    for value in values:
        last = last if value is None else value
        filled.append(last)
    return filled
