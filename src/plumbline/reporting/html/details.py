"""One benchmark: its plots, times, counts and code."""

import math
from collections.abc import Sequence

from plumbline.measuring.statistics import Summary, percentile, summarize
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.reporting.html.chain import along_branch
from plumbline.reporting.html.elements import (
    Markup,
    folded,
    listed,
    plot,
    table,
    tag,
    tone,
    verbatim,
    verdict_of,
)
from plumbline.results.history import Run
from plumbline.results.schema import Benchmark, CallSite, Results

_MOST_OPEN = 10  # benchmarks that fail the run; the others are a click away
_MOST_SAMPLES = 200  # a reader distinguishes no more dots of a plot


def details(
    results: Results,
    number: int,
    benchmark: Benchmark,
    others: Sequence[Benchmark | None],
    branch: Sequence[Run] = (),
) -> Markup:
    """Return a benchmark as an element to open.

    `others`: its entries in the baseline and in each earlier run. `branch`: the history of the default branch.
    """
    baseline, *past = others
    verdict = verdict_of(benchmark)
    file, test = form.file_and_name(benchmark.key)
    limits = content.limits(results, benchmark)
    shown = [form.percent(limit).lstrip("+") for limit in limits]
    facts = [
        f"tolerance {shown[0]}, minimum effect {shown[1]}" if any(shown) else "",
        f"{benchmark.samples:,} samples of {benchmark.operations:,} operations" if benchmark.operations > 1 else "",
        form.loop_hold(benchmark.loop_hold) if benchmark.loop_hold and benchmark.loop_hold.duration_s else "",
        f"was {benchmark.renamed_from}" if benchmark.renamed_from else "",
        *(f"budget kept: {form.budget(each)}" for each in benchmark.budgets if each.kept and not each.note),
    ]
    summary = [
        tag("h3", tag("bdi", test)),
        tag("span", verdict, class_=f"verdict {tone(verdict)}"),
        tag("span", tag("bdi", file), class_="quiet"),
    ]
    return tag(
        "details",
        tag("summary", Markup(" ".join(summary))),
        tag("p", benchmark.description) if benchmark.description else "",
        listed(content.remarks(benchmark, most_functions=len(benchmark.functions))),
        _pairs(benchmark, limits),
        _tails(benchmark),
        _distribution(benchmark, baseline),
        _times(benchmark, baseline),
        _trend(benchmark, past),
        along_branch(benchmark, branch),
        _counts(benchmark, baseline),
        folded("Changed plans", verbatim(line for one in benchmark.plan_changes for line in form.plan_lines(one)))
        if benchmark.plan_changes
        else "",
        folded("Code of the test", verbatim(benchmark.source.splitlines())) if benchmark.source else "",
        tag("p", "; ".join(filter(None, facts)), class_="quiet") if any(facts) else "",
        id=f"b{number}",
        open=number < _MOST_OPEN and verdict in content.FAILING,
        data_benchmark=str(number),
    )


def _pairs(benchmark: Benchmark, limits: Sequence[float | None]) -> Markup:
    differences = [math.expm1(value) for value in benchmark.differences]
    if not differences:
        return Markup()
    caption = (
        f"Change in each pair, head against base: {', '.join(map(form.percent, differences))}. Line: the change of the "
        "benchmark, with its interval. The other band goes from the tolerance to the minimum effect."
    )
    shares = (benchmark.change, benchmark.change_low, benchmark.change_high, *limits)
    percents = [None if share is None else share * 100 for share in shares]
    changes = dict(zip(("change", "low", "high", "tolerance", "effect"), percents, strict=True))
    return plot("Pairs", caption, {"kind": "pairs", "differences": [value * 100 for value in differences], **changes})


def _tails(benchmark: Benchmark) -> Markup:
    per, rows = form.per(benchmark), []
    for one in benchmark.tails:
        times = [form.duration(time_s, per) for time_s in (one.base_s, one.head_s)]
        change = form.percent(one.change), form.interval(one.low, one.high)
        judged = "slower" if one.slower else "not certain" if one.unclear else "not slower"
        rows.append([one.tail, *times, *change, judged])
    headings = ["figure", "base", "head", "change", "interval", "judged"]
    return table("Slower calls", headings, rows, figures=headings[1:-1])


