"""Paired comparisons of small trees with real processes; the servers they use are in test_compare.py."""

import contextlib
import itertools
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from plumbline.comparing.statistics.controls import CONTROLS
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.statistics.plan import LEAST_BLOCKS, BenchmarkPlan, Pair
from plumbline.comparing.statistics.schedule import FIRST_ANALYSES, SECOND_ANALYSES, PairedComparison
from plumbline.comparing.trees.sides import Side, Sides
from plumbline.comparing.workers import process as arm_process
from plumbline.comparing.workers.pair_runner import compare, pair_runner
from plumbline.comparing.workers.pair_workers import PairWorkers
from plumbline.comparing.workers.process import WorkerProcess
from plumbline.comparing.workers.protocol import Line
from plumbline.judging.thresholds import Thresholds
from plumbline.settings import Settings, load_settings
from tests.support.project import ROOT, SETTINGS

WORK, ASYNC, ALIKE, BEFORE = (f"test_work.py::test_{name}" for name in ("work", "async", "alike", "before"))
SKIPPED = {name: f"test_odd.py::test_skipped_in[{name}]" for name in ("base", "head")}
FAILING, PRINTING, FIRST, PLAIN = (f"test_odd.py::test_{name}" for name in ("failing", "printing", "first", "plain"))
NEW = "test_new.py::test_new"
LIMITS = Thresholds(tolerance=0.1, minimum_effect=0.5, false_alarms=0.01, power=0.97)
"""What a busy machine can't turn into another verdict: what is slower here is slower by a factor of two."""
BUDGET_S = 120.0
START_LIMIT_S = 30.0

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

ARM = "base"


def before():
    pass


def work():
    for _ in range(4_000):
        pass


def alike():
    sum(range(4_000))
"""

ODD = """\
import os

import pytest
from tested_code import ARM, alike

from plumbline.measuring.loop import Measure


@pytest.mark.parametrize("name", ["base", "head"])
def test_skipped_in(name: str, measure: Measure) -> None:
    if name == ARM:
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
        if ARM == "base":
            assert calls < 70


def test_printing(measure: Measure) -> None:
    if ARM == "head":
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


def test_plain(measure: Measure) -> None:
    for timer in measure():
        with timer:
            alike()
"""

ODD_NEW = """\
from tested_code import new


def test_new(measure):
    for timer in measure():
        with timer:
            new()
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Sides:
    """Two trees that are alike, to be read only, with all that a side imports compiled."""
    folder = tmp_path_factory.mktemp("compiled")
    roots = {name: folder / name for name in ("base", "head")}
    for root in roots.values():
        (root / "tests" / "performance").mkdir(parents=True)
        for name in ("pyproject.toml", "tests/__init__.py", "tests/performance/__init__.py"):
            shutil.copy(ROOT / name, root / name)
        (root / "tests/performance/settings.toml").write_text(SETTINGS)
        (root / "tests/performance/test_work.py").write_text(SUITE)
        (root / "tested_code.py").write_text(CODE)
    sides = arms_in(folder, environments / "ci" / "bin" / "python")
    with pair_runner(settings_of(sides), sides, plans_of(WORK), "ci"):
        pass
    return sides


@pytest.fixture
def trees(compiled: Sides, tmp_path: Path) -> Sides:
    """Two trees that are alike, to be changed."""
    return copy_of(compiled, tmp_path)


@pytest.fixture(scope="module")
def slower(compiled: Sides, tmp_path_factory: pytest.TempPathFactory) -> PairedComparison:
    """What is found where head does twice the work, in a new function, in two of three benchmarks."""
    folder = tmp_path_factory.mktemp("slower")
    sides = copy_of(compiled, folder)
    edit(sides.head, "        pass\n\n\ndef alike", "        pass\n    check()\n\n\ndef alike")
    edit(sides.head, "def before", "def check():\n    for _ in range(4_000):\n        pass\n\n\ndef before")
    edit(sides.head, 'ARM = "base"', 'ARM = "head"')  # which may act for the third as well
    found = comparison(sides, WORK, ASYNC, ALIKE)
    assert not left_in(folder)
    return found


