"""The results as one HTML file that needs no network; report.js draws its plots with Vega-Lite."""

import base64
import functools
import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path

import vl_convert

from plumbline.cache import digest, make_once, state_folder
from plumbline.measuring.statistics import Summary, percentile, summarize
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.results.files import rounded
from plumbline.results.schema import Benchmark, Results

_MOST_OPEN = 10  # benchmarks that fail the run; the others are a click away
_MOST_SAMPLES = 200  # a reader distinguishes no more dots of a plot
_MOST_NAME_CHARACTERS = 40
_WRAPPED_CHARACTERS = 40  # table cells with more may wrap
# The tones of verdicts; the others are neutral.
_TONES = {
    **dict.fromkeys(content.FAILING, "bad"),
    **dict.fromkeys(("inconclusive", "drift"), "unsure"),
    **dict.fromkeys(("pass", "improvement"), "good"),
}
_NOTICE = "/* Vega, Vega-Lite, vega-embed: University of Washington Interactive Data Lab, BSD 3-Clause License */\n"


class Markup(str):
    """HTML, which is not escaped again."""

    __slots__ = ()


def render(results: Results, baseline: Results | None, history: Sequence[Results]) -> str:
    """Return the page; `history` holds earlier runs, the oldest first."""
    title = f"{content.headline(results).capitalize()}: performance of {results.environment.commit[:7]}"
    every = [*history, results]
    runs = [[run.created, run.environment.commit, run.verdict or "", run.baseline_commit] for run in every]
    data = dumped([list(map(form.plain, run)) for run in runs]).replace("<", "\\u003c")
    failed = (
        tag("article", tag("h3", tag("bdi", test.key)), verbatim(form.first_lines(test.message, 20)))
        for test in content.failed_tests(results)
    )
    sections = [
        section("Failed tests", *failed),
        section("Notes", listed(content.notes(results))),
        _benchmarks(results, baseline, history),
        _environment(results),
        _history(history),
    ]
    allowed = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{allowed}'; style-src 'unsafe-inline'"
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}; base-uri 'none'; form-action 'none'\">"
        f"{tag('title', title)}<style>{style}</style></head><body>"
        '<a class="skip" href="#benchmarks">Skip to the benchmarks</a>'
        f"{_verdict(results)}{tag('main', *sections)}"
        f'<script type="application/json" id="runs">{data}</script><script>{script()}</script></body></html>\n'
    )


@functools.cache
def script() -> str:
    """Return report.js with Vega, Vega-Lite and vega-embed, from the cache if there is one: it takes two seconds."""
    source = Path(__file__).with_name("report.js").read_text(encoding="utf-8")

    def bundle() -> str:
        text = _NOTICE + str(vl_convert.javascript_bundle(source))
        # Without anything that would end its element.
        return text.replace("\r", "").replace("</script", "<\\/script").replace("<!--", "<\\!--")

    def write(folder: Path) -> None:
        (folder / "report.js").write_text(bundle(), encoding="utf-8")

    try:
        made = make_once(state_folder() / "vega", digest(version("vl-convert-python"), source), write)
        return (made / "report.js").read_text(encoding="utf-8")
    except OSError:
        return bundle()


def _verdict(results: Results) -> Markup:
    headline = content.headline(results)
    tone = "good" if content.all_well(results) else "bad" if results.exit_code else _TONES.get(headline)
    reasons = [content.reason_text(reason) for reason in results.reasons]
    step = content.next_step(results)
    recorded = f", recorded at {results.baseline_commit[:7]} on {results.baseline_created[:10]}"
    baseline = results.baseline.rpartition("/")[2] + (recorded if results.baseline_commit else "")
    compared = f"Compared with the baseline {baseline}."
    lines = [*reasons, f"{content.summary(results)}.", content.exit_line(results)]
    return tag(
        "header",
        tag("h1", headline.capitalize(), class_=tone or "neutral"),
        *(tag("p", line) for line in lines if line),
        tag("p", "Next: ", tag("code", step[0]), f" {step[1]}.") if step else "",
        tag("p", compared if content.compared(results) else "There is no baseline to compare with.", class_="quiet"),
        tag("p", f"Compared in pairs with {results.base}.", class_="quiet") if results.base else "",
    )


