"""The results of a run in a terminal: 80 columns and any encoding are enough."""

import sys
from collections.abc import Collection, Mapping, Sequence
from itertools import chain

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.reporting.history import Moved
from plumbline.reporting.next_step import next_step
from plumbline.reporting.problems import MOST_CAUSES, by_heading, find_problems, heading_of, main_texts
from plumbline.results.schema import Benchmark, Problem, Results
from plumbline.services.base import OUTPUT

# By verdict; the others are dim.
_STYLES = {
    **dict.fromkeys(content.FAILING, "bold red"),
    **dict.fromkeys(("inconclusive", "drift"), "yellow"),
    "improvement": "green",
    **dict.fromkeys(("accepted", "new", "changed"), "cyan"),
}
_SIMPLER = str.maketrans({"µ": "u", "…": "..", "→": "->", "\N{REPLACEMENT CHARACTER}": "?"})
# Left out first if the terminal is narrow; if a benchmark is inconclusive, how certain its change is matters more.
_OPTIONAL_COLUMNS = ("detectable", "n", "interval", "p99", "mean", "rate", "p95")
_OPTIONAL_IF_INCONCLUSIVE = ("n", "p99", "mean", "rate", "p95", "interval", "detectable")
_MOST_FAILING = 20  # benchmarks with their causes; the others are in the table
_LINE_WIDTH = 1_000  # of a line before it is wrapped: parameters in a name may be very long
_LEAST_NAME_WIDTH, _WIDE_NAME = 12, 40  # columns are left out for names up to this width


def render(results: Results, console: Console, along: Sequence[Moved] = ()) -> None:
    """Print services, table, remarks, what has failed and why, and the verdict.

    `along`: what the history of the default branch shows, by benchmark.
    """
    page = _Page(console)
    for line in results.service_lines:
        page.wrapped(line)
    render_table(results, console)
    for test in content.failed_tests(results):
        page.line()
        page.wrapped(f"FAILED {test.key}", "bold red")
        for line in form.first_lines(test.message, 6):
            page.wrapped(line, mark="  ")
    if along:
        page.line()
        page.wrapped("History of the default branch:", "dim")
    for one in along:
        page.wrapped(one.text, "dim", mark="- ", subject=f"{one.key}: " if one.key else "")
        if one.command:
            page.line(("  ", ""), (page.text(one.command), "bold"))
    page.line()
    if content.compared(results):
        page.wrapped(f"Compared with the baseline {results.baseline.rpartition('/')[2]}", "dim")
    if results.base:
        page.wrapped(f"{content.compared_with(results).capitalize()} {results.base}", "dim")
    if said := content.before_text(results):
        page.wrapped(said, "dim")
    page.wrapped(content.summary(results), "dim")
    page.line()
    head = content.headline(results)
    style = _STYLES.get(head, "bold red" if results.exit_code else "bold")
    first, *others = [content.reason_text(reason) for reason in results.reasons] or [""]
    verdict = f"{head.upper()}: {first}" if first else head.upper()
    page.wrapped(verdict, "bold green" if content.all_well(results) else style)
    for text in others:
        page.wrapped(text, mark="  ")
    if line := content.exit_line(results):
        page.wrapped(line)
    if step := next_step(results):
        page.line(("Next: ", ""), (page.text(step.command), "bold"))  # neither wrapped nor isolated: to be copied
        page.wrapped(f"{step.purpose}.", "dim", mark="      ")


def render_table(results: Results, console: Console, *, whole: bool = False) -> None:
    """Print the table of benchmarks, the benchmarks that failed with their causes, and remarks on the others.

    `whole`: print all causes, because there is no results.json.
    """
    page = _Page(console)
    if results.benchmarks:
        _table(results.benchmarks, page)
    names = content.names(results.benchmarks)
    problems = {one.key: one for one in find_problems(results) if one.key in names}
    _failing(results, names, problems, page, sys.maxsize if whole else MOST_CAUSES)
    _remarks(results, names, problems, page)


def _remarks(results: Results, names: Mapping[str, str], problems: Collection[str], page: "_Page") -> None:
    """Print each remark once for all benchmarks that it applies to, notable ones first; then notes and skipped tests.

    The causes of problems come later.
    """
    remarks: dict[tuple[bool, str], list[str]] = {}
    for benchmark in sorted(content.by_urgency(results.benchmarks), key=lambda one: one.key in problems):
        failing = benchmark.key in problems
        for remark in content.warnings(benchmark) if failing else content.remarks(benchmark):
            remarks.setdefault((content.is_notable(benchmark) and not failing, remark), []).append(names[benchmark.key])
    notes = content.notes(results) + content.skipped_tests(results)
    if remarks or notes:
        page.line()
    previous: list[str] = []
    for (notable, remark), found in remarks.items():
        mark, style = ("! ", "") if notable else ("- ", "dim")
        same = found == previous
        subject = "" if same else f"{content.listed(found, 2)}: "
        page.wrapped(remark, style, mark="  " if same else mark, subject=subject)
        previous = found
    for note in notes:
        page.wrapped(note, "dim", mark="- ")


