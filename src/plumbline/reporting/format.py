"""Values as text, and text of unknown origin made safe to print: the same in every report."""

import difflib
import re
import textwrap

from rich.cells import cell_len, set_cell_size

from plumbline.processes import ESCAPE_SEQUENCE, with_lines
from plumbline.results.schema import Benchmark, BudgetResult, CallSite, FunctionTime, LoopHold, PlanChange, TailChange

TAILS = {"p90": "90th percentile", "mean": "mean"}
_OPERATION_CHARACTERS = 12
_PLAN_NODES = 4  # of each plan, on one line
_PYTEST_ERROR = re.compile(r"^E +(\S.*)", re.MULTILINE)
# The last line of a traceback; the output of an application stands behind a bar.
_ERROR = re.compile(
    r"^(?: *\| )?((?:\w+\.)*\w*(?:Error|Exception|Exit)(?:: .*)?|(?:\w+\.)+[A-Z]\w+: .*)$", re.MULTILINE
)

_CAUSE = "The above exception was the direct cause of the following exception:"

_OUTPUT = re.compile("^output of (.+):$", re.MULTILINE)  # in the message of a failed test, behind its own error

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")


def significant(value: float, digits: int = 3) -> str:
    """Return a number with that many significant digits: 17,500 or 57.1 or 0.0123."""
    rounded, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if not exponent or not float(rounded):  # not a number, or zero
        return f"{value:g}"
    return f"{float(f'{rounded}e{exponent}'):,.{max(0, digits - 1 - int(exponent))}f}"


def per(benchmark: Benchmark) -> str:
    """Return what its figures are per: `/row` if the test names an operation, otherwise `/op` if a sample has many."""
    named = plain(benchmark.operation).strip()[:_OPERATION_CHARACTERS]
    return f"/{named or 'op'}" if named or benchmark.operations > 1 else ""


def duration(seconds: float | None, per: str = "") -> str:
    """57.1 µs, or 1.90 µs/row; nothing if it is not known."""
    if not seconds:
        return "" if seconds is None else f"0 s{per}"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if float(f"{seconds * factor:.2e}") >= 1:  # as it will be rounded: 999.9 µs is 1.00 ms
            return f"{significant(seconds * factor)} {unit}{per}"
    return f"{significant(seconds * 1e9)} ns{per}"


def rate(per_s: float) -> str:
    """17,500/s"""
    return f"{significant(per_s)}/s"


def percent(share: float | None) -> str:
    """Return a change: +4.8 %, -12 %, x500 if it is ten-fold or more; nothing if it is not known."""
    if share is None:
        return ""
    if share >= 9:
        return f"x{significant(1 + share)}"
    number = f"{share * 100:+.1f}"
    if abs(float(number)) >= 10:
        number = f"{share * 100:+.0f}"
    return "0.0 %" if number in ("+0.0", "-0.0") else f"{number} %"


def interval(low: float | None, high: float | None) -> str:
    """Return the interval of a change, in per cent: +3.9…+5.7; an open side is empty."""
    if low is None and high is None:
        return ""
    return "…".join(percent(bound).removesuffix(" %") for bound in (low, high))


def tail(change: TailChange, per: str) -> str:
    """90th percentile 1.2 ms → 1.8 ms (+48 %, at least +41 %)"""
    times = f"{duration(change.base_s, per)} → {duration(change.head_s, per)}"
    return f"{TAILS[change.tail]} {times} ({percent(change.change)}, at least {percent(change.low)})"


def budget(result: BudgetResult) -> str:
    """p95 2.43 ms > 2 ms: the limit as it was set, and the figure in the same unit with enough digits to differ."""
    name, unit = result.name.removesuffix("_ms").replace("max_loop_hold", "loop hold"), " ms"
    if result.note:
        return f"{name} {result.note}"
    if name == "rate_per_s":
        name, unit = "rate", "/s"
    limit = f"{result.limit:,.9f}".rstrip("0").rstrip(".")
    texts = (significant(result.measured, digits) for digits in range(3, 10))
    measured = next((text for text in texts if float(text.replace(",", "")) != result.limit), limit)
    return f"{name} {measured}{unit} {'>' if result.measured > result.limit else '<'} {limit}{unit}"


def loop_hold(hold: LoopHold) -> str:
    """loop held 23.2 ms, shop/pay.py:41 in pay (app)"""
    place = f", {site(hold)}" if hold.file else ""
    return f"loop held {duration(hold.duration_s)}{place}" + (f" ({hold.process})" if hold.process else "")


def function(one: FunctionTime) -> str:
    """shop/prices.py:41 price_of: 12.0 µs → 43.0 µs, 1 → 3 calls (app, profiled)"""
    place = f"{one.file}:{one.line}" if one.file else "built-in"
    before, after = (f"{calls:,.0f}" for calls in (one.base_calls, one.head_calls))
    called = f", {before} → {after} calls" if before != after and not one.resumes else ""
    times = f"{duration(one.base_s)} → {duration(one.head_s)}"
    return f"{place} {one.name}: {times}{called} ({one.where or 'test'}, profiled)"


