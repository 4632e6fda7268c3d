import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from plumbline.reporting import terminal
from plumbline.reporting.progress import Progress
from plumbline.results.schema import CountChange, FunctionTime, Reason, Results, TestOutcome, Verdict
from tests.support.report_samples import NASTY, benchmark, results, small, unmeasured

SMALL = """\
redis  embedded  Valkey 9.1.0  core 1  (no Docker engine answers)

benchmark                                  before   median  change  verdict
test_redis.py
publish_latency                           57.1 µs  61.7 µs  +8.1 %  regression
get[100 B]                                57.1 µs  57.4 µs  +0.5 %  over budget
get[10 kB]                                57.1 µs  57.4 µs  +0.5 %  pass
500_messages_at_once_over_a_bounded_pool  57.1 µs  57.4 µs   -14 %  improvement
test_postgres.py
select_1                                  57.1 µs                   missing
copy                                               57.4 µs          new

Failed
! publish_latency: 57.1 µs → 61.7 µs, +8.1 % (+6.9…+9.4)
  slower than the baseline in 5 fresh processes
  test: tests/performance/test_redis.py:1

Over budget
! get[100 B]: 57.1 µs → 57.4 µs, +0.5 % (-0.4…+1.4)
  budget p95 2.43 ms > 2 ms
  test: tests/performance/test_redis.py:1

Missing
! select_1
  skipped: no time today

- get[10 kB]: 12 samples are too short for the clock
- 1 test skipped, pause: redis is not ours

FAILED test_readiness.py::test_login
  assert 'OK' == 'NOAUTH'
    - NOAUTH

Compared with the baseline linux.json
before: the baseline
6 benchmarks: 1 regression, 1 over budget, 1 pass, 1 improvement, 1 missing, 1
new; 7 tests: 5 passed, 1 failed, 1 skipped

INVALID: in the baseline, but not measured: test_postgres.py::test_select_1
  slower than the baseline: test_redis.py::test_publish_latency
  budget broken: test_redis.py::test_get[100 B]
  test failed: test_readiness.py::test_login
Exit code 3: something was not measured, or not compared, so there is no verdict
to trust.
Next: nox -s ci -- tests/performance/test_redis.py::test_publish_latency \
'tests/performance/test_redis.py::test_get[100 B]' tests/performance/test_readiness.py::test_login
      runs only what failed.
"""


def rendered(run: Results, width: int = 80, encoding: str = "utf-8", **options: object) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    console = Console(file=file, width=width, _environ={"NO_COLOR": "1", "TERM": "xterm-256color"}, **options)  # type: ignore[arg-type]
    terminal.render(run, console)
    file.flush()
    return raw.getvalue().decode(encoding)


def test_a_small_run_looks_as_it_should() -> None:
    assert rendered(small()) == SMALL


def test_no_color_switches_colours_off() -> None:
    coloured = io.StringIO()
    terminal.render(small(), Console(file=coloured, width=80, force_terminal=True, _environ={"TERM": "xterm"}))

    assert "\x1b[1;31m" in coloured.getvalue()
    assert "\x1b[1;31m" not in rendered(small(), force_terminal=True)


def test_a_wide_terminal_shows_whole_names_and_more_figures() -> None:
    wide = rendered(small(), width=140)

    assert "500_messages_at_once_over_a_bounded_pool" in wide
    assert "   mean      p95      rate    n  detectable  verdict\n" in wide


def test_a_run_without_a_baseline_shows_no_empty_columns() -> None:
    nothing = {
        "baseline_median": None,
        "change": None,
        "change_low": None,
        "change_high": None,
        "minimum_detectable_effect": None,
    }
    entries = [
        benchmark(f"a.py::test_{name}", "new", reasons=["no baseline"], **nothing) for name in ("a", "b", "c", "d")
    ]

    text = rendered(results(*entries, verdict="new"))

    assert "benchmark   median     mean      p95      rate    n  verdict\n" in text
    assert "a          57.4 µs  58.0 µs  61.2 µs  17,400/s  100  new\n" in text
    assert "- a, b and 2 more: no baseline\n" in text
    assert "Next: nox -s baseline\n" in text


@pytest.mark.parametrize(
    "verdict",
    ["pass", "regression", "improvement", "inconclusive", "invalid", "new", "changed", "missing"],
)
def test_every_verdict_is_shown_and_only_some_are_marked(verdict: Verdict) -> None:
    text = rendered(results(benchmark("a.py::test_a", verdict, reasons=["because"]), verdict=verdict))

    assert f" {verdict}" in text
    heading = {"regression": "Failed", "invalid": "Invalid", "missing": "Missing"}.get(verdict)
    failing = heading is not None
    assert (f"\n{heading}\n! a: 57.1 µs" in text) == failing
    assert ("\n! a: because\n" in text) == (verdict == "inconclusive")
    assert ("\n  because\n" in text) == failing
    assert ("because" in text) == (verdict != "pass")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp1252"])
