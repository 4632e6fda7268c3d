"""The texts of a search for the commit that made a benchmark worse."""

from plumbline.comparing.bisection import Slower, StepResult
from plumbline.comparing.trees.history import SHOWN, Commit
from plumbline.judging.counts import GrownCount
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.reporting.problems import one_line

_PLURALS = {"statement": "statements", "parse": "prepared statements", "command": "commands"}


def sought_text(sought: GrownCount | Slower) -> str:
    """Return what a search looks for: `+10 %`, `90th percentile +50 %`, `postgres statements 1 → 51`."""
    if isinstance(sought, GrownCount):
        kind, _, rest = sought.name.partition(" ")
        service, _, unit = kind.partition(".")
        what = rest or _PLURALS.get(unit, unit.replace("_", " "))
        return f"{service} {what} {content.number(sought.old)} → {content.number(sought.new)}"
    return f"{form.TAILS[sought.tail]} {form.percent(sought.change)}" if sought.tail else form.percent(sought.change)


def step_text(tested: StepResult) -> str:
    """Return the result of a step: `good, +0.3 % (-1.2…+1.4)`, `bad, 51`, `skipped: ModuleNotFoundError: …`."""
    if tested.answer == "skip":
        return f"skipped: {form.error_in(tested.why) or one_line(tested.why.removeprefix('in head: '))}"
    if tested.count is not None:
        return f"{tested.answer}, {content.number(tested.count)}"
    if (one := tested.judgement) is None:
        return f"{tested.answer}: {tested.why}"
    doubt = ", not certain: decided by its estimate" if one.verdict == "inconclusive" else ""
    return f"{tested.answer}, {form.percent(one.change)} ({form.interval(one.low, one.high)}){doubt}"


def commit_text(commit: Commit) -> str:
    """1a2b3c4d5e Look each item up by its id (Ann Author, 2026-11-30 03:30:53 +0000)"""
    return form.plain(f"{commit.name[:SHOWN]} {commit.subject} ({commit.author}, {commit.date})")
