"""The content of all reports: figures of benchmarks, the outcome of the run, the next step, and texts of reasons."""

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from plumbline.judging.counts import group_changes
from plumbline.judging.decide import broken
from plumbline.project import EXIT_INTERRUPTED, EXIT_REGRESSION, EXIT_USAGE, SUITE, nox_command
from plumbline.reporting import format as form
from plumbline.results.schema import (
    Benchmark,
    CountGrowth,
    Kind,
    Reason,
    Results,
    TestOutcome,
    UnjudgedCause,
    UnjudgedPackage,
)

FAILING = {"regression", "over budget", "missing", "invalid"}  # verdicts that fail the run

EXIT_CODES = {
    0: "nothing failed",
    1: "a regression, a broken budget or count, or a failed test",
    2: "wrong usage",
    3: "invalid: something was not measured or compared, or not reliably",
    4: "inconclusive, and fail_on makes that fail",
    130: "interrupted",
}

_MOST_COMMAND_CHARACTERS = 74
_MOST_LISTED = 5  # names in a reason; the others are counted


def verdict(benchmark: Benchmark) -> str:
    """Return its verdict, or `over budget` if nothing else about it fails the run."""
    if broken(benchmark) and benchmark.verdict not in ("regression", "invalid", "missing"):
        return "over budget"
    return benchmark.verdict or ""


def is_notable(benchmark: Benchmark) -> bool:
    """Return whether a reader has to know of this benchmark."""
    return verdict(benchmark) in FAILING | {"inconclusive", "drift"}


def by_urgency(benchmarks: Iterable[Benchmark]) -> list[Benchmark]:
    """Return failing benchmarks, then notable ones, then the others, each with the greatest change first."""
    return sorted(benchmarks, key=lambda b: (verdict(b) not in FAILING, not is_notable(b), -(b.change or 0.0)))


def by_file(benchmarks: Iterable[Benchmark]) -> dict[str, list[Benchmark]]:
    files: dict[str, list[Benchmark]] = {}
    for benchmark in benchmarks:
        files.setdefault(form.file_and_name(benchmark.key)[0], []).append(benchmark)
    return files


def now(benchmark: Benchmark) -> float | None:
    """Return the median of this run in seconds; None if it was not measured."""
    return None if benchmark.verdict == "missing" else benchmark.median or None


def before(benchmark: Benchmark) -> float | None:
    """Return the median of the baseline in seconds; a missing benchmark is its baseline's entry."""
    return benchmark.baseline_median or (benchmark.median if benchmark.verdict == "missing" else None) or None


def is_evidence(benchmark: Benchmark) -> bool:
    """Return whether its change was judged: neither on another machine, nor of a benchmark that is not affected."""
    has_interval = benchmark.change_low is not None or benchmark.change_high is not None
    return has_interval and not (benchmark.verdict == "pass" and is_unaffected(benchmark))


def is_unaffected(benchmark: Benchmark) -> bool:
    """Return whether it executes nothing that differs from the base."""
    return any(reason.kind == "unaffected" for reason in benchmark.reasons)


def medians(benchmark: Benchmark) -> tuple[float | None, float | None]:
    """Return the medians before and now, in seconds: of base and head, if they were compared, as of their last pair.

    Otherwise of the baseline, if that is evidence, and of this run.
    """
    if benchmark.base_samples_s and benchmark.head_samples_s:
        return statistics.median(benchmark.base_samples_s), statistics.median(benchmark.head_samples_s)
    return before(benchmark) if is_evidence(benchmark) else None, now(benchmark)


def cells(benchmark: Benchmark) -> dict[str, str]:
    """Return the cells beside the benchmark's name by their heading, empty if nothing is known."""
    measured = now(benchmark) is not None
    return {
        "n": f"{benchmark.samples:,}" if measured else "",
        "baseline": form.duration(before(benchmark)),
        "now": form.duration(now(benchmark)),
        "change": form.percent(benchmark.change),
        "interval": form.interval(benchmark.change_low, benchmark.change_high),
        "verdict": verdict(benchmark),
        "detectable": form.percent(benchmark.minimum_detectable_effect).lstrip("+"),
        "p95": form.duration(benchmark.p95 or None) if measured else "",
        "rate": form.rate(benchmark.rate_per_s) if measured and benchmark.rate_per_s else "",
        "mean": form.duration(benchmark.mean or None) if measured else "",
        "p99": form.duration(benchmark.p99) if measured else "",
    }


def line(benchmark: Benchmark) -> str:
    """57.1 µs → 61.7 µs, change +8.1 %, interval +6.9…+9.4, n 100, detectable 5.2 %"""
    known = {heading: cell for heading, cell in cells(benchmark).items() if cell}
    medians = " → ".join(known[heading] for heading in ("baseline", "now") if heading in known)
    others = (f"{name} {known[name]}" for name in ("change", "interval", "n", "detectable") if name in known)
    return ", ".join(filter(None, [medians, *others]))


