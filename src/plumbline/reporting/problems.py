"""The problems of a run: what fails it, the causes that are known, and the command that repeats each one."""

import shlex
from collections.abc import Iterator
from typing import cast

from plumbline.judging.counts import explaining, grown_counts, growth
from plumbline.judging.decide import broken
from plumbline.project import EXIT_INCONCLUSIVE, SUITE
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.results.schema import (
    Benchmark,
    Cause,
    CauseKind,
    CountChange,
    Kind,
    Problem,
    ProblemVerdict,
    Reason,
    Results,
    TestOutcome,
)

MOST_FUNCTIONS = 3
# Reasons that are about the run itself: the others name benchmarks, which are problems of their own.
_OF_THE_RUN: set[Kind] = {
    *("ended", "not_collected", "pytest_failed", "comparison_invalid", "no_comparison", "nothing_measured"),
}
# Reasons of a regression that its other causes say with their figures.
_SHOWN: set[Kind] = {"count_grown", "compared", "slower_in_processes"}
_COUNTS: dict[str, CauseKind] = {
    "postgres.statement": "statement",
    "postgres.parse": "statement",
    "redis.command": "command",
}


def find_problems(results: Results) -> list[Problem]:
    """Return what fails a run: the run itself if it is invalid, then benchmarks, the worst first, then failed tests."""
    failing = content.FAILING | ({"inconclusive"} if results.exit_code == EXIT_INCONCLUSIVE else set())
    why = results.reasons if results.verdict == "invalid" else []
    bad = [one for one in content.by_urgency(results.benchmarks) if content.verdict(one) in failing]
    return [
        *(_of_run(results, one) for one in why if one.kind in _OF_THE_RUN),
        *(_of_benchmark(results, one) for one in bad),
        *(_of_test(results, one) for one in content.failed_tests(results)),
    ]


def _of_run(results: Results, reason: Reason) -> Problem:
    file = reason.subjects[0].partition("::")[0] if reason.kind == "not_collected" and reason.subjects else ""
    cause = Cause("run", _one_line(content.reason_text(reason)), file=file)
    return Problem("", "invalid", [reason.kind], [cause], content.session_of(results), file)


def _of_benchmark(results: Results, benchmark: Benchmark) -> Problem:
    codes: list[Kind] = [reason.kind for reason in benchmark.reasons]
    if broken(benchmark):
        codes.insert(0, "budgets_broken")
    if benchmark.verdict == "regression" and not grown_counts(benchmark):
        codes.insert(0, "slower_than_base" if results.base else "slower_than_baseline")
    return Problem(
        benchmark.key,
        cast(ProblemVerdict, content.verdict(benchmark)),
        list(dict.fromkeys(codes)),
        list(_causes(results, benchmark)),
        _repeat(results, benchmark.key),
        _file(benchmark.key),
        0 if benchmark.verdict == "missing" else benchmark.line + 1,
    )


def _causes(results: Results, benchmark: Benchmark) -> Iterator[Cause]:
    grown = explaining(grown_counts(benchmark)) if benchmark.verdict == "regression" else []
    causes = [Cause(_kind(one), content.count_text(growth(one)), one.old, one.new) for one in grown]
    # Statements and commands first, those that grew most before the others: they explain the other counts.
    yield from sorted(causes, key=lambda cause: (cause.kind == "count", (cause.old or 0.0) - (cause.new or 0.0)))
    own = [one for one in benchmark.functions if one.own and not one.file.startswith(f"{SUITE}/")]
    for one in own[:MOST_FUNCTIONS]:
        place = one.file, one.line, one.name, one.where or "test"
        yield Cause("function", form.function(one), one.base_s, one.head_s, *place)
    tolerance = results.tolerance if benchmark.tolerance is None else benchmark.tolerance
    is_slower = (benchmark.change_low or 0.0) > (tolerance or 0.0)
    if benchmark.verdict == "regression" and content.is_evidence(benchmark) and (is_slower or not grown):
        old, new = content.medians(benchmark)
        text = f"median {form.duration(old)} → {form.duration(new)} ({form.percent(benchmark.change)})"
        yield Cause("time", text, old, new)
    for result in broken(benchmark):
        yield Cause("budget", form.budget(result), result.limit, result.measured)
    for reason in benchmark.reasons:
        if not (benchmark.verdict == "pass" or (benchmark.verdict == "regression" and reason.kind in _SHOWN)):
            yield Cause("reason", _one_line(content.reason_text(reason)))


def _kind(change: CountChange) -> CauseKind:
    return _COUNTS.get(change.name.partition(" ")[0], "count")


def _of_test(results: Results, test: TestOutcome) -> Problem:
    error = next(iter(form.first_lines(test.message, 1)), "")
    cause = [Cause("test", error)] if error else []
    return Problem(test.key, "failed", ["tests_failed"], cause, _repeat(results, test.key), _file(test.key), test.line)


def _file(key: str) -> str:
    return f"{SUITE}/{form.file_and_name(key)[0]}"


def _repeat(results: Results, key: str) -> str:
    return f"{content.session_of(results)} -- {shlex.quote(f'{SUITE}/{key}')}"


def _one_line(text: str) -> str:
    """Return the first line of a text, with the error that follows it, if one does."""
    first, _, rest = text.partition("\n")
    return form.plain(" ".join([first, *form.first_lines(rest, 1)[:1]]))