def test_names_of_any_kind_break_neither_table_nor_terminal(encoding: str) -> None:
    run = results(*(benchmark(key, "inconclusive", reasons=[f"seen in {key}"]) for key in NASTY.values()))

    text = rendered(run, encoding=encoding)
    rows = [line for line in text.splitlines() if line.endswith(" inconclusive")]

    assert len(rows) == len(NASTY)
    assert len({cell_len(row) for row in rows}) == 1
    assert cell_len(rows[0]) <= 80
    assert not set("\x00\x07\x1b\r\u202e") & set(text)
    assert "publish[bold red] " in text
    assert "publish[/] " in text


def test_a_right_to_left_name_is_kept_apart_from_the_figures() -> None:
    text = rendered(results(benchmark(NASTY["right to left"])))

    assert f"\u2068{NASTY['right to left'].partition('::test_')[2]}\u2069  57.1 µs" in text


def test_the_longest_figures_still_fit_80_columns() -> None:
    entry = benchmark(
        "a.py::test_" + "long_" * 60,
        "inconclusive",
        samples=100_000,
        change=499,
        change_low=480,
        change_high=520,
        minimum_detectable_effect=0.12,
    )

    row = next(line for line in rendered(results(entry)).splitlines() if "x500" in line)

    assert cell_len(row) <= 80
    assert "x500" in row
    assert row.endswith(" inconclusive")


def test_failing_benchmarks_have_a_block_of_their_own() -> None:
    """Above the remarks on the others; a name stands before the first of its remarks."""
    unsure = benchmark("a.py::test_a", "inconclusive", change=0.9, reasons=["9 pairs say nothing"], warnings=["twice"])
    slower = benchmark("a.py::test_b", "regression", change=0.1, reasons=["in 4 pairs"], warnings=["measured twice"])

    text = rendered(results(unsure, slower))

    assert "\n\nFailed\n! b: 57.1 µs" in text
    others = "! a: 9 pairs say nothing\n  twice\n- b: measured twice\n"
    assert f"\n  in 4 pairs\n  test: tests/performance/a.py:1\n\n{others}" in text


def test_a_regression_has_its_main_causes_in_three_lines() -> None:
    """The statement, then the functions of the user's own code. The calls of a coroutine include its continuations."""
    statements = [CountChange(f"postgres.statement SELECT {n}", 0, 60 - n, gated=True) for n in range(4)]
    functions = [
        FunctionTime(f"f{n}", "shop/app.py", n, 1e-3, 2e-3, 1, 51, "app", own=True, resumes=n == 2) for n in range(1, 4)
    ]
    slower = benchmark("a.py::test_a", "regression", count_changes=statements, functions=functions)

    text = rendered(results(slower), width=100)

    assert text.partition("! a: ")[2].partition("\n\n")[0].splitlines()[1:] == [
        "  SELECT 0: 0 → 60",
        "  slower: shop/app.py:1 f1: 1.00 ms → 2.00 ms, 1 → 51 calls (app, profiled)",
        "  slower: shop/app.py:2 f2: 1.00 ms → 2.00 ms (app, profiled)",
        "  (4 more in results.json)",
        "  test: tests/performance/a.py:1",
    ]


def test_a_narrow_terminal_shows_how_certain_an_inconclusive_change_is() -> None:
    """Rather than more figures."""
    text = rendered(results(benchmark("a.py::test_" + "a" * 15, "inconclusive")))

    assert "   median  change   interval  detectable  verdict\n" in text
    assert " +0.5 %  -0.4…+1.4       3.2 %  inconclusive\n" in text


def test_a_change_that_was_not_judged_is_not_shown() -> None:
    """The benchmark of another machine has none, and one that executes no changed code says so."""
    unaffected = benchmark("a.py::test_a", change=1.05, reasons=[Reason("unaffected", "0f1e2d3")])
    elsewhere = benchmark("a.py::test_b", "inconclusive", change=1.05, change_low=None, change_high=None)

    text = rendered(results(unaffected, elsewhere), width=140)

    assert "105" not in text
    assert "57.1" not in text
    assert "a          57.4 µs  not affected  " in text
    assert "2 benchmarks: 1 pass (1 not affected), 1 inconclusive" in text


def test_figures_of_many_operations_say_so() -> None:
    """With the name of the operation, if the test gives one."""
    rows = benchmark("a.py::test_a", operations=50, operation="row")
    others = benchmark("a.py::test_b", operations=50)

    text = rendered(results(rows, others), width=100)

    assert "57.1 µs/row  57.4 µs/row  +0.5 %" in text
    assert "57.1 µs/op   57.4 µs/op   +0.5 %" in text


def test_tests_are_skipped_for_a_reason() -> None:
    """Once for all tests with the same one."""
    skipped = [TestOutcome(f"a.py::test_{n}", "skipped", 0.0, "off: redis") for n in "abcdefg"]

    text = rendered(results(benchmark("a.py::test_z"), tests=[*skipped, TestOutcome("b.py::test_h", "skipped", 0.0)]))

    assert "- 7 tests skipped, a, b, c, d, e and 2 more: off: redis\n- 1 test skipped, h: no reason given\n" in text


