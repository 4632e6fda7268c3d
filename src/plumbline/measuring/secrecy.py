"""Removes passwords from pytest's output, reports and test names."""

import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Callable
from typing import TextIO, cast

import pytest

from plumbline.processes import printable
from plumbline.services.redaction import Terminal

Scrub = Callable[[str], str]


def hide_passwords(config: pytest.Config, scrub: Scrub, at_stop: contextlib.ExitStack, *, streams: bool) -> None:
    """Hide passwords in pytest's output from now on, and with `-s` and `streams` in stdout and stderr."""
    writer = config.get_terminal_writer() if config.pluginmanager.hasplugin("terminalreporter") else None
    if writer is not None:
        writer._file = cast(TextIO, Terminal(writer._file, scrub))
    if config.option.capture == "no" and streams:
        for stream in ("stdout", "stderr"):
            original = getattr(sys, stream)
            at_stop.callback(setattr, sys, stream, original)
            setattr(sys, stream, Terminal(original, scrub))


def scrub_report(report: pytest.TestReport | pytest.CollectReport, scrub: Scrub) -> None:
    """Remove passwords and control characters from the report of any test."""

    def clean(text: str) -> str:
        return scrub(printable(text))

    if isinstance(report.longrepr, tuple):
        path, line, reason = report.longrepr
        report.longrepr = (path, line, clean(reason))
    elif (text := clean(report.longreprtext)) != report.longreprtext:
        report.longrepr = text
    report.sections = [(title, clean(text)) for title, text in report.sections]
    if isinstance(report, pytest.TestReport):
        properties = [(name, value, clean(str(value))) for name, value in report.user_properties]
        report.user_properties = [(name, value if str(value) == text else text) for name, value, text in properties]


def scrub_names(metafunc: pytest.Metafunc, scrub: Scrub) -> None:
    """Remove passwords from the parameters in test names, before anything selects tests by name."""
    calls, taken = metafunc._calls, {call.id for call in metafunc._calls}
    for place, call in enumerate(calls):
        if (name := scrub(call.id)) != call.id:
            number = itertools.count(2)
            unique = name
            while unique in taken:
                unique = f"{name}-{next(number)}"
            taken.add(unique)
            calls[place] = dataclasses.replace(call, _idlist=[unique])
