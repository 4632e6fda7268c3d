"""The top of the page: what was measured, the verdict, and what is wrong with its cause."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.reporting.html.elements import (
    Markup,
    facts,
    folded,
    listed,
    tag,
    tone,
    verbatim,
    verdict_of,
)
from plumbline.reporting.next_step import next_step
from plumbline.reporting.problems import codes_to_explain, find_problems, heading_of, main_causes, with_prefix
from plumbline.results.schema import Kind, Problem, Reason, Results

_MOST_LINES = 10  # of a traceback or log
_MOST_PROBLEMS = 10  # the table has all
# Reasons of a run that name benchmarks or tests.
_NAMING: set[Kind] = {
    *("slower_than_base", "slower_than_baseline", "budgets_broken", "tests_failed"),
    *("benchmarks_invalid", "benchmarks_missing"),
}
# The verdicts in the order of the summary, and its words for them.
_COUNTED = {
    **{name: name for name in ("regression", "over budget", "missing", "invalid", "inconclusive")},
    "drift": "drifted: slower than the baseline, but not because of this change",
    "accepted": "accepted regression",
    "improvement": "improvement",
    "pass": "passed",
    content.NOT_AFFECTED: "not affected by this change",
    "new": "new benchmark",
    "changed": "with a changed source",
    "removed": "removed",
    "not judged": "not judged",
}
_NOUNS = {"regression", "accepted", "improvement", "new"}


def verdict(results: Results) -> Markup:
    headline = content.headline(results)
    its_tone = "good" if content.all_well(results) else "bad" if results.exit_code else tone(headline)
    step, problems = next_step(results), find_problems(results)
    codes = codes_to_explain(results, problems)
    return tag(
        "header",
        facts(_run(results)),
        tag("h1", content.title(results), class_=its_tone),
        *(part for reason in _own_reasons(results, problems) for part in _reason(reason)),
        _summary(results),
        tag("p", "Next: ", tag("code", step.command), f" {step.purpose}.") if step else "",
        tag("p", "Help: ", tag("code", f"plumbline explain {' '.join(codes)}"), " prints causes and remedies.")
        if codes
        else "",
        tag("p", content.exit_line(results), class_="quiet"),
        *_problems(results, problems, repeated=step.keys if step else ()),
    )


def _own_reasons(results: Results, problems: Sequence[Problem]) -> Iterator[Reason]:
    """Yield the reasons of the run without those that say nothing more than its problems."""
    shown = {problem.key for problem in problems}
    for reason in results.reasons[1 if content.is_first_run(results) else 0 :]:  # the title has it
        named = reason.kind in _NAMING and shown.issuperset(reason.subjects)
        if not (named or (reason.kind == "counts_grown" and all(count.benchmarks == 1 for count in reason.counts))):
            yield reason


def _reason(reason: Reason) -> Iterator[Markup]:
    """Yield the first line of a reason, and the others as they are: of a long traceback or log, the end first."""
    first, _, rest = content.reason_text(reason).partition("\n")
    yield tag("p", first[:1].upper() + first[1:], class_="reason")
    others = textwrap.dedent(rest).splitlines()
    if len(others) > _MOST_LINES:
        yield verbatim(["…", *others[-_MOST_LINES:]])
        yield folded(f"All {len(others):,} lines", verbatim(others))
    elif others:
        yield verbatim(others)


def _summary(results: Results) -> Markup:
    """Return how many benchmarks have each verdict, and how many tests failed or were skipped."""
    counts = Counter(
        content.NOT_AFFECTED if content.is_unaffected(one) else verdict_of(one) for one in results.benchmarks
    )
    items = [
        tag("li", f"{count:,} {words}{'s' * (count > 1 and name in _NOUNS)}", class_=tone(name))
        for name, words in _COUNTED.items()
        if (count := counts[name])
    ]
    outcomes = Counter[str](test.outcome for test in results.tests)
    for outcome, its_tone in (("failed", "bad"), ("skipped", "neutral")):
        if count := outcomes[outcome]:
            items.append(tag("li", f"{count:,} test{'s' * (count > 1)} {outcome}", class_=its_tone))
    return tag("ul", *items, class_="counts") if items else Markup()


def _run(results: Results) -> list[tuple[str, str]]:
    """Return what was measured, when, and what it was compared with."""
    of = results.environment
    baseline = "none" if results.benchmarks else ""
    if content.compared(results):
        recorded = f"recorded at {results.baseline_commit[:7]} on {results.baseline_created[:10]}"
        baseline = recorded if results.baseline_commit else results.baseline.rpartition("/")[2]
    return [
        ("project", results.project),
        ("branch", of.branch),
        ("commit", of.commit[:7] + (", with uncommitted changes" if of.dirty else "")),
        ("date", form.date(results.created)),
        ("took", _taken(results.duration_s)),
        (content.compared_with(results), results.base),
        ("baseline", baseline),
    ]


def _taken(seconds: float) -> str:
    """1 min 32 s"""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:,} min {rest} s" if minutes else f"{rest} s" if rest else ""


def _problems(results: Results, problems: Iterable[Problem], repeated: Sequence[str]) -> Iterator[Markup]:
    """Yield what fails the run, each with its main causes and the command that repeats it.

    `repeated`: the tests that the next step runs. It is not shown twice if it runs the only problem, and nothing else.
    """
    places = {one.key: (number, one) for number, one in enumerate(content.by_urgency(results.benchmarks))}
    short, last = content.names(results.benchmarks), ""
    problems = [problem for problem in problems if problem.key]  # the reasons say what is wrong with the run
    if {*repeated} == {problem.key for problem in problems} and len(problems) == 1:
        problems = [replace(problems[0], repeat="")]
    for problem in problems[:_MOST_PROBLEMS]:
        if (heading := heading_of(problem)) != last:
            yield tag("h2", heading)
        last = heading
        title = tag("bdi", short.get(problem.key, problem.key))
        number, benchmark = places.get(problem.key, (0, None))
        if benchmark is None:
            yield _problem(problem, title)
        else:
            figures = content.medians_text(benchmark), content.change_text(benchmark)
            yield _problem(problem, tag("a", title, href=f"#b{number}"), *filter(None, figures))
    if len(problems) > _MOST_PROBLEMS:
        yield tag("p", f"{len(problems) - _MOST_PROBLEMS:,} more failed: see below.")


def _problem(problem: Problem, title: Markup, *figures: str) -> Markup:
    parts = [title, *(tag("span", text, class_="figures") for text in figures)]
    place = f"{problem.file}:{problem.line}" if problem.line else problem.file
    causes = [with_prefix(cause) for cause in main_causes(problem)]
    return tag(
        "article",
        tag("h3", Markup(" ".join(parts))),
        listed(causes),
        tag("p", "Test: ", tag("code", place)) if place else "",
        tag("p", "Repeat: ", tag("code", problem.repeat)) if problem.repeat else "",
        class_="problem",
    )