def _benchmarks(results: Results, baseline: Results | None, history: Sequence[Results]) -> Markup:
    if not results.benchmarks:
        return section("Benchmarks", tag("p", "Nothing was measured."), id="benchmarks")
    runs = [{one.key: one for one in run.benchmarks} if run else {} for run in [baseline, *history]]
    entries = []
    for number, benchmark in enumerate(content.by_urgency(results.benchmarks)):
        others = [run.get(benchmark.key) or run.get(benchmark.renamed_from) for run in runs]
        entries.append(_benchmark(results, number, benchmark, others))
    against = "the base, if it was compared in pairs, otherwise the baseline" if results.base else "the baseline"
    legend = (
        f"Change of the median against {against}, with its interval; right is slower. The shaded band reaches from the "
        "tolerance to the minimum effect: a regression lies right of its left edge, a pass left of its right "
        "edge. More than 60 % is drawn at the edge. The list below has the same figures."
    )
    counts = Counter(content.verdict(benchmark) or "not judged" for benchmark in results.benchmarks)
    options = [
        ("", "all", len(results.benchmarks)),
        ("notable", "needs attention", sum(map(content.is_notable, results.benchmarks))),
        *((verdict, verdict, count) for verdict, count in counts.most_common()),
    ]
    choices = (tag("option", f"{text} ({count:,})", value=value) for value, text, count in options if count)
    changes = Markup(
        '<form role="search"><label>Search <input type="search" id="search" placeholder="name, file or description">'
        f'</label><label>Verdict <select id="verdict">{"".join(choices)}</select></label>'
        '<button type="button" id="unfold">Open all</button><output id="shown" role="status"></output></form>'
        f'<p class="quiet">{legend}</p><div id="forest"></div>'
        "<noscript><p>Plots, search and filter need JavaScript; all figures are in the tables.</p></noscript>"
    )
    found = tag("section", tag("h2", "Benchmarks"), *entries, id="benchmarks", tabindex="-1", aria_label="Benchmarks")
    return Markup(section("Changes", changes) + found)


def _environment(results: Results) -> Markup:
    packages = sorted(results.environment.packages.items())
    columns = ["property", "this run"]
    return section(
        "Environment",
        listed(results.service_lines),
        listed(results.baseline_differences, "Differences from the baseline"),
        listed(results.base_differences, "Differences from the base"),
        table("Machine, services and commit", columns, list(content.environment(results).items())),
        folded(f"Packages ({len(packages):,})", table("Packages", columns, packages)),
    )


def _history(history: Sequence[Results]) -> Markup:
    columns = ["run", "commit", "verdict", "baseline recorded at", "benchmarks"]
    rows = []
    for run in reversed(history):
        commits = run.environment.commit[:7], run.baseline_commit[:7]
        rows.append([run.created, commits[0], run.verdict or "", commits[1], f"{len(run.benchmarks):,}"])
    found = folded(f"Earlier runs ({len(rows):,})", table("Earlier runs, newest first", columns, rows))
    return section("History", found or tag("p", "There are no earlier runs."))


def _benchmark(results: Results, number: int, benchmark: Benchmark, others: Sequence[Benchmark | None]) -> Markup:
    """Return a benchmark as an element to open; `others` are its entries in the baseline and in each earlier run."""
    baseline, *past = others
    verdict = content.verdict(benchmark) or "not judged"
    tone = _TONES.get(verdict, "neutral")
    file, test = form.file_and_name(benchmark.key)
    cells = content.cells(benchmark)
    tolerance = results.tolerance if benchmark.tolerance is None else benchmark.tolerance
    effect = results.minimum_effect if benchmark.minimum_effect is None else benchmark.minimum_effect
    shares = (benchmark.change, benchmark.change_low, benchmark.change_high, tolerance, effect)
    percents = [None if share is None else share * 100 for share in shares]
    changes = dict(zip(("change", "low", "high", "tolerance", "effect"), percents, strict=True))
    name = form.shortened(test.removeprefix("test_"), _MOST_NAME_CHARACTERS)
    label = cells["change"] if tone == "good" else f"{cells['change']} {verdict}"
    row = {"key": benchmark.key, "name": name, "label": label, "interval": cells["interval"]}
    limits = [form.percent(limit).lstrip("+") for limit in (tolerance, effect)]
    facts = [
        f"key {benchmark.key}",
        f"tolerance {limits[0]}, minimum effect {limits[1]}" if any(limits) else "",
        f"{benchmark.samples:,} samples of {benchmark.operations:,} operations" if benchmark.operations > 1 else "",
        f"was {benchmark.renamed_from}" if benchmark.renamed_from else "",
        *(f"budget kept: {form.budget(each)}" for each in benchmark.budgets if each.kept and not each.note),
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
        listed(content.remarks(benchmark, most_functions=len(benchmark.functions))),
        _pairs(benchmark, changes),
        _distribution(benchmark, baseline),
        _times(benchmark, baseline),
        _trend(benchmark, past),
        _counts(benchmark, baseline),
        folded("Code of the test", verbatim(benchmark.source.splitlines())) if benchmark.source else "",
        tag("p", "; ".join(filter(None, facts)), class_="quiet"),
        id=f"b{number}",
        open=number < _MOST_OPEN and verdict in content.FAILING,
        data_verdict=verdict,
        data_notable=content.is_notable(benchmark),
        data_text=f"{benchmark.key} {benchmark.description}".lower(),
        data_row=None if benchmark.change is None else dumped(row | {"verdict": verdict, "tone": tone} | changes),
    )


