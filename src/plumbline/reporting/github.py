"""Annotations at the lines of benchmarks and tests, as a GitHub workflow takes them from the output of a step."""

from plumbline.reporting import format as form
from plumbline.results.schema import Benchmark, Results

MOST = 10
"""Of errors, and of warnings as well, GitHub shows no more in a step."""


def annotations(results: Results) -> list[str]:
    """One line for each thing that needs eyes, the greatest change first; the last ones beyond MOST are left out."""
    loud = sorted(filter(form.needs_eyes, results.benchmarks), key=form.urgency)
    errors = [_line("error", one) for one in loud if form.verdict(one) in form.FAILING]
    errors += [
        _command("error", f"{form.ROOT}{form.file_and_name(test.key)[0]}", 0, f"failed: {test.key}", message)
        for test in results.tests
        if test.outcome == "failed"
        for message in ["\n".join(form.first_lines(test.message, 10)) or "see the log"]
    ]
    warnings = [_line("warning", one) for one in loud if form.verdict(one) not in form.FAILING]
    return errors[:MOST] + warnings[:MOST]


def _line(level: str, benchmark: Benchmark) -> str:
    file, name = form.file_and_name(benchmark.key)
    message = "\n".join(form.plain(text) for text in (form.figures(benchmark), *form.remarks(benchmark)[:10]) if text)
    line = benchmark.line + 1 if benchmark.verdict != "missing" else 0
    return _command(level, form.ROOT + file, line, f"{form.verdict(benchmark)}: {name}", message)


def _command(level: str, file: str, line: int, title: str, message: str) -> str:
    """See docs.github.com, workflow commands; `line`: from 1, or 0 where it isn't known."""
    where = f"file={_property(file)}," + (f"line={line}," if line else "")
    return f"::{level} {where}title={_property(form.plain(title))}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
