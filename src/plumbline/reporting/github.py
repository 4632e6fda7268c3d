"""Annotations on the source lines of benchmarks and tests, which a GitHub workflow reads from a step's output."""

from collections.abc import Iterable

from plumbline.project import SUITE
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.results.schema import Results

# GitHub shows no more errors in a step, and no more warnings.
MOST = 10


def annotations(results: Results) -> list[str]:
    """Return one line for each problem, the greatest change first; at most MOST errors, and as many warnings."""
    errors, warnings = [], []
    for benchmark in content.by_urgency(filter(content.is_notable, results.benchmarks)):
        file, name = form.file_and_name(benchmark.key)
        verdict = content.verdict(benchmark)
        line = benchmark.line + 1 if verdict != "missing" else 0
        texts = [content.line(benchmark), *content.remarks(benchmark)[:10]]
        place, message = _place(file, line, f"{verdict}: {name}"), _message(map(form.plain, filter(None, texts)))
        if verdict in content.FAILING:
            errors.append(f"::error {place}::{message}")
        else:
            warnings.append(f"::warning {place}::{message}")
    for test in content.failed_tests(results):
        place = _place(form.file_and_name(test.key)[0], 0, f"failed: {test.key}")
        errors.append(f"::error {place}::{_message(form.first_lines(test.message, 10)) or 'see the log'}")
    return errors[:MOST] + warnings[:MOST]


def _message(lines: Iterable[str]) -> str:
    """Escape a text as docs.github.com has it for workflow commands."""
    return "\n".join(lines).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _place(file: str, line: int, title: str) -> str:
    """Return the properties of a command; lines count from 1, 0 is unknown."""
    values = {"file": f"{SUITE}/{file}", "line": str(line or ""), "title": form.plain(title)}
    escaped = {name: _message([value]).replace(":", "%3A").replace(",", "%2C") for name, value in values.items()}
    return ",".join(f"{name}={value}" for name, value in escaped.items() if value)