@pytest.fixture(scope="module")
def odd(compiled: Sides, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """One pair of benchmarks of which each has something of its own, and of one that has not."""
    folder = tmp_path_factory.mktemp("odd")
    sides = copy_of(compiled, folder)
    edit(sides.head, 'ARM = "base"', 'ARM = "head"')
    edit(sides.head, "def alike", "def new():\n    pass\n\n\ndef alike")
    for side in (sides.base, sides.head):
        (side.root / "tests/performance/test_odd.py").write_text(ODD)
        (side.root / "tests/performance/test_new.py").write_text(ODD_NEW)
    found = one_pair(sides, *SKIPPED.values(), FAILING, NEW, PRINTING, FIRST, PLAIN)
    assert not left_in(folder)
    return found


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """After each comparison, however it ended, no process of either side is there."""
    yield
    assert not left_in(tmp_path)


def left_in(folder: Path) -> list[list[str]]:
    """Processes that work below a folder."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                left.append(process.cmdline())
    return left


def arms_in(folder: Path, python: Path) -> Sides:
    base, head = (Side(name, folder / name, python, folder / name) for name in ("base", "head"))
    return Sides(base, head, files=["tested_code.py"], packages=[], modules=["tested_code"], import_from=["."])


def copy_of(sides: Sides, folder: Path) -> Sides:
    """A copy to change, as compiled as they are but for what is changed."""
    for side in (sides.base, sides.head):
        ignored = shutil.ignore_patterns("tested_code.*.pyc")
        shutil.copytree(side.root, folder / side.name, ignore=ignored)
    return arms_in(folder, sides.base.python)


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


def comparison(sides: Sides, *keys: str, budget_s: float = BUDGET_S) -> PairedComparison:
    return compare(settings_of(sides), sides, plans_of(*keys), budget_s=budget_s)


def one_pair(sides: Sides, *keys: str) -> Pair:
    with pair_runner(settings_of(sides), sides, plans_of(*keys), "ci") as both:
        return both.run_pair(plans_of(*keys))


def test_what_is_slower_is_convicted_and_what_is_not_is_acquitted(slower: PairedComparison) -> None:
    """In a sync and in a coroutine test whose own limit of 5 s moves with its waits; and one that is alike."""
    verdicts = {key: one.verdict for key, one in slower.judgements.items()}
    assert verdicts == {WORK: "regression", ASYNC: "regression", ALIKE: "pass"}
    assert slower.judgements[WORK].change == pytest.approx(1.0, abs=0.3)
    base_s, head_s = slower.samples_s[WORK]
    assert len(base_s) == len(head_s) >= 40
    assert not slower.failures


def test_alike_is_acquitted_at_a_look_and_controls_are_in_each_pair(slower: PairedComparison) -> None:
    """The controls read what they should, or there would be no verdict.

    What is convicted and what is alike may each need a close look, and what reads as faster four pairs more.
    """
    closely = {0, *SECOND_ANALYSES}
    stages = itertools.product(FIRST_ANALYSES, closely, closely, {0, SECOND_ANALYSES[0]})
    assert slower.pairs in {sum(looks) for looks in stages}
    assert {key: len(slower.differences[key]) for key in CONTROLS} == dict.fromkeys(CONTROLS, slower.pairs)


def test_what_got_slower_is_told_of_what_is_convicted(slower: PairedComparison) -> None:
    """A function that is new in head, with its place; of what is acquitted nothing."""
    [check] = [one for one in slower.functions[WORK] if one.name == "check"]
    assert (check.file, check.base_calls, check.head_calls) == ("tested_code.py", 0.0, 1.0)
    assert check.head_s > 0
    assert set(slower.functions) == {WORK, ASYNC}


class ByTurns(random.Random):
    """A coin that falls on one side, then on the other."""

    fell = 0.75

    def random(self) -> float:
        self.fell = 1 - self.fell
        return self.fell


def test_arms_measure_by_turns_and_either_may_begin(trees: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a warm-up of both, no side twice in a row: it would find the caches warm that the other one finds cold."""
    turns: list[str] = []
    block = WorkerProcess.block

    def recorded(side: WorkerProcess, samples: int) -> list[float]:
        turns.append(side.side.name)
        return block(side, samples)

    monkeypatch.setattr(WorkerProcess, "block", recorded)
    plans = plans_of(WORK, ASYNC)
    with pair_runner(settings_of(trees), trees, plans, "ci") as both:
        both._rng = ByTurns()
        both.run_pair(plans)
    length = 2 * (1 + LEAST_BLOCKS)
    benchmarks = [turns[begin + 2 : begin + length] for begin in range(0, len(turns), length)]
    assert len(benchmarks) == len(plans) + len(CONTROLS)
    orders = {tuple(one[:2]) for one in benchmarks}
    assert orders == {("base", "head"), ("head", "base")}
    assert all(one == one[:2] * LEAST_BLOCKS for one in benchmarks)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each pair of workers that was started, whether that was ahead of its turn."""
    found: list[bool] = []
    start = PairWorkers._start

    def recorded(workers: PairWorkers, plans: Any, purpose: Any, cores: Any = ()) -> Any:
        found.append(bool(cores))
        return start(workers, plans, purpose, cores)

    monkeypatch.setattr(PairWorkers, "_start", recorded)
    return found


@pytest.mark.skipif(sys.platform != "linux" or os.cpu_count() == 1, reason="on another core than the one measured on")
def test_the_next_pair_starts_while_one_is_measured(trees: Sides, starts: list[bool]) -> None:
    """For as many of its benchmarks as the next one has; one that has another is started anew, as is the first.

    One that does not come is ended: `nothing_left` looks.
    """
    work, other = plans_of(WORK, ASYNC)
    with pair_runner(settings_of(trees), trees, [work, other], "ci") as both:
        found = [
            both.run_pair([work, other], [work, other]),
            both.run_pair([other], [other]),
            both.run_pair([work], [work]),
        ]
    assert [set(pair.block_differences) - set(CONTROLS) for pair in found] == [{WORK, ASYNC}, {ASYNC}, {WORK}]
    rehearsed, first, ahead_of_second, ahead_of_third, third, ahead_of_none = starts
    assert [rehearsed, first, third] == [False] * 3
    assert [ahead_of_second, ahead_of_third, ahead_of_none] == [True] * 3


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="others may not go before the machine's rest")
@pytest.mark.skipif(os.cpu_count() == 1, reason="there is but one core")
def test_both_arms_go_before_other_processes_while_they_are_compared(odd: Pair) -> None:
    """A benchmark of both looks; we don't afterwards."""
    assert FIRST not in odd.failures
    assert odd.block_differences[FIRST]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize("name", ["base", "head"])
def test_one_that_is_skipped_in_an_arm_is_skipped_in_both(odd: Pair, name: str) -> None:
    """It is told why."""
    assert odd.failures[SKIPPED[name]] == f"in {name}: skipped: not today"
    assert SKIPPED[name] not in odd.block_differences


def test_one_that_fails_against_the_base_fails_nothing_else(odd: Pair) -> None:
    """It raises in the second block of base: reported, and the next benchmarks are compared, with the controls."""
    assert odd.failures[FAILING] == "in base: failed: assert 70 < 70"
    assert set(odd.block_differences) - {FIRST} == {*CONTROLS, PRINTING, PLAIN}


def test_a_benchmark_that_is_in_one_tree_alone_is_told(odd: Pair) -> None:
    """Base can't import the code that its test wants: neither is compared."""
    assert odd.failures[NEW].startswith("in base: tests/performance/test_new.py can't be collected: ")
    assert "cannot import name 'new'" in odd.failures[NEW]


def test_what_an_arm_prints_does_not_disturb(odd: Pair) -> None:
    """Megabytes of bytes that are no text, on both streams."""
    assert odd.block_differences[PRINTING]
    assert PRINTING not in odd.failures


def test_an_arm_that_hangs_ends_the_trial(trees: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped in the middle of a block: the comparison is invalid, and nothing is left of either side."""
    monkeypatch.setattr(arm_process, "ANSWER_LIMIT_S", 8.0)
    monkeypatch.setattr(arm_process, "END_LIMIT_S", 1.0)
    edit(trees.head, "def work():\n", 'def work():\n    os.write(2, b"last words")\n    os.kill(os.getpid(), 19)\n')
    with pytest.raises(ComparisonInvalid, match="the worker of head failed: it has not answered for 8 s") as raised:
        comparison(trees, WORK)
    assert "last words" in str(raised.value)


def test_an_arm_that_dies_at_its_end_is_invalid(trees: Sides) -> None:
    """Though it has measured all."""
    edit(trees.head, "def before():\n    pass", "def before():\n    import atexit\n\n    atexit.register(os._exit, 7)")
    with pytest.raises(ComparisonInvalid, match="the worker of head failed: it ended with exit code 7"):
        one_pair(trees, BEFORE)


def test_an_arm_may_take_as_long_to_start_as_its_settings_allow(trees: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """`prepare` and processes have limits of their own, longer than that for an answer, and for importing the tests.

    With no time for a single pair then, nothing is compared, and nothing is judged or profiled.
    """
    limits_s: list[float | None] = []
    receive = Line.receive

    def noted(line: Line[Any], limit_s: float | None = None) -> Any:
        limits_s.append(limit_s)
        return receive(line, limit_s)

    monkeypatch.setattr(Line, "receive", noted)
    worker = "import time; print('ready', flush=True); time.sleep(60)"
    text = f'[processes.worker]\ncommand = ["python", "-c", "{worker}"]\nready_output = "ready"\n'
    for side in (trees.base, trees.head):
        prepare = 'prepare = ["python", "-c", "open(\'prepared\', \'w\')"]\n'
        (side.root / "tests/performance/settings.toml").write_text(f"{prepare}{SETTINGS}{text}")
    found = comparison(trees, WORK, budget_s=0.1)
    assert limits_s[:4] == [arm_process.ANSWER_LIMIT_S, 20 + 20] * 2
    assert set(limits_s[4:]) <= {arm_process.ANSWER_LIMIT_S}
    assert all((side.root / "prepared").exists() for side in (trees.base, trees.head))
    assert found.pairs == 0
    assert not found.judgements
    assert not found.functions


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
def test_only_what_reads_what_differs_is_compared(reading: Sides, differing: list[str], affected: set[str]) -> None:
    """What a worker reads reaches those alone that use it."""
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
def test_where_functions_alone_differ_what_runs_them_is_compared(
    trees: Sides, old: str, new: str, affected: set[str]
) -> None:
    """A comment is no difference to any."""
    edit(trees.head, old, new)
    edit(trees.head, "def alike():", "def alike():\n    # nothing")
    with pair_runner(settings_of(trees), trees, plans_of(WORK, ASYNC, ALIKE, BEFORE), "ci") as both:
        assert both.unaffected == {WORK, ASYNC, ALIKE, BEFORE} - affected


def test_where_nothing_that_differs_is_read_there_is_no_pair(reading: Sides) -> None:
    """Neither controls nor a profiler; pytest's configuration is head's in both sides."""
    found = comparison(Sides(**{**vars(reading), "files": ["README.md", "pyproject.toml"]}), LAZY, SERVED)
    assert found.unaffected == {LAZY, SERVED}
    assert found.pairs == 0
    assert not found.differences


def test_what_does_not_pass_in_the_rehearsal_is_compared_all_the_same(compiled: Sides, tmp_path: Path) -> None:
    """So that it is told: one that is skipped in base alone, though nothing that it reads is said to differ."""
    sides = copy_of(compiled, tmp_path)
    edit(sides.head, 'ARM = "base"', 'ARM = "head"')
    for side in (sides.base, sides.head):
        (side.root / "tests/performance/test_odd.py").write_text(ODD)
    sides = Sides(**{**vars(sides), "files": ["README.md"]})
    with pair_runner(settings_of(sides), sides, plans_of(SKIPPED["base"], PLAIN), "ci") as both:
        assert both.unaffected == {PLAIN}


def test_an_arm_that_imports_from_elsewhere_is_invalid(trees: Sides, tmp_path: Path) -> None:
    """Its own tree lacks the module, and another folder of the path has it: what was measured would not be base."""
    shutil.move(trees.base.root / "tested_code.py", tmp_path / "tested_code.py")
    strange = Sides(**{**vars(trees), "import_from": [".", ".."]})
    with pytest.raises(ComparisonInvalid, match="base imports from outside its own tree: tested_code"):
        one_pair(strange, WORK)