def remarks(benchmark: Benchmark, most_functions: int = 3) -> list[str]:
    """Return everything wrong or unusual about a benchmark; a pass needs no reasons."""
    return [
        *(reason_text(reason) for reason in benchmark.reasons if benchmark.verdict != "pass"),
        *(f"budget broken: {form.budget(result)}" for result in broken(benchmark)),
        *(f"budget {result.name}: {result.note}" for result in benchmark.budgets if result.note),
        *(f"slower under a profiler: {form.function(one)}" for one in benchmark.functions[:most_functions]),
        *benchmark.warnings,
    ]


def notes(results: Results) -> list[str]:
    """Return the notes on a run, beginning with what was not compared, and the counts that changed but fail nothing."""
    counts = map(count_text, group_changes(results.benchmarks, gated=False))
    return [*map(unjudged_text, results.unjudged_packages), *counts, *results.notes]


def unjudged_text(package: UnjudgedPackage) -> str:
    """`fastapi 0.116.0 → 0.118.0 (uv.lock) was not compared: 0.117.0 is installed: install from the lock file`"""
    versions = f" {package.base or '(none)'} → {package.head or '(none)'} ({package.file})" if package.file else ""
    return f"{package.name}{versions} was not compared: {_UNJUDGED[package.cause].format(package=package)}"


def environment(results: Results) -> dict[str, str]:
    """Return what is known of the machine, servers and commit of a run by their name."""
    of = results.environment
    services = {name: f"{backend} {of.versions.get(name, '')}" for name, backend in sorted(of.services.items())}
    facts = {
        "machine": f"{of.machine}, {of.cpu_count} cores, {of.cpu}",
        "system": f"{of.system} {of.kernel}, {of.architecture}",
        "Python": of.python,
        "core": "any" if of.pin is None else f"pinned to {of.pin}",
        **services,
        "commit": of.commit + (", with uncommitted changes" if of.dirty else ""),
        "recorded": results.created,
        "profile": results.profile,
    }
    return {name: text for name, text in facts.items() if text}


def failed_tests(results: Results) -> list[TestOutcome]:
    return [test for test in results.tests if test.outcome == "failed"]


def headline(results: Results) -> str:
    """Return the verdict of the run in a word or two."""
    if results.exit_code in (EXIT_USAGE, EXIT_INTERRUPTED):
        return EXIT_CODES[results.exit_code]
    failed = results.exit_code == EXIT_REGRESSION and results.verdict != "regression"
    verdict: str = "failed" if failed else results.verdict or "not judged"
    if any(reason.kind == "unmeasured_allowed" for reason in results.reasons):
        verdict += ", not compared" if results.reasons[0].detail else ", not all compared"
    return verdict


def exit_line(results: Results) -> str:
    """Exit code 0: nothing failed."""
    code = results.exit_code
    return "" if code is None else f"Exit code {code}: {EXIT_CODES.get(code, 'unknown')}."


def all_well(results: Results) -> bool:
    """Return whether the run passed, and nothing about it needs to be read."""
    return headline(results) in ("pass", "improvement") and not results.exit_code


def compared(results: Results) -> bool:
    """Return whether there was a baseline to compare with."""
    return any(benchmark.baseline_median for benchmark in results.benchmarks)


def summary(results: Results) -> str:
    """38 benchmarks: 36 pass, 2 regression; 57 tests: 56 passed, 1 skipped"""
    verdicts = Counter(verdict(benchmark) or "not judged" for benchmark in results.benchmarks)
    texts = []
    for noun, counts in (("benchmark", verdicts), ("test", Counter[str](test.outcome for test in results.tests))):
        parts = ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
        plural = "" if counts.total() == 1 else "s"
        texts.append(f"{counts.total():,} {noun}{plural}" + (f": {parts}" if parts else ""))
    return "; ".join(texts)


