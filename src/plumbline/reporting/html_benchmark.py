"""One benchmark of the HTML report: its figures, plots and code."""

import math
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from plumbline.measuring.statistics import percentile, summarize
from plumbline.reporting import content, markup
from plumbline.reporting import format as form
from plumbline.reporting.markup import Content, Markup, tag
from plumbline.results.schema import Benchmark, Results

# More dots of a plot look like one.
_MOST_SAMPLES = 200
_MOST_LISTED = 20

# How verdicts look: a sign, and the verdicts that have it. The others are neutral.
_TONES = {
    "bad": ("✕", content.FAILING | {"failed"}),
    "unsure": ("!", {"inconclusive", "drift"}),
    "good": ("✓", {"pass", "improvement"}),
}

# Tolerance and minimum effect.
_Limits = tuple[float | None, float | None]
Entries = Sequence[Benchmark | None]


def tone(verdict: str) -> tuple[str, str]:
    """Return the colour and the sign of a verdict."""
    return next(((tone, sign) for tone, (sign, known) in _TONES.items() if verdict in known), ("neutral", "•"))


def entry(results: Results, benchmark: Benchmark, others: Entries, anchor: str, *, may_open: bool) -> Markup:
    """Return a benchmark as an element to open, which may be open if the benchmark fails the run.

    `others` are its entries in the baseline and in each earlier run.
    """
    baseline, *past = others
    verdict = content.verdict(benchmark) or "not judged"
    colour, mark = tone(verdict)
    file, test = form.file_and_name(benchmark.key)
    limits = _limits(results, benchmark)
    change = [_percent(value) for value in (benchmark.change, benchmark.change_low, benchmark.change_high, *limits)]
    summary = [
        tag("h3", markup.name(test)),
        tag("span", markup.sign(mark), verdict, class_=f"verdict {colour}"),
        *(tag("span", figure, class_="figures") for figure in content.line(benchmark).split(", ")),
        tag("span", markup.name(file), class_="quiet"),
    ]
    facts = [
        f"key {benchmark.key}",
        f"tolerance {_share(limits[0])}, minimum effect {_share(limits[1])}" if any(limits) else "",
        f"{benchmark.samples:,} samples of {benchmark.operations:,} operations" if benchmark.operations > 1 else "",
        f"was {benchmark.renamed_from}" if benchmark.renamed_from else "",
    ]
    return tag(
        "details",
        tag("summary", Markup(" ".join(summary))),
        tag("p", benchmark.description) if benchmark.description else None,
        markup.listed(content.remarks(replace(benchmark, functions=[]))),
        _functions(benchmark),
        _pairs(benchmark, limits),
        _distribution(benchmark, baseline),
        _times(benchmark, baseline),
        _trend(benchmark, past),
        _budgets(benchmark),
        _counts(benchmark, baseline),
        markup.folded("Code of the test", markup.verbatim(benchmark.source.splitlines())) if benchmark.source else None,
        tag("p", "; ".join(filter(None, facts)), class_="quiet"),
        id=anchor,
        open=may_open and verdict in content.FAILING,
        data_verdict=verdict,
        data_tone=colour,
        data_notable=content.is_notable(benchmark),
        data_key=benchmark.key,
        data_text=f"{benchmark.key} {benchmark.description}".lower(),
        data_percent=content.cells(benchmark)["change"],
        data_change=None if change[0] is None else markup.dumped(change),
    )


def _limits(results: Results, benchmark: Benchmark) -> _Limits:
    own, effect = benchmark.tolerance, benchmark.minimum_effect
    return results.tolerance if own is None else own, results.minimum_effect if effect is None else effect


def _functions(benchmark: Benchmark) -> Content:
    rows = [
        [
            f"{each.name} ({each.file}:{each.line})" if each.file else each.name,
            each.where or "test",
            f"+{form.duration(each.head_s - each.base_s)}",
            form.duration(each.base_s),
            form.duration(each.head_s),
            form.calls(each.base_calls),
            form.calls(each.head_calls),
        ]
        for each in benchmark.functions
    ]
    columns = ["function", "process", "more", "base", "head", "calls in base", "calls in head"]
    found = markup.table("Functions that got slower under a profiler: time per operation", columns, rows)
    note = "Your own functions include what they call, others do not. A profiler slows both sides down."
    return Markup(found + tag("p", note, class_="quiet")) if found else None


def _pairs(benchmark: Benchmark, limits: _Limits) -> Content:
    differences = [math.expm1(value) for value in _finite(benchmark.differences)]
    if not differences:
        return None
    texts = ", ".join(map(form.percent, differences[:_MOST_LISTED]))
    texts += " and so on" if len(differences) > _MOST_LISTED else ""
    caption = (
        f"The pairs of the comparison, head against base: {texts}. Line: the change, with its interval; the other "
        "band: from the tolerance to the minimum effect."
    )
    data = {
        "kind": "pairs",
        "differences": [_percent(value) for value in differences],
        "bounds": [_percent(value) for value in (benchmark.change, benchmark.change_low, benchmark.change_high)],
        "limits": [_percent(value) for value in limits],
    }
    return markup.plot("Pairs", caption, data)


