"""Annotations on the source lines of benchmarks and tests, which a GitHub workflow reads from a step's output."""

from plumbline.project import SUITE
from plumbline.reporting import figures, verdicts
from plumbline.reporting import format as form
from plumbline.results.schema import Benchmark, Results

# GitHub shows no more errors in a step, and no more warnings.
MOST = 10


def annotations(results: Results) -> list[str]:
    """Return one line for each problem, the greatest change first; at most MOST errors, and as many warnings."""
    notable = sorted(filter(verdicts.is_notable, results.benchmarks), key=verdicts.urgency)
    errors = [_of_benchmark("error", one) for one in notable if verdicts.verdict(one) in verdicts.FAILING]
    errors += [
        _command("error", form.file_and_name(test.key)[0], 0, f"failed: {test.key}", message)
        for test in results.tests
        if test.outcome == "failed"
        for message in ["\n".join(form.first_lines(test.message, 10)) or "see the log"]
    ]
    warnings = [_of_benchmark("warning", one) for one in notable if verdicts.verdict(one) not in verdicts.FAILING]
    return errors[:MOST] + warnings[:MOST]


def _of_benchmark(level: str, benchmark: Benchmark) -> str:
    file, name = form.file_and_name(benchmark.key)
    texts = (figures.line(benchmark), *figures.remarks(benchmark)[:10])
    line = benchmark.line + 1 if benchmark.verdict != "missing" else 0
    title = f"{verdicts.verdict(benchmark)}: {name}"
    return _command(level, file, line, title, "\n".join(form.plain(text) for text in texts if text))


def _command(level: str, file: str, line: int, title: str, message: str) -> str:
    """See docs.github.com, workflow commands; lines count from 1, 0 is unknown."""
    place = f"file={_property(f'{SUITE}/{file}')}," + (f"line={line}," if line else "")
    return f"::{level} {place}title={_property(form.plain(title))}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
