"""The progress of a run in a terminal. Each suite run shows it, so this module imports little."""

import os
import time
from collections.abc import Callable
from typing import TextIO

from rich.cells import set_cell_size

from plumbline.reporting.format import plain, shortened

_LEAST_NAME_WIDTH = 12
_PLAIN_EVERY_S = 1.0  # without a terminal
_ERASE = "\r\x1b[2K"


class Progress:
    """Shows how far a run of `total` steps is: a line drawn over in a terminal, one now and then elsewhere."""

    def __init__(self, file: TextIO, total: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._total, self._clock = file, total, clock
        self._in_place = file.isatty() and os.environ.get("TERM") != "dumb"
        self._began_s = self._printed_s = clock()
        self._drawn = False

    def step(self, done: int, name: str, last: str = "") -> None:
        """Show `12 of 57, about 4 s left: test_get (previous: 57.1 µs, 100 samples)`; only a long name is cut."""
        left_s = (self._clock() - self._began_s) / max(1, done) * (self._total - done)
        left = f", about {left_s:.0f} s left" if done else ""
        begin, end = f"{done} of {self._total}{left}: ", f" (previous: {last})" if last else ""
        room = self._width() - len(begin) - len(end)
        self.say(begin + shortened(plain(name), max(_LEAST_NAME_WIDTH, room)) + end)

    def say(self, text: str) -> None:
        """Replace the line in a terminal; elsewhere print a line, but not within a second of the last one."""
        text = plain(text)
        if self._in_place:
            self._write(_ERASE + set_cell_size(text, self._width()).rstrip())
            self._drawn = True
        elif self._clock() - self._printed_s >= _PLAIN_EVERY_S:
            self._printed_s = self._clock()
            self._write(text + "\n")

    def close(self) -> None:
        if self._drawn:
            self._write(_ERASE)
            self._drawn = False

    def _width(self) -> int:
        try:
            return (os.get_terminal_size(self._file.fileno()).columns or 80) - 1
        except (OSError, ValueError):
            return 79

    def _write(self, text: str) -> None:
        encoding = self._file.encoding or "utf-8"
        self._file.write(text.encode(encoding, "replace").decode(encoding))
        self._file.flush()
