"""The results as one HTML file that needs no network: pure functions of `Results`; plots are drawn by report.js."""

import base64
import functools
import hashlib
import html
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from plumbline.judging.counts import group_changes
from plumbline.measuring.statistics import percentile, summarize
from plumbline.reporting import format as form
from plumbline.reporting.vega import library
from plumbline.results.schema import Benchmark, Results

_SAMPLES_SHOWN = 200
"""Dots of a plot at most; more can't be told apart."""

_LONG = 40
"""Cells of a table with more characters than this may take several lines."""

_MOST_OPEN = 10
"""Of the benchmarks that fail the run; the others are a key or a click away."""

_NEVER_THE_SAME = {"commit", "recorded", "profile"}
"""Of a run's surroundings: said, but not marked as other than the baseline's."""

_TONES = {
    "bad": ("✕", {"regression", "over budget", "invalid", "missing", "failed"}),
    "unsure": ("!", {"inconclusive", "drift"}),
    "good": ("✓", {"pass", "improvement"}),
}
"""How verdicts look: a sign, and the verdicts that have it; the others are neutral."""


class Markup(str):
    """HTML, which is not escaped again."""

    __slots__ = ()


Content = str | None


@dataclass(frozen=True)
class _Past:
    """What is known of a benchmark from other runs."""

    baseline: Benchmark | None
    entries: Sequence[Benchmark | None]
    """One for each earlier run."""


def render(results: Results, baseline: Results | None, history: Sequence[Results]) -> str:
    """The page; `history` holds earlier runs, the oldest first."""
    old = {entry.key: entry for entry in baseline.benchmarks} if baseline else {}
    earlier = [{entry.key: entry for entry in run.benchmarks} for run in history]

    def past(benchmark: Benchmark) -> _Past:
        keys = [key for key in (benchmark.key, benchmark.renamed_from) if key]
        entries = [next((run[key] for key in keys if key in run), None) for run in earlier]
        return _Past(next((old[key] for key in keys if key in old), None), entries)

    ordered = sorted(results.benchmarks, key=lambda b: (*form.urgency(b)[:2], -_known(b.change, -math.inf)))
    entries = [_benchmark(results, b, past(b), f"b{n}", may_open=n < _MOST_OPEN) for n, b in enumerate(ordered)]
    sections = [
        _failed_tests(results),
        _notes(results),
        _benchmarks(results, entries),
        _environment(results, baseline),
        _history(results, history),
    ]
    title = f"{_capitalised(form.headline(results))}: performance of {results.environment.commit[:7]}"
    return _document(title, [_verdict(results), tag("main", *sections), _json("runs", _run_labels(results, history))])


# The page


def _document(title: str, body: Iterable[Content]) -> str:
    scripts = [_inert(library()), _inert(_file("report.js"))]
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", title),
        tag("style", Markup(_file("report.css"))),
    )
    skip = tag("a", "Skip to the benchmarks", class_="skip", href="#benchmarks")
    page = tag("body", skip, *body, *(tag("script", Markup(script)) for script in scripts))
    return f"<!doctype html>\n{tag('html', head, page, lang='en')}\n"


@functools.cache
def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _inert(script: str) -> str:
    """A script without anything that would end its element."""
    return script.replace("\r", "").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _verdict(results: Results) -> Markup:
    headline = form.headline(results)
    tone, sign = ("good", "✓") if form.all_well(results) else _tone(headline)
    if results.exit_code and tone != "bad":
        tone, sign = "bad", "✕"
    step = form.next_step(results)
    meaning = form.EXIT_CODES.get(results.exit_code or 0, "unknown")
    compared = f"Compared with the baseline {results.baseline.rpartition('/')[2]}{_recorded(results)}."
    return tag(
        "header",
        tag("h1", _sign(sign), _capitalised(headline), class_=tone),
        *(tag("p", reason, class_="reason" if number == 0 else None) for number, reason in enumerate(results.reasons)),
        tag("p", f"{form.summary(results)}."),
        tag("p", f"Exit code {results.exit_code}: {meaning}.") if results.exit_code is not None else None,
        tag("p", "Next: ", tag("code", step[0]), f" {step[1]}.") if step else None,
        tag("p", compared if form.compared(results) else "There is no baseline to compare with.", class_="quiet"),
        tag("p", f"Compared in pairs with {results.base}.", class_="quiet") if results.base else None,
    )


