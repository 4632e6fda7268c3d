"""The results on GitHub: Markdown for a pull request or the summary of a job, and annotations on source lines."""

import html
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from plumbline.project import SUITE
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.reporting.history import Moved
from plumbline.reporting.next_step import next_step
from plumbline.reporting.problems import by_heading, codes_to_explain, find_problems, main_causes, main_texts
from plumbline.reporting.trend import trend_lines
from plumbline.results.schema import Benchmark, Cause, Kind, Problem, Results

# GitHub takes 65,536 characters in a comment, and 1 MiB in the summary of a step.
COMMENT_BYTES, SUMMARY_BYTES = 60_000, 900_000
# Reasons of a run that the heading shows, or the tables with their causes.
_ELSEWHERE: set[Kind] = {
    "no_baseline",
    *("counts_grown", "slower_than_base", "slower_than_baseline", "budgets_broken", "tests_failed", "drifted"),
    *("benchmarks_invalid", "benchmarks_missing", "not_compared"),
}
_MOST_REMARKS = 5  # on a benchmark that did not fail
_MOST_LINES = 20  # at the beginning of what an application has printed, and as many at the end
_LINE_CHARACTERS = 200
# Sections with their title and body.
_TITLED, _FOLDED = "### {}\n\n{}", "<details><summary>{}</summary>\n\n{}\n</details>\n"
_FRAMES_BYTES = 1_000  # for the titles of sections, and the notes on what was left out
_MARKUP = re.compile(r"(?<!\w)_|_(?!\w)|[\\`*\[|~$@]|^(?:#+|[+-]+|\d+[.)])(?!\S)")
# Characters of what GitHub makes a mention, a link or a reference: @name, https://, www., #1 and GH-1.
_LINK = re.compile(r"@|:(?=//)|(?<=ww)w(?=\.)|#(?=\w)|(?<=GH)-(?=\d)", re.IGNORECASE)
MOST = 10  # GitHub shows no more errors in a step, and no more warnings
# Escapes of workflow commands, which docs.github.com describes.
_NEXT = "  next  "  # begins the line of an error that says what to do
_WORD = re.compile("[a-z]+ ")
_IN_MESSAGE = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_IN_PROPERTY = _IN_MESSAGE | str.maketrans({":": "%3A", ",": "%2C"})


def markdown(
    results: Results,
    limit_bytes: int = COMMENT_BYTES,
    runs: Sequence[Results] = (),
    along: Sequence[Moved] = (),
    beside: Sequence[tuple[str, Sequence[str]]] = (),
) -> str:
    """Return Markdown of at most that size: the verdict, what is wrong and why, and all else folded.

    `runs`: the last ones on the default branch, the oldest first. `along`: what its history shows, by benchmark.
    `beside`: the titles and blocks of other tests' sections.
    """
    problems = find_problems(results)
    heading, summary = _heading(results), _summary(results, problems)
    left = limit_bytes - len(f"{heading}{summary}".encode()) - _FRAMES_BYTES

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

    failing = by_heading(problems)
    failing_keys = {one.key for some in failing.values() for one in some}
    others = [one for one in results.benchmarks if one.key not in failing_keys]
    unsure = content.by_urgency(filter(content.is_notable, others))
    remarked = {one.key: content.remarks(one) for one in others if not content.is_notable(one)}
    remarked |= {one.key: content.warnings(one) for one in results.benchmarks if one.key in failing_keys}
    remarks = [_remarks(key, found) for key, found in remarked.items() if found]
    failed = [(as_code(test.key), form.first_lines(test.message, 20)) for test in content.failed_tests(results)]
    notes = [*content.notes(results), *content.skipped_tests(results)]
    trend = [f"- {as_code(key)} {escaped(text)}" if key else f"- {text}" for key, text in trend_lines(results, runs)]
    last = f"Last {len(runs)} runs on {as_code(runs[0].environment.branch)}" if runs else ""
    sections = [
        heading,
        cut("{}{}", "", _reasons(results)),
        summary,
        *(cut(_TITLED, title, blocks) for title, blocks in beside),
        *(cut(_TITLED, title, _failing(results, some)) for title, some in failing.items()),
        cut(_TITLED, "Failed tests", [f"{name}\n\n{_verbatim(lines)}" for name, lines in failed]),
        cut(_TITLED, "Needs attention", _warned(unsure)),
        cut(_TITLED, "Notes", [f"- {escaped(text)}" for text in notes]),
        cut(_TITLED, last, trend),
        cut(_TITLED, "History of the default branch", [*map(_moved, along)]),
        cut(_FOLDED, "All benchmarks", _table(results.benchmarks)),
        cut(_FOLDED, "Remarks", remarks),
        cut(_FOLDED, "Services and environment", [_verbatim(_environment(results))]),
    ]
    return "\n".join(filter(None, sections))


