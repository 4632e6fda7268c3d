"""Which benchmarks a change affects, as seen in a rehearsal with real processes."""

import shutil
from pathlib import Path

import pytest

from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.trees.sides import Sides
from plumbline.comparing.workers.pair_runner import compare, pair_runner
from tests.support.project import SETTINGS
from tests.unit.comparing.workers.small_trees import (
    ALIKE,
    ASYNC,
    BEFORE,
    ODD,
    PLAIN,
    SKIPPED,
    WORK,
    copy_of,
    edit,
    plans_of,
    settings_of,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

READING = """\
from plumbline.measuring.loop import Measure
from plumbline.services import Services


def test_lazy(measure: Measure) -> None:
    import lazy

    for timer in measure():
        with timer:
            lazy.work()


def test_served(services: Services, measure: Measure) -> None:
    for timer in measure():
        with timer:
            pass
"""
LAZY, SERVED = "test_reading.py::test_lazy", "test_reading.py::test_served"
WORKER = "import by_worker; print('ready', flush=True); import time; time.sleep(60)"


@pytest.fixture
def reading(trees: Sides) -> Sides:
    """Trees in which a worker, `prepare` and a test's body read a file each, and in base a test reads one more."""
    text = f'[processes.worker]\ncommand = ["python", "-c", "{WORKER}"]\nready_output = "ready"\n'
    for side in (trees.base, trees.head):
        settings = f'prepare = ["python", "-c", "import by_prepare"]\n{SETTINGS}{text}'
        (side.root / "tests/performance/settings.toml").write_text(settings)
        (side.root / "tests/performance/test_reading.py").write_text(READING)
        for name in ("by_worker.py", "by_prepare.py", "README.md"):
            (side.root / name).write_text("")
        (side.root / "lazy.py").write_text("def work():\n    pass\n")
    (trees.base.root / "lazy.py").write_text("from removed import work\n")
    (trees.base.root / "removed.py").write_text("def work():\n    pass\n")
    return trees


@pytest.mark.parametrize(
    ("differing", "affected"),
    [
        (["README.md", "by_worker.py"], {SERVED}),
        (["by_prepare.py"], {LAZY, SERVED}),
        (["removed.py"], {LAZY, SERVED}),
    ],
    ids=["a worker", "prepare", "in a test's body in base alone"],
)
def test_only_benchmarks_that_read_changed_files_are_affected(
    reading: Sides, differing: list[str], affected: set[str]
) -> None:
    """A changed process affects only the benchmarks that use it."""
    sides = Sides(**{**vars(reading), "files": differing})
    with pair_runner(settings_of(sides), sides, plans_of(LAZY, SERVED), "ci") as both:
        assert both.unaffected == {LAZY, SERVED} - affected


@pytest.mark.parametrize(
    ("old", "new", "affected"),
    [
        ("def before():", "def before():\n    alike()", {BEFORE}),
        ("def work():", "def work():\n    new()\n\n\ndef new():", {WORK, ASYNC}),
    ],
    ids=["outside of what is timed", "with a new function"],
)
def test_only_benchmarks_that_run_changed_functions_are_affected(
    trees: Sides, old: str, new: str, affected: set[str]
) -> None:
    """A comment affects none."""
    edit(trees.head, old, new)
    edit(trees.head, "def alike():", "def alike():\n    # nothing")
    with pair_runner(settings_of(trees), trees, plans_of(WORK, ASYNC, ALIKE, BEFORE), "ci") as both:
        assert both.unaffected == {WORK, ASYNC, ALIKE, BEFORE} - affected


def test_if_no_benchmark_is_affected_there_is_no_pair(reading: Sides) -> None:
    """Neither controls nor a profiler run; pytest's configuration is head's on both sides."""
    sides = Sides(**{**vars(reading), "files": ["README.md", "pyproject.toml"]})
    found = compare(settings_of(sides), sides, plans_of(LAZY, SERVED), budget_s=60)
    assert found.unaffected == {LAZY, SERVED}
    assert found.pairs == 0
    assert not found.differences


def test_a_benchmark_that_fails_in_the_rehearsal_is_compared_all_the_same(compiled: Sides, tmp_path: Path) -> None:
    """So that it is reported: one that base alone skips, though it reads nothing that differs."""
    sides = copy_of(compiled, tmp_path)
    edit(sides.head, 'ARM = "base"', 'ARM = "head"')
    for side in (sides.base, sides.head):
        (side.root / "tests/performance/test_odd.py").write_text(ODD)
    sides = Sides(**{**vars(sides), "files": ["README.md"]})
    with pair_runner(settings_of(sides), sides, plans_of(SKIPPED["base"], PLAIN), "ci") as both:
        assert both.unaffected == {PLAIN}


def test_a_side_that_imports_from_elsewhere_makes_the_comparison_invalid(trees: Sides, tmp_path: Path) -> None:
    """Its own tree lacks the module, and another folder of the path has it: what was measured would not be base."""
    shutil.move(trees.base.root / "tested_code.py", tmp_path / "tested_code.py")
    strange = Sides(**{**vars(trees), "import_from": [".", ".."]})
    with (
        pytest.raises(ComparisonInvalid, match="base imports from outside its own tree: tested_code"),
        pair_runner(settings_of(strange), strange, plans_of(WORK), "ci"),
    ):
        pass