def _recorded(results: Results) -> str:
    commit = f" at {results.baseline_commit[:7]}" if results.baseline_commit else ""
    day = f" on {results.baseline_created[:10]}" if results.baseline_created else ""
    return f", recorded{commit}{day}" if commit or day else ""


def _failed_tests(results: Results) -> Content:
    failed = [test for test in results.tests if test.outcome == "failed"]
    return _section("Failed tests", *(_block(test.key, form.first_lines(test.message, 20)) for test in failed))


def _block(title: str, lines: list[str]) -> Markup:
    return tag("article", tag("h3", _name(title)), _verbatim(lines))


def _notes(results: Results) -> Content:
    return _section("Notes", _list([*group_changes(results.benchmarks, gated=False), *results.notes]))


def _benchmarks(results: Results, entries: list[Markup]) -> Content:
    if not entries:
        return _section("Benchmarks", tag("p", "Nothing was measured."), id="benchmarks")
    verdicts = Counter(form.verdict(benchmark) or "not judged" for benchmark in results.benchmarks)
    eyes = sum(map(form.needs_eyes, results.benchmarks))
    options = [("", "all", len(entries)), ("eyes", "needs a look", eyes)]
    options += [(verdict, verdict, count) for verdict, count in verdicts.most_common()]
    choices = (tag("option", f"{text} ({count:,})", value=value) for value, text, count in options if count)
    search = tag("input", type="search", id="search", autocomplete="off", placeholder="name, file or description")
    against = "the base, where it was compared in pairs, else the baseline" if results.base else "the baseline"
    return Markup(
        tag(
            "section",
            tag("h2", "Changes"),
            tag(
                "form",
                tag("label", "Search ", search),
                tag("label", "Verdict ", tag("select", *choices, id="verdict")),
                tag("button", "Open all", type="button", id="unfold"),
                tag("output", id="shown", role="status"),
                role="search",
            ),
            tag(
                "p",
                f"Change of the median against {against}, with its interval; right is slower. The shaded band reaches "
                "from the tolerance to the minimum effect: a regression lies right of where the band begins, a pass "
                "left of where it ends. More than 60 % is drawn at the edge. The list below has the same figures.",
                class_="quiet",
            ),
            tag("div", id="forest"),
            tag("noscript", tag("p", "Plots, search and filter need JavaScript; all figures are in the tables.")),
        )
        + tag("section", tag("h2", "Benchmarks"), *entries, id="benchmarks", tabindex="-1", aria_label="Benchmarks")
    )


def _environment(results: Results, baseline: Results | None) -> Content:
    packages = dict(sorted(results.environment.packages.items()))
    old = baseline.environment.packages if baseline else {}
    return _section(
        "Environment",
        _list(results.service_lines),
        _titled("What differs from the baseline", _list(results.baseline_differences)),
        _titled("What differs from the base", _list(results.base_differences)),
        _beside("What was measured where", _surroundings(results), _surroundings(baseline) if baseline else {}),
        _folded(f"Packages ({len(packages | old):,})", _beside("Packages", packages, old)),
    )


def _beside(caption: str, now: Mapping[str, str], then: Mapping[str, str]) -> Content:
    """A table of what is known of this run and, if anything, of the baseline."""
    names = [name for name in {**now, **then} if now.get(name) or then.get(name)]
    rows = [[name, now.get(name, ""), *([then.get(name, "")] if then else [])] for name in names]
    marked = {name for name in names if then and now.get(name) != then.get(name)} - _NEVER_THE_SAME
    return _table(caption, ["what", "this run", *(["baseline"] if then else [])], rows, marked=marked)


def _surroundings(results: Results) -> dict[str, str]:
    known = results.environment
    services = {name: f"{backend} {known.versions.get(name, '')}" for name, backend in sorted(known.services.items())}
    return {
        "machine": f"{known.machine}, {known.cpu_count} cores, {known.cpu}",
        "system": f"{known.system} {known.kernel}, {known.architecture}",
        "Python": known.python,
        "core": "any" if known.pin is None else f"pinned to {known.pin}",
        **services,
        "commit": known.commit + (", with uncommitted changes" if known.dirty else ""),
        "recorded": results.created,
        "profile": results.profile,
    }


