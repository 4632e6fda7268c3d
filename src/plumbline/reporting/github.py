"""The results on GitHub: Markdown for a pull request or the summary of a job, and annotations on source lines."""

import html
import re
from collections.abc import Iterable, Sequence

from plumbline.project import SUITE
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.results.schema import Benchmark, Results

# GitHub takes 65,536 characters in a comment, and 1 MiB in the summary of a step.
COMMENT_BYTES, SUMMARY_BYTES = 60_000, 900_000
# Sections with their title and body.
_TITLED, _FOLDED = "### {}\n\n{}", "<details><summary>{}</summary>\n\n{}\n</details>\n"
_FRAMES_BYTES = 1_000  # for the titles of sections, and the notes on what was left out
_MARKUP = re.compile(r"(?<!\w)_|_(?!\w)|[\\`*\[|~$@]")
MOST = 10  # GitHub shows no more errors in a step, and no more warnings
# Escapes of workflow commands, which docs.github.com describes.
_IN_MESSAGE = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_IN_PROPERTY = _IN_MESSAGE | str.maketrans({":": "%3A", ",": "%2C"})


def markdown(results: Results, limit_bytes: int = COMMENT_BYTES) -> str:
    """Return Markdown of at most that size: the verdict, the notable benchmarks, and the rest folded."""
    head = content.headline(results)
    mark = "✅" if content.all_well(results) else "❌" if results.exit_code else "⚠️"
    first, *others = [content.reason_text(reason) for reason in results.reasons] or [""]
    verdict = f"## {mark} {head[:1].upper()}{head[1:]}\n\n"
    verdict += f"{_escaped(first)}\n\n" if first else ""
    verdict += f"{content.summary(results)}.  \n"
    if line := content.exit_line(results):
        verdict += f"{line}  \n"
    if step := content.next_step(results):
        verdict += f"Next: `{step[0]}` {step[1]}.\n"
    left = limit_bytes - len(verdict.encode()) - _FRAMES_BYTES

    def cut(frame: str, title: str, blocks: Sequence[str]) -> str:
        """Return a section of at most half of what is left: the most important ones come first."""
        nonlocal left
        limit, kept = left // 2, list[str]()
        for block in blocks:
            limit -= len(block.encode()) + 1
            if limit < 0:
                kept.append(f"\nLeft out here: {len(blocks) - len(kept):,} more; results.json has all.")
                break
            kept.append(block)
        body = "".join(f"{block}\n" for block in kept)
        left -= len(body.encode())
        return frame.format(title, body) if body else ""

    notable = content.by_urgency(filter(content.is_notable, results.benchmarks))
    remarked = [one for one in results.benchmarks if content.remarks(one) and not content.is_notable(one)]
    failed = [(_code(test.key), form.first_lines(test.message, 20)) for test in content.failed_tests(results)]
    packages = ", ".join(f"{name} {version}" for name, version in sorted(results.environment.packages.items()))
    facts = content.environment(results) | {"baseline": results.baseline if content.compared(results) else "none"}
    facts |= {"base": results.base, "packages": packages}
    environment = [*results.service_lines, *(f"{name:9} {text}" for name, text in facts.items() if text)]
    sections = [
        cut("{}{}", "", [f"- {_escaped(text)}" for text in [*others, *content.notes(results)]]),
        cut(_TITLED, "Needs attention", [_evidence(one) for one in notable]),
        cut(_TITLED, "Failed tests", [f"{name}\n\n{_verbatim(lines)}" for name, lines in failed]),
        cut(_FOLDED, f"All {len(results.benchmarks):,} benchmarks", _table(results.benchmarks)),
        cut(_FOLDED, "Remarks", [_evidence(one) for one in remarked]),
        cut(_FOLDED, "Services and environment", [_verbatim(environment)]),
    ]
    return "\n".join([verdict, *filter(None, sections)])


def _table(benchmarks: Sequence[Benchmark]) -> list[str]:
    if not benchmarks:
        return []
    headings = list(content.cells(benchmarks[0]))
    rule = "|".join([" --- ", *(" --- " if heading == "verdict" else " ---: " for heading in headings)])
    lines = [f"| benchmark | {' | '.join(headings)} |", f"|{rule}|"]
    for file, group in content.by_file(benchmarks).items():
        lines.append(f"| **{_escaped(file)}** |" + " |" * len(headings))
        for benchmark in group:
            cells = " | ".join(cell.replace(" ", "\N{NO-BREAK SPACE}") for cell in content.cells(benchmark).values())
            lines.append(f"| {_code(form.file_and_name(benchmark.key)[1])} | {cells} |")
    return lines


def _evidence(benchmark: Benchmark) -> str:
    first = f"- {_code(benchmark.key)}: **{content.verdict(benchmark)}** {content.line(benchmark)}"
    return "\n".join([first.rstrip(), *(f"  - {_escaped(remark)}" for remark in content.remarks(benchmark)[:10])])


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


def annotations(results: Results) -> list[str]:
    """Return one line for each problem, the greatest change first; at most MOST errors, and as many warnings."""
    errors, warnings = list[str](), list[str]()
    for benchmark in content.by_urgency(filter(content.is_notable, results.benchmarks)):
        file, name = form.file_and_name(benchmark.key)
        verdict = content.verdict(benchmark)
        level, found = ("error", errors) if verdict in content.FAILING else ("warning", warnings)
        line = "" if verdict == "missing" else str(benchmark.line + 1)
        texts = filter(None, [content.line(benchmark), *content.remarks(benchmark)[:10]])
        found.append(_command(level, file, line, f"{verdict}: {name}", map(form.plain, texts)))
    for test in content.failed_tests(results):
        lines = form.first_lines(test.message, 10) or ["see the log"]
        errors.append(_command("error", form.file_and_name(test.key)[0], "", f"failed: {test.key}", lines))
    return errors[:MOST] + warnings[:MOST]


def _command(level: str, file: str, line: str, title: str, lines: Iterable[str]) -> str:
    values = {"file": f"{SUITE}/{file}", "line": line, "title": form.plain(title)}
    place = ",".join(f"{name}={value.translate(_IN_PROPERTY)}" for name, value in values.items() if value)
    message = "\n".join(lines).translate(_IN_MESSAGE)
    return f"::{level} {place}::{message}"
