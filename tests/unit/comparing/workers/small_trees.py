"""Two small trees with a suite of benchmarks, for paired comparisons with real processes."""

import contextlib
import shutil
from pathlib import Path

import psutil

from plumbline.comparing.statistics.plan import BenchmarkPlan
from plumbline.comparing.trees.ignored import Extras
from plumbline.comparing.trees.sides import Side, Sides
from plumbline.judging.evidence import Thresholds
from plumbline.settings import Settings
from plumbline.settings_file import load_settings
from tests.support.project import ROOT, SETTINGS

WORK, ASYNC, ALIKE, BEFORE = (f"test_work.py::test_{name}" for name in ("work", "async", "alike", "before"))
SKIPPED = {name: f"test_odd.py::test_skipped_in[{name}]" for name in ("base", "head")}
FAILING, PRINTING, FIRST, PLAIN = (f"test_odd.py::test_{name}" for name in ("failing", "printing", "first", "plain"))
NEW = "test_new.py::test_new"
TWICE = "test_odd.py::test_twice"
HANGING = "test_odd.py::test_hanging"
# Thresholds that hold on a busy machine. Slow-downs in these tests are by a factor of two.
LIMITS = Thresholds(tolerance=0.1, minimum_effect=0.5, false_alarms=0.01, power=0.97)

SUITE = """\
import asyncio

from tested_code import alike, before, work

from plumbline.measuring.loop import Measure


def test_work(measure: Measure) -> None:
    for timer in measure():
        with timer:
            work()


async def test_async(measure: Measure) -> None:
    async with asyncio.timeout(5):
        async for timer in measure():
            with timer:
                work()
                await asyncio.sleep(0)


def test_alike(measure: Measure) -> None:
    for timer in measure():
        with timer:
            alike()


def test_before(measure: Measure) -> None:
    before()
    for timer in measure():
        with timer:
            alike()
"""

CODE = """\
import os
import time

SIDE = "base"


def before():
    pass


def work():
    for _ in range(4_000):
        pass


def alike():
    sum(range(4_000))
"""

ODD = """\
import asyncio
import os

import pytest
from tested_code import SIDE, alike

from plumbline.measuring.fixtures import _START_MEASURE
from plumbline.measuring.loop import Measure


@pytest.mark.parametrize("name", ["base", "head"])
def test_skipped_in(name: str, measure: Measure) -> None:
    if name == SIDE:
        pytest.skip("not today")
    for timer in measure():
        with timer:
            alike()


def test_failing(measure: Measure) -> None:
    calls = 0
    for timer in measure():
        with timer:
            alike()
        calls += 1
        if SIDE == "base":
            assert calls < 70, "not more\\udc80"


def test_printing(measure: Measure) -> None:
    if SIDE == "head":
        os.write(1, bytes(range(256)) * 10_000)
        os.write(2, b'{"at": 1}\\n' * 10_000)
    for timer in measure():
        with timer:
            alike()


def test_first(measure: Measure) -> None:
    assert os.sched_getscheduler(0) == os.SCHED_RR
    for timer in measure():
        with timer:
            alike()


async def test_hanging(measure: Measure) -> None:
    async for timer in measure():
        with timer:
            alike()
    if SIDE == "base":
        await asyncio.Event().wait()


def test_twice(measure: Measure, request: pytest.FixtureRequest) -> None:
    for timer in measure():
        with timer:
            alike()
    request.config.stash[_START_MEASURE](request.node)  # as a plugin that repeats a test by itself


def test_plain(measure: Measure) -> None:
    for timer in measure():
        with timer:
            alike()
"""

# As pytest-rerunfailures.
RERUNNING = """\
from _pytest.runner import runtestprotocol

from plumbline.comparing.workers import worker

worker.SILENT_LIMIT_S = 3.0


def pytest_runtest_protocol(item, nextitem):
    for _ in range(2):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runtestprotocol(item, nextitem=nextitem)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if not any(report.failed for report in reports):
            break
    return True
"""

ODD_NEW = """\
from tested_code import new


def test_new(measure):
    for timer in measure():
        with timer:
            new()
"""


def make_trees(folder: Path, python: Path) -> Sides:
    """Write two equal trees. `python` runs them."""
    roots = {name: folder / name for name in ("base", "head")}
    for root in roots.values():
        (root / "tests" / "performance").mkdir(parents=True)
        for name in ("pyproject.toml", "tests/__init__.py", "tests/performance/__init__.py"):
            shutil.copy(ROOT / name, root / name)
        (root / "tests/performance/settings.toml").write_text(SETTINGS)
        (root / "tests/performance/test_work.py").write_text(SUITE)
        (root / "tested_code.py").write_text(CODE)
    return sides_in(folder, python)


def left_in(folder: Path) -> list[list[str]]:
    """Return the processes that run in a folder."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                left.append(process.cmdline())
    return left


def sides_in(folder: Path, python: Path) -> Sides:
    base, head = (Side(name, folder / name, python, folder / name) for name in ("base", "head"))
    return Sides(
        base,
        head,
        files=["tested_code.py"],
        packages=[],
        modules=["tested_code"],
        import_from=["."],
        extras=Extras([], []),
        top=folder / "repository",
    )


def copy_of(sides: Sides, folder: Path) -> Sides:
    """Return a copy of the trees with their compiled modules."""
    for side in (sides.base, sides.head):
        ignored = shutil.ignore_patterns("tested_code.*.pyc")
        shutil.copytree(side.root, folder / side.name, ignore=ignored)
    return sides_in(folder, sides.base.python)


def edit(side: Side, old: str, new: str) -> None:
    """Change the code under test of one side."""
    path = side.root / "tested_code.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def settings_of(sides: Sides) -> Settings:
    return load_settings(sides.head.root / "tests/performance/settings.toml", {})


def plans_of(*keys: str) -> list[BenchmarkPlan]:
    return [BenchmarkPlan(key, 1e-4, LIMITS) for key in keys]
