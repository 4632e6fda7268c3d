"""The content of all reports: figures of benchmarks, the outcome of the run, and texts of reasons."""

import shlex
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from plumbline.judging.decide import broken
from plumbline.judging.explaining import group_changes
from plumbline.measuring.statistics import summarize
from plumbline.project import EXIT_INTERRUPTED, EXIT_REGRESSION, EXIT_USAGE, nox_command
from plumbline.reporting import format as form
from plumbline.reporting.texts import REASONS, UNJUDGED
from plumbline.results.schema import (
    Benchmark,
    CountGrowth,
    Reason,
    Results,
    Shard,
    TestOutcome,
    UnjudgedPackage,
)

NOT_AFFECTED = "not affected"
FAILING = ("regression", "over budget", "missing", "invalid")  # verdicts that fail the run, the worst first

EXIT_CODES = {
    0: "nothing failed",
    1: "a regression, a broken budget, or a failed test",
    2: "wrong usage",
    3: "something was not measured, or not compared, so there is no verdict to trust",
    4: "a benchmark is inconclusive, and the setting fail_on makes that a failure",
    130: "interrupted",
}

_NOUNS = {"regression", "improvement"}  # verdicts that have a plural
_MOST_LISTED = 5  # names in a reason; the others are counted
_MOST_COUNTS = 1  # the same of counts, which are longer
_MOST_NAMES = 3  # the same of the benchmarks that a count changed in
_LONG_HOLD_S = 0.01  # of an event loop: a request that waits for it is noticeably late
_UNGATED = ("fewer than before, which is better", "more than before, but not judged")


def verdict(benchmark: Benchmark) -> str:
    """Return its verdict, or `over budget` if nothing else about it fails the run."""
    if broken(benchmark) and benchmark.verdict not in ("regression", "invalid", "missing"):
        return "over budget"
    return benchmark.verdict or ""


def is_notable(benchmark: Benchmark) -> bool:
    """Return whether a reader has to know of this benchmark."""
    return verdict(benchmark) in (*FAILING, "inconclusive", "drift")


def by_urgency(benchmarks: Iterable[Benchmark]) -> list[Benchmark]:
    """Return failing benchmarks by verdict, then notable ones, then the others, the greatest changes first."""
    worst_first = {verdict: number for number, verdict in enumerate(FAILING)}

    def urgency(benchmark: Benchmark) -> tuple[int, bool, float]:
        change = (benchmark.change or 0.0) if is_evidence(benchmark) else 0.0
        return worst_first.get(verdict(benchmark), len(FAILING)), not is_notable(benchmark), -change

    return sorted(benchmarks, key=urgency)


def names(benchmarks: Sequence[Benchmark]) -> dict[str, str]:
    """Return the short names of benchmarks by key: with their files if several files have the same name."""
    short = {one.key: form.short_name(one.key) for one in benchmarks}
    uses = Counter(short.values())
    return {key: key if uses[name] > 1 else name for key, name in short.items()}


def limits(results: Results, benchmark: Benchmark) -> tuple[float | None, float | None]:
    """Return the tolerance and the minimum effect of a benchmark: its own, if it has them, or those of the run."""
    return (
        results.tolerance if benchmark.tolerance is None else benchmark.tolerance,
        results.minimum_effect if benchmark.minimum_effect is None else benchmark.minimum_effect,
    )


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
    """Return whether its change was judged: not if the baseline is another machine's, or if it is not affected."""
    has_interval = benchmark.change_low is not None or benchmark.change_high is not None
    return has_interval and not is_unaffected(benchmark)


def is_unaffected(benchmark: Benchmark) -> bool:
    """Return whether it passes because it executes nothing that differs from the base."""
    return verdict(benchmark) == "pass" and any(reason.kind == "unaffected" for reason in benchmark.reasons)


def is_paired(benchmark: Benchmark) -> bool:
    """Return whether it was compared with the base in pairs."""
    return bool(benchmark.base_samples_s and benchmark.head_samples_s)


def compared_with(results: Results) -> str:
    """Return the words before the base. No pair runs if nothing differs from the base."""
    return f"compared{' in pairs' * any(map(is_paired, results.benchmarks))} with"