def plan(change: PlanChange) -> str:
    """plan of SELECT … FROM item WHERE id = $1: Index Scan item_pkey on item → Seq Scan on item"""
    before, after = ([line.strip() for line in text.splitlines()] for text in (change.old, change.new))
    lines = list(difflib.ndiff(before, after))
    sides = [[line[2:] for line in lines if line.startswith(mark)] for mark in "-+"]
    old, new = (", ".join(side[:_PLAN_NODES]) + (" …" if len(side) > _PLAN_NODES else "") for side in sides)
    changed = f"{old or 'nothing'} → {new or 'nothing'}" if old or new else "the same nodes, nested otherwise"
    return f"plan of {change.statement}: {changed}"


def plan_lines(change: PlanChange) -> list[str]:
    """Return the lines of both plans, those of one alone marked with - or +."""
    lines = difflib.ndiff(change.old.splitlines(), change.new.splitlines())
    return [change.statement, *(line for line in lines if not line.startswith("?"))]


def site(one: CallSite | LoopHold) -> str:
    """shop/orders.py:28 in list_orders"""
    return f"{one.file}:{one.line} in {one.function}"


def plain(text: str) -> str:
    """Return text as one line that can neither control a terminal nor reverse the direction of writing."""
    text = re.sub(r"[\t\r\n]+", " ", ESCAPE_SEQUENCE.sub("", text))
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def isolated(text: str) -> str:
    """Return text that, written from right to left, does not reorder the figures beside it."""
    return f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}" if _RIGHT_TO_LEFT.search(text) else text


def shortened(name: str, width: int, ellipsis: str = "…") -> str:
    """Cut a name in the middle: names begin with their subject and end with the parameters."""
    if cell_len(name) <= width:
        return name
    tail_width = (width - cell_len(ellipsis)) // 2
    head = set_cell_size(name, width - cell_len(ellipsis) - tail_width)
    starts = range(max(0, len(name) - 4 * tail_width), len(name) + 1)  # the last characters suffice for any tail
    tail = next(name[start:] for start in starts if cell_len(name[start:]) <= tail_width)
    return head + ellipsis + tail


def first_lines(text: str, most: int) -> list[str]:
    """Return the first lines that are not empty, of a traceback those of the error; each at most 500 characters.

    The errors of processes follow.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    errors = "\n".join(line[1:] for line in lines if line.startswith("E "))
    also = [f"{name}: {error}" for name, error in errors_of_processes(text)] if errors else []
    lines = [plain(line[:500]) for line in textwrap.dedent(errors).splitlines() or lines]
    return lines[:most] + ([f"({len(lines) - most} more lines)"] if len(lines) > most else []) + also


def errors_of_processes(message: str) -> list[tuple[str, str]]:
    """Return the name of each process whose output in a failed test ends with a traceback, and the error."""
    _, *parts = _OUTPUT.split(message)
    outputs = zip(parts[::2], parts[1::2], strict=True)
    found = [(name, _last_error(with_lines(output))) for name, output in outputs]
    return [(plain(name), plain(error)) for name, error in found if error]


def _last_error(output: str) -> str:
    """Return the error at the end of a traceback, with its cause if it does not contain that; "" if there is none."""
    *before, last = output.split(_CAUSE)
    errors = _ERROR.findall(last) if '  File "' in output else []
    causes = _ERROR.findall(before[-1]) if before else []
    if not errors or not causes or causes[-1].partition(": ")[2] in errors[-1]:
        return "".join(errors[-1:])[:500]
    return f"{errors[-1][:250]}, because of {causes[-1][:250]}"


def error_in(text: str) -> str:
    """Return the line that names the error of a traceback, as Python or pytest print it; "" if there is none."""
    found = _PYTEST_ERROR.findall(text)[:1]
    # The first lines of a traceback may be missing.
    if not found and ("Traceback (most recent call last)" in text or '  File "' in text):
        found = _ERROR.findall(text)[-1:]
    return plain(found[0][:500]) if found else ""


def date(created: str) -> str:
    """2026-11-24 08:00 UTC"""
    return f"{created[:10]} {created[11:16]} UTC" if created.endswith("+00:00") else created


def test_name(key: str) -> str:
    """`"test_publish"`, the name of a test's function"""
    return file_and_name(key)[1].partition("[")[0].rpartition("::")[2]


def short_name(key: str) -> str:
    """`"publish[1 kB]"`, without the file and the prefix that all tests have"""
    return file_and_name(key)[1].removeprefix("test_")


def file_and_name(key: str) -> tuple[str, str]:
    """`("test_redis.py", "test_publish[1 kB]")`"""
    file, separator, name = key.partition("::")
    return (file, name) if separator else ("", key)