def _history(results: Results, history: Sequence[Results]) -> Content:
    if not history:
        return _section("History", tag("p", "There are no earlier runs."))
    recorded_at = {run.baseline_commit for run in [*history, results]} - {""}
    rows = [
        [
            run.created,
            run.environment.commit[:7] + (", a baseline's" if run.environment.commit in recorded_at else ""),
            run.verdict or "",
            run.baseline_commit[:7],
            f"{len(run.benchmarks):,}",
        ]
        for run in reversed(history)
    ]
    columns = ["run", "commit", "verdict", "baseline recorded at", "benchmarks"]
    return _section(
        "History", _folded(f"Earlier runs ({len(rows):,})", _table("Earlier runs, newest first", columns, rows))
    )


def _run_labels(results: Results, history: Sequence[Results]) -> list[list[str]]:
    """Of each run, this one last: when, commit, verdict, the baseline's commit."""
    return [
        [form.plain(text) for text in (run.created, run.environment.commit, run.verdict or "", run.baseline_commit)]
        for run in [*history, results]
    ]


# One benchmark


def _benchmark(results: Results, benchmark: Benchmark, past: _Past, anchor: str, *, may_open: bool) -> Markup:
    verdict = form.verdict(benchmark) or "not judged"
    tone, sign = _tone(verdict)
    file, name = form.file_and_name(benchmark.key)
    limits = _limits(results, benchmark)
    change = [benchmark.change, benchmark.change_low, benchmark.change_high, *limits]
    summary = [
        tag("h3", _name(name)),
        tag("span", _sign(sign), verdict, class_=f"verdict {tone}"),
        *(tag("span", figure, class_="figures") for figure in form.figures(benchmark).split(", ")),
        tag("span", _name(file), class_="quiet"),
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
        _list(form.remarks(structs.replace(benchmark, functions=[]))),
        _functions(benchmark),
        _pairs(benchmark, limits),
        _distribution(benchmark, past.baseline),
        _times(benchmark, past.baseline),
        _trend(benchmark, past),
        _budgets(benchmark),
        _counts(benchmark, past.baseline),
        _folded("Code of the test", _verbatim(benchmark.source.splitlines())) if benchmark.source else None,
        tag("p", "; ".join(filter(None, facts)), class_="quiet"),
        id=anchor,
        open=may_open and verdict in form.FAILING,
        data_verdict=verdict,
        data_tone=tone,
        data_eyes=form.needs_eyes(benchmark),
        data_key=benchmark.key,
        data_text=f"{benchmark.key} {benchmark.description}".lower(),
        data_percent=form.COLUMNS["change"](benchmark),
        data_change=None if _percent(benchmark.change) is None else _dumped([_percent(value) for value in change]),
    )


def _limits(results: Results, benchmark: Benchmark) -> tuple[float | None, float | None]:
    """Tolerance and minimum effect that it was judged by."""
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
    table = _table("What got slower, by a profiler: time per operation", columns, rows)
    note = "Your own functions count with what they call, all others without. A profiler makes both sides slower."
    return Markup(table + tag("p", note, class_="quiet")) if table else None


def _pairs(benchmark: Benchmark, limits: tuple[float | None, float | None]) -> Content:
    differences = [math.expm1(value) for value in benchmark.differences if math.isfinite(value)]
    if not differences:
        return None
    listed = ", ".join(map(form.percent, differences[:20])) + (" and so on" if len(differences) > 20 else "")
    data = {
        "kind": "pairs",
        "differences": [_percent(value) for value in differences],
        "bounds": [_percent(value) for value in (benchmark.change, benchmark.change_low, benchmark.change_high)],
        "limits": [_percent(value) for value in limits],
    }
    caption = f"The pairs of the comparison, head against base: {listed}. "
    caption += "Line: the change, with its interval; the other band: from the tolerance to the minimum effect."
    return _figure("Pairs", caption, data)


