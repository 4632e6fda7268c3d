"""Values and verdicts in words, the same in every report."""

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from rich.cells import cell_len, set_cell_size

from plumbline.judging.verdict import NOT_A_SERVICE, NOTHING_MEASURED, broken
from plumbline.project import nox_command
from plumbline.results.schema import Benchmark, BudgetResult, FunctionTime, Results

ROOT = "tests/performance/"
"""What the keys of benchmarks and tests are below."""

FAILING = {"regression", "over budget", "missing", "invalid"}
LOUD = FAILING | {"inconclusive", "drift"}
"""Verdicts that somebody has to look at."""

EXIT_CODES = {
    0: "nothing failed",
    1: "a regression, a broken budget or count, or a failed test",
    2: "wrong usage",
    3: "invalid: what was wanted was not measured, or not well enough",
    4: "inconclusive, and fail_on wants that to fail",
    130: "interrupted",
}

MOST_FUNCTIONS = 3
"""In text, of those that got slower."""

_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")


def significant(value: float, digits: int = 3) -> str:
    """A number with that many significant digits: 17,500 or 57.1 or 0.0123."""
    rounded, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if not exponent or not float(rounded):  # not a number, or zero
        return f"{value:g}"
    return f"{float(f'{rounded}e{exponent}'):,.{max(0, digits - 1 - int(exponent))}f}"


def duration(seconds: float) -> str:
    """57.1 µs"""
    if seconds == 0:
        return "0 s"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if float(f"{seconds * factor:.2e}") >= 1:  # as it will be rounded: 999.9 µs is 1.00 ms
            return f"{significant(seconds * factor)} {unit}"
    return f"{significant(seconds * 1e9)} ns"


def rate(per_s: float) -> str:
    """17,500/s"""
    return f"{significant(per_s)}/s"


def percent(share: float) -> str:
    """A change: +4.8 %, -12 %, x500 from ten-fold on."""
    number = _percentage(share)
    return number if number.startswith("x") else f"{number} %"


def interval(low: float | None, high: float | None) -> str:
    """The interval of a change, in per cent: +3.9…+5.7, with nothing where there is no bound."""
    if low is None and high is None:
        return ""
    return "…".join("" if bound is None else _percentage(bound) for bound in (low, high))


def _percentage(share: float) -> str:
    if share >= 9:
        return f"x{significant(1 + share)}"
    number = f"{share * 100:+.1f}"
    if abs(float(number)) >= 10:
        return f"{share * 100:+.0f}"
    return "0.0" if number in ("+0.0", "-0.0") else number


def budget(result: BudgetResult) -> str:
    """p95 2.43 ms > 2 ms: the limit as it was set, the figure in the same unit and with enough digits to differ."""
    name, unit = next(
        (result.name.removesuffix(suffix), unit)
        for suffix, unit in (("_per_s", "/s"), ("_ms", " ms"), ("_s", " s"), ("", ""))
        if result.name.endswith(suffix)
    )
    limit = f"{result.limit:,.9f}".rstrip("0").rstrip(".")
    texts = (significant(result.measured, digits) for digits in range(3, 10))
    measured = next((text for text in texts if float(text.replace(",", "")) != result.limit), limit)
    return f"{name} {measured}{unit} {'>' if result.measured > result.limit else '<'} {limit}{unit}"


def plain(text: str) -> str:
    """One line that can neither steer a terminal nor turn the line around."""
    text = re.sub(r"[\t\r\n]+", " ", _ESCAPE_SEQUENCE.sub("", text))
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def isolated(text: str) -> str:
    """Keeps a right-to-left name from reordering the figures beside it."""
    return f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}" if _RIGHT_TO_LEFT.search(text) else text


def shortened(name: str, width: int, ellipsis: str = "…") -> str:
    """Cut in the middle: names begin with what they are about and end with the parameters."""
    if cell_len(name) <= width:
        return name
    tail_width = (width - cell_len(ellipsis)) // 2
    head = set_cell_size(name, width - cell_len(ellipsis) - tail_width)
    tail = next(name[start:] for start in range(len(name) + 1) if cell_len(name[start:]) <= tail_width)
    return head + ellipsis + tail


def first_lines(text: str, lines: int) -> list[str]:
    """The first lines that say something, of a traceback those with the error; each at most 500 characters."""
    said = [line for line in text.splitlines() if line.strip()]
    errors = "\n".join(line[1:] for line in said if line.startswith("E "))
    said = [plain(line[:500]) for line in textwrap.dedent(errors).splitlines() or said]
    return said[:lines] + ([f"({len(said) - lines} more lines)"] if len(said) > lines else [])


