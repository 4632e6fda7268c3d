"""HTML elements as escaped text, and the parts of which the HTML report is made; each is empty without content."""

import html
import json
from collections.abc import Collection, Iterable, Mapping, Sequence

from plumbline.reporting import format as form
from plumbline.results.files import rounded

# Table cells with more characters may wrap.
_LONG = 40


class Markup(str):
    """HTML, which is not escaped again."""

    __slots__ = ()


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
    return html.escape(form.isolated(form.plain(text)))


def verbatim(lines: Iterable[str]) -> Markup:
    text = "\n".join(html.escape(form.plain(line.expandtabs())) for line in lines)
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
            *(tag("td", cell, class_="text" if len(cell) > _LONG else None) for cell in cells),
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
