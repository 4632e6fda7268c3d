"""Read the content of an HTML page."""

import json
import re
from html.parser import HTMLParser
from typing import Any

KNOWN_TAGS = re.compile(
    "a|article|bdi|body|button|caption|code|dd|details|div|dl|dt|figcaption|figure|form|h[123]|head|header|html|input|label|li|main|"
    "meta|noscript|option|output|p|path|pre|script|section|select|small|span|strong|style|summary|svg|table|tbody|td|text|th|thead|title|tr|ul"
)


class Reader(HTMLParser):
    """Tags with their attributes, texts, and the rows of tables; fails if elements do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self._marks: list[bool] = []
        self.data: dict[str, Any] = {}
        self._open: list[str] = []
        self._id = ""
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._id = dict(attrs).get("id") or ""
        if tag not in {"meta", "input"}:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
            self._marks.append(dict(attrs).get("class") == "marked")
        elif tag in {"th", "td"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"]:
            if self._id:
                self.data[self._id] = json.loads(data)
        elif self._open[-1:] != ["style"]:
            self.texts.append(data)
            if self.rows and {"th", "td"} & set(self._open):
                self.rows[-1][-1] += data

    @property
    def marked(self) -> list[str]:
        return [row[0] for row, marked in zip(self.rows, self._marks, strict=True) if marked]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attributes in self.tags for key, value in attributes.items() if key == name]

    def plots(self, kind: str) -> list[dict[str, Any]]:
        return [plot for plot in map(json.loads, self.attributes("data-plot")) if plot["kind"] == kind]
