"""The results for a pull request or a job's summary page on GitHub."""

import html
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from plumbline.judging.counts import group_changes
from plumbline.reporting import format as form
from plumbline.results.schema import Benchmark, Results, TestOutcome

COMMENT_BYTES, SUMMARY_BYTES = 60_000, 900_000
"""GitHub takes 65,536 characters in a comment, and 1 MiB in the summary of a step."""

T = TypeVar("T")

_FRAMES_BYTES = 1_000
"""Titles of sections, and what is said where they are cut."""

_MARKUP = re.compile(r"(?<!\w)_|_(?!\w)|[\\`*\[|~$@]")


def render(results: Results, limit_bytes: int = COMMENT_BYTES) -> str:
    """Markdown of at most that size: the verdict, what needs eyes, and the rest folded away."""
    head = form.headline(results)
    mark = "✅" if form.all_well(results) else "❌" if results.exit_code else "⚠️"
    verdict = f"## {mark} {head[:1].upper()}{head[1:]}\n\n"
    if results.reasons:
        verdict += _escaped(results.reasons[0]) + "\n\n"
    verdict += form.summary(results) + ".  \n"
    if results.exit_code is not None:
        verdict += f"Exit code {results.exit_code}: {form.EXIT_CODES.get(results.exit_code, 'unknown')}.  \n"
    if step := form.next_step(results):
        verdict += f"Next: `{step[0]}` {step[1]}.\n"

    urgent = sorted(filter(form.needs_eyes, results.benchmarks), key=form.urgency)
    others = [one for one in results.benchmarks if form.remarks(one) and not form.needs_eyes(one)]
    failed = [test for test in results.tests if test.outcome == "failed"]
    notes = [*results.reasons[1:], *group_changes(results.benchmarks, gated=False), *results.notes]
    left = limit_bytes - len(verdict.encode()) - _FRAMES_BYTES

    def cut(items: Sequence[T], block: Callable[[T], str]) -> str:
        """At most half of what is left, so what matters most has to be cut first."""
        nonlocal left
        body = _cut(items, block, left // 2)
        left -= len(body.encode())
        return body

    at_these, at_failed, at_table = cut(urgent, _evidence), cut(failed, _failure), cut(_table(results.benchmarks), str)
    sections = [
        cut(notes, lambda text: f"- {_escaped(text)}"),
        _titled("Look at these", at_these),
        _titled("Failed tests", at_failed),
        _folded(f"All {len(results.benchmarks):,} benchmarks", at_table),
        _folded("Remarks", cut(others, _evidence)),
        _folded("Services and environment", cut([_environment(results)], _verbatim)),
    ]
    return "\n".join([verdict, *filter(None, sections)])


def _titled(title: str, body: str) -> str:
    return body and f"### {title}\n\n{body}"


def _folded(title: str, body: str) -> str:
    return body and f"<details><summary>{title}</summary>\n\n{body}\n</details>\n"


def _cut(items: Sequence[T], block: Callable[[T], str], limit_bytes: int) -> str:
    """The blocks of items that fit, and how many were left out."""
    blocks: list[str] = []
    for item in items:
        text = block(item)
        limit_bytes -= len(text.encode()) + 1
        if limit_bytes < 0:
            blocks.append(f"\nLeft out here: {len(items) - len(blocks):,} more; results.json has all.")
            break
        blocks.append(text)
    return "".join(f"{text}\n" for text in blocks)


def _table(benchmarks: list[Benchmark]) -> list[str]:
    rule = "|".join([" --- ", *(" --- " if heading == "verdict" else " ---: " for heading in form.COLUMNS)])
    lines = [f"| benchmark | {' | '.join(form.COLUMNS)} |", f"|{rule}|"]
    for file, group in form.by_file(benchmarks).items():
        lines.append(f"| **{_escaped(file)}** |" + " |" * len(form.COLUMNS))
        for benchmark in group:
            cells = (cell(benchmark).replace(" ", "\N{NO-BREAK SPACE}") for cell in form.COLUMNS.values())
            lines.append(f"| {_code(form.file_and_name(benchmark.key)[1])} | {' | '.join(cells)} |")
    return lines if benchmarks else []


def _evidence(benchmark: Benchmark) -> str:
    first = f"- {_code(benchmark.key)}: **{form.verdict(benchmark)}** {form.figures(benchmark)}"
    return "\n".join([first.rstrip(), *(f"  - {_escaped(remark)}" for remark in form.remarks(benchmark)[:10])])


def _failure(test: TestOutcome) -> str:
    return f"{_code(test.key)}\n\n{_verbatim(form.first_lines(test.message, 20))}"


def _environment(results: Results) -> list[str]:
    environment = results.environment
    packages = ", ".join(f"{name} {version}" for name, version in sorted(environment.packages.items()))
    return [
        *results.service_lines,
        f"machine   {environment.machine}, {environment.cpu_count} cores, {environment.cpu}",
        f"system    {environment.system} {environment.kernel}, {environment.architecture}, Python {environment.python}",
        f"commit    {environment.commit}" + (", with uncommitted changes" if environment.dirty else ""),
        f"baseline  {results.baseline if form.compared(results) else 'none'}",
        *([f"in pairs with  {results.base}"] if results.base else []),
        f"profile   {results.profile}, {results.created}",
        f"packages  {packages}",
    ]


def _code(text: str) -> str:
    """A name as code, inert: neither markup nor a mention, nor the end of a table's cell."""
    text = form.plain(text[:300])
    return f"<code>{_escaped(text)}</code>" if set("`|\\") & set(text) else f"`{form.isolated(text)}`"


def _escaped(text: str) -> str:
    """Text on one line, none of it markup, HTML or a mention (a space of no width follows each @)."""
    text = html.escape(" ".join(form.plain(text[:1000]).split()), quote=False)
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};" + "&#8203;" * (found[0] == "@"), form.isolated(text))


def _verbatim(lines: list[str]) -> str:
    return f"<pre>{html.escape(chr(10).join(form.plain(line) for line in lines), quote=False)}</pre>"
