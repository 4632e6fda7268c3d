"""One benchmark of the HTML report: its figures, plots and code."""

import math
from collections.abc import Sequence

from msgspec.structs import replace

from plumbline.measuring.statistics import Summary, percentile, summarize
from plumbline.reporting import content, markup
from plumbline.reporting import format as form
from plumbline.reporting.markup import Markup, tag
from plumbline.results.schema import Benchmark, Results

# More dots of a plot look like one.
_MOST_SAMPLES = 200
_MOST_LISTED = 20
_MOST_NAME_CHARACTERS = 40

# How verdicts look; the others are neutral.
TONES = {
    **dict.fromkeys(content.FAILING, "bad"),
    **dict.fromkeys(("inconclusive", "drift"), "unsure"),
    **dict.fromkeys(("pass", "improvement"), "good"),
}


def entry(
    results: Results, benchmark: Benchmark, others: Sequence[Benchmark | None], anchor: str, *, may_open: bool
) -> Markup:
    """Return a benchmark as an element to open, which may be open if the benchmark fails the run.

    `others` are its entries in the baseline and in each earlier run.
    """
    baseline, *past = others
    verdict = content.verdict(benchmark) or "not judged"
    tone = TONES.get(verdict, "neutral")
    file, test = form.file_and_name(benchmark.key)
    cells = content.cells(benchmark)
    tolerance = results.tolerance if benchmark.tolerance is None else benchmark.tolerance
    effect = results.minimum_effect if benchmark.minimum_effect is None else benchmark.minimum_effect
    shares = (benchmark.change, benchmark.change_low, benchmark.change_high, tolerance, effect)
    percents = [None if share is None else share * 100 for share in shares]
    changes = dict(zip(("change", "low", "high", "tolerance", "effect"), percents, strict=True))
    row = {
        "key": benchmark.key,
        "name": form.shortened(test.removeprefix("test_"), _MOST_NAME_CHARACTERS),
        "label": cells["change"] if tone == "good" else f"{cells['change']} {verdict}",
        "interval": cells["interval"],
        "verdict": verdict,
        "tone": tone,
    }
    limits = f"tolerance {form.unsigned(tolerance, 'unknown')}, minimum effect {form.unsigned(effect, 'unknown')}"
    facts = [
        f"key {benchmark.key}",
        limits if tolerance or effect else "",
        f"{benchmark.samples:,} samples of {benchmark.operations:,} operations" if benchmark.operations > 1 else "",
        f"was {benchmark.renamed_from}" if benchmark.renamed_from else "",
    ]
    summary = [
        tag("h3", tag("bdi", test)),
        tag("span", verdict, class_=f"verdict {tone}"),
        *(tag("span", figure, class_="figures") for figure in content.line(benchmark).split(", ")),
        tag("span", tag("bdi", file), class_="quiet"),
    ]
    return tag(
        "details",
        tag("summary", Markup(" ".join(summary))),
        tag("p", benchmark.description) if benchmark.description else "",
        markup.listed(content.remarks(replace(benchmark, functions=[]))),
        _functions(benchmark),
        _pairs(benchmark, changes),
        _distribution(benchmark, baseline),
        _times(benchmark, baseline),
        _trend(benchmark, past),
        _budgets(benchmark),
        _counts(benchmark, baseline),
        markup.folded("Code of the test", markup.verbatim(benchmark.source.splitlines())) if benchmark.source else "",
        tag("p", "; ".join(filter(None, facts)), class_="quiet"),
        id=anchor,
        open=may_open and verdict in content.FAILING,
        data_verdict=verdict,
        data_notable=content.is_notable(benchmark),
        data_text=f"{benchmark.key} {benchmark.description}".lower(),
        data_row=None if benchmark.change is None else markup.dumped(row | changes),
    )


def _functions(benchmark: Benchmark) -> Markup:
    rows = [
        [
            f"{each.name} ({each.file}:{each.line})" if each.file else each.name,
            each.where or "test",
            f"+{form.duration(each.head_s - each.base_s)}",
            *map(form.duration, (each.base_s, each.head_s)),
            *map(form.calls, (each.base_calls, each.head_calls)),
        ]
        for each in benchmark.functions
    ]
    columns = ["function", "process", "more", "base", "head", "calls in base", "calls in head"]
    found = markup.table("Functions that got slower under a profiler: time per operation", columns, rows)
    note = "Your own functions include what they call, others do not. A profiler slows both sides down."
    return Markup(found + tag("p", note, class_="quiet")) if found else found


def _pairs(benchmark: Benchmark, changes: dict[str, float | None]) -> Markup:
    differences = [math.expm1(value) for value in benchmark.differences]
    if not differences:
        return Markup()
    texts = ", ".join(map(form.percent, differences[:_MOST_LISTED]))
    texts += " and so on" if len(differences) > _MOST_LISTED else ""
    caption = (
        f"The pairs of the comparison, head against base: {texts}. Line: the change, with its interval; the other "
        "band: from the tolerance to the minimum effect."
    )
    data = {"kind": "pairs", "differences": [value * 100 for value in differences], **changes}
    return markup.plot("Pairs", caption, data)


