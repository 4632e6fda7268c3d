"""HTML elements as escaped text, and the parts of which the HTML report is made."""

import html
import json
from collections.abc import Collection, Iterable, Mapping, Sequence

from plumbline.reporting import format as form

# Table cells with more characters may wrap.
_LONG = 40


class Markup(str):
    """HTML, which is not escaped again."""

    __slots__ = ()


Content = str | None


def tag(name: str, /, *children: Content, **attributes: str | bool | None) -> Markup:
    """Return an element with its text escaped; None leaves a child out, None or False an attribute."""
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


def name(text: str) -> Markup:
    """Return a name in any script, which does not reorder its surroundings."""
    return tag("bdi", text)


def verbatim(lines: Iterable[str]) -> Markup:
    text = "\n".join(html.escape(form.plain(line.expandtabs())) for line in lines)
    return Markup(f'<pre tabindex="0">{text}</pre>')


def section(title: str, *children: Content, id: str | None = None) -> Content:  # noqa: A002
    kept = [child for child in children if child]
    return tag("section", tag("h2", title), *kept, id=id) if kept else None


def titled(title: str, child: Content) -> Content:
    return Markup(tag("h3", title) + child) if child else None


def folded(title: str, child: Content) -> Content:
    return tag("details", tag("summary", title), child) if child else None


def listed(texts: Sequence[str]) -> Content:
    return tag("ul", *(tag("li", text) for text in texts)) if texts else None


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], marked: Collection[str] = ()) -> Content:
    """Return a table whose rows begin with their heading; the rows of `marked` stand out."""
    body = [
        tag(
            "tr",
            tag("th", sign("!") if heading in marked else None, heading, scope="row"),
            *(tag("td", cell, class_="text" if len(cell) > _LONG else None) for cell in cells),
            class_="marked" if heading in marked else None,
        )
        for heading, *cells in rows
    ]
    if not body:
        return None
    head = tag("tr", *(tag("th", column, scope="col") for column in columns))
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="wide", tabindex="0", role="group", aria_label=caption)


def plot(title: str, caption: str, data: Mapping[str, object]) -> Markup:
    """Return a figure for report.js to draw when it comes into view."""
    place = tag("div", class_="plot", role="img", aria_label=f"{title}. {caption}", data_plot=dumped(data))
    return tag("figure", tag("figcaption", tag("strong", title), ": ", caption), place)


def data(id: str, value: object) -> Markup:  # noqa: A002
    """Return a value for report.js to read."""
    text = dumped(value).replace("<", "\\u003c")
    return Markup(f'<script type="application/json" id="{id}">{text}</script>')


def dumped(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def sign(character: str) -> Markup:
    return tag("span", character, class_="sign", aria_hidden="true")


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