class Figures(NamedTuple):
    """The figures of a benchmark that reports show, in seconds per operation; None if one is not known."""

    before: float | None  # the median of the base or of the baseline, if the change was judged by it
    median: float | None
    mean: float | None
    p95: float | None
    p99: float | None
    rate_per_s: float | None
    samples: int | None


def figures(benchmark: Benchmark) -> Figures:
    """Return the figures of head in the last pair, if there was one, or else of this run, so that they go together."""
    if is_paired(benchmark):
        head, base_s = summarize(benchmark.head_samples_s), statistics.median(benchmark.base_samples_s)
        return Figures(base_s, head.median_s, head.mean_s, head.p95_s, head.p99_s, head.rate_per_s, None)
    median = now(benchmark)
    if median is None:
        return Figures(before(benchmark), *[None] * 6)
    old = before(benchmark) if is_evidence(benchmark) else None
    others = benchmark.mean or None, benchmark.p95 or None, benchmark.p99, benchmark.rate_per_s or None
    return Figures(old, median, *others, benchmark.samples)


def cells(benchmark: Benchmark) -> dict[str, str]:
    """Return the cells beside the benchmark's name by their heading, empty if nothing is known."""
    per, judged, shown = form.per(benchmark), is_evidence(benchmark), figures(benchmark)
    return {
        "before": form.duration(shown.before, per),
        "median": form.duration(shown.median, per),
        "change": form.percent(benchmark.change) if judged else NOT_AFFECTED if is_unaffected(benchmark) else "",
        "interval": form.interval(benchmark.change_low, benchmark.change_high) if judged else "",
        "mean": form.duration(shown.mean, per),
        "p95": form.duration(shown.p95, per),
        "p99": form.duration(shown.p99, per),
        "rate": form.rate(shown.rate_per_s) if shown.rate_per_s else "",
        "n": f"{shown.samples:,}" if shown.samples else "",
        "detectable": form.percent(benchmark.minimum_detectable_effect).lstrip("+") if judged else "",
        "verdict": verdict(benchmark),
    }


def line(benchmark: Benchmark) -> str:
    """57.1 µs → 61.7 µs, change +8.1 %, interval +6.9…+9.4, 100 samples, detectable 5.2 %"""
    known = cells(benchmark)
    change = known["change"] if known["change"] == NOT_AFFECTED else f"change {known['change']}"
    texts = {"interval": "interval {}", "n": "{} samples", "detectable": "detectable {}"}
    others = (text.format(known[name]) for name, text in texts.items() if known[name])
    return ", ".join(filter(None, [medians_text(benchmark), change if known["change"] else "", *others]))


def change_text(benchmark: Benchmark) -> str:
    """+8.1 % (+6.9…+9.4)"""
    known = cells(benchmark)
    return f"{known['change']} ({known['interval']})" if known["interval"] else known["change"]


def medians_text(benchmark: Benchmark) -> str:
    """57.1 µs → 61.7 µs/row"""
    old, new, *_ = figures(benchmark)
    last = form.duration(old if new is None else new, form.per(benchmark))
    return f"{form.duration(old)} → {last}" if old is not None and new is not None else last


def remarks(benchmark: Benchmark, most_functions: int = 3) -> list[str]:
    """Return everything wrong or unusual about a benchmark; a pass needs no reasons."""
    return [
        *(reason_text(reason) for reason in benchmark.reasons if benchmark.verdict != "pass"),
        *(f"budget broken: {form.budget(result)}" for result in broken(benchmark)),
        *(f"slower: {form.function(one)}" for one in benchmark.functions[:most_functions]),
        *map(form.plan, benchmark.plan_changes),
        *warnings(benchmark),
    ]


def warnings(benchmark: Benchmark) -> list[str]:
    """Return what is unusual about a benchmark, and no cause of its verdict."""
    hold = benchmark.loop_hold
    is_long = hold is not None and bool(hold.file) and hold.duration_s >= _LONG_HOLD_S
    return [
        *(f"budget {one.name}: {one.note}" for one in benchmark.budgets if one.note and one.kept),
        *(f"some calls may be slower: {form.tail(one, form.per(benchmark))}" for one in benchmark.tails if one.unclear),
        *([form.loop_hold(hold)] if hold and is_long else []),
        *benchmark.warnings,
    ]