def _distribution(benchmark: Benchmark, baseline: Benchmark | None) -> Content:
    medians = baseline.process_medians or [baseline.median] if baseline else []
    named = {
        "baseline": _finite(medians),
        "base": _finite(benchmark.base_samples_s),
        "head": _finite(benchmark.head_samples_s),
        "this run": _finite(benchmark.samples_s),
    }
    rows = {name: sorted(values) for name, values in named.items() if values}
    if not rows:
        return None
    limit = max(_end_of_plot(values) for values in rows.values())
    beyond = sum(value > limit for values in rows.values() for value in values)
    data = {"kind": "distribution", "rows": {name: [_us(v) for v in _thinned(rows[name])] for name in rows}}
    said = ["the medians of the baseline's processes"] if "baseline" in rows else []
    said += ["the samples of the last pair"] if "base" in rows or "head" in rows else []
    said += ["the samples of this run"] if "this run" in rows else []
    caption = f"{_capitalised(', '.join(said))}; thick: the middle half; tall: the median."
    if beyond:
        slowest = form.duration(max(values[-1] for values in rows.values()))
        caption += f" {beyond:,} beyond the right edge, up to {slowest}."
    return _figure("Distribution", caption, {**data, "limit": _us(limit)})


def _times(benchmark: Benchmark, baseline: Benchmark | None) -> Content:
    columns = ["of", "n", "minimum", "median", "mean", "p95", "p99", "maximum", "rate"]
    rows = [_row("baseline", baseline)] if baseline else []
    for name, samples_s in (("base", benchmark.base_samples_s), ("head", benchmark.head_samples_s)):
        if known := _finite(samples_s):
            summary = summarize(known)
            times = (summary.minimum_s, summary.median_s, summary.mean_s, summary.p95_s, summary.p99_s)
            cells = [_time(value) for value in (*times, summary.maximum_s)]
            rows.append([name, f"{len(known):,}", *cells, form.rate(summary.rate_per_s)])
    if form.now(benchmark) is not None:
        rows.append(_row("this run", benchmark))
    return _table("Times per operation", columns, rows)


def _row(name: str, entry: Benchmark) -> list[str]:
    times = (entry.minimum, entry.median, entry.mean, entry.p95, entry.p99, entry.maximum)
    rate = form.rate(entry.rate_per_s) if _known(entry.rate_per_s) else ""
    return [name, f"{entry.samples:,}", *map(_time, times), rate]


def _trend(benchmark: Benchmark, past: _Past) -> Content:
    entries = [*past.entries, None if form.now(benchmark) is None else benchmark]
    medians = [_us(entry.median) if entry and entry.median else None for entry in entries]
    known = [entry.median for entry in entries[:-1] if entry and _known(entry.median)]
    if not known:
        return None
    caption = (
        f"Median in earlier runs ({len(known):,}): from {form.duration(min(known))} to {form.duration(max(known))}, "
        f"the last {form.duration(known[-1])}. Dotted: p95; dashed upright: another baseline; "
        "rings: runs of a baseline's commit."
    )
    tails = [_us(entry.p95) if entry and entry.p95 else None for entry in entries]
    limit = _end_of_plot(sorted(value for value in [*medians, *tails] if value))
    return _figure("History", caption, {"kind": "history", "medians": medians, "p95": tails, "limit": limit})


def _budgets(benchmark: Benchmark) -> Content:
    rows = [
        [form.budget(each), "not judged" if each.note else "kept" if each.kept else "broken", each.note]
        for each in benchmark.budgets
    ]
    return _table(
        "Budgets",
        ["measured and limit", "verdict", "note"],
        rows,
        marked=[row[0] for row in rows if row[1] == "broken"],
    )


def _counts(benchmark: Benchmark, baseline: Benchmark | None) -> Content:
    before, changes = baseline.counts if baseline else {}, {each.name: each for each in benchmark.count_changes}
    varying = {name: f"{min(each):g} to {max(each):g}" for name, each in benchmark.counts_varying.items() if each}
    rows = []
    for name in sorted(benchmark.counts.keys() | before.keys() | changes.keys() | varying.keys()):
        change = changes.get(name)
        old, new = (change.old, change.new) if change else (before.get(name), benchmark.counts.get(name))
        texts = ["" if value is None else f"{value:,.6g}" for value in (old, new)]
        said = "held against it" if change and change.gated else "told alone" if change else ""
        rows.append([name, texts[0], varying.get(name, texts[1]), "varies: not judged" if name in varying else said])
    marked = [name for name, change in changes.items() if change.gated]
    return _table("Counts per operation", ["count", "baseline", "this run", "change"], rows, marked=marked)