def _distribution(benchmark: Benchmark, baseline: Benchmark | None) -> Content:
    medians = baseline.process_medians or [baseline.median] if baseline else []
    all_rows = {
        "baseline": medians,
        "base": benchmark.base_samples_s,
        "head": benchmark.head_samples_s,
        "this run": benchmark.samples_s,
    }
    rows = {row: sorted(known) for row, values in all_rows.items() if (known := _finite(values))}
    if not rows:
        return None
    limit = max(_end_of_plot(values) for values in rows.values())
    beyond = sum(value > limit for values in rows.values() for value in values)
    texts = ["the medians of the baseline's processes"] if "baseline" in rows else []
    texts += ["the samples of the last pair"] if "base" in rows or "head" in rows else []
    texts += ["the samples of this run"] if "this run" in rows else []
    caption = f"{markup.capitalised(', '.join(texts))}; thick: the middle half; tall: the median."
    if beyond:
        slowest = form.duration(max(values[-1] for values in rows.values()))
        caption += f" {beyond:,} beyond the right edge, up to {slowest}."
    dots = {row: [_us(value) for value in _thinned(values)] for row, values in rows.items()}
    return markup.plot("Distribution", caption, {"kind": "distribution", "rows": dots, "limit": _us(limit)})


def _times(benchmark: Benchmark, baseline: Benchmark | None) -> Content:
    columns = ["of", "n", "minimum", "median", "mean", "p95", "p99", "maximum", "rate"]
    rows = [_row("baseline", baseline)] if baseline else []
    for side, samples_s in (("base", benchmark.base_samples_s), ("head", benchmark.head_samples_s)):
        if known := _finite(samples_s):
            of = summarize(known)
            times = (of.minimum_s, of.median_s, of.mean_s, of.p95_s, of.p99_s, of.maximum_s)
            rows.append([side, f"{len(known):,}", *map(_time, times), form.rate(of.rate_per_s)])
    if content.now(benchmark) is not None:
        rows.append(_row("this run", benchmark))
    return markup.table("Times per operation", columns, rows)


def _row(heading: str, entry: Benchmark) -> list[str]:
    times = (entry.minimum, entry.median, entry.mean, entry.p95, entry.p99, entry.maximum)
    rate = form.rate(entry.rate_per_s) if _known(entry.rate_per_s) else ""
    return [heading, f"{entry.samples:,}", *map(_time, times), rate]


def _trend(benchmark: Benchmark, past: Entries) -> Content:
    entries = [*past, None if content.now(benchmark) is None else benchmark]
    earlier = [entry.median for entry in entries[:-1] if entry and _known(entry.median)]
    if not earlier:
        return None
    medians = [_us(entry.median) if entry and entry.median else None for entry in entries]
    tails = [_us(entry.p95) if entry and entry.p95 else None for entry in entries]
    low, high, last = (form.duration(value) for value in (min(earlier), max(earlier), earlier[-1]))
    caption = (
        f"Median in earlier runs ({len(earlier):,}): from {low} to {high}, the last {last}. Dotted: p95; dashed "
        "upright: another baseline; rings: runs of a baseline's commit."
    )
    limit = _end_of_plot(sorted(value for value in [*medians, *tails] if value))
    return markup.plot("History", caption, {"kind": "history", "medians": medians, "p95": tails, "limit": limit})


def _budgets(benchmark: Benchmark) -> Content:
    rows = [
        [form.budget(each), "not judged" if each.note else "kept" if each.kept else "broken", each.note]
        for each in benchmark.budgets
    ]
    columns = ["measured and limit", "verdict", "note"]
    return markup.table("Budgets", columns, rows, marked=[row[0] for row in rows if row[1] == "broken"])


def _counts(benchmark: Benchmark, baseline: Benchmark | None) -> Content:
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


def _known(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else 0.0


def _percent(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value * 100, 3)


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _time(seconds: float | None) -> str:
    return form.duration(time_s) if (time_s := _known(seconds)) else ""


def _share(value: float | None) -> str:
    return "unknown" if value is None else form.percent(value).lstrip("+")


def _us(seconds: float) -> float | None:
    return float(f"{seconds * 1e6:.4g}") if math.isfinite(seconds) else None


def _thinned(ordered: Sequence[float]) -> Sequence[float]:
    """Return some of many sorted values, evenly, with the least and the greatest."""
    if len(ordered) <= _MOST_SAMPLES:
        return ordered
    return [ordered[round(n * (len(ordered) - 1) / (_MOST_SAMPLES - 1))] for n in range(_MOST_SAMPLES)]


def _end_of_plot(ordered: Sequence[float]) -> float:
    """Return the upper end of a plot of sorted values that single outliers do not squeeze."""
    low, high = percentile(ordered, 5), percentile(ordered, 95)
    return min(ordered[-1], high + high - low)
