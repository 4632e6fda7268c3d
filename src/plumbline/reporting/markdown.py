"""The results as Markdown for a pull request, or for the summary of a job on GitHub."""

import html
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from plumbline.reporting import figures, verdicts, wording
from plumbline.reporting import format as form
from plumbline.results.schema import Benchmark, Results, TestOutcome

T = TypeVar("T")

# GitHub takes 65,536 characters in a comment, and 1 MiB in the summary of a step.
COMMENT_BYTES, SUMMARY_BYTES = 60_000, 900_000
# For the titles of sections, and the notes on what was left out.
_FRAMES_BYTES = 1_000
_MARKUP = re.compile(r"(?<!\w)_|_(?!\w)|[\\`*\[|~$@]")


def render(results: Results, limit_bytes: int = COMMENT_BYTES) -> str:
    """Return Markdown of at most that size: the verdict, the notable benchmarks, and the rest folded."""
    head = verdicts.headline(results)
    mark = "✅" if verdicts.all_well(results) else "❌" if results.exit_code else "⚠️"
    first, *others = [wording.text(reason) for reason in results.reasons] or [""]
    verdict = f"## {mark} {head[:1].upper()}{head[1:]}\n\n"
    verdict += f"{_escaped(first)}\n\n" if first else ""
    verdict += f"{verdicts.summary(results)}.  \n"
    if line := verdicts.exit_line(results):
        verdict += f"{line}  \n"
    if step := verdicts.next_step(results):
        verdict += f"Next: `{step[0]}` {step[1]}.\n"

    notable = sorted(filter(verdicts.is_notable, results.benchmarks), key=verdicts.urgency)
    remarked = [one for one in results.benchmarks if figures.remarks(one) and not verdicts.is_notable(one)]
    failed = [test for test in results.tests if test.outcome == "failed"]
    notes = [*others, *figures.notes(results)]
    left = limit_bytes - len(verdict.encode()) - _FRAMES_BYTES

    def cut(items: Sequence[T], block: Callable[[T], str]) -> str:
        """Take at most half of what is left: the most important items have to be cut first."""
        nonlocal left
        body = _cut(items, block, left // 2)
        left -= len(body.encode())
        return body

    at_notable, at_failed, table = cut(notable, _evidence), cut(failed, _failure), cut(_table(results.benchmarks), str)
    sections = [
        cut(notes, lambda text: f"- {_escaped(text)}"),
        _titled("Needs attention", at_notable),
        _titled("Failed tests", at_failed),
        _folded(f"All {len(results.benchmarks):,} benchmarks", table),
        _folded("Remarks", cut(remarked, _evidence)),
        _folded("Services and environment", cut([_environment(results)], _verbatim)),
    ]
    return "\n".join([verdict, *filter(None, sections)])


def _titled(title: str, body: str) -> str:
    return body and f"### {title}\n\n{body}"


def _folded(title: str, body: str) -> str:
    return body and f"<details><summary>{title}</summary>\n\n{body}\n</details>\n"


def _cut(items: Sequence[T], block: Callable[[T], str], limit_bytes: int) -> str:
    """Return the blocks of the items that fit, and how many were left out."""
    blocks: list[str] = []
    for item in items:
        text = block(item)
        limit_bytes -= len(text.encode()) + 1
        if limit_bytes < 0:
            blocks.append(f"\nLeft out here: {len(items) - len(blocks):,} more; results.json has all.")
            break
        blocks.append(text)
    return "".join(f"{text}\n" for text in blocks)


def _table(benchmarks: Sequence[Benchmark]) -> list[str]:
    rule = "|".join([" --- ", *(" --- " if heading == "verdict" else " ---: " for heading in figures.COLUMNS)])
    lines = [f"| benchmark | {' | '.join(figures.COLUMNS)} |", f"|{rule}|"]
    for file, group in figures.by_file(benchmarks).items():
        lines.append(f"| **{_escaped(file)}** |" + " |" * len(figures.COLUMNS))
        for benchmark in group:
            cells = (cell(benchmark).replace(" ", "\N{NO-BREAK SPACE}") for cell in figures.COLUMNS.values())
            lines.append(f"| {_code(form.file_and_name(benchmark.key)[1])} | {' | '.join(cells)} |")
    return lines if benchmarks else []


def _evidence(benchmark: Benchmark) -> str:
    first = f"- {_code(benchmark.key)}: **{verdicts.verdict(benchmark)}** {figures.line(benchmark)}"
    return "\n".join([first.rstrip(), *(f"  - {_escaped(remark)}" for remark in figures.remarks(benchmark)[:10])])


def _failure(test: TestOutcome) -> str:
    return f"{_code(test.key)}\n\n{_verbatim(form.first_lines(test.message, 20))}"


def _environment(results: Results) -> list[str]:
    packages = sorted(results.environment.packages.items())
    facts = figures.environment(results) | {
        "baseline": results.baseline if verdicts.compared(results) else "none",
        "base": results.base,
        "packages": ", ".join(f"{name} {version}" for name, version in packages),
    }
    return [*results.service_lines, *(f"{name:9} {text}" for name, text in facts.items() if text)]


def _code(text: str) -> str:
    """Return a name as code without effect: neither markup nor a mention, nor the end of a table's cell."""
    text = form.plain(text[:300])
    return f"<code>{_escaped(text)}</code>" if set("`|\\") & set(text) else f"`{form.isolated(text)}`"


def _escaped(text: str) -> str:
    """Return text on one line without markup, HTML and mentions (a zero-width space follows each @)."""
    text = html.escape(" ".join(form.plain(text[:1000]).split()), quote=False)
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};" + "&#8203;" * (found[0] == "@"), form.isolated(text))


def _verbatim(lines: Sequence[str]) -> str:
    return f"<pre>{html.escape(chr(10).join(form.plain(line) for line in lines), quote=False)}</pre>"