def file_and_name(key: str) -> tuple[str, str]:
    """`("test_redis.py", "test_publish[1 kB]")`"""
    file, separator, name = key.partition("::")
    return (file, name) if separator else ("", key)


def now(benchmark: Benchmark) -> float | None:
    """The median of this run in seconds; None where it wasn't measured."""
    return None if benchmark.verdict == "missing" or not benchmark.median else benchmark.median


def baseline(benchmark: Benchmark) -> float | None:
    """The median of the baseline in seconds; a missing benchmark is its baseline's entry."""
    known = benchmark.median if benchmark.verdict == "missing" else None
    return benchmark.baseline_median or known or None


def needs_eyes(benchmark: Benchmark) -> bool:
    return benchmark.verdict in LOUD or bool(broken(benchmark))


def urgency(benchmark: Benchmark) -> tuple[bool, bool, float]:
    """To sort by: what fails the run comes first, then what else needs eyes, and the greatest change of each."""
    return verdict(benchmark) not in FAILING, not needs_eyes(benchmark), -(benchmark.change or 0.0)


def verdict(benchmark: Benchmark) -> str:
    """Its verdict, or `over budget` where nothing else fails the run."""
    if broken(benchmark) and benchmark.verdict not in ("regression", "invalid", "missing"):
        return "over budget"
    return benchmark.verdict or ""


def calls(count: float) -> str:
    """Calls per operation, which are hardly ever exactly a whole number."""
    return f"{count:,.2f}".rstrip("0").rstrip(".")


def function(one: FunctionTime) -> str:
    """app shop/prices.py:41 price_of +31.0 µs an operation (12.0 µs → 43.0 µs, 1 → 3 calls)"""
    place = f"{one.file}:{one.line}" if one.file else "built-in"
    before, after = calls(one.base_calls), calls(one.head_calls)
    called = f", {before} → {after} calls" if before != after else ""
    change = f"{duration(one.base_s)} → {duration(one.head_s)}{called}"
    where = f"in {one.where}: " if one.where else ""
    return f"{where}{place} {one.name} +{duration(one.head_s - one.base_s)} an operation ({change})"


def remarks(benchmark: Benchmark) -> list[str]:
    """What is wrong or uncommon; why a benchmark passed needs no words."""
    slower = benchmark.functions[:MOST_FUNCTIONS]
    return [
        *(benchmark.reasons if benchmark.verdict != "pass" else []),
        *(f"budget broken: {budget(result)}" for result in broken(benchmark)),
        *(f"budget {result.name}: {result.note}" for result in benchmark.budgets if result.note),
        *(f"slower under a profiler: {function(one)}" for one in slower),
        *benchmark.warnings,
    ]


def _time(seconds: float | None) -> str:
    return duration(seconds) if seconds else ""


def _measured(cell: Callable[[Benchmark], str]) -> Callable[[Benchmark], str]:
    return lambda benchmark: "" if now(benchmark) is None else cell(benchmark)


COLUMNS: dict[str, Callable[[Benchmark], str]] = {
    "n": _measured(lambda b: f"{b.samples:,}"),
    "baseline": lambda b: _time(baseline(b)),
    "now": lambda b: _time(now(b)),
    "change": lambda b: "" if b.change is None else percent(b.change),
    "interval": lambda b: interval(b.change_low, b.change_high),
    "verdict": verdict,
    "could see": lambda b: (
        "" if b.minimum_detectable_effect is None else percent(b.minimum_detectable_effect).lstrip("+")
    ),
    "p95": _measured(lambda b: _time(b.p95)),
    "rate": _measured(lambda b: rate(b.rate_per_s) if b.rate_per_s else ""),
    "mean": _measured(lambda b: _time(b.mean)),
    "p99": _measured(lambda b: _time(b.p99)),
}
"""The table of benchmarks beside their names: heading to text, which is empty where nothing is known."""


def figures(benchmark: Benchmark) -> str:
    """57.1 µs → 61.7 µs, change +8.1 %, interval +6.9…+9.4, n 100, could see 5.2 %"""
    cells = {heading: cell(benchmark) for heading, cell in COLUMNS.items()}
    medians = " → ".join(cells[heading] for heading in ("baseline", "now") if cells[heading])
    others = (f"{heading} {cells[heading]}" for heading in ("change", "interval", "n", "could see") if cells[heading])
    return ", ".join(text for text in (medians, *others) if text)


