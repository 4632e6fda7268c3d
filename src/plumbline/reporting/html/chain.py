"""The chain of a benchmark's changes along the default branch, and its counts there, as drawings without JavaScript."""

import itertools
import math
from collections.abc import Sequence

from plumbline.judging.chain import Level, counts_along, levels
from plumbline.reporting import format as form
from plumbline.reporting.history import count_moved, keys_of, summary
from plumbline.reporting.html.elements import Markup, table, tag
from plumbline.reporting.trend import scale
from plumbline.results.history import Run
from plumbline.results.schema import Benchmark

_WIDTH, _HEIGHT = 600, 80
_SPARK_WIDTH, _SPARK_HEIGHT = 120, 16


def along_branch(benchmark: Benchmark, runs: Sequence[Run]) -> Markup:
    """Return the drawings of a benchmark in the runs of the default branch; nothing if it is in none."""
    return Markup(_times(levels(runs, keys_of(benchmark))) + _counts(benchmark, runs))


def _times(chain: Sequence[Level]) -> Markup:
    if not chain:
        return Markup()
    intervals = [tuple(map(math.log1p, level.interval())) for level in chain]
    low, range_ = scale([*itertools.chain(*intervals)])

    def at(index: int, value: float) -> str:
        x = (index + 0.5) / len(chain) * _WIDTH
        return f"{x:.1f} {(1 - (value - low) / range_) * _HEIGHT:.1f}"

    parts = []
    entries_of: dict[str, list[tuple[int, Level, float, float]]] = {}
    for index, (level, (bottom, high)) in enumerate(zip(chain, intervals, strict=True)):
        entries_of.setdefault(level.origin, []).append((index, level, bottom, high))
    for entries in entries_of.values():
        upper = [at(index, high) for index, _, _, high in entries]
        lower = [at(index, bottom) for index, _, bottom, _ in reversed(entries)]
        middle = [at(index, level.level) for index, level, _, _ in entries]
        parts += [
            tag("path", d=f"M{at(entries[0][0], 0)}L{at(entries[-1][0], 0)}", class_="zero"),
            tag("path", d=f"M{'L'.join([*upper, *lower])}z", class_="band"),
            tag("path", d=f"M{'L'.join(middle)}", class_="level"),
            *(
                tag("path", tag("title", _said(level)), d=f"M{point}h0", class_="point")
                for (_, level, _, _), point in zip(entries, middle, strict=True)
            ),
        ]
    chains = len(entries_of)
    caption = (
        f"{summary(chain)}. Changes between commits, each measured in pairs, multiplied along the default branch, with "
        "their 99 % interval."
    )
    if chains > 1:
        caption += f" {chains} chains: no comparison connects them."
    title = "Default branch"
    svg = tag(
        "svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", class_="chain", role="img", aria_label=f"{title}. {caption}"
    )
    return tag("figure", tag("figcaption", tag("strong", title), ": ", caption), svg)


def _said(level: Level) -> str:
    """89abcde, 2026-11-30: +12 % (+9.1…+15)"""
    return f"{level.commit[:7]}, {level.date[:10]}: {form.percent(level.change)} ({form.interval(*level.interval())})"


def _counts(benchmark: Benchmark, runs: Sequence[Run]) -> Markup:
    rows, marked = [], []
    for name, found in counts_along(runs, keys_of(benchmark)).items():
        values = [count for _, count in found]
        texts = [f"{count:,.6g}" for count in (values[0], values[-1], min(values), max(values))]
        rows.append([name, *texts, f"{len(values):,}", _spark(values)])
        if count_moved(name, values[0], values[-1]):
            marked.append(name)
    columns = ["count", "first", "last", "lowest", "highest", "runs", "course"]
    return table("Counts on the default branch", columns, rows, marked=marked, figures=columns[1:-1])


def _spark(values: Sequence[float]) -> Markup:
    """Return a step for each change of a count; nothing if it never changed."""
    low, range_ = min(values), max(values) - min(values)
    if not range_:
        return Markup()
    steps: list[str] = []
    for index, value in enumerate(values):
        y = 1 + (1 - (value - low) / range_) * (_SPARK_HEIGHT - 2)
        steps.append(f"V{y:.1f}H{(index + 1) / len(values) * _SPARK_WIDTH:.1f}" if steps else f"M0 {y:.1f}h1")
    return tag(
        "svg",
        tag("path", d="".join(steps), class_="level"),
        viewBox=f"0 0 {_SPARK_WIDTH} {_SPARK_HEIGHT}",
        class_="spark",
        aria_hidden="true",
    )
