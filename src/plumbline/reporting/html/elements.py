"""The elements of the page, with their text escaped: each is empty without content."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape

from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.results.files import rounded
from plumbline.results.schema import Benchmark

_WRAPPED_CHARACTERS = 40  # table cells with more may wrap
# By verdict; the others are neutral.
_TONES = {
    **dict.fromkeys(content.FAILING, "bad"),
    **dict.fromkeys(("inconclusive", "drift"), "unsure"),
    **dict.fromkeys(("pass", "improvement"), "good"),
}


class Markup(str):
    """HTML, which is not escaped again."""

    __slots__ = ()


def tone(verdict: str) -> str:
    return _TONES.get(verdict, "neutral")


def verdict_of(benchmark: Benchmark) -> str:
    return content.verdict(benchmark) or "not judged"


def tag(name: str, /, *children: str, **attributes: str | bool | None) -> Markup:
    """Return an element with its text escaped; None or False leave an attribute out."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escaped(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    inner = "".join(child if isinstance(child, Markup) else escaped(child) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>")


def escaped(text: str) -> str:
    return escape(form.isolated(form.plain(text)))


def verbatim(lines: Iterable[str]) -> Markup:
    text = "\n".join(escape(form.plain(line.expandtabs())) for line in lines)
    return Markup(f'<pre tabindex="0">{text}</pre>') if text else Markup()


def section(title: str, *children: str, id: str | None = None) -> Markup:  # noqa: A002
    return tag("section", tag("h2", title), *children, id=id) if any(children) else Markup()


def folded(title: str, child: str) -> Markup:
    return tag("details", tag("summary", title), child) if child else Markup()


def listed(texts: Sequence[str], title: str = "") -> Markup:
    items = tag("ul", *(tag("li", text) for text in texts)) if texts else Markup()
    return Markup(tag("h3", title) + items) if title and texts else items


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Return a list of terms with their values, without those that are not known."""
    known = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value]
    return tag("dl", *known) if known else Markup()


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    marked: Collection[str] = (),
    figures: Collection[str] = (),
) -> Markup:
    """Return a table whose rows begin with their heading, without empty columns.

    The rows with a heading in `marked` stand out. The columns in `figures` are aligned to the right.
    """
    if not rows:
        return Markup()
    known = [number for number in range(len(columns)) if any(row[number] for row in rows)]
    columns, *rows = ([row[number] for number in known] for row in [columns, *rows])

    def class_of(column: str, cell: str = "") -> str | None:
        return "figure" if column in figures else "text" if len(cell) > _WRAPPED_CHARACTERS else None

    head = tag("tr", *(tag("th", column, scope="col", class_=class_of(column)) for column in columns))
    body = [
        tag(
            "tr",
            tag("th", heading, scope="row"),
            *(tag("td", cell, class_=class_of(column, cell)) for column, cell in zip(columns[1:], cells, strict=True)),
            class_="marked" if heading in marked else None,
        )
        for heading, *cells in rows
    ]
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="wide", tabindex="0", role="group", aria_label=caption)


def plot(title: str, caption: str, data: Mapping[str, object]) -> Markup:
    """Return a figure that report.js draws."""
    place = tag("div", class_="plot", role="img", aria_label=f"{title}. {caption}", data_plot=dumped(data))
    return tag("figure", tag("figcaption", tag("strong", title), ": ", caption), place)


def dumped(value: object) -> str:
    """Return JSON with figures of four digits: no plot shows more."""
    return json.dumps(rounded(value, digits=4), separators=(",", ":"))
