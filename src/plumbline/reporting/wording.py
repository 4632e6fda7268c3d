"""The texts of reasons, and of counts that have changed."""

from collections.abc import Callable, Sequence

from plumbline.results.reasons import CountGrowth, Kind, Reason

# Names in a list; the others are counted.
MOST_LISTED = 5


def text(reason: Reason) -> str:
    """Return the text of a reason, without a full stop; errors may have several lines."""
    return f"{'when measured again: ' if reason.when_repeated else ''}{_TEXTS[reason.kind](reason)}"


def count_text(growth: CountGrowth) -> str:
    """`redis messages 6 → 8 in 12 benchmarks`, `SELECT … FROM item WHERE id = $1: 1 → 51`"""
    change = f"{_number(growth.old)} → {_number(growth.new)}"
    if not growth.alike:
        difference = _number(growth.new - growth.old)
        change = difference if difference[0] == "-" else f"+{difference}"
    several = f" in {growth.benchmarks} benchmarks" if growth.benchmarks > 1 else ""
    return f"{_label(growth.name)} {change}{several}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def _beyond_accepted(reason: Reason) -> str:
    beyond = ", ".join(map(count_text, reason.counts))
    beyond = beyond or f"at least {_percent(reason.share)} slower, after {_percent(reason.accepted_share)}"
    return f"{beyond}, which is beyond what was accepted: {reason.detail}"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _label(name: str) -> str:
    kind, _, statement = name.partition(" ")
    service, _, unit = kind.partition(".")
    if unit == "statement":
        return f"{statement}:"
    if unit == "parse":
        return f"{statement}: prepared"
    return f"{service} {statement or unit.replace('_', ' ')}"


def _number(count: float) -> str:
    return f"{count:,.4g}" if count < 10_000 else f"{count:,.0f}"


_TEXTS: dict[Kind, Callable[[Reason], str]] = {
    "source_changed": lambda _: "its source, or that of a fixture, is not the baseline's",
    "not_comparable": lambda r: f"not comparable: {'; '.join(r.subjects)}",
    "pinned_once": lambda _: "pinned to one core either in the baseline or now, but not in both",
    "measured_zero": lambda _: "too short for the clock: it measured 0",
    "not_ruled_out": lambda r: f"a slow-down of {_percent(r.share)} can't be ruled out",
    "slower_in_processes": lambda r: f"slower in {r.number} fresh processes",
    "machine_slower": lambda r: f"the machine itself is {_percent(r.share)} slower than when the baseline was recorded",
    "machine_faster": lambda r: f"the machine itself is {_percent(r.share)} faster than when the baseline was recorded",
    "unaffected": lambda r: f"executes nothing that differs from {r.detail}",
    "compared": lambda r: f"compared in {r.number} pairs",
    "pairs_inconclusive": lambda r: f"inconclusive after {r.number} pairs",
    "comparison_failed": lambda r: f"could not be compared with the base: {r.detail}",
    "no_time_left": lambda _: "not compared with the base: the time was up",
    "application_elsewhere": lambda _: "not compared with the base: PERF_API_URL is one application for both",
    "baseline_edited": lambda _: "this change edits its baseline",
    "not_slower_than_base": lambda _: "slower than the baseline, not than the base",
    "count_grown": lambda r: ", ".join(map(count_text, r.counts)),
    "accepted": lambda r: f"accepted: {r.detail}",
    "beyond_accepted": _beyond_accepted,
    "test_gone": lambda _: "its test is gone: record a new baseline if that is intended",
    "test_measures_nothing": lambda _: "its test measures nothing now: record a new baseline if that is intended",
    "test_skipped": lambda r: f"skipped: {r.detail}",
    "removed": lambda _: "this change takes it out of the baseline",
    "ended": lambda r: r.detail,
    "not_collected": lambda r: f"{_listed(r.subjects)} can't be collected:\n{r.detail}",
    "pytest_failed": lambda r: f"pytest ended with exit code {r.detail} before its end (see above)",
    "comparison_invalid": lambda r: r.detail,
    "no_comparison": lambda r: f"no paired comparison: {r.detail}",
    "nothing_measured": lambda _: "nothing was measured",
    "benchmarks_invalid": lambda r: f"invalid: {_listed(r.subjects)}",
    "benchmarks_missing": lambda r: f"in the baseline, but not measured: {_listed(r.subjects)}",
    "counts_grown": lambda r: f"more than in the baseline: {_listed([count_text(one) for one in r.counts])}",
    "slower_than_base": lambda r: f"slower than the base: {_listed(r.subjects)}",
    "slower_than_baseline": lambda r: f"slower than the baseline: {_listed(r.subjects)}",
    "budgets_broken": lambda r: f"budget broken: {_listed(r.subjects)}",
    "tests_failed": lambda r: f"test failed: {_listed(r.subjects)}",
    "benchmarks_inconclusive": lambda r: f"{r.number} of {r.of} benchmarks are inconclusive",
    "drifted": lambda r: f"worse than the baseline, but not because of this change: {_listed(r.subjects)}",
    "no_baseline": lambda _: "there is no baseline to compare with",
    "sources_changed": lambda r: f"nothing was judged, as the source changed: {_listed(r.subjects)}",
    "within_limits": lambda r: f"{r.number} benchmarks within their limits",
}