def _distribution(benchmark: Benchmark, baseline: Benchmark | None) -> Markup:
    sides = {
        "baseline": ("the medians of the baseline's processes", baseline and baseline.process_medians),
        "base": ("the samples of the last pair", benchmark.base_samples_s),
        "head": ("", benchmark.head_samples_s),
        "this run": ("the samples of this run", benchmark.samples_s),
    }
    rows = {side: sorted(samples_s) for side, (_, samples_s) in sides.items() if samples_s}
    if not rows:
        return Markup()
    limit = max(map(_end_of_plot, rows.values()))
    drawn = ", ".join(text for side, (text, _) in sides.items() if text and side in rows)
    caption = f"{drawn[:1].upper()}{drawn[1:]}. Thick: the middle half. Tall: the median."
    if beyond := sum(value > limit for values in rows.values() for value in values):
        slowest = form.duration(max(values[-1] for values in rows.values()))
        caption += f" {beyond:,} beyond the right edge, up to {slowest}."
    # Evenly fewer of many, with the least and the greatest.
    dots = {side: [*values[: -1 : len(values) // _MOST_SAMPLES + 1], values[-1]] for side, values in rows.items()}
    return plot("Distribution", caption, {"kind": "distribution", "rows": dots, "limit": limit})


def _times(benchmark: Benchmark, baseline: Benchmark | None) -> Markup:
    per, columns = form.per(benchmark), ["minimum", "median", "mean", "p95", "p99", "maximum"]

    def row(name: str, samples: int, of: Benchmark | Summary, suffix: str = "") -> list[str]:
        times = [form.duration(getattr(of, column + suffix) or None, per) for column in columns]
        return [name, f"{samples:,}", *times, form.rate(of.rate_per_s) if of.rate_per_s else ""]

    rows = [row("baseline", baseline.samples, baseline)] if baseline else []
    for side, samples_s in (("base", benchmark.base_samples_s), ("head", benchmark.head_samples_s)):
        if samples_s:
            rows.append(row(side, len(samples_s), summarize(samples_s), suffix="_s"))
    if content.now(benchmark):
        rows.append(row("this run", benchmark.samples, benchmark))
    headings = ["of", "samples", *columns, "rate"]
    return table("Times per operation", headings, rows, figures=headings[1:])


def _trend(benchmark: Benchmark, past: Sequence[Benchmark | None]) -> Markup:
    entries = [*past, benchmark if content.now(benchmark) else None]
    medians = [(entry and entry.median) or None for entry in entries]
    p95 = [(entry and entry.p95) or None for entry in entries]
    earlier = [median for median in medians[:-1] if median]
    if not earlier:
        return Markup()
    low, high, last = map(form.duration, (min(earlier), max(earlier), earlier[-1]))
    caption = (
        f"Median in earlier runs ({len(earlier):,}): from {low} to {high}, the last {last}. Dotted: p95. "
        "Dashed upright: another baseline."
    )
    limit = _end_of_plot(sorted(value for value in [*medians, *p95] if value))
    return plot("History", caption, {"kind": "history", "medians": medians, "p95": p95, "limit": limit})


def _counts(benchmark: Benchmark, baseline: Benchmark | None) -> Markup:
    old_counts, changes = baseline.counts if baseline else {}, {each.name: each for each in benchmark.count_changes}
    varying = {count: f"{min(each):g} to {max(each):g}" for count, each in benchmark.counts_varying.items() if each}
    rows = []
    # What fails the benchmark first, then what else has changed.
    names = benchmark.counts.keys() | old_counts.keys() | changes.keys() | varying.keys()
    for count in sorted(names, key=lambda name: (1 - changes[name].gated if name in changes else 2, name)):
        change = changes.get(count)
        old, new = (change.old, change.new) if change else (old_counts.get(count), benchmark.counts.get(count))
        texts = ["" if value is None else f"{value:,.6g}" for value in (old, new)]
        judged = "" if change is None else "worse" if change.gated else "not judged"
        if count in varying:
            texts[1], judged = varying[count], judged or "varies"
        sites = change.sites if change and change.sites else benchmark.count_sites.get(count, [])
        rows.append([count, *texts, judged, _places(sites)])
    marked = [count for count, change in changes.items() if change.gated]
    columns = ["count", "before", "this run", "judged", "from"]
    return table("Counts per operation", columns, rows, marked=marked, figures=columns[1:3])


def _places(sites: Sequence[CallSite]) -> str:
    """shop/orders.py:28 in list_orders (50), shop/orders.py:31 in list_orders (1)"""
    if len(sites) == 1:
        return form.site(sites[0])
    return content.listed([f"{form.site(one)} ({one.count:,.6g})" for one in sites])


def _end_of_plot(ordered: list[float]) -> float:
    """Return the upper end of a plot of sorted values that single outliers do not squeeze."""
    low, high = percentile(ordered, 5), percentile(ordered, 95)
    return min(ordered[-1], high + high - low)