def _pairs(benchmark: Benchmark, changes: dict[str, float | None]) -> Markup:
    differences = [math.expm1(value) for value in benchmark.differences]
    if not differences:
        return Markup()
    caption = (
        f"The pairs of the comparison, head against base: {', '.join(map(form.percent, differences))}. Line: the "
        "change, with its interval; the other band: from the tolerance to the minimum effect."
    )
    data = {"kind": "pairs", "differences": [value * 100 for value in differences], **changes}
    return plot("Pairs", caption, data)


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
    caption = (
        "The medians of the baseline's processes, and the samples of the last pair and of this run, as far as there "
        "are any; thick: the middle half; tall: the median."
    )
    if beyond := sum(value > limit for values in rows.values() for value in values):
        slowest = form.duration(max(values[-1] for values in rows.values()))
        caption += f" {beyond:,} beyond the right edge, up to {slowest}."
    # Evenly fewer of many, with the least and the greatest.
    dots = {side: [*values[: -1 : len(values) // _MOST_SAMPLES + 1], values[-1]] for side, values in rows.items()}
    return plot("Distribution", caption, {"kind": "distribution", "rows": dots, "limit": limit})


def _times(benchmark: Benchmark, baseline: Benchmark | None) -> Markup:
    columns = ["minimum", "median", "mean", "p95", "p99", "maximum"]

    def row(name: str, samples: int, of: Benchmark | Summary, suffix: str = "") -> list[str]:
        times = [form.duration(getattr(of, column + suffix) or None) for column in columns]
        return [name, f"{samples:,}", *times, form.rate(of.rate_per_s) if of.rate_per_s else ""]

    rows = [row("baseline", baseline.samples, baseline)] if baseline else []
    for side, samples_s in (("base", benchmark.base_samples_s), ("head", benchmark.head_samples_s)):
        if samples_s:
            rows.append(row(side, len(samples_s), summarize(samples_s), suffix="_s"))
    if content.now(benchmark):
        rows.append(row("this run", benchmark.samples, benchmark))
    return table("Times per operation", ["of", "n", *columns, "rate"], rows)


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
    return plot("History", caption, {"kind": "history", "medians": medians, "p95": p95, "limit": limit})


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
    return table("Counts per operation", ["count", "baseline", "this run", "change"], rows, marked=marked)


def _end_of_plot(ordered: list[float]) -> float:
    """Return the upper end of a plot of sorted values that single outliers do not squeeze."""
    low, high = percentile(ordered, 5), percentile(ordered, 95)
    return min(ordered[-1], high + high - low)


# The parts of the page: each is empty without content.


def tag(name: str, /, *children: str, **attributes: str | bool | None) -> Markup:
    """Return an element with its text escaped; None or False leave an attribute out."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_escaped(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    inner = "".join(child if isinstance(child, Markup) else _escaped(child) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>")


def _escaped(text: str) -> str:
    return escape(form.isolated(form.plain(text)))


def verbatim(lines: Iterable[str]) -> Markup:
    text = "\n".join(escape(form.plain(line.expandtabs())) for line in lines)
    return Markup(f'<pre tabindex="0">{text}</pre>')


def section(title: str, *children: str, id: str | None = None) -> Markup:  # noqa: A002
    return tag("section", tag("h2", title), *children, id=id) if any(children) else Markup()


def folded(title: str, child: str) -> Markup:
    return tag("details", tag("summary", title), child) if child else Markup()


def listed(texts: Sequence[str], title: str = "") -> Markup:
    items = tag("ul", *(tag("li", text) for text in texts)) if texts else Markup()
    return Markup(tag("h3", title) + items) if title and texts else items


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], marked: Collection[str] = ()) -> Markup:
    """Return a table whose rows begin with their heading; the rows of `marked` stand out."""
    if not rows:
        return Markup()
    head = tag("tr", *(tag("th", column, scope="col") for column in columns))
    body = [
        tag(
            "tr",
            tag("th", heading, scope="row"),
            *(tag("td", cell, class_="text" if len(cell) > _WRAPPED_CHARACTERS else None) for cell in cells),
            class_="marked" if heading in marked else None,
        )
        for heading, *cells in rows
    ]
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="wide", tabindex="0", role="group", aria_label=caption)


def plot(title: str, caption: str, data: Mapping[str, object]) -> Markup:
    """Return a figure for report.js to draw when it comes into view."""
    place = tag("div", class_="plot", role="img", aria_label=f"{title}. {caption}", data_plot=dumped(data))
    return tag("figure", tag("figcaption", tag("strong", title), ": ", caption), place)


def dumped(value: object) -> str:
    """Return JSON with figures of four digits: no plot shows more."""
    return json.dumps(rounded(value, digits=4), separators=(",", ":"))