def by_file(benchmarks: Iterable[Benchmark]) -> dict[str, list[Benchmark]]:
    files: dict[str, list[Benchmark]] = {}
    for benchmark in benchmarks:
        files.setdefault(file_and_name(benchmark.key)[0], []).append(benchmark)
    return files


def headline(results: Results) -> str:
    """The verdict of the run in a word or two."""
    if results.exit_code in (2, 130):
        return EXIT_CODES[results.exit_code]
    if results.exit_code == 1 and results.verdict != "regression":
        return "failed"
    return results.verdict or "not judged"


def all_well(results: Results) -> bool:
    return headline(results) in ("pass", "improvement") and not results.exit_code


def summary(results: Results) -> str:
    """38 benchmarks: 36 pass, 2 regression; 57 tests: 56 passed, 1 skipped"""
    verdicts = Counter(verdict(benchmark) or "not judged" for benchmark in results.benchmarks)
    outcomes: Counter[str] = Counter(test.outcome for test in results.tests)
    return f"{_counted('benchmark', verdicts)}; {_counted('test', outcomes)}"


def _counted(what: str, counts: Counter[str]) -> str:
    parts = ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
    return f"{counts.total():,} {what}{'' if counts.total() == 1 else 's'}" + (f": {parts}" if parts else "")


def next_step(results: Results) -> tuple[str, str] | None:
    """The one command to do next and what it is for; None where nothing is left to do."""
    by_verdict: dict[str, list[str]] = {}
    for benchmark in results.benchmarks:
        by_verdict.setdefault(verdict(benchmark), []).append(benchmark.key)
    bad = [key for name in ("regression", "over budget", "invalid") for key in by_verdict.get(name, [])]
    bad += [test.key for test in results.tests if test.outcome == "failed"]
    unsettled = [
        b.key for b in results.benchmarks if b.verdict == "inconclusive" and b.minimum_detectable_effect is not None
    ]
    session = f"{nox_command()} -s full" if results.profile == "full" else f"{nox_command()} -s ci"
    all_measured = not by_verdict.keys() & {"missing", "invalid"}
    step: tuple[str, str] | None = None
    if results.exit_code in (2, 130):
        step = session, "once more, when what is said above is put right" if results.exit_code == 2 else "starts again"
    elif results.deselected and not results.tests and results.reasons[:1] == [NOTHING_MEASURED]:
        step = session, "runs all: what was asked for selects nothing"
    elif results.verdict == "invalid" and (
        any(why in reason for reason in results.reasons[:1] for why in NOT_A_SERVICE) or (results.base and all_measured)
    ):
        step = session, "once more, when what is said above is put right"
    elif results.verdict == "invalid" and all_measured:
        step = f"{nox_command()} -s readiness", "shows which service does real work and which does not"
    elif bad:
        command, what = _only(session, bad)
        step = command, f"runs {what}; look at what the change does there"
    elif "missing" in by_verdict:
        step = f"{nox_command()} -s baseline", "only if it is meant to be gone; else bring the test back"
    elif unsettled:
        command, what = _only(session, unsettled)
        step = command, f"measures {what}; nothing else should be running"
    elif "inconclusive" in by_verdict:
        step = f"{nox_command()} -s baseline", "records one to commit that this machine can be compared with"
    elif by_verdict.keys() & {"new", "changed", "improvement"}:
        step = f"{nox_command()} -s baseline", "records what is new, to commit"
    return step


def compared(results: Results) -> bool:
    """Whether there was a baseline to compare with."""
    return any(benchmark.baseline_median for benchmark in results.benchmarks)


def _only(session: str, keys: Sequence[str]) -> tuple[str, str]:
    """The session for these alone, or for their files, or for all, whichever fits on a line; and which it is."""
    names = sorted({file_and_name(key)[1].partition("[")[0].rpartition("::")[2] for key in keys})
    files = sorted({f"{ROOT}{file_and_name(key)[0]}" for key in keys})
    expression = names[0] if len(names) == 1 else f'"{" or ".join(names)}"'
    commands = [(f"{session} -- -k {expression}", "these alone")] if all(name.isidentifier() for name in names) else []
    if all(re.fullmatch(r"[\w./-]+", file, re.ASCII) for file in files):
        commands.append(
            (" ".join([session, "--", *files]), "their files alone" if len(files) > 1 else "their file alone")
        )
    return next(((command, what) for command, what in commands if len(command) <= 74), (session, "all again"))