def notes(results: Results) -> list[str]:
    """Return the notes on a run, beginning with what was not compared, and the counts that changed but fail nothing."""
    changes = group_changes(results.benchmarks, gated=False)
    short = names(results.benchmarks)
    counts: dict[str, dict[str, list[str]]] = {title: {} for title in _UNGATED}
    for growth, keys in changes.items():
        title = _UNGATED[growth.new >= growth.old]
        where = listed([short[key] for key in keys], _MOST_NAMES)
        counts[title].setdefault(where, []).append(count_text(replace(growth, benchmarks=1, site=None)))
    said = (f"{title}: {_in_benchmarks(found)}" for title, found in counts.items() if found)
    shard = [shard_text(results.shard, len(results.tests))] if results.shard else []
    return [*shard, *map(unjudged_text, results.unjudged_packages), *said, *results.notes]


def shard_text(shard: Shard, tests: int) -> str:
    part = f"shard {shard.number} of {shard.of}: {tests:,} of {_several(len(shard.keys), 'test')}"
    known = f"the durations in {shard.divided_by}" if shard.divided_by else ""
    by = known or "their number: no baseline or earlier run has durations"
    return f"{part}, divided by {by}; `{nox_command()} -s report -- --merge DIR...` gives the verdict of all shards"


def _in_benchmarks(counts: Mapping[str, Sequence[str]]) -> str:
    """SELECT a: 2 → 1, SELECT b: 3 → 1 in list; redis messages 6 → 4 in get, set and 2 more"""
    texts = [f"{listed(texts)} in {where}" for where, texts in counts.items()]
    more = f"; and {len(texts) - _MOST_LISTED:,} more" if len(texts) > _MOST_LISTED else ""
    return "; ".join(texts[:_MOST_LISTED]) + more


def unjudged_text(package: UnjudgedPackage) -> str:
    """`fastapi 0.116.0 → 0.118.0 (uv.lock) was not compared: 0.117.0 is installed: install from the lock file`"""
    versions = f" {package.base or '(none)'} → {package.head or '(none)'} ({package.file})" if package.file else ""
    return f"{package.name}{versions} was not compared: {UNJUDGED[package.cause].format(package=package)}"


def before_text(results: Results) -> str:
    """Return which measurement the figures named "before" are of; nothing if there are none."""
    shown = [one for one in results.benchmarks if figures(one).before is not None]
    commit = results.base.partition(",")[0]
    recorded = f" recorded at {results.baseline_commit[:7]}" if results.baseline_commit else ""
    base, baseline = f"the base {commit}".rstrip() + " in the last pair", f"the baseline{recorded}"
    paired = {is_paired(one) for one in shown}
    if True not in paired:
        return f"before: {baseline}" if paired else ""
    others = f" if compared in pairs, otherwise {baseline}" if False in paired else ""
    return f"before: {base}{others}; the change is of all pairs"


def environment(results: Results) -> dict[str, str]:
    """Return what is known of the machine, servers and commit of a run by their name."""
    of = results.environment
    services = {
        name: f"{backend} {of.versions.get(name, '')}".rstrip() for name, backend in sorted(of.services.items())
    }
    facts = {
        "machine": f"{of.machine}, {of.cpu_count} cores, {of.cpu}",
        "system": f"{of.system} {of.kernel}, {of.architecture}",
        "Python": of.python,
        "core": "any" if of.pin is None else f"pinned to {of.pin}",
        **services,
        "commit": of.commit + (", with uncommitted changes" if of.dirty else ""),
        "branch": of.branch,
        "recorded": results.created,
        "profile": results.profile,
    }
    return {name: text for name, text in facts.items() if text}


def skipped_tests(results: Results) -> list[str]:
    """Return one text for each reason for which tests were skipped: `2 tests skipped, a and b: needs redis`"""
    names: dict[str, list[str]] = {}
    for test in results.tests:
        if test.outcome == "skipped":
            why = form.plain(test.message).strip() or "no reason given"
            names.setdefault(why, []).append(form.short_name(test.key))
    return [f"{_several(len(found), 'test')} skipped, {listed(found)}: {why}" for why, found in names.items()]


def listed(names: Sequence[str], most: int = _MOST_LISTED) -> str:
    """Return names on one line: a, b and 3 more"""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(form.plain, names[:most])) + more


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


