"""The verdicts of benchmarks and runs as reports show them, and the next step."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from plumbline.exit_codes import EXIT_INTERRUPTED, EXIT_REGRESSION, EXIT_USAGE
from plumbline.judging.budgets import broken
from plumbline.project import SUITE, nox_command
from plumbline.reporting.format import file_and_name
from plumbline.results.schema import Benchmark, Results

# Verdicts that fail the run, and those that a reader has to know of.
FAILING = {"regression", "over budget", "missing", "invalid"}
NOTABLE = FAILING | {"inconclusive", "drift"}

EXIT_CODES = {
    0: "nothing failed",
    1: "a regression, a broken budget or count, or a failed test",
    2: "wrong usage",
    3: "invalid: something was not measured, or not reliably",
    4: "inconclusive, and fail_on makes that fail",
    130: "interrupted",
}

# The first reason of an invalid run that lies in the suite, its arguments or the base, rather than in a service.
_NOT_A_SERVICE = {"nothing_measured", "not_collected", "pytest_failed", "no_comparison"}
_AFTER_FIXING = "runs again, once the problem above is fixed"
_MOST_COMMAND_CHARACTERS = 74


def verdict(benchmark: Benchmark) -> str:
    """Return its verdict, or `over budget` if nothing else about it fails the run."""
    if broken(benchmark) and benchmark.verdict not in ("regression", "invalid", "missing"):
        return "over budget"
    return benchmark.verdict or ""


def is_notable(benchmark: Benchmark) -> bool:
    """Return whether a reader has to know of this benchmark."""
    return benchmark.verdict in NOTABLE or bool(broken(benchmark))


def urgency(benchmark: Benchmark) -> tuple[bool, bool, float]:
    """Return a key to sort by: failing benchmarks, then notable ones, each with the greatest change first."""
    change = benchmark.change or 0.0
    return verdict(benchmark) not in FAILING, not is_notable(benchmark), -change if math.isfinite(change) else 0.0


def headline(results: Results) -> str:
    """Return the verdict of the run in a word or two."""
    if results.exit_code in (EXIT_USAGE, EXIT_INTERRUPTED):
        return EXIT_CODES[results.exit_code]
    if results.exit_code == EXIT_REGRESSION and results.verdict != "regression":
        return "failed"
    return results.verdict or "not judged"


def exit_line(results: Results) -> str:
    """Exit code 0: nothing failed."""
    if results.exit_code is None:
        return ""
    return f"Exit code {results.exit_code}: {EXIT_CODES.get(results.exit_code, 'unknown')}."


def all_well(results: Results) -> bool:
    """Return whether the run passed, and nothing about it needs to be read."""
    return headline(results) in ("pass", "improvement") and not results.exit_code


def compared(results: Results) -> bool:
    """Return whether there was a baseline to compare with."""
    return any(benchmark.baseline_median for benchmark in results.benchmarks)


def summary(results: Results) -> str:
    """38 benchmarks: 36 pass, 2 regression; 57 tests: 56 passed, 1 skipped"""
    verdicts = Counter(verdict(benchmark) or "not judged" for benchmark in results.benchmarks)
    outcomes: Counter[str] = Counter(test.outcome for test in results.tests)
    return f"{_counted('benchmark', verdicts)}; {_counted('test', outcomes)}"


def _counted(noun: str, counts: Counter[str]) -> str:
    parts = ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
    return f"{counts.total():,} {noun}{'' if counts.total() == 1 else 's'}" + (f": {parts}" if parts else "")


def next_step(results: Results) -> tuple[str, str] | None:
    """Return the one command to run next and its purpose; None if nothing is left to do."""
    keys: dict[str, list[str]] = {}
    for benchmark in results.benchmarks:
        keys.setdefault(verdict(benchmark), []).append(benchmark.key)
    bad = [key for name in ("regression", "over budget", "invalid") for key in keys.get(name, [])]
    bad += [test.key for test in results.tests if test.outcome == "failed"]
    unsure = [
        b.key for b in results.benchmarks if b.verdict == "inconclusive" and b.minimum_detectable_effect is not None
    ]
    session = f"{nox_command()} -s {'full' if results.profile == 'full' else 'ci'}"
    baseline = f"{nox_command()} -s baseline"
    why = results.reasons[0].kind if results.reasons else None
    all_measured = not keys.keys() & {"missing", "invalid"}
    step: tuple[str, str] | None = None
    if results.exit_code == EXIT_INTERRUPTED:
        step = session, "starts again"
    elif results.exit_code == EXIT_USAGE:
        step = session, _AFTER_FIXING
    elif results.deselected and not results.tests and why == "nothing_measured":
        step = session, "runs everything: the arguments selected no test"
    elif results.verdict == "invalid" and (why in _NOT_A_SERVICE or (results.base and all_measured)):
        step = session, _AFTER_FIXING
    elif results.verdict == "invalid" and all_measured:
        step = f"{nox_command()} -s readiness", "shows which services are ready"
    elif bad:
        command, which = _only(session, bad)
        step = command, f"runs {which}"
    elif "missing" in keys:
        step = baseline, "if it was removed on purpose; otherwise restore the test"
    elif unsure:
        command, which = _only(session, unsure)
        step = command, f"measures {which}; run nothing else meanwhile"
    elif "inconclusive" in keys:
        step = baseline, "records a baseline of this machine, to commit"
    elif keys.keys() & {"new", "changed", "improvement"}:
        step = baseline, "records the new figures, to commit"
    return step


def _only(session: str, keys: Sequence[str]) -> tuple[str, str]:
    """Return the session for these tests, or for their files, or for all, whichever fits on a line; and which it is."""
    names = sorted({file_and_name(key)[1].partition("[")[0].rpartition("::")[2] for key in keys})
    files = sorted({f"{SUITE}/{file_and_name(key)[0]}" for key in keys})
    expression = names[0] if len(names) == 1 else f'"{" or ".join(names)}"'
    commands = [(f"{session} -- -k {expression}", "only these")] if all(map(str.isidentifier, names)) else []
    if all(re.fullmatch(r"[\w./-]+", file, re.ASCII) for file in files):
        commands.append((" ".join([session, "--", *files]), f"only their file{'s' if len(files) > 1 else ''}"))
    return next((one for one in commands if len(one[0]) <= _MOST_COMMAND_CHARACTERS), (session, "all again"))
