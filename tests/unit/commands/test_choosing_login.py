"""How `plumbline init` finds a login that works."""

import pytest

from plumbline.commands.choosing_login import cause_of
from plumbline.results.schema import TestOutcome

TRACEBACK = "Traceback (most recent call last):\n  File \"/shop/mail.py\", line 3\nFileNotFoundError: 'mail.html'"


@pytest.mark.parametrize(
    "output", [TRACEBACK, '{"exception": "' + TRACEBACK.replace("\n", "\\n") + '", "level": "error"}']
)
def test_the_error_of_the_application(output: str) -> None:
    """It is in the output of the application, as lines or as JSON."""
    test = TestOutcome("a", "failed", 0.1, f"E  AssertionError: login: <Response [500]>\n\noutput of app:\n{output}\n")
    assert cause_of(test) == "FileNotFoundError: 'mail.html'"


def test_no_error_of_the_application() -> None:
    assert cause_of(TestOutcome("a", "failed", 0.1, "E  KeyError: 'token'\n\noutput of app:\nstarted\n")) == ""
