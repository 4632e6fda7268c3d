"""The results of a load test as load.json, and as text for the terminal and load.md."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from plumbline.loading.figures import Figures
from plumbline.loading.verdict import Change, Finding, Verdict
from plumbline.project import THE_RUN
from plumbline.reporting.format import date, percent, plain
from plumbline.reporting.github import MOST, annotation, as_code, escaped

SCHEMA = 1
FILE = "load.json"
HEADINGS = ("rate", "side", "reached", "requests", "p50", "p95", "p99", "max", "errors")
MOST_SHOWN = 9.0  # a change above this comes from an interval of too few windows
BUDGETS = "budgets"
DECIDING: tuple[Verdict, ...] = ("invalid", "regression", "inconclusive")  # the worst first


class SideResults(Struct, frozen=True):
    """One side of a load test."""

    name: str  # base or head
    stages: list[Figures]
    highest_rate_per_s: float  # that kept the budgets


class LoadResults(Struct, frozen=True, kw_only=True):
    """The content of load.json."""

    schema: int = SCHEMA
    plumbline: str
    created: str
    commit: str = ""
    command: str = ""  # that repeats it
    target: str = ""
    base: str = ""  # the base commit and why it is the base
    verdict: Verdict
    exit_code: int
    sides: list[SideResults] = []
    findings: list[Finding] = []
    changes: list[Change] = []
    notes: list[str] = []

    def __post_init__(self) -> None:
        stages = {len(side.stages) for side in self.sides}
        known = range(max(stages, default=0))
        named = {one.stage for one in self.findings} | {one.stage for one in self.changes}
        if len(stages) > 1 or named - {None, *known} or {side.name for side in self.sides} - {"base", "head"}:
            raise ValueError("the sides or their stages differ")


def read_load(folder: Path, commit: str) -> LoadResults | str:
    """Return the load test of this commit in a folder of results, or why there is none; "" if nobody ran one."""
    try:
        found = msgspec.json.decode((folder / FILE).read_bytes(), type=LoadResults)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{FILE} can't be read: {error.strerror}"
    except (msgspec.DecodeError, RecursionError) as error:  # includes ValidationError
        return f"{FILE} is of another version, damaged, or was edited by hand: {error}"
    if found.commit != commit:
        return f"{FILE} is of another commit, {plain(found.commit[:10]) or 'none'}: the report leaves it out"
    return found


def summary(results: LoadResults) -> list[list[str]]:
    """Return the rows of the table: one for each stage and side."""
    rows = []
    for stages in zip(*(side.stages for side in results.sides), strict=True):
        for side, one in zip(results.sides, stages, strict=True):
            times = [f"{one.ms(name):.4g} ms" for name in ("p50", "p95", "p99", "max")]
            rate = [f"{one.rate_per_s:g}/s", side.name, f"{one.reached_per_s:.4g}/s", f"{one.requests:,}"]
            rows.append([*rate, *times, f"{one.error_share:.2%}"])
    return rows


class Judged(NamedTuple):
    """A finding or a change, as text."""

    name: str  # of what was judged, the same in each run
    verdict: Verdict
    text: str


def judged(results: LoadResults) -> list[Judged]:
    """Return what was judged, what decides first."""
    rates = _rates(results)
    changed = [one for one in results.changes if one.low != 0 or one.high != 0]  # all others: both sides never failed
    found = [(one.stage, THE_RUN if one.stage is None else BUDGETS, one.verdict, one.text) for one in results.findings]
    found += [(one.stage, f"{one.figure} of head", one.verdict, f"{one.figure} {_changed(one)}") for one in changed]
    named = [Judged(f"{_at(rates, at)}{name}", verdict, f"{_at(rates, at)}{text}") for at, name, verdict, text in found]
    return sorted(named, key=lambda one: [*DECIDING, "pass"].index(one.verdict))


def sentences(results: LoadResults) -> list[str]:
    """Return what was judged, and the remarks."""
    return [*(f"{one.verdict}: {one.text}" for one in judged(results)), *remarks(results)]


def remarks(results: LoadResults) -> Iterator[str]:
    """Yield the errors of requests, the highest rates, and notes."""
    rates = _rates(results)
    for side in results.sides:
        for stage, figures in enumerate(side.stages):
            yield from (f"{side.name}: {_at(rates, stage)}failed: {plain(error)}" for error in figures.errors)
            if figures.stalled:
                stalls = f"the load generator stalled during {figures.stalled:,} of {figures.requests:,} requests"
                yield f"{side.name}: {_at(rates, stage)}{stalls}: its stalls fail no budget"
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
    if change.low is None or change.high is None or change.high > MOST_SHOWN:
        return f"{verb} {shown(change.change)} (too few windows or requests to judge: raise duration_s or window_s)"
    return f"{verb} {shown(change.change)} ({shown(change.low)} to {shown(change.high)})"


def as_text(results: LoadResults) -> str:
    """Return the results as lines for a terminal."""
    table = aligned([list(HEADINGS), *summary(results)]) if results.sides else []
    return "\n".join([*table, *sentences(results), f"verdict: {results.verdict}"])


def as_markdown(results: LoadResults) -> str:
    """Return the results as load.md."""
    return "\n".join([f"# {heading(results)}", "", *blocks(results)]) + "\n"


def heading(results: LoadResults) -> str:
    return f"Load test: {results.verdict}"


def marked(results: LoadResults) -> str:
    """Return the heading with the sign of its exit code."""
    return f"{'❌' if results.exit_code else '✅' if results.verdict == 'pass' else '⚠️'} {heading(results)}"


def blocks(results: LoadResults) -> list[str]:
    """Return the lines of a section in Markdown, what matters most first."""
    facts = {"Target": results.target, "Base": results.base, "Date": date(results.created)}
    lines = [f"{name}: {escaped(text)}  " for name, text in facts.items() if text]
    lines += [f"Repeat it with {as_code(results.command)}", ""] if results.command else [""]
    if results.sides:
        rows = [list(HEADINGS), ["---"] * len(HEADINGS), *summary(results)]
        lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    return lines + [f"- {escaped(one)}" for one in sentences(results)]


def annotations(results: LoadResults) -> list[str]:
    """Return one line for GitHub for each figure that failed or is unclear, and for each reason of an invalid run."""
    found = [one for one in judged(results) if one.verdict in DECIDING]
    levels = ["warning" if one.verdict == "inconclusive" else "error" for one in found]
    lines = zip(levels, found, strict=True)
    return [annotation(level, "", 0, f"load test: {one.verdict}", [one.text]) for level, one in lines][:MOST]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
