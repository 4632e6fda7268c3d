"""The output of the application and its processes: for failed tests, and at the end of a run."""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from plumbline.results.files import ResultsError, write_whole
from plumbline.services.application import Process
from plumbline.services.services import Services

# After an error response, the application may take this long to write its traceback.
OUTPUT_LIMIT_S, OUTPUT_SETTLED_S = 0.3, 0.05
OUTPUT_LINES, KEPT_OUTPUT_BYTES = 40, 1 << 20
OUTPUT_OF = "output of "  # the start of a title of a report's section


def new_output(ends: Mapping[Process, int]) -> list[tuple[str, str]]:
    """Return titles and last lines of the processes' output after the given positions."""
    known, deadline_s = [*ends.values()], time.monotonic() + OUTPUT_LIMIT_S
    while (now := [one.output_end() for one in ends]) != known or now == [*ends.values()]:
        if not ends or time.monotonic() > deadline_s:
            break
        known = now
        time.sleep(OUTPUT_SETTLED_S)
    found = {process.name: process.output_after(end).splitlines()[-OUTPUT_LINES:] for process, end in ends.items()}
    return [(f"{OUTPUT_OF}{name}", "\n".join(lines)) for name, lines in found.items() if lines]


def output_in(report: pytest.TestReport) -> str:
    """Return the output of the application and its processes during a failed test."""
    return "\n".join(f"{title}:\n{text}" for title, text in report.sections if title.startswith(OUTPUT_OF))


def keep_output(services: Services, folder: Path) -> None:
    """Append the output of the application and of each process to its log in this folder, up to a size limit."""
    for process in services.code_under_test():
        path, text = folder / f"{process.name}.log", process.output_after(0, KEPT_OUTPUT_BYTES)
        if text and folder.is_dir():
            with contextlib.suppress(OSError, ResultsError):
                text = (path.read_text(encoding="utf-8", errors="replace") if path.exists() else "") + text
                write_whole(path, text[-KEPT_OUTPUT_BYTES:])