def is_first_run(results: Results) -> bool:
    """Return whether there is nothing to compare with yet."""
    return bool(results.reasons) and results.reasons[0].kind == "no_baseline"


def title(results: Results) -> str:
    """New: there is no baseline to compare with yet"""
    head = headline(results)
    why = f": {reason_text(results.reasons[0])}" if is_first_run(results) else ""
    return f"{head[:1].upper()}{head[1:]}{why}"


def exit_line(results: Results) -> str:
    """Exit code 0: nothing failed."""
    return "" if results.exit_code is None else exit_text(results.exit_code)


def exit_text(code: int) -> str:
    return f"Exit code {code}: {EXIT_CODES.get(code, 'unknown')}."


def all_well(results: Results) -> bool:
    """Return whether the run passed, and nothing about it needs to be read."""
    return headline(results) in ("pass", "improvement") and not results.exit_code


def compared(results: Results) -> bool:
    """Return whether there was a baseline to compare with."""
    return any(benchmark.baseline_median for benchmark in results.benchmarks)


def summary(results: Results) -> str:
    """38 benchmarks: 36 pass (30 not affected), 2 regressions; 57 tests: 56 passed, 1 skipped"""
    verdicts = Counter(verdict(benchmark) or "not judged" for benchmark in results.benchmarks)
    texts = []
    unaffected = sum(map(is_unaffected, results.benchmarks))
    also = {"pass": f" ({unaffected:,} {NOT_AFFECTED})"} if unaffected else {}
    for noun, counts in (("benchmark", verdicts), ("test", Counter[str](test.outcome for test in results.tests))):
        names = {name: f"{name}s" if name in _NOUNS and count > 1 else name for name, count in counts.items()}
        parts = ", ".join(f"{count:,} {names[name]}{also.get(name, '')}" for name, count in counts.most_common())
        texts.append(_several(counts.total(), noun) + (f": {parts}" if parts else ""))
    return "; ".join(texts)


def reason_text(reason: Reason) -> str:
    """Return the text of a reason, without a full stop; errors may have several lines."""
    counts = [count_text(count) for count in reason.counts]
    names = listed(reason.subjects) or listed(counts, _MOST_COUNTS)
    share, accepted = (f"{share * 100:.0f} %" for share in (reason.share, reason.accepted_share))
    said = REASONS[reason.kind].format(
        reason=reason,
        share=share,
        listed=names,
        all="; ".join(reason.subjects),
        counts=", ".join(counts),
        uncompared=reason.detail or names,
        accept=f'{nox_command()} -s accept -- {shlex.join(reason.subjects)} --reason "TEXT"',
        beyond=", ".join(counts) or f"at least {share} slower, after {accepted}",
        pairs=_several(reason.number, "pair"),
        benchmarks=f"{_several(reason.number, 'benchmark')} {'is' if reason.number == 1 else 'are'}",
        benchmarks_of=_several(reason.of, "benchmark"),
        are="is" if reason.number == 1 else "are",
        their="its" if reason.number == 1 else "their",
    )
    return f"when measured again: {said}" if reason.when_repeated else said


def _several(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def count_text(growth: CountGrowth) -> str:
    """`redis messages 6 → 8 in 12 benchmarks`, `SELECT … FROM item: 1 → 51, shop/orders.py:28 in list_orders`"""
    kind, _, statement = growth.name.partition(" ")
    service, _, unit = kind.partition(".")
    statements = {"statement": f"{statement}:", "parse": f"{statement}: prepared"}
    if statement:
        statements |= {"rows_read": f"{statement}: rows read", "buffers": f"{statement}: buffers"}
    label = statements.get(unit, f"{service} {statement or unit.replace('_', ' ')}")
    old, new, difference = map(number, (growth.old, growth.new, growth.new - growth.old))
    new += f" to {number(growth.most)}" if growth.most else ""
    change = f"{old} → {new}" if growth.alike else difference if difference[0] == "-" else f"+{difference}"
    where = f" in {growth.benchmarks} benchmarks" if growth.benchmarks > 1 else ""
    return f"{label} {change}{where}" + (f", {form.site(growth.site)}" if growth.site else "")


def number(count: float) -> str:
    """`5.2`, `1,234`, `12,345`"""
    return f"{count:,.4g}" if count < 10_000 else f"{count:,.0f}"
