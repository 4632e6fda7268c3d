"""The texts of reasons, and of counts that have changed."""

from plumbline.results.reasons import CountGrowth, Kind, Reason

# Names in a list; the others are counted.
_MOST_LISTED = 5


def text(reason: Reason) -> str:
    """Return the text of a reason, without a full stop; errors may have several lines."""
    counts = [count_text(count) for count in reason.counts]
    names = reason.subjects or counts
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    share, accepted = (f"{share * 100:.0f} %" for share in (reason.share, reason.accepted_share))
    said = _TEXTS[reason.kind].format(
        reason=reason,
        share=share,
        listed=", ".join(names[:_MOST_LISTED]) + more,
        all="; ".join(reason.subjects),
        counts=", ".join(counts),
        beyond=", ".join(counts) or f"at least {share} slower, after {accepted}",
    )
    return f"when measured again: {said}" if reason.when_repeated else said


def count_text(growth: CountGrowth) -> str:
    """`redis messages 6 → 8 in 12 benchmarks`, `SELECT … FROM item WHERE id = $1: 1 → 51`"""
    kind, _, statement = growth.name.partition(" ")
    service, _, unit = kind.partition(".")
    statements = {"statement": f"{statement}:", "parse": f"{statement}: prepared"}
    label = statements.get(unit, f"{service} {statement or unit.replace('_', ' ')}")
    old, new, difference = map(_number, (growth.old, growth.new, growth.new - growth.old))
    change = f"{old} → {new}" if growth.alike else difference if difference[0] == "-" else f"+{difference}"
    return f"{label} {change}" + (f" in {growth.benchmarks} benchmarks" if growth.benchmarks > 1 else "")


def _number(count: float) -> str:
    return f"{count:,.4g}" if count < 10_000 else f"{count:,.0f}"


# With the values that `text` fills in.
_TEXTS: dict[Kind, str] = {
    "source_changed": "its source, or that of a fixture, is not the baseline's",
    "not_comparable": "not comparable: {all}",
    "pinned_once": "pinned to one core either in the baseline or now, but not in both",
    "measured_zero": "too short for the clock: it measured 0",
    "not_ruled_out": "a slow-down of {share} can't be ruled out",
    "slower_in_processes": "slower in {reason.number} fresh processes",
    "machine_slower": "the machine itself is {share} slower than when the baseline was recorded",
    "machine_faster": "the machine itself is {share} faster than when the baseline was recorded",
    "unaffected": "executes nothing that differs from {reason.detail}",
    "compared": "compared in {reason.number} pairs",
    "pairs_inconclusive": "inconclusive after {reason.number} pairs",
    "comparison_failed": "could not be compared with the base: {reason.detail}",
    "no_time_left": "not compared with the base: the time was up",
    "application_elsewhere": "not compared with the base: PERF_API_URL is one application for both",
    "baseline_edited": "this change edits its baseline",
    "not_slower_than_base": "slower than the baseline, not than the base",
    "count_grown": "{counts}",
    "accepted": "accepted: {reason.detail}",
    "beyond_accepted": "{beyond}, which is beyond what was accepted: {reason.detail}",
    "test_gone": "its test is gone: record a new baseline if that is intended",
    "test_measures_nothing": "its test measures nothing now: record a new baseline if that is intended",
    "test_skipped": "skipped: {reason.detail}",
    "removed": "this change takes it out of the baseline",
    "ended": "{reason.detail}",
    "not_collected": "{listed} can't be collected:\n{reason.detail}",
    "pytest_failed": "pytest ended with exit code {reason.detail} before its end (see above)",
    "comparison_invalid": "{reason.detail}",
    "no_comparison": "no paired comparison: {reason.detail}",
    "nothing_measured": "nothing was measured",
    "benchmarks_invalid": "invalid: {listed}",
    "benchmarks_missing": "in the baseline, but not measured: {listed}",
    "counts_grown": "more than in the baseline: {listed}",
    "slower_than_base": "slower than the base: {listed}",
    "slower_than_baseline": "slower than the baseline: {listed}",
    "budgets_broken": "budget broken: {listed}",
    "tests_failed": "test failed: {listed}",
    "benchmarks_inconclusive": "{reason.number} of {reason.of} benchmarks are inconclusive",
    "drifted": "worse than the baseline, but not because of this change: {listed}",
    "no_baseline": "there is no baseline to compare with",
    "sources_changed": "nothing was judged, as the source changed: {listed}",
    "within_limits": "{reason.number} benchmarks within their limits",
}