def next_step(results: Results) -> tuple[str, str] | None:
    """Return the one command to run next and its purpose; None if nothing is left to do."""
    session = session_of(results)
    after_fixing = session, "runs again, once the problem above is fixed"
    baseline = f"{nox_command()} -s baseline"
    verdicts = {verdict(benchmark) for benchmark in results.benchmarks}
    bad = [one.key for one in results.benchmarks if verdict(one) in FAILING - {"missing"}]
    bad += [test.key for test in failed_tests(results)]
    unjudged = any(reason.kind == "packages_unjudged" for one in results.benchmarks for reason in one.reasons)
    unsure = [b.key for b in results.benchmarks if b.verdict == "inconclusive" and b.minimum_detectable_effect]
    why = results.reasons[0].kind if results.reasons else None
    nothing_selected = results.deselected and not results.tests and why == "nothing_measured"
    unmeasured = results.verdict == "invalid" and not verdicts & {"missing", "invalid"}
    # Not a service, but the suite, its arguments or the base.
    ours = results.verdict == "invalid" and why in ("nothing_measured", "not_collected", "pytest_failed")
    uncompared = results.verdict == "invalid" and why in ("no_comparison", "not_compared")
    compare_again = session, "runs again, once that is fixed; or allow_unmeasured in settings.toml makes it a warning"
    steps = [
        (results.exit_code == EXIT_INTERRUPTED, (session, "starts again")),
        (results.exit_code == EXIT_USAGE, after_fixing),
        (uncompared, compare_again),
        (nothing_selected, (session, "runs everything: the arguments selected no test")),
        (ours or (unmeasured and results.base), after_fixing),
        (unmeasured, (f"{nox_command()} -s readiness", "shows which services are ready")),
        (bad, _only(session, bad, "runs {}")),
        ("missing" in verdicts, (baseline, "if it was removed on purpose; otherwise restore the test")),
        (unjudged, after_fixing),  # measuring again would not help
        (unsure, _only(session, unsure, "measures {}; run nothing else meanwhile")),
        ("inconclusive" in verdicts, (baseline, "records a baseline of this machine, to commit")),
        (verdicts & {"new", "changed", "improvement"}, (baseline, "records the new figures, to commit")),
    ]
    return next((step for applies, step in steps if applies), None)


def session_of(results: Results) -> str:
    """Return the command that runs all of it again."""
    return f"{nox_command()} -s {'full' if results.profile == 'full' else 'ci'}"


def _only(session: str, keys: Sequence[str], purpose: str) -> tuple[str, str]:
    """Return the session for these tests, or for their files, or for all, whichever fits on a line; and its purpose."""
    names = sorted({form.file_and_name(key)[1].partition("[")[0].rpartition("::")[2] for key in keys})
    files = sorted({f"{SUITE}/{form.file_and_name(key)[0]}" for key in keys})
    commands = {session: "all again"}
    if all(re.fullmatch(r"[\w./-]+", file, re.ASCII) for file in files):
        commands[" ".join([session, "--", *files])] = f"only their file{'s' if len(files) > 1 else ''}"
    if all(map(str.isidentifier, names)):
        expression = names[0] if len(names) == 1 else f'"{" or ".join(names)}"'
        commands[f"{session} -- -k {expression}"] = "only these"
    command = [each for each in commands if len(each) <= _MOST_COMMAND_CHARACTERS or each == session][-1]
    return command, purpose.format(commands[command])


def reason_text(reason: Reason) -> str:
    """Return the text of a reason, without a full stop; errors may have several lines."""
    counts = [count_text(count) for count in reason.counts]
    names = reason.subjects or counts
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    share, accepted = (f"{share * 100:.0f} %" for share in (reason.share, reason.accepted_share))
    said = _REASONS[reason.kind].format(
        reason=reason,
        share=share,
        listed=", ".join(names[:_MOST_LISTED]) + more,
        all="; ".join(reason.subjects),
        counts=", ".join(counts),
        uncompared=reason.detail or ", ".join(names[:_MOST_LISTED]) + more,
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


# With the values that `reason_text` fills in.
_REASONS: dict[Kind, str] = {
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
    "copy_failed": "the copy of the working tree can't run it, although the working tree can: {reason.detail}",
    "new_in_change": "new in this change, so there is nothing to compare it with: {reason.detail}",
    "no_time_left": "not compared with the base: the time was up (gate.duet_budget_s)",
    "application_elsewhere": "not compared with the base: PERF_API_URL is one application for both",
    "baseline_edited": "this change edits its baseline",
    "packages_unjudged": "runs code of which the change was not compared: {listed}",
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
    "not_compared": "not compared with the base, for the reasons above: {listed}",
    "new_benchmarks": "new in this change, and so compared with nothing: {listed}",
    "unmeasured_allowed": "not compared with the base, which allow_unmeasured permits: {uncompared}",
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

_UNJUDGED: dict[UnjudgedCause, str] = {
    "installed_otherwise": "{package.installed} is installed: install what the lock file has",
    "not_installed": "it is not installed: install what the lock file has",
    "still_installed": "it is still installed: remove it, or make the environment again",
    "held_back": "Plumbline does not work with the base's version",
    "not_pinned": "the base does not pin it, so its version there is not known",
    "not_a_release": "it is a file, a branch or a local build, so the base's version can't be installed reliably",
    "one_environment": "`python` of [app] names one environment for both sides",
    "other_files": "the version is the same, but not its files, and the base's can't be installed with certainty",
    "unreadable": "its pin is not a single version",
    "unknown_format": "Plumbline does not know this format, or not in this version: a newer Plumbline may",
    "no_base_lock": "the base has no lock file, so its versions are not known",
    "other_python": "both sides run on head's",
}