def test_names_that_two_files_share_are_shown_with_their_file() -> None:
    entries = [unmeasured(f"{file}.py::test_get", reasons=[f"gone from {file}"]) for file in ("a", "b")]

    assert "! b.py::test_get\n  gone from b\n" in rendered(results(*entries))


def test_a_long_error_is_shown_whole_and_the_command_after_it() -> None:
    error = "redis is not ready after 60 s\n  last error: connection refused\n  log: " + "x" * 200
    error += f"\n    | File {'y ' * 60}y\n  next"

    text = rendered(results(verdict="invalid", exit_code=3, reasons=[error, "nothing was measured"], baseline=""))

    assert "INVALID: redis is not ready after 60 s\n  last error: connection refused\n" in text
    assert text.count("x") > 200
    assert f"\n    | File {'y ' * 60}y\n  next\n" in text, "output of a service can be copied"
    assert text.endswith("Next: nox -s readiness\n      shows which services are ready.\n")


def test_a_very_long_name_does_not_fill_the_terminal() -> None:
    """Nor does one with line breaks begin a line."""
    keys = ["test_a.py::test_a[" + "x" * 100_000 + "]", "test_a.py::test_b[\nExit code 0\n]"]
    reasons = [Reason("benchmarks_invalid", subjects=keys)]

    text = rendered(results(*(unmeasured(key, "invalid") for key in keys), verdict="invalid", reasons=reasons))

    assert len(text.splitlines()) < 60
    assert "\nExit code 0\n" not in text


def test_2000_benchmarks_end_with_the_verdict() -> None:
    run = results(*(benchmark(f"test_{i % 40}.py::test_{i}", reasons=["fast"]) for i in range(2000)))

    text = rendered(run)

    assert len(text.splitlines()) < 2060
    assert "PASS\nExit code 0: nothing failed.\n" in text


def test_an_empty_run_shows_its_verdict_alone() -> None:
    text = rendered(results(verdict="invalid", exit_code=3, reasons=["nothing was measured"], baseline=""))

    assert text.startswith("\n0 benchmarks; 0 tests\n\nINVALID: nothing was measured\nExit code 3: ")


class Output(io.StringIO):
    """A file that is a terminal or not, of an encoding or none."""

    def __init__(self, *, terminal: bool, encoding: str = "utf-8") -> None:
        super().__init__()
        self._terminal = terminal
        self._encoding = encoding

    def isatty(self) -> bool:
        return self._terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_in_a_terminal_one_line_is_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time left is estimated from the steps so far; nothing remains at the end."""
    monkeypatch.setenv("TERM", "xterm")
    file, clock = Output(terminal=True), Clock()
    progress = Progress(file, 10, clock)
    progress.step(0, "test_first")
    clock.now_s = 4.0
    progress.step(2, "test_third")
    progress.close()
    progress.close()
    assert file.getvalue().split("\r\x1b[2K") == [
        "",
        "0 of 10: test_first",
        "2 of 10, about 16 s left: test_third",
        "",
    ]


def test_outside_a_terminal_a_line_is_printed_now_and_then() -> None:
    """At most one a second, and no control character."""
    file, clock = Output(terminal=False), Clock()
    progress = Progress(file, 10, clock)
    for number in range(1, 11):
        clock.now_s = number * 0.4
        progress.step(number, f"test_{number}")
    progress.close()
    assert (
        file.getvalue()
        == "3 of 10, about 3 s left: test_3\n6 of 10, about 2 s left: test_6\n9 of 10, about 0 s left: test_9\n"
    )


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an editor's window."""
    monkeypatch.setenv("TERM", "dumb")
    file, clock = Output(terminal=True), Clock()
    progress = Progress(file, 1, clock)
    clock.now_s = 5.0
    progress.say("here")
    assert file.getvalue() == "here\n"


def test_names_can_neither_control_the_terminal_nor_fill_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control sequences are removed, and lines wider than the terminal are cut, in any encoding."""
    monkeypatch.setenv("TERM", "xterm")
    file = Output(terminal=True, encoding="ascii")
    Progress(file).say("\x1b[31mµ" + "x" * 300)
    assert file.getvalue() == "\r\x1b[2K?" + "x" * 78


def test_a_long_name_is_cut_rather_than_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time left and the figures stay whole in 80 columns, with a terminal and without."""
    monkeypatch.setenv("TERM", "xterm")
    for in_terminal in (True, False):
        file, clock = Output(terminal=in_terminal), Clock()
        progress = Progress(file, 100, clock)
        clock.now_s = 50.0
        progress.step(10, "test_" + "long_" * 30, "57.1 µs, 1,000 samples")
        line = file.getvalue().removeprefix("\r\x1b[2K").rstrip("\n")
        assert line.startswith("10 of 100, about 450 s left: test_")
        assert line.endswith(" (previous: 57.1 µs, 1,000 samples)")
        assert len(line) == 79
