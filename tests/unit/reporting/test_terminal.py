import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from plumbline.reporting import terminal
from plumbline.reporting.terminal import Progress
from plumbline.results.schema import Results, Verdict
from tests.support.report_samples import NASTY, benchmark, results, small, unmeasured

SMALL = """\
redis  embedded  Valkey 9.1.0  core 1  (no Docker engine answers)

benchmark             n baseline     now change  interval verdict     detectable
test_redis.py
publish_latency     100  57.1 µs 61.7 µs +8.1 % +6.9…+9.4 regression       3.2 %
get[100 B]          100  57.1 µs 57.4 µs +0.5 % -0.4…+1.4 over budget      3.2 %
get[10 kB]          100  57.1 µs 57.4 µs +0.5 % -0.4…+1.4 pass             3.2 %
500_messa…nded_pool   9  57.1 µs 57.4 µs  -14 %  -16…+1.4 improvement      3.2 %
test_postgres.py
select_1                 57.1 µs                          missing
copy                100          57.4 µs                  new              3.2 %

! publish_latency: slower in 5 fresh processes
! get[100 B]: budget broken: p95 2.43 ms > 2 ms
! select_1: skipped: no time today
- get[10 kB]: 12 samples are too short for the clock

FAILED test_readiness.py::test_login
  assert 'OK' == 'NOAUTH'
    - NOAUTH

Compared with linux.json
6 benchmarks: 1 regression, 1 over budget, 1 pass, 1 improvement, 1 missing, 1
new; 7 tests: 5 passed, 1 failed, 1 skipped

INVALID: in the baseline, but not measured: test_postgres.py::test_select_1
  slower than the baseline: test_redis.py::test_publish_latency
  budget broken: test_redis.py::test_get[100 B]
  test failed: test_readiness.py::test_login
Exit code 3: invalid: something was not measured or compared, or not reliably.
Next: nox -s ci -- -k "test_get or test_login or test_publish_latency"
      runs only these.
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
    assert "p95      rate     mean\n" in wide


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

    assert "benchmark    n      now  verdict      p95      rate     mean\n" in text
    assert "a          100  57.4 µs  new      61.2 µs  17,400/s  58.0 µs\n" in text
    assert "- a, b and 2 more: no baseline\n" in text
    assert "Next: nox -s baseline\n" in text


@pytest.mark.parametrize(
    "verdict",
    ["pass", "regression", "improvement", "inconclusive", "invalid", "new", "changed", "missing"],
)
def test_every_verdict_is_shown_and_only_some_are_marked(verdict: Verdict) -> None:
    text = rendered(results(benchmark("a.py::test_a", verdict, reasons=["because"]), verdict=verdict))

    assert f" {verdict}" in text
    assert ("! a: because\n" in text) == (verdict in {"regression", "inconclusive", "invalid", "missing"})
    assert ("because" in text) == (verdict != "pass")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp1252"])
def test_names_of_any_kind_break_neither_table_nor_terminal(encoding: str) -> None:
    run = results(*(benchmark(key, "inconclusive", reasons=[f"seen in {key}"]) for key in NASTY.values()))

    text = rendered(run, encoding=encoding)
    rows = [line for line in text.splitlines() if line.endswith("3.2 %")]

    assert len(rows) == len(NASTY)
    assert {cell_len(row) for row in rows} == {80}
    assert not set("\x00\x07\x1b\r\u202e") & set(text)
    assert "publish[bold red] " in text
    assert "publish[/] " in text


def test_a_right_to_left_name_is_kept_apart_from_the_figures() -> None:
    text = rendered(results(benchmark(NASTY["right to left"])))

    assert f"\u2068{NASTY['right to left'].partition('::test_')[2]}\u2069  100" in text


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
    assert "x481…x521 inconclusive" in row


def test_failing_benchmarks_come_first_and_a_name_stands_before_the_first_of_its_remarks() -> None:
    unsure = benchmark("a.py::test_a", "inconclusive", change=0.9, reasons=["9 pairs say nothing"])
    slower = benchmark("a.py::test_b", "regression", change=0.1, reasons=["in 4 pairs"], warnings=["measured twice"])

    text = rendered(results(unsure, slower))

    assert "! b: in 4 pairs\n  measured twice\n! a: 9 pairs say nothing\n" in text


def test_names_that_two_files_share_are_shown_with_their_file() -> None:
    entries = [unmeasured(f"{file}.py::test_get", reasons=[f"gone from {file}"]) for file in ("a", "b")]

    assert "! b.py::test_get: gone from b\n" in rendered(results(*entries))


def test_a_long_error_is_shown_whole_and_the_command_after_it() -> None:
    error = "redis is not ready after 60 s\n  last error: connection refused\n  log: " + "x" * 200

    text = rendered(results(verdict="invalid", exit_code=3, reasons=[error, "nothing was measured"], baseline=""))

    assert "INVALID: redis is not ready after 60 s\n  last error: connection refused\n" in text
    assert text.count("x") > 200
    assert text.endswith("Next: nox -s readiness\n      shows which services are ready.\n")


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
        assert line.endswith(" (last: 57.1 µs, 1,000 samples)")
        assert len(line) == 79