# Parts of HTML


def tag(name: str, /, *children: Content, **attributes: str | bool | None) -> Markup:
    """An element; text in it is escaped, and None or False leaves a child or an attribute out."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_escaped(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in ("meta", "input"):
        return Markup(f"<{name}{written}>")
    inner = "".join(child if isinstance(child, Markup) else _escaped(child) for child in children if child is not None)
    return Markup(f"<{name}{written}>{inner}</{name}>")


def _escaped(text: str) -> str:
    return html.escape(form.isolated(form.plain(text)))


def _name(text: str) -> Markup:
    """A name in any script, which doesn't reorder what stands beside it."""
    return tag("bdi", text)


def _verbatim(lines: Iterable[str]) -> Markup:
    text = "\n".join(html.escape(form.plain(line.expandtabs())) for line in lines)
    return Markup(f'<pre tabindex="0">{text}</pre>')


def _section(title: str, *children: Content, id: str | None = None) -> Content:  # noqa: A002
    kept = [child for child in children if child]
    return tag("section", tag("h2", title), *kept, id=id) if kept else None


def _titled(title: str, child: Content) -> Content:
    return Markup(tag("h3", title) + child) if child else None


def _folded(title: str, child: Content) -> Content:
    return tag("details", tag("summary", title), child) if child else None


def _list(texts: Sequence[str]) -> Content:
    return tag("ul", *(tag("li", text) for text in texts)) if texts else None


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], marked: Iterable[str] = ()) -> Content:
    """A table whose rows begin with their heading; those of `marked` are said to differ."""
    loud = set(marked)
    body = [
        tag(
            "tr",
            tag("th", _sign("!") if row[0] in loud else None, row[0], scope="row"),
            *(tag("td", cell, class_="text" if len(cell) > _LONG else None) for cell in row[1:]),
            class_="marked" if row[0] in loud else None,
        )
        for row in rows
    ]
    if not body:
        return None
    head = tag("tr", *(tag("th", column, scope="col") for column in columns))
    table = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", table, class_="wide", tabindex="0", role="group", aria_label=caption)


def _figure(title: str, caption: str, data: Mapping[str, object]) -> Markup:
    """A plot for report.js to draw when it comes into view."""
    plot = tag("div", class_="plot", role="img", aria_label=f"{title}. {caption}", data_plot=_dumped(data))
    return tag("figure", tag("figcaption", tag("strong", title), ": ", caption), plot)


def _json(name: str, value: object) -> Markup:
    text = _dumped(value).replace("<", "\\u003c")
    return Markup(f'<script type="application/json" id="{name}">{text}</script>')


def _dumped(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _sign(sign: str) -> Content:
    return tag("span", sign, class_="sign", aria_hidden="true") if sign else None


# Values


def _tone(verdict: str) -> tuple[str, str]:
    return next(((tone, sign) for tone, (sign, verdicts) in _TONES.items() if verdict in verdicts), ("neutral", "•"))


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _known(value: float | None, otherwise: float = 0.0) -> float:
    return otherwise if value is None or not math.isfinite(value) else value


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _time(seconds: float | None) -> str:
    return form.duration(known) if (known := _known(seconds)) else ""


def _share(value: float | None) -> str:
    return "unknown" if value is None else form.percent(value).lstrip("+")


def _percent(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value * 100, 3)


def _us(seconds: float) -> float | None:
    return float(f"{seconds * 1e6:.4g}") if math.isfinite(seconds) else None


def _thinned(ordered: Sequence[float]) -> list[float]:
    """Some of many sorted values, evenly, the least and the greatest among them."""
    if len(ordered) <= _SAMPLES_SHOWN:
        return list(ordered)
    return [ordered[round(n * (len(ordered) - 1) / (_SAMPLES_SHOWN - 1))] for n in range(_SAMPLES_SHOWN)]


def _end_of_plot(ordered: Sequence[float]) -> float:
    """Where the plot of sorted values ends, so that single ones far out don't squeeze the others."""
    low, high = percentile(ordered, 5), percentile(ordered, 95)
    return min(ordered[-1], high + high - low)