def _failing(
    results: Results, names: Mapping[str, str], problems: Mapping[str, Problem], page: "_Page", most: int
) -> None:
    """Print the benchmarks that failed under headings: change, place and main causes, once for all with the same."""
    benchmarks = {one.key: one for one in results.benchmarks}
    alike: dict[tuple[str, ...], list[Problem]] = {}
    for problem in chain.from_iterable(by_heading(problems.values()).values()):
        benchmark = benchmarks[problem.key]
        change = content.change_text(benchmark)
        figures = f"{content.medians_text(benchmark)}, {change}" if change else ""
        texts = main_texts(problem, benchmark, most)
        left = len(problem.causes) - len(texts) - any(cause.kind == "time" for cause in problem.causes)
        texts += [f"({left:,} more in results.json)"] if left else []
        alike.setdefault((heading_of(problem), figures, *texts), []).append(problem)
    last = ""
    for (heading, figures, *texts), found in [*alike.items()][:_MOST_FAILING]:
        page.line()
        if heading != last:
            page.wrapped(heading, "bold red")
        last, subject = heading, content.listed([names[one.key] for one in found], 2)
        page.wrapped(figures, "bold red", mark="! ", subject=f"{subject}: " if figures else subject)
        for text in texts:
            page.wrapped(text, mark="  ")
        if len(found) == 1 and found[0].line:
            page.wrapped(f"test: {found[0].file}:{found[0].line}", "dim", mark="  ")
    if len(alike) > _MOST_FAILING:
        page.line()
        page.wrapped(f"{len(alike) - _MOST_FAILING:,} more have failed: results.json has all", "bold red")


class _Page:
    """Prints text literally: neither as markup nor as control sequences."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.width = console.width

    def text(self, text: str) -> str:
        """Return one line in characters that the output can encode."""
        text = form.plain(text)
        try:
            text.encode(self._console.encoding)
        except UnicodeEncodeError:
            text = text.translate(_SIMPLER).encode(self._console.encoding, "replace").decode(self._console.encoding)
        return text

    def line(self, *parts: tuple[str, str] | Text) -> None:
        line = Text.assemble(*parts)
        line.rstrip()
        self._console.print(line, soft_wrap=True)

    def wrapped(self, text: str, style: str = "", *, mark: str = "", subject: str = "") -> None:
        """Print a mark, a subject in bold and a text; all further lines are indented below the first one."""
        whole = Text()
        for part, its_style in ((subject, style or "bold"), (text, style)):
            lines = (form.shortened(self.text(line), _LINE_WIDTH, self.text("…")) for line in part.splitlines())
            whole.append("\n".join(map(form.isolated, lines)), its_style)
        width = max(20, self.width - len(mark))
        for line in whole.split("\n", allow_blank=True):
            # The output of a service stays as it is, so that its paths can be copied.
            for row in [line] if line.plain.startswith(OUTPUT) else line.wrap(self._console, width):
                self.line((mark, "dim" if mark == "- " else "bold"), row)
                mark = " " * len(mark)


def _table(benchmarks: Sequence[Benchmark], page: _Page) -> None:
    names = {b.key: page.text(form.short_name(b.key)) for b in benchmarks}
    cells = {b.key: {heading: page.text(cell) for heading, cell in content.cells(b).items()} for b in benchmarks}
    columns = {heading: _aligned([row[heading] for row in cells.values()]) for heading in content.cells(benchmarks[0])}
    cells = {key: {name: column[row] for name, column in columns.items()} for row, key in enumerate(cells)}
    widths = {heading: max(map(cell_len, (heading, *column))) for heading, column in columns.items() if any(column)}
    longest = max(len("benchmark"), *map(cell_len, names.values()))

    def room(gap: int) -> int:
        return page.width - sum(width + gap for width in widths.values())

    is_unsure = any(one.verdict == "inconclusive" for one in benchmarks)
    for heading in _OPTIONAL_IF_INCONCLUSIVE if is_unsure else _OPTIONAL_COLUMNS:
        if room(2) < min(longest, _WIDE_NAME):
            widths.pop(heading, None)
    gap = " " if room(2) < longest else "  "
    name_width = min(longest, max(_LEAST_NAME_WIDTH, room(len(gap))))

    def row(name: str, texts: dict[str, str], style: str, verdict_style: str) -> None:
        name = form.shortened(name, name_width, page.text("…"))
        parts = [(form.isolated(name) + " " * (name_width - cell_len(name)), style)]
        for heading, width in widths.items():
            text, space = texts[heading], " " * (width - cell_len(texts[heading]))
            left = heading == "verdict"
            parts.append((gap + (text + space if left else space + text), verdict_style if left else style))
        page.line(*parts)

    page.line()
    row("benchmark", {heading: heading for heading in widths}, "dim", "dim")
    for file, group in content.by_file(benchmarks).items():
        page.line((page.text(file), "dim"))
        for b in group:
            style = _STYLES.get(content.verdict(b), "dim")
            row(names[b.key], cells[b.key], "bold" if style == "bold red" else "", style)


def _aligned(column: Sequence[str]) -> list[str]:
    """Return cells with figures one below the other, whatever they are per: `57.1 µs` above `1.90 µs/row`."""
    tails = [cell_len(text.partition("/")[2]) + ("/" in text) for text in column]
    longest = max(tails, default=0)
    return [text and text + " " * (longest - tail) for text, tail in zip(column, tails, strict=True)]
