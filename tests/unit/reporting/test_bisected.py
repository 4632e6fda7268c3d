"""The texts of a search for a commit."""

import pytest

from plumbline.comparing.bisection import Slower, StepResult
from plumbline.comparing.trees.history import Commit
from plumbline.judging.counts import GrownCount
from plumbline.judging.evidence import Judgement, Thresholds
from plumbline.reporting.bisected import commit_text, sought_text, step_text
from plumbline.settings import GateSettings

LIMITS = Thresholds.of(GateSettings(), None)
FAILED = """\
the worker of head failed: it ended with exit code 3; its last output:
    |   File "shop.py", line 3, in <module>
    |     import not_there
    | ModuleNotFoundError: No module named 'not_there'
  next        add the package"""


@pytest.mark.parametrize(
    ("sought", "text"),
    [
        (Slower(0.102, 0.09, LIMITS, None), "+10 %"),
        (Slower(0.5, 0.4, LIMITS, "p90"), "90th percentile +50 %"),
        (GrownCount("postgres.statement", 1, 51), "postgres statements 1 → 51"),
        (GrownCount("redis.command GET", 1, 2), "redis GET 1 → 2"),
        (GrownCount("postgres.rows_read", 10, 5000), "postgres rows read 10 → 5,000"),
    ],
)
def test_what_a_search_looks_for(sought: GrownCount | Slower, text: str) -> None:
    assert sought_text(sought) == text


@pytest.mark.parametrize(
    ("tested", "text"),
    [
        (StepResult("good", why="it runs no changed code"), "good: it runs no changed code"),
        (StepResult("bad", count=51), "bad, 51"),
        (StepResult("skip", why=FAILED), "skipped: ModuleNotFoundError: No module named 'not_there'"),
        (StepResult("skip", why="in head: it hangs\nfor long"), "skipped: it hangs"),
        (StepResult("good", Judgement("pass", 0.003, -0.012, 0.011, 0.03, 4, 0.01)), "good, +0.3 % (-1.2…+1.1)"),
        (
            StepResult("bad", Judgement("inconclusive", 0.03, 0.0, 0.06, 0.03, 4, 0.01)),
            "bad, +3.0 % (0.0…+6.0), not certain: decided by its estimate",
        ),
    ],
)
def test_what_a_step_has_found(tested: StepResult, text: str) -> None:
    assert step_text(tested) == text


def test_a_commit_is_one_line() -> None:
    """A subject can't control the terminal."""
    commit = Commit("0123456789abcdef", "Ann", "2026-11-30", "Fix \x1b[31mit", ())

    assert commit_text(commit) == "0123456789 Fix it (Ann, 2026-11-30)"
