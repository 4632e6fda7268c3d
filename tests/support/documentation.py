"""The pages of the documentation and their blocks of code.

A block's kind is its language. Its first line may name the file that it belongs to. A comment may stand before it:

    <!-- test: used -->      settings that the page's benchmarks are run with
    <!-- test: executed -->  commands that are executed after the page's benchmarks
    <!-- test: output -->    lines that a run prints, with other figures
    <!-- test: regression -->  the end of a run that fails; its statements are compared with the counts of such a run
    <!-- test: docker -->    run if a Docker engine is available
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.project import ROOT

SUITE = "tests/performance/"
DOCS = ROOT / "docs"
# Pages whose blocks have a test module of their own.
WITH_TESTS_OF_THEIR_OWN = {"docs/how-to/from-pytest-benchmark.md", "docs/how-to/load.md"}
FENCE = re.compile(
    r"^(?:<!-- test: (?P<use>.*) -->\n)?```(?P<language>.*)\n(?P<text>(?:.*\n)*?)```$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: Path
    line: int
    language: str
    use: str  # the text of the comment before it
    text: str

    @property
    def file(self) -> str:
        """The file that it belongs to, by its first line."""
        found = re.match(r"# (\S+\.\w+)\n", self.text)
        return found[1] if found else ""

    @property
    def is_run(self) -> bool:
        """Return whether it is Python that `test_benchmarks_of_a_page` runs."""
        return self.language == "python" and self.use != "docker" and not self.file.endswith("noxfile.py")

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    """Return the path of a page from the root."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, one.start()) + 1, one["language"], one["use"] or "", one["text"])
        for one in FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def quoted(line: str) -> list[str]:
    """Return the spans of code in a line of Markdown."""
    return [found[2].strip() for found in re.finditer(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", line)]


def without_figures(line: str) -> list[str]:
    """Return the words of a line of output, without figures and their units."""
    words = [word for word in line.split() if not re.search(r"\d", word)]
    return [word for word in words if word.partition("/")[0] not in ("s", "ms", "µs")]


def not_printed(page: Path, output: str) -> list[str]:
    """Return the lines of output that a page shows and a run did not print, whatever their figures.

    A narrow terminal shows fewer columns: the page may do so as well.
    """
    printed = [set(without_figures(line)) for line in output.splitlines()]
    shown = [line for block in blocks_of(page) if block.use == "output" for line in block.text.splitlines()]
    # A copy has not all of this suite's files.
    shown = [line for line in shown if not (ROOT / SUITE / line).is_file()]
    return [line for line in shown if not any(words.issuperset(without_figures(line)) for words in printed)]


def names_of_tests(code: str) -> list[str]:
    functions = [one for one in ast.parse(code).body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [one.name for one in functions if one.name.startswith("test_")]


PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted(
    page
    for page in DOCS.rglob("*.md")
    if name_of(page) not in WITH_TESTS_OF_THEIR_OWN and "_build" not in page.relative_to(DOCS).parts
)
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
