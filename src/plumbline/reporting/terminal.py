"""The results in a terminal: 80 columns are enough, and any encoding will do."""

from collections import Counter

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from plumbline.judging.counts import group_changes
from plumbline.reporting import format as form
from plumbline.results.schema import Benchmark, Results

_STYLES = {
    "regression": "bold red",
    "over budget": "bold red",
    "missing": "bold red",
    "invalid": "bold red",
    "inconclusive": "yellow",
    "drift": "yellow",
    "improvement": "green",
    "accepted": "cyan",
    "new": "cyan",
    "changed": "cyan",
}
"""By verdict; the others are dim."""

_SIMPLER = str.maketrans({"µ": "u", "…": "..", "→": "->", "\N{REPLACEMENT CHARACTER}": "?"})
_IF_ROOM = ("p99", "mean", "rate", "p95")
"""Columns that go first where the terminal is narrow."""
_NAME_WIDTH = 12
"""Names are not cut shorter than this."""


def render(results: Results, console: Console) -> None:
    """Print services, table, remarks, failed tests and the verdict."""
    page = _Page(console)
    for line in results.service_lines:
        page.say("", (line, ""))
    render_table(results, console)
    _failed_tests(results, page)
    _closing(results, page)


def render_table(results: Results, console: Console) -> None:
    """Print the table of benchmarks and what is to be said on them."""
    page = _Page(console)
    if results.benchmarks:
        _table(results.benchmarks, page)
    _remarks(results, page)


class _Page:
    """Prints text as it is: never taken for markup, nor for control sequences."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.width = console.width

    def text(self, text: str) -> str:
        """One line in characters that the output can encode."""
        text = form.plain(text)
        try:
            text.encode(self.console.encoding)
        except UnicodeEncodeError:
            text = text.translate(_SIMPLER).encode(self.console.encoding, "replace").decode(self.console.encoding)
        return text

    def line(self, *parts: tuple[str, str] | Text) -> None:
        """Print one line of texts, each with its style."""
        line = Text.assemble(*parts)
        line.rstrip()
        self.console.print(line, soft_wrap=True)

    def say(self, mark: str, *parts: tuple[str, str]) -> None:
        """Print texts, each with its style, wrapped and with all further lines below the first one."""
        whole = Text.assemble(
            *(("\n".join(form.isolated(self.text(line)) for line in text.splitlines()), style) for text, style in parts)
        )
        for line in whole.wrap(self.console, max(20, self.width - len(mark))):
            self.line((mark, "dim" if mark == "- " else "bold"), line)
            mark = " " * len(mark)


def _table(benchmarks: list[Benchmark], page: _Page) -> None:
    names = {b.key: page.text(form.file_and_name(b.key)[1].removeprefix("test_")) for b in benchmarks}
    cells = {b.key: {heading: page.text(cell(b)) for heading, cell in form.COLUMNS.items()} for b in benchmarks}
    upper = {heading: heading.rpartition(" ")[0] for heading in form.COLUMNS}
    lower = {heading: heading.rpartition(" ")[2] for heading in form.COLUMNS}
    widths = {
        heading: max(cell_len(row[heading]) for row in (upper, lower, *cells.values()))
        for heading in form.COLUMNS
        if any(row[heading] for row in cells.values())
    }
    longest = max(len("benchmark"), *map(cell_len, names.values()))

    def room(gap: int) -> int:
        return page.width - sum(width + gap for width in widths.values())

    for heading in _IF_ROOM:
        if room(2) < longest:
            widths.pop(heading, None)
    gap = " " if room(2) < longest else "  "
    name_width = min(longest, max(_NAME_WIDTH, room(len(gap))))

    def row(name: str, texts: dict[str, str], style: str, verdict_style: str) -> None:
        name = form.shortened(name, name_width, page.text("…"))
        parts = [(form.isolated(name) + " " * (name_width - cell_len(name)), style)]
        for heading, width in widths.items():
            text, space = texts[heading], " " * (width - cell_len(texts[heading]))
            left = heading == "verdict"
            parts.append((gap + (text + space if left else space + text), verdict_style if left else style))
        page.line(*parts)

    page.line()
    if any(upper[heading] for heading in widths):
        row("", upper, "dim", "dim")
    row("benchmark", lower, "dim", "dim")
    for file, group in form.by_file(benchmarks).items():
        page.line((page.text(file), "dim"))
        for b in group:
            style = _STYLES.get(form.verdict(b), "dim")
            row(names[b.key], cells[b.key], "bold" if style == "bold red" else "", style)


def _remarks(results: Results, page: _Page) -> None:
    """One line for each thing worth saying, once for all benchmarks that it is true of; what needs eyes first."""
    twice = Counter(form.file_and_name(benchmark.key)[1] for benchmark in results.benchmarks)
    said: dict[tuple[bool, str], list[str]] = {}
    for benchmark in sorted(results.benchmarks, key=form.urgency):
        name = form.file_and_name(benchmark.key)[1]
        for remark in form.remarks(benchmark):
            names = said.setdefault((form.needs_eyes(benchmark), remark), [])
            names.append(benchmark.key if twice[name] > 1 else name.removeprefix("test_"))
    other_counts = group_changes(results.benchmarks, gated=False)
    if said or results.notes or other_counts:
        page.line()
    before: list[str] = []
    for (loud, remark), names in said.items():
        mark, style = ("! ", "") if loud else ("- ", "dim")
        if names == before:
            page.say("  ", (remark, style))
        else:
            who = ", ".join(names[:2]) + (f" and {len(names) - 2:,} more" if len(names) > 2 else "")
            page.say(mark, (f"{who}: ", style or "bold"), (remark, style))
        before = names
    for note in [*other_counts, *results.notes]:
        page.say("- ", (note, "dim"))


def _failed_tests(results: Results, page: _Page) -> None:
    for test in results.tests:
        if test.outcome == "failed":
            page.line()
            page.say("", (f"FAILED {test.key}", "bold red"))
            for line in form.first_lines(test.message, 6):
                page.say("  ", (line, ""))


def _closing(results: Results, page: _Page) -> None:
    page.line()
    if form.compared(results):
        page.say("", (f"Compared with {results.baseline.rpartition('/')[2]}", "dim"))
    if results.base:
        page.say("", (f"Changes measured in pairs are against {results.base}", "dim"))
    page.say("", (form.summary(results), "dim"))
    page.line()
    head = form.headline(results)
    style = "bold green" if form.all_well(results) else _STYLES.get(head, "bold red" if results.exit_code else "bold")
    page.say("", (": ".join([head.upper(), *results.reasons[:1]]), style))
    for reason in results.reasons[1:]:
        page.say("  ", (reason, ""))
    if results.exit_code is not None:
        page.say("", (f"Exit code {results.exit_code}: {form.EXIT_CODES.get(results.exit_code, 'unknown')}.", ""))
    if step := form.next_step(results):
        command, purpose = step
        page.line(("Next: ", ""), (page.text(command), "bold"))  # neither wrapped nor isolated: to be copied
        page.say("      ", (f"{purpose}.", "dim"))
