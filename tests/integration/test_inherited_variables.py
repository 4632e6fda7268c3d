"""Variables of the shell that configure Python and pytest: the gate measures as it does without them."""

import pytest

from tests.support.project import Project

DISTURBING = {
    "PYTEST_ADDOPTS": "-n 4",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_PLUGINS": "no_such_plugin",
    "PYTHONSAFEPATH": "1",
    "PYTHONOPTIMIZE": "1",
    "PYTHONINSPECT": "1",
    "PYTHONDEVMODE": "1",
    "PYTHONMALLOC": "debug",
    "PYTHONTRACEMALLOC": "5",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "ascii",
    "COVERAGE_PROCESS_START": "no-such-file",
    "UVICORN_RELOAD": "1",
}

SUITE = """\
import os
import sys
import tracemalloc

from plumbline import Measure
from tests.performance.rules import hold


def test_calm(measure: Measure) -> None:
    hold(True)
    assert not {*os.environ} & {"PYTHONMALLOC", "PYTHONPROFILEIMPORTTIME", "COVERAGE_PROCESS_START", "UVICORN_RELOAD"}
    assert not sys.flags.dev_mode and not sys.flags.safe_path and not sys.flags.inspect
    assert not tracemalloc.is_tracing()
    for timer in measure():
        with timer:
            pass


def test_rule() -> None:
    hold("BROKEN" not in os.environ)
"""

# Not a test module: pytest leaves its `assert` to Python, which drops it under PYTHONOPTIMIZE.
RULES = """\
def hold(rule: bool) -> None:
    assert rule
"""


@pytest.fixture
def disturbed(project: Project) -> Project:
    """A project whose suite asserts that nothing disturbs its process."""
    project.write("rules.py", RULES)
    project.write("test_suite.py", SUITE)
    return project


def test_disturbing_variables_are_hidden_and_named(disturbed: Project) -> None:
    done = disturbed.run("ci", **DISTURBING)

    assert done.code == 0, done.output
    notice = f"{', '.join(sorted(DISTURBING))} are set: ignored, and hidden from all processes of this run"
    assert notice in done.output
    assert notice in disturbed.results()["notes"]


def test_a_failed_assertion_fails_without_assertions_and_with_a_prompt_at_the_end(disturbed: Project) -> None:
    """PYTHONINSPECT would end the command with exit code 0, and PYTHONOPTIMIZE would not even see the failure."""
    done = disturbed.run("ci", BROKEN="1", **DISTURBING)

    assert done.code == 1, done.output
    assert "test_rule" in done.output
