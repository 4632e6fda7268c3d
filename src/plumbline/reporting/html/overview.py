"""The table of all benchmarks, which report.js makes sortable."""

from collections import Counter
from collections.abc import Sequence

from plumbline.judging.counts import grown_counts
from plumbline.judging.explaining import explaining, growth, most_telling_first
from plumbline.reporting import content
from plumbline.reporting.html.elements import Markup, dumped, escaped, listed, tag, tone, verdict_of
from plumbline.reporting.html.intervals import Intervals
from plumbline.results.schema import Benchmark, Results

_LEAST_TO_SEARCH = 6  # benchmarks: fewer are seen at once
_MOST_COUNTS = 1  # beside a name; the details have all


def overview(results: Results) -> Markup:
    """Return the table, the worst benchmarks first; each name links to the details."""
    benchmarks = content.by_urgency(results.benchmarks)
    short = content.names(benchmarks)
    cells = [_cells(one, rank) for rank, one in enumerate(benchmarks)]
    columns = [column for column in cells[0] if any(row[column][0] for row in cells)]
    plots = Intervals(results, benchmarks)
    head = [_heading("benchmark", "name", None), *(_heading(name, name, _CLASSES.get(name)) for name in columns)]
    if plots.shown:
        head.insert(-1, tag("th", plots.axis(), scope="col", class_="plotted", aria_label="change, plotted"))
    rows = []
    for number, benchmark in enumerate(benchmarks):
        row = [_name_cell(number, benchmark, short[benchmark.key])]
        row += [_cell(column, *cells[number][column]) for column in columns]
        if plots.shown:
            row.insert(-1, tag("td", plots.row(benchmark), class_="plotted"))
        rows.append(
            tag(
                "tr",
                *row,
                data_row=f"b{number}",
                data_verdict=verdict_of(benchmark),
                data_notable=content.is_notable(benchmark),
                data_text=f"{benchmark.key} {benchmark.description}".lower(),
            )
        )
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows), id="overview")
    said = content.before_text(results)
    legend = tag("p", f"{said[:1].upper()}{said[1:]}.", class_="quiet") if said else ""
    legend += tag("p", plots.legend, class_="quiet") if plots.shown else ""
    return tag("div", _search(benchmarks), tag("div", table, class_="wide"), Markup(legend))


_CLASSES = {
    **dict.fromkeys(("before", "median", "mean", "p95", "p99", "rate", "change"), "figure"),
    "verdict": "verdicts",
}


def _cells(benchmark: Benchmark, rank: int) -> dict[str, tuple[str, float | None]]:
    """Return the text of each cell with the figure that it is sorted by."""
    texts, figures, verdict = content.cells(benchmark), content.figures(benchmark), verdict_of(benchmark)
    times = {name: (texts[name], getattr(figures, name)) for name in ("before", "median", "mean", "p95", "p99")}
    interval = tag("small", texts["interval"]) if texts["interval"] else ""
    return {
        **times,
        "rate": (texts["rate"], figures.rate_per_s),
        "change": (
            Markup(escaped(texts["change"]) + interval),
            benchmark.change if content.is_evidence(benchmark) else None,
        ),
        "verdict": (tag("span", verdict, class_=f"verdict {tone(verdict)}"), rank),
    }


def _heading(text: str, by: str, class_: str | None) -> Markup:
    return tag("th", text, scope="col", class_=class_, data_sort=by)


def _name_cell(number: int, benchmark: Benchmark, name: str) -> Markup:
    grown = grown_counts(benchmark)
    others = [change for change in benchmark.count_changes if change not in grown]
    changes = most_telling_first([*explaining(grown), *explaining(others)])
    texts = [content.count_text(growth(change)) for change in changes[:_MOST_COUNTS]]
    if len(changes) > _MOST_COUNTS:
        texts.append(f"and {len(changes) - _MOST_COUNTS} more")
    link = tag("a", tag("bdi", name), href=f"#b{number}")
    return tag("th", link, listed(texts), scope="row", data_value=name)


def _cell(column: str, text: str, value: float | None) -> Markup:
    attributes = {"class_": _CLASSES[column], "data_label": column}
    return tag("td", text, data_value=None if value is None else dumped(value), **attributes)


def _search(benchmarks: Sequence[Benchmark]) -> Markup:
    """Return the search and the filter, each if there is something to choose from; report.js shows them."""
    counts = Counter(map(verdict_of, benchmarks))
    options = [
        ("", "all", len(benchmarks)),
        ("notable", "needs attention", sum(map(content.is_notable, benchmarks))),
        *((verdict, verdict, count) for verdict, count in counts.most_common()),
    ]
    if len(benchmarks) < _LEAST_TO_SEARCH:
        return Markup()
    choices = "".join(tag("option", f"{text} ({count:,})", value=value) for value, text, count in options if count)
    select = f'<label>Verdict <select id="verdict">{choices}</select></label>' if len(counts) > 1 else ""
    return Markup(
        '<form role="search" hidden><label>Search <input type="search" id="search" '
        f'placeholder="name, file or description"></label>{select}<output id="shown" role="status"></output></form>'
    )