def _moved(one: Moved) -> str:
    key, command = (f"{as_code(one.key)} " if one.key else ""), (f": {as_code(one.command)}" if one.command else "")
    return f"- {key}{escaped(one.text)}{command}"


def _heading(results: Results) -> str:
    head = content.headline(results)
    is_fine = content.all_well(results) or (head == "new" and not results.exit_code)
    return f"## {'✅' if is_fine else '❌' if results.exit_code else '⚠️'} {content.title(results)}\n"


def _reasons(results: Results) -> list[str]:
    """Return the reasons of a run without those that only name what the tables below have."""
    texts = [content.reason_text(reason) for reason in results.reasons if reason.kind not in _ELSEWHERE]
    return [block for text in texts for block in _reason(text)]


def _summary(results: Results, problems: Collection[Problem]) -> str:
    before = content.before_text(results)
    lines = [f"{content.summary(results)}.", content.exit_line(results)]
    if step := next_step(results):
        lines.append(f"Next: {as_code(step.command, 2_000)} {escaped(step.purpose)}.")
    if codes := codes_to_explain(results, problems):
        lines.append(f"Help: `plumbline explain {' '.join(codes)}` prints causes and remedies.")
    lines.append(f"{before[:1].upper()}{escaped(before[1:])}." if before else "")
    return "  \n".join(filter(None, lines)) + "\n"


def _reason(text: str) -> Iterator[str]:
    """Yield a text as a paragraph, and what follows its first line, as the output of an application, as it is."""
    first, *others = text.splitlines() or [""]
    if _WORD.match(first):
        first = f"{first[:1].upper()}{first[1:]}"
    yield f"{escaped(first)}\n"
    if error := form.error_in(text):
        yield f"**{escaped(error)}**\n"
    if steps := [line.removeprefix(_NEXT).strip() for line in others if line.startswith(_NEXT)]:
        yield f"Next: {escaped(steps[0])}\n"
    others = [line for line in others if not line.startswith(_NEXT)]
    if others:
        left = len(others) - 2 * _MOST_LINES
        shown = [*others[:_MOST_LINES], f"({left:,} more lines)", *others[-_MOST_LINES:]] if left > 0 else others
        yield f"{_verbatim([line[:_LINE_CHARACTERS] for line in shown])}\n"


def _failing(results: Results, problems: Collection[Problem]) -> list[str]:
    benchmarks, rows = {one.key: one for one in results.benchmarks}, []
    for problem in problems:
        place = f", line {problem.line}" if problem.line else ""
        benchmark = benchmarks[problem.key]
        rows.append((benchmark, place, main_texts(problem, benchmark)))
    return _evidence_table(rows, with_verdict=False)


def _warned(benchmarks: Sequence[Benchmark]) -> list[str]:
    rows = [(one, "", content.remarks(one)[:_MOST_REMARKS]) for one in benchmarks]
    return _evidence_table(rows, with_verdict=True)


def _evidence_table(rows: Sequence[tuple[Benchmark, str, Sequence[str]]], *, with_verdict: bool) -> list[str]:
    """Return the lines of a table with evidence and causes, without columns that are empty."""
    cells = []
    for benchmark, place, causes in rows:
        known = content.cells(benchmark)
        cells.append(
            {
                "benchmark": f"{as_code(benchmark.key)}{place}",
                "verdict": f"**{known['verdict']}**" if with_verdict else "",
                **{name: _unbroken(known[name]) for name in ("before", "median")},
                "change": content.change_text(benchmark),
                "cause": "<br>".join(map(escaped, causes)),
            }
        )
    headings = [name for name in (cells[0] if cells else []) if any(row[name] for row in cells)]
    if not headings:
        return []
    rule = "|".join(" ---: " if name in ("before", "median", "change") else " --- " for name in headings)
    lines = [f"| {' | '.join(row[name] for name in headings)} |" for row in cells]
    return [f"| {' | '.join(headings)} |\n|{rule}|", *lines]


def _remarks(key: str, remarks: Sequence[str]) -> str:
    return "\n".join([f"- {as_code(key)}", *(f"  - {escaped(one)}" for one in filter(str.strip, remarks[:10]))])


def _environment(results: Results) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in sorted(results.environment.packages.items()))
    facts = content.environment(results) | {"baseline": results.baseline if content.compared(results) else "none"}
    facts |= {"base": results.base, "packages": packages}
    return [*results.service_lines, *(f"{name:9} {text}" for name, text in facts.items() if text)]