def _distribution(benchmark: Benchmark, baseline: Benchmark | None) -> Markup:
    sides = {
        "baseline": baseline.process_medians or [baseline.median] if baseline else [],
        "base": benchmark.base_samples_s,
        "head": benchmark.head_samples_s,
        "this run": benchmark.samples_s,
    }
    rows = {side: sorted(samples_s) for side, samples_s in sides.items() if samples_s}
    if not rows:
        return Markup()
    limit = max(map(_end_of_plot, rows.values()))
    texts = {
        "baseline": "the medians of the baseline's processes",
        "base": "the samples of the last pair",
        "this run": "the samples of this run",
    }
    shown = ", ".join(text for side, text in texts.items() if side in rows)
    caption = f"{shown.capitalize()}; thick: the middle half; tall: the median."
    if beyond := sum(value > limit for values in rows.values() for value in values):
        slowest = form.duration(max(values[-1] for values in rows.values()))
        caption += f" {beyond:,} beyond the right edge, up to {slowest}."
    dots = {row: _thinned(values) for row, values in rows.items()}
    return markup.plot("Distribution", caption, {"kind": "distribution", "rows": dots, "limit": limit})


def _times(benchmark: Benchmark, baseline: Benchmark | None) -> Markup:
    columns = ["minimum", "median", "mean", "p95", "p99", "maximum"]

    def row(name: str, samples: int, of: Benchmark | Summary, suffix: str = "") -> list[str]:
        times_s = [getattr(of, column + suffix) for column in columns]
        return [name, f"{samples:,}", *map(form.time, times_s), form.rate(of.rate_per_s) if of.rate_per_s else ""]

    rows = [row("baseline", baseline.samples, baseline)] if baseline else []
    for side, samples_s in (("base", benchmark.base_samples_s), ("head", benchmark.head_samples_s)):
        if samples_s:
            rows.append(row(side, len(samples_s), summarize(samples_s), suffix="_s"))
    if content.now(benchmark):
        rows.append(row("this run", benchmark.samples, benchmark))
    return markup.table("Times per operation", ["of", "n", *columns, "rate"], rows)


def _trend(benchmark: Benchmark, past: Sequence[Benchmark | None]) -> Markup:
    entries = [*past, benchmark if content.now(benchmark) else None]
    medians = [(entry and entry.median) or None for entry in entries]
    p95 = [(entry and entry.p95) or None for entry in entries]
    earlier = [median for median in medians[:-1] if median]
    if not earlier:
        return Markup()
    low, high, last = map(form.duration, (min(earlier), max(earlier), earlier[-1]))
    caption = (
        f"Median in earlier runs ({len(earlier):,}): from {low} to {high}, the last {last}. Dotted: p95; dashed "
        "upright: another baseline."
    )
    limit = _end_of_plot(sorted(value for value in [*medians, *p95] if value))
    return markup.plot("History", caption, {"kind": "history", "medians": medians, "p95": p95, "limit": limit})


def _budgets(benchmark: Benchmark) -> Markup:
    rows = [
        [form.budget(each), "not judged" if each.note else "kept" if each.kept else "broken", each.note]
        for each in benchmark.budgets
    ]
    columns = ["measured and limit", "verdict", "note"]
    return markup.table("Budgets", columns, rows, marked=[row[0] for row in rows if row[1] == "broken"])


def _counts(benchmark: Benchmark, baseline: Benchmark | None) -> Markup:
    old_counts, changes = baseline.counts if baseline else {}, {each.name: each for each in benchmark.count_changes}
    varying = {count: f"{min(each):g} to {max(each):g}" for count, each in benchmark.counts_varying.items() if each}
    rows = []
    for count in sorted(benchmark.counts.keys() | old_counts.keys() | changes.keys() | varying.keys()):
        change = changes.get(count)
        old, new = (change.old, change.new) if change else (old_counts.get(count), benchmark.counts.get(count))
        texts = ["" if value is None else f"{value:,.6g}" for value in (old, new)]
        judged = "" if change is None else "counts against it" if change.gated else "not judged"
        if count in varying:
            texts[1], judged = varying[count], "varies: not judged"
        rows.append([count, *texts, judged])
    marked = [count for count, change in changes.items() if change.gated]
    return markup.table("Counts per operation", ["count", "baseline", "this run", "change"], rows, marked=marked)


def _thinned(ordered: list[float]) -> list[float]:
    """Return some of many sorted values, evenly, with the least and the greatest."""
    count = min(len(ordered), _MOST_SAMPLES)
    return [ordered[round(n * (len(ordered) - 1) / max(1, count - 1))] for n in range(count)]


def _end_of_plot(ordered: list[float]) -> float:
    """Return the upper end of a plot of sorted values that single outliers do not squeeze."""
    low, high = percentile(ordered, 5), percentile(ordered, 95)
    return min(ordered[-1], high + high - low)
