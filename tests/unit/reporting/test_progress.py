"""Progress of a run, in a terminal and elsewhere, by a clock that stands still."""

import io

import pytest

from plumbline.reporting.progress import Progress


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
    for terminal in (True, False):
        file, clock = Output(terminal=terminal), Clock()
        progress = Progress(file, 100, clock)
        clock.now_s = 50.0
        progress.step(10, "test_" + "long_" * 30, "57.1 µs, 1,000 samples")
        line = file.getvalue().removeprefix("\r\x1b[2K").rstrip("\n")
        assert line.startswith("10 of 100, about 450 s left: test_")
        assert line.endswith(" (last: 57.1 µs, 1,000 samples)")
        assert len(line) == 79
