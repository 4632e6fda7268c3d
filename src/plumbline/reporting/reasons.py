"""Pages on reasons, verdicts, exit codes and packages that were not compared, by their code, from `reasons.md`."""

import functools
import re
import textwrap
from dataclasses import dataclass
from importlib import resources

_CODE = re.compile("`[^`]*`")


@dataclass(frozen=True)
class Page:
    """One section of `reasons.md`."""

    code: str
    group: str  # the heading above it
    summary: str  # the first paragraph
    text: str  # all paragraphs, the summary included


@functools.cache
def pages() -> dict[str, Page]:
    """Return all pages by their code, in the order of the file."""
    text = (resources.files("plumbline.reporting") / "reasons.md").read_text(encoding="utf-8")
    found = {}
    for group in text.split("\n## ")[1:]:
        title, *sections = group.split("\n### ")
        for section in sections:
            heading, _, body = section.partition("\n")
            summary, *others = body.strip().split("\n\n")
            code = code_of(heading)
            found[code] = Page(code, title.splitlines()[0], summary, "\n\n".join([summary, *others]))
    return found


def code_of(name: str) -> str:
    """Return the code that somebody writes as `count-grown`, `Over budget` or `exit code 3`."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower()).removeprefix("exit_code_")


def wrapped(text: str, width: int, indent: str = "") -> str:
    """Return paragraphs in lines of a width; a command between backticks stays on one line."""
    whole = (_CODE.sub(lambda found: found[0].replace(" ", "\0"), paragraph) for paragraph in text.split("\n\n"))
    lines = (
        textwrap.fill(one, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for one in whole
    )
    return "\n\n".join(lines).replace("\0", " ")
