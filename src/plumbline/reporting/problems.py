"""The problems of a run: what fails it, the causes that are known, and the command that repeats each one."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import cast

from plumbline.judging.counts import grown_counts
from plumbline.judging.decide import LOOP_HOLD, broken
from plumbline.judging.explaining import explaining, growth, most_telling_first
from plumbline.project import EXIT_INCONCLUSIVE, SUITE
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.reporting.next_step import command_for, session_of
from plumbline.results.schema import (
    Benchmark,
    BudgetResult,
    Cause,
    CauseKind,
    CountChange,
    FunctionTime,
    Kind,
    Problem,
    ProblemVerdict,
    Reason,
    Results,
    TestOutcome,
)

MOST_FUNCTIONS = 3
MOST_CAUSES = 3
# Reasons that are about the run itself: the others name benchmarks, which are problems of their own.
_OF_THE_RUN: set[Kind] = {
    *("ended", "not_collected", "pytest_failed", "comparison_invalid", "no_comparison", "nothing_measured"),
    *("services_missing", "shard_missing", "shard_unreadable", "shard_twice", "shards_differ"),
}
# Reasons that say how a regression was found, for lack of a cause.
_HOW: set[Kind] = {"compared", "slower_in_processes", "tail_slower"}
_COUNTS: dict[str, CauseKind] = {
    "postgres.statement": "statement",
    **dict.fromkeys(("postgres.parse", "postgres.rows_read", "postgres.buffers"), "statement"),
    "redis.command": "command",
}


def find_problems(results: Results) -> list[Problem]:
    """Return what fails a run: the run itself if it is invalid, then benchmarks, the worst first, then failed tests."""
    failing = [*content.FAILING, *(["inconclusive"] if results.exit_code == EXIT_INCONCLUSIVE else [])]
    why = results.reasons if results.verdict == "invalid" else []
    bad = [one for one in content.by_urgency(results.benchmarks) if content.verdict(one) in failing]
    return [
        *(_of_run(results, one) for one in why if one.kind in _OF_THE_RUN),
        *(_of_benchmark(results, one) for one in bad),
        *(_of_test(results, one) for one in content.failed_tests(results)),
    ]


def heading_of(problem: Problem) -> str:
    """Return the heading of its block: a broken budget is not called a regression."""
    headings = {"regression": "Failed", "failed": "Failed tests"}
    return headings.get(problem.verdict, problem.verdict.capitalize())


def by_heading(problems: Iterable[Problem]) -> dict[str, list[Problem]]:
    """Return the problems of benchmarks by the heading of their block."""
    found: dict[str, list[Problem]] = {}
    for problem in problems:
        if problem.key and problem.verdict != "failed":
            found.setdefault(heading_of(problem), []).append(problem)
    return found


def codes_to_explain(results: Results, problems: Iterable[Problem]) -> list[Kind]:
    """Return the codes of all problems; if there are none, those of the warnings about benchmarks or the run."""
    codes = [code for problem in problems for code in problem.codes]
    codes = codes or [why.kind for one in results.benchmarks if content.is_notable(one) for why in one.reasons]
    warned = results.exit_code or results.verdict in ("inconclusive", "drift")
    return list(dict.fromkeys(codes)) or [reason.kind for reason in results.reasons[:1] if warned]


def _of_run(results: Results, reason: Reason) -> Problem:
    file = reason.subjects[0].partition("::")[0] if reason.kind == "not_collected" and reason.subjects else ""
    text = one_line(content.reason_text(reason))
    if reason.kind == "not_collected" and text.endswith(":"):
        text = form.plain(" ".join([text, *reason.detail.splitlines()[-1:]]))  # the last line names the error
    cause = Cause("run", text, file=file)
    return Problem("", "invalid", [reason.kind], [cause], session_of(results), file)


def _of_benchmark(results: Results, benchmark: Benchmark) -> Problem:
    codes: list[Kind] = [reason.kind for reason in benchmark.reasons if benchmark.verdict != "pass"]
    if broken(benchmark):
        codes.insert(0, "budgets_broken")
    if benchmark.verdict == "regression" and not grown_counts(benchmark):
        codes.insert(0, "slower_than_base" if results.base else "slower_than_baseline")
    return Problem(
        benchmark.key,
        cast(ProblemVerdict, content.verdict(benchmark)),
        list(dict.fromkeys(codes)),
        list(_causes(results, benchmark)),
        command_for(results, benchmark.key),
        _file(benchmark.key),
        0 if benchmark.verdict == "missing" else benchmark.line + 1,
    )


def _causes(results: Results, benchmark: Benchmark) -> Iterator[Cause]:
    grown = explaining(grown_counts(benchmark)) if benchmark.verdict == "regression" else []
    for one in most_telling_first(grown):
        sites = [(site.file, site.line, site.function, site.process or "test") for site in one.sites]
        yield Cause(_kind(one), content.count_text(growth(one)), one.old, one.new, *next(iter(sites), ()))
    for change in benchmark.plan_changes if benchmark.verdict == "regression" else []:
        yield Cause("plan", form.plan(change))
    for function in _own_functions(benchmark)[:MOST_FUNCTIONS]:
        place = function.file, function.line, function.name, function.where or "test"
        yield Cause("function", form.function(function), function.base_s, function.head_s, *place)
    tolerance, _ = content.limits(results, benchmark)
    is_slower = (benchmark.change_low or 0.0) > (tolerance or 0.0)
    tails = [one for one in benchmark.tails if one.slower and not is_slower]
    for tail in tails:
        yield Cause("tail", form.tail(tail, form.per(benchmark)), tail.base_s, tail.head_s)
    if benchmark.verdict == "regression" and content.is_evidence(benchmark) and (is_slower or not (grown or tails)):
        old, new, *_ = content.figures(benchmark)
        text = f"median {content.medians_text(benchmark)} ({form.percent(benchmark.change)})"
        yield Cause("time", text, old, new)
    for result in broken(benchmark):
        yield _of_budget(benchmark, result)
    shown = {"count_grown", *_HOW} if grown or tails or benchmark.functions else {"count_grown"}
    for reason in benchmark.reasons:
        if not (benchmark.verdict == "pass" or (benchmark.verdict == "regression" and reason.kind in shown)):
            yield Cause("reason", one_line(content.reason_text(reason)))


def _of_budget(benchmark: Benchmark, result: BudgetResult) -> Cause:
    text, hold = f"budget {form.budget(result)}", benchmark.loop_hold
    if result.name != LOOP_HOLD or hold is None or not hold.file:
        return Cause("budget", text, result.limit, result.measured)
    place = hold.file, hold.line, hold.function, hold.process or "test"
    return Cause("budget", f"{text}, {form.site(hold)}", result.limit, result.measured, *place)


def _kind(change: CountChange) -> CauseKind:
    return _COUNTS.get(change.name.partition(" ")[0], "count")


def _own_functions(benchmark: Benchmark) -> list[FunctionTime]:
    """Return the slower functions of the user's code, without those of the suite, which wait for the others.

    A comprehension or a lambda is named only if nothing else is known: the function around it is there as well.
    """
    own = [one for one in benchmark.functions if one.own and not one.file.startswith(f"{SUITE}/")]
    return [one for one in own if not one.name.endswith(">")] or own


def _of_test(results: Results, test: TestOutcome) -> Problem:
    error = next(iter(form.first_lines(test.message, 1)), "")
    causes = [Cause("test", error)] if error else []
    causes += [Cause("test", f"{name}: {text}", process=name) for name, text in form.errors_of_processes(test.message)]
    return Problem(
        test.key, "failed", ["tests_failed"], causes, command_for(results, test.key), _file(test.key), test.line
    )


def main_causes(problem: Problem, most: int = MOST_CAUSES) -> list[Cause]:
    """Return the causes that tell most: the first of each group of kinds, then functions, then the others.

    Without the time, which a report shows beside the name.
    """
    causes = [cause for cause in problem.causes if cause.kind != "time"]
    groups = Counter[str]()
    order = []
    for number, cause in enumerate(causes):
        group = "count" if cause.kind in ("statement", "command", "count") else cause.kind
        order.append((groups[group] > 0, groups[group] > 0 and group != "function", number))
        groups[group] += 1
    return [causes[number] for number in sorted(number for *_, number in sorted(order)[:most])]


def main_texts(problem: Problem, benchmark: Benchmark, most: int = MOST_CAUSES) -> list[str]:
    """Return the texts of the main causes; reasons are whole, and may have several lines."""
    whole = {one_line(text): text for text in map(content.reason_text, benchmark.reasons)}
    causes = main_causes(problem, most)
    return [whole[one.text] if one.kind == "reason" else with_prefix(one) for one in causes]


def with_prefix(cause: Cause) -> str:
    """Return the text of a cause: a function and its times do not say by themselves what is wrong."""
    return f"slower: {cause.text}" if cause.kind == "function" else cause.text


def _file(key: str) -> str:
    return f"{SUITE}/{form.file_and_name(key)[0]}"


def one_line(text: str) -> str:
    """Return the first line of a text, with the error of the traceback that follows it, if one does."""
    first, _, rest = text.partition("\n")
    error = form.error_in(rest)
    return form.plain(f"{first.rstrip(':')}: {error}" if error else first)
