"""The results of a run as short plain text for a language model: one fact a line, the most important first."""

from collections.abc import Iterable, Iterator

from plumbline.project import explain_command
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.reporting.next_step import next_step
from plumbline.reporting.problems import codes_to_explain, find_problems
from plumbline.results.schema import Cause, Problem, Results

_MOST_CHARACTERS = 8_000
_LINE = 300  # characters
_MOST_REASONS = 5
_MOST_DETAILS = 8  # lines of an error
_MOST_CAUSES = 10


def render(results: Results) -> str:
    """Return verdict, exit code, problems, warnings and notes; what does not fit is counted."""
    code = results.exit_code
    head = [
        _line("verdict", content.headline(results)),
        _line("exit code", "" if code is None else f"{code} ({content.EXIT_CODES.get(code, 'unknown')})"),
        *(
            _line("reason", f"[{one.kind}] {_first(content.reason_text(one))}")
            for one in results.reasons[:_MOST_REASONS]
        ),
        _line("summary", content.summary(results)),
        _line("base", results.base),
        _line("baseline", results.baseline if content.compared(results) else "none"),
    ]
    problems = results.problems or find_problems(results)
    texts = {
        "problems": [
            "".join(_problem(results, one, f"problem {number} of {len(problems)}"))
            for number, one in enumerate(problems, start=1)
        ],
        "warnings": list(_warnings(results, {one.key for one in problems})),
        "notes": [_line("note", one) for one in content.notes(results)],
    }
    step = next_step(results)
    tail = [
        _command("next", f"{step.command}  # {step.purpose}" if step else ""),
        _command("explain", explain_command(*codes) if (codes := codes_to_explain(results, problems)) else ""),
    ]
    room = _MOST_CHARACTERS - sum(map(len, [*head, *tail]))
    left_out = []
    for name, some in texts.items():
        kept = 0
        for text in some:
            if (room := room - len(text)) < 0 and (name, kept) != ("problems", 0):
                break
            head.append(text)
            kept += 1
        if kept < len(some):
            left_out.append(f"{len(some) - kept} {name}")
    return "".join(
        [*head, _line("left out", ", ".join(left_out) and f"{', '.join(left_out)}: see results.json"), *tail]
    )


def _problem(results: Results, problem: Problem, title: str) -> Iterator[str]:
    yield _line(title, f"{problem.verdict}: {problem.key or 'the run'}")
    yield _line("  at", f"{problem.file}:{problem.line}" if problem.line else problem.file)
    yield _line("  codes", ", ".join(problem.codes))
    for cause in problem.causes[:_MOST_CAUSES]:
        yield _line("  cause", form.shortened(f"{cause.text}{_place(cause)}", _LINE))  # its place is at the end
    more = len(problem.causes) - _MOST_CAUSES
    yield _line("  more causes", f"{more}: see results.json" if more > 0 else "")
    for one in results.benchmarks:
        if one.key == problem.key:
            yield from (_line("  warning", text) for text in content.warnings(one))
    for detail in _details(results, problem):
        yield _line("  error", detail)
    yield _command("  repeat", problem.repeat)


def _place(cause: Cause) -> str:
    place = f"{cause.file}:{cause.line}" if cause.line else cause.file
    return "" if place in cause.text else f" at {place}" + (f" in {cause.function}" if cause.function else "")


def _details(results: Results, problem: Problem) -> list[str]:
    """Return the first lines of a failed test's error, or the last ones of the reason for an invalid run.

    Without those that a cause shows. An output ends with its error, and then the reason says what to do.
    """
    if problem.verdict == "failed":
        texts = [test.message for test in results.tests if test.key == problem.key]
        lines = form.first_lines("\n".join(texts), _MOST_DETAILS)
    else:
        found = [one for one in results.reasons if not problem.key and one.kind in problem.codes]
        texts = [content.reason_text(one) for one in found if "".join(one.subjects[:1]).startswith(problem.file)]
        lines = [line for line in "\n".join(texts).splitlines() if line.strip()][-_MOST_DETAILS:]
    known = "".join(cause.text for cause in problem.causes)
    return [line for line in lines if line not in known]


def _warnings(results: Results, known: Iterable[str]) -> Iterator[str]:
    for one in content.by_urgency(results.benchmarks):
        if content.is_notable(one) and one.key not in known:
            why = "; ".join(content.remarks(one))
            codes = ", ".join(reason.kind for reason in one.reasons)
            yield _line("warning", f"{content.verdict(one)}: {one.key}: [{codes}] {why}")


def _line(name: str, text: str) -> str:
    """Return one line, "" without a text: no text can begin another line."""
    text = form.plain(text).strip()
    return f"{name}: {text[:_LINE]}{' (cut)' if len(text) > _LINE else ''}\n" if text else ""


def _command(name: str, command: str) -> str:
    """Return a line with a command, which is whole or left out."""
    fits = len(command) <= _LINE and form.plain(command) == command
    return _line(name, command if fits else "see results.json: it does not fit on a line")


def _first(text: str) -> str:
    return next(iter(text.splitlines()), "")
