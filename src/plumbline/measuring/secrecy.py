"""What pytest knows of a test, without passwords: its report and its name."""

import dataclasses
import itertools
from collections.abc import Callable

import pytest

from plumbline.processes import printable

Scrub = Callable[[str], str]


def scrub_report(report: pytest.TestReport | pytest.CollectReport, scrub: Scrub) -> None:
    """Remove passwords, and what controls a terminal, from a report, also of a test that passes or is skipped."""

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
    """Remove passwords from the parameters in the names of tests, before anything matches these names."""
    calls, taken = metafunc._calls, {call.id for call in metafunc._calls}
    for place, call in enumerate(calls):
        if (name := scrub(call.id)) != call.id:
            number = itertools.count(2)
            unique = name
            while unique in taken:
                unique = f"{name}-{next(number)}"
            taken.add(unique)
            calls[place] = dataclasses.replace(call, _idlist=[unique])
