"""Variables of the shell that configure Python and pytest do not affect the gate."""

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

# Not a test module, so pytest does not rewrite its `assert`, and PYTHONOPTIMIZE would remove it.
RULES = """\
def hold(rule: bool) -> None:
    assert rule
"""


@pytest.fixture
def disturbed(project: Project) -> Project:
    """A project whose suite checks that nothing disturbs its process."""
    project.write("rules.py", RULES)
    project.write("test_suite.py", SUITE)
    return project


def test_disturbing_variables_are_hidden_and_named(disturbed: Project) -> None:
    done = disturbed.run("ci", **DISTURBING)

    assert done.code == 0, done.output
    notice = f"{', '.join(sorted(DISTURBING))} are set: ignored, and hidden from all processes of this run"
    assert notice in done.output
    assert notice in disturbed.results()["notes"]


def test_a_failed_assertion_fails_under_pythonoptimize_and_pythoninspect(disturbed: Project) -> None:
    """PYTHONOPTIMIZE would remove the assertion, and PYTHONINSPECT would change the exit code to 0."""
    done = disturbed.run("ci", BROKEN="1", **DISTURBING)

    assert done.code == 1, done.output
    assert "test_rule" in done.output
