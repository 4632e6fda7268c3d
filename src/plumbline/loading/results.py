"""The results of a load test as load.json, and as text for the terminal and load.md."""

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from plumbline.loading.figures import Figures
from plumbline.loading.verdict import Change, Finding, Verdict
from plumbline.reporting.format import percent, plain
from plumbline.reporting.github import MOST, annotation, escaped

SCHEMA = 1
HEADINGS = ("rate", "side", "reached", "requests", "p50", "p95", "p99", "max", "errors")
MOST_SHOWN = 9.0  # a change above this comes from an interval of too few windows
DECIDING = {"invalid", "regression", "inconclusive"}


class SideResults(Struct, frozen=True):
    """One side of a load test."""

    name: str
    stages: list[Figures]
    highest_rate_per_s: float  # that kept the budgets


class LoadResults(Struct, frozen=True, kw_only=True):
    """The content of load.json."""

    schema: int = SCHEMA
    plumbline: str
    created: str
    target: str = ""
    base: str = ""  # the base commit and why it is the base
    verdict: Verdict
    exit_code: int
    sides: list[SideResults] = []
    findings: list[Finding] = []
    changes: list[Change] = []
    notes: list[str] = []


def summary(results: LoadResults) -> list[list[str]]:
    """Return the rows of the table: one for each stage and side."""
    rows = []
    for stages in zip(*(side.stages for side in results.sides), strict=True):
        for side, one in zip(results.sides, stages, strict=True):
            times = [f"{one.ms(name):.4g} ms" for name in ("p50", "p95", "p99", "max")]
            rate = [f"{one.rate_per_s:g}/s", side.name, f"{one.reached_per_s:.4g}/s", f"{one.requests:,}"]
            rows.append([*rate, *times, f"{one.error_share:.2%}"])
    return rows


def judged(results: LoadResults) -> list[tuple[Verdict, str]]:
    """Return what was judged, with its verdict, what decides first."""
    rates = _rates(results)
    findings = [(one.verdict, f"{_at(rates, one.stage)}{one.text}") for one in results.findings]
    changed = [one for one in results.changes if one.low or one.high]  # all others: both sides never failed
    changes = [(one.verdict, f"{_at(rates, one.stage)}{one.figure} {_changed(one)}") for one in changed]
    return sorted([*findings, *changes], key=lambda one: one[0] not in DECIDING)


def sentences(results: LoadResults) -> list[str]:
    """Return what was judged, and the remarks."""
    return [*(f"{verdict}: {text}" for verdict, text in judged(results)), *remarks(results)]


def remarks(results: LoadResults) -> Iterator[str]:
    """Yield the errors of requests, the highest rates, and notes."""
    rates = _rates(results)
    for side in results.sides:
        for stage, figures in enumerate(side.stages):
            yield from (f"{side.name}: {_at(rates, stage)}failed: {plain(error)}" for error in figures.errors)
        if len(rates) > 1:
            yield f"{side.name}: highest rate within the budgets: {side.highest_rate_per_s:g}/s"
    yield from results.notes


def _rates(results: LoadResults) -> list[float]:
    return [one.rate_per_s for one in results.sides[-1].stages] if results.sides else []


def _at(rates: Sequence[float], stage: int | None) -> str:
    return f"at {rates[stage]:g}/s: " if stage is not None and len(rates) > 1 else ""


def _changed(change: Change) -> str:
    if change.figure == "error share":
        shown: Callable[[float], str] = lambda share: f"{share:+.2%}"  # noqa: E731
    else:
        shown = lambda share: percent(share) or "0 %"  # noqa: E731
    verb = "fell by" if change.figure == "highest rate" else "changed by"
    if change.high > MOST_SHOWN:
        return f"{verb} {shown(change.change)} (too few windows or requests to judge: raise duration_s or window_s)"
    return f"{verb} {shown(change.change)} ({shown(change.low)} to {shown(change.high)})"


def as_text(results: LoadResults) -> str:
    """Return the results as lines for a terminal."""
    table = aligned([list(HEADINGS), *summary(results)]) if results.sides else []
    return "\n".join([*table, *sentences(results), f"verdict: {results.verdict}"])


def as_markdown(results: LoadResults) -> str:
    """Return the results as load.md."""
    lines = [f"# Load test: {results.verdict}", "", f"Target: {escaped(results.target)}"]
    lines += [f"Base: {escaped(results.base)}"] if results.base else []
    if results.sides:
        rows = [list(HEADINGS), ["---"] * len(HEADINGS), *summary(results)]
        lines += ["", *(f"| {' | '.join(row)} |" for row in rows)]
    lines += ["", *(f"- {escaped(one)}" for one in sentences(results))]
    return "\n".join(lines) + "\n"


def annotations(results: LoadResults) -> list[str]:
    """Return one line for GitHub for each figure that failed or is unclear, and for each reason of an invalid run."""
    found = [(verdict, text) for verdict, text in judged(results) if verdict in DECIDING]
    levels = [("warning" if verdict == "inconclusive" else "error", verdict, text) for verdict, text in found]
    return [annotation(level, "", 0, f"load test: {verdict}", [text]) for level, verdict, text in levels][:MOST]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