def _table(benchmarks: Sequence[Benchmark]) -> list[str]:
    """Return the lines of a table of all benchmarks, without columns that are empty."""
    rows = {benchmark.key: content.cells(benchmark) for benchmark in benchmarks}
    headings = list(dict.fromkeys(heading for row in rows.values() for heading in row if row[heading]))
    if not headings:
        return []
    headings.sort(key=list(next(iter(rows.values()))).index)
    rule = "|".join([" --- ", *(" --- " if heading == "verdict" else " ---: " for heading in headings)])
    lines = [f"| benchmark | {' | '.join(headings)} |", f"|{rule}|"]
    for file, group in content.by_file(benchmarks).items():
        lines.append(f"| **{escaped(file)}** |" + " |" * len(headings))
        for benchmark in group:
            cells = " | ".join(_unbroken(rows[benchmark.key][heading]) for heading in headings)
            lines.append(f"| {as_code(form.file_and_name(benchmark.key)[1])} | {cells} |")
    return lines


def _unbroken(text: str) -> str:
    return escaped(text).replace(" ", "\N{NO-BREAK SPACE}")


def as_code(text: str, most_characters: int = 300) -> str:
    """Return a name as code without effect: neither markup nor a mention, nor the end of a table's cell."""
    text = form.plain(text[:most_characters])
    return f"<code>{escaped(text)}</code>" if set("`|\\") & set(text) else f"`{form.isolated(text)}`"


def escaped(text: str) -> str:
    """Return text on one line without markup, HTML, mentions and links: a zero-width space breaks the last two."""
    text = html.escape(" ".join(form.plain(text[:1000]).split()), quote=False)
    text = _LINK.sub(lambda found: f"{found[0]}\N{ZERO WIDTH SPACE}", form.isolated(text))
    text = _MARKUP.sub(lambda found: "".join(f"&#{ord(one)};" for one in found[0]), text)
    return text.replace("\N{ZERO WIDTH SPACE}", "&#8203;")


def _verbatim(lines: Sequence[str]) -> str:
    return f"<pre>{html.escape(chr(10).join(form.plain(line) for line in lines), quote=False)}</pre>"


def annotations(results: Results, root: Path, folder: str = ".") -> list[str]:
    """Return one line for each problem, the greatest change first; at most MOST errors, and as many warnings.

    `root`: the folder of the project. `folder`: the same in its repository, in which GitHub looks for files.
    """
    errors, warnings, failing = list[str](), list[str](), set[str]()
    benchmarks = {one.key: one for one in results.benchmarks}
    messages = {test.key: test.message for test in results.tests}
    prefix = "" if folder == "." else f"{folder}/"
    for problem in find_problems(results):
        file, line = problem.file, problem.line
        if not problem.key:
            title, texts = "the run is invalid", [cause.text for cause in problem.causes]
        elif problem.verdict == "failed":
            title = f"failed: {problem.key}"
            texts = form.first_lines(messages[problem.key], 10) or ["see the log"]
        else:
            failing.add(problem.key)
            title = f"{problem.verdict}: {form.file_and_name(problem.key)[1]}"
            benchmark = benchmarks[problem.key]
            texts = [content.line(benchmark), *main_texts(problem, benchmark)]
            if cause := _cause_in_repository(problem, root):
                texts.append(f"Test: {file}:{line}")
                file, line = cause.file, cause.line
            texts.append(f"Repeat: {problem.repeat}")
        errors.append(annotation("error", f"{prefix}{file}" if file else "", line, title, texts))
    for one in content.by_urgency(filter(content.is_notable, results.benchmarks)):
        if one.key not in failing:
            file, name = form.file_and_name(one.key)
            texts = [content.line(one), *content.remarks(one)[:10]]
            title = f"{content.verdict(one)}: {name}"
            warnings.append(annotation("warning", f"{prefix}{SUITE}/{file}", one.line + 1, title, texts))
    return errors[:MOST] + warnings[:MOST]


def _cause_in_repository(problem: Problem, root: Path) -> Cause | None:
    """Return the first cause with a line in a file of the repository; the files of packages are elsewhere."""
    return next((one for one in main_causes(problem) if one.line and (root / one.file).is_file()), None)


def annotation(level: str, file: str, line: int, title: str, texts: Iterable[str]) -> str:
    """Return a workflow command. Without a file (""), the annotation belongs to the whole job."""
    values = {"file": file, "line": str(line) if line else "", "title": form.plain(title)}
    place = ",".join(f"{name}={value.translate(_IN_PROPERTY)}" for name, value in values.items() if value)
    message = "\n".join(map(form.plain, filter(None, texts))).translate(_IN_MESSAGE)
    return f"::{level} {place}::{message}"
