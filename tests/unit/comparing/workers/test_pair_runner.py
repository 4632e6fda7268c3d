"""Paired comparisons of small trees with real processes; the servers they use are in test_compare.py.

The second half: which benchmarks a change affects, as seen in a rehearsal.
"""

import itertools
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from plumbline.comparing.comparison import compare
from plumbline.comparing.statistics.controls import CONTROLS, with_controls
from plumbline.comparing.statistics.inference import LEAST_TO_FAIL, ComparisonInvalid
from plumbline.comparing.statistics.plan import LEAST_BLOCKS, BenchmarkPlan, Pair
from plumbline.comparing.trees.ignored import CopyFailed, Extras
from plumbline.comparing.trees.sides import Sides
from plumbline.comparing.workers import process as worker_process
from plumbline.comparing.workers.pair_runner import pair_runner, shuffled
from plumbline.comparing.workers.process import WorkerProcess
from plumbline.comparing.workers.protocol import Line
from plumbline.comparing.workers.worker_pairs import WorkerPairs
from plumbline.judging.evidence import ComparisonEvidence, Thresholds
from plumbline.results.schema import UnjudgedPackage
from tests.support.project import SETTINGS
from tests.unit.comparing.workers.small_trees import (
    ALIKE,
    ASYNC,
    BEFORE,
    FAILING,
    FIRST,
    HANGING,
    LIMITS,
    NEW,
    ODD,
    ODD_NEW,
    PLAIN,
    PRINTING,
    RERUNNING,
    SKIPPED,
    TWICE,
    WORK,
    copy_of,
    edit,
    left_in,
    plans_of,
    settings_of,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

LIMIT_S = 120.0
SOME_SLOWER = """\
    CALLS.append(None)
    for _ in range(1 if len(CALLS) % 5 else 3):
        sum(range(4_000))
"""


@pytest.fixture(scope="module")
def slower(compiled: Sides, tmp_path_factory: pytest.TempPathFactory) -> ComparisonEvidence:
    """The evidence of a comparison in which head does twice the work in two of three benchmarks."""
    folder = tmp_path_factory.mktemp("slower")
    sides = copy_of(compiled, folder)
    edit(sides.head, "        pass\n\n\ndef alike", "        pass\n    check()\n\n\ndef alike")
    edit(sides.head, "def before", "def check():\n    for _ in range(4_000):\n        pass\n\n\ndef before")
    edit(sides.head, 'SIDE = "base"', 'SIDE = "head"')  # which may act for the third as well
    found = comparison(sides, WORK, ASYNC, ALIKE)
    assert not left_in(folder)
    return found


@pytest.fixture(scope="module")
def odd(compiled: Sides, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """One pair of benchmarks that each do something unusual, and of a usual one."""
    folder = tmp_path_factory.mktemp("odd")
    sides = copy_of(compiled, folder)
    edit(sides.head, 'SIDE = "base"', 'SIDE = "head"')
    edit(sides.head, "def alike", "def new():\n    pass\n\n\ndef alike")
    for side in (sides.base, sides.head):
        (side.root / "tests/performance/test_odd.py").write_text(ODD)
        (side.root / "tests/performance/test_new.py").write_text(ODD_NEW)
        (side.root / "tests/performance/conftest.py").write_text(RERUNNING)
    found = one_pair(sides, *SKIPPED.values(), FAILING, NEW, PRINTING, FIRST, HANGING, TWICE, PLAIN)
    assert not left_in(folder)
    return found


def comparison(sides: Sides, *keys: str, limit_s: float = LIMIT_S) -> ComparisonEvidence:
    return compare(settings_of(sides), sides, plans_of(*keys), limit_s=limit_s)


def one_pair(sides: Sides, *keys: str) -> Pair:
    with pair_runner(settings_of(sides), sides, plans_of(*keys), "ci") as both:
        return both.run_pair(plans_of(*keys))


def test_a_slower_benchmark_fails_and_an_equal_one_passes(slower: ComparisonEvidence) -> None:
    """The slower ones are a sync test and a coroutine test, whose own limit of 5 s is extended by its waits."""
    verdicts = {key: one.verdict for key, one in slower.judgements.items()}
    assert verdicts == {WORK: "regression", ASYNC: "regression", ALIKE: "pass"}
    assert slower.judgements[WORK].change == pytest.approx(1.0, abs=0.3)
    base_s, head_s = slower.samples_s[WORK]
    assert len(base_s) == len(head_s) >= 40
    assert not slower.failures


def test_each_pair_has_the_controls(slower: ComparisonEvidence) -> None:
    """The controls read what they should, or there would be no verdict."""
    pairs = {len(slower.differences[key]) for key in CONTROLS}
    assert len(pairs) == 1
    assert max(pairs) >= len(slower.differences[WORK]) >= LEAST_TO_FAIL


def test_the_functions_that_got_slower_are_found_for_benchmarks_that_fail(slower: ComparisonEvidence) -> None:
    """A new function in head is found with its place. A benchmark that passes has none."""
    [check] = [one for one in slower.functions[WORK] if one.name == "check"]
    assert (check.file, check.base_calls, check.head_calls) == ("tested_code.py", 0.0, 1.0)
    assert check.head_s > 0
    assert set(slower.functions) == {WORK, ASYNC}


def test_a_benchmark_with_some_slower_calls_fails(compiled: Sides, tmp_path: Path) -> None:
    """In head every fifth call takes three times as long. The fastest samples don't show it."""
    sides = copy_of(compiled, tmp_path)
    edit(sides.head, "def alike():\n    sum(range(4_000))", f"CALLS = []\n\n\ndef alike():\n{SOME_SLOWER}")
    limits = replace(LIMITS, tails=("p90", "mean"), tail_tolerance=0.2)
    plans = [BenchmarkPlan(ALIKE, 1e-4, limits)]
    judgement = compare(settings_of(sides), sides, plans, limit_s=LIMIT_S).judgements[ALIKE]
    assert (judgement.verdict, judgement.tails["p90"].verdict) == ("regression", "regression")
    assert judgement.change < LIMITS.minimum_effect < judgement.tails["p90"].change


def test_sides_measure_in_turn_and_either_may_begin(trees: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the warm-up no side measures twice in a row, because it would have warm caches."""
    turns: list[str] = []
    block = WorkerProcess.block

    def recorded(side: WorkerProcess, samples: int) -> list[float]:
        turns.append(side.side.name)
        return block(side, samples)

    monkeypatch.setattr(WorkerProcess, "block", recorded)
    plans = plans_of(WORK, ASYNC)
    with pair_runner(settings_of(trees), trees, plans, "ci") as both:
        draws = itertools.cycle([False, False, True, True])  # two for each benchmark
        monkeypatch.setattr(both, "_draw_head_first", lambda: next(draws))
        both.run_pair(plans)
    length = 2 * (1 + LEAST_BLOCKS)
    benchmarks = [turns[begin + 2 : begin + length] for begin in range(0, len(turns), length)]
    assert len(benchmarks) == len(plans) + len(CONTROLS)
    orders = {tuple(one[:2]) for one in benchmarks}
    assert orders == {("base", "head"), ("head", "base")}
    assert all(one == one[:2] * LEAST_BLOCKS for one in benchmarks)


def test_the_order_of_benchmarks_is_drawn_at_random() -> None:
    """The controls come first, and those of one file stay together, because they share fixtures."""
    thresholds = Thresholds(0.02, 0.05, 0.01, 0.97)
    keys = ["a.py::one", "b.py::one", "a.py::two", "b.py::two"]
    plans = with_controls([BenchmarkPlan(key, 0.001, thresholds) for key in keys])
    orders = {tuple(plan.key for plan in shuffled(plans, random.Random(seed))) for seed in range(50)}
    assert {order[:2] for order in orders} == {tuple(CONTROLS), tuple(reversed(CONTROLS))}
    assert {tuple(key[0] for key in order[2:]) for order in orders} == {tuple("aabb"), tuple("bbaa")}
    assert {order[2:] for order in orders} == {
        (*one, *other)
        for first, second in itertools.permutations("ab")
        for one in itertools.permutations([f"{first}.py::one", f"{first}.py::two"])
        for other in itertools.permutations([f"{second}.py::one", f"{second}.py::two"])
    }


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each pair of workers: whether it was started ahead."""
    found: list[bool] = []
    start = WorkerPairs.start

    def recorded(workers: WorkerPairs, plans: Any, cores: Any, *folders: Any, **more: Any) -> Any:
        found.append(bool(cores))
        return start(workers, plans, cores, *folders, **more)

    monkeypatch.setattr(WorkerPairs, "start", recorded)
    return found


@pytest.mark.skipif(sys.platform != "linux" or os.cpu_count() == 1, reason="on another core than the one measured on")
def test_the_next_pair_starts_while_one_is_measured(trees: Sides, starts: list[bool]) -> None:
    """For as many of its benchmarks as the next one has; one that has another is started anew, as is the first.

    If it does not come, it is ended: `nothing_left` checks that.
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
def test_both_sides_have_precedence_over_other_processes_while_they_are_compared(odd: Pair) -> None:
    """A benchmark checks its priority on both sides. Afterwards this process has its old one."""
    assert FIRST not in odd.failures
    assert odd.block_differences[FIRST]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize("name", ["base", "head"])
def test_a_benchmark_that_one_side_skips_is_not_compared(odd: Pair, name: str) -> None:
    """The evidence has the reason."""
    assert odd.failures[SKIPPED[name]] == f"in {name}: skipped: not today"
    assert SKIPPED[name] not in odd.block_differences


def test_a_benchmark_that_one_side_fails_disturbs_no_other(odd: Pair) -> None:
    """It raises in the second block of base. The next benchmarks and the controls are compared."""
    assert odd.failures[FAILING] == "in base: failed: AssertionError: not more?"
    assert set(odd.block_differences) - {FIRST} == {*CONTROLS, PRINTING, PLAIN}


def test_no_plugin_runs_a_test_again_in_a_worker(odd: Pair) -> None:
    """Hooks for reruns in a conftest.py are ignored. Other repetitions fail their test."""
    for side in ("in base", "in head"):
        assert (
            f"{side}: failed: plumbline.measuring.loop.MeasureError: a pytest plugin runs this test again"
            in (odd.failures[TWICE])
        )


def test_a_benchmark_that_hangs_disturbs_no_other(odd: Pair) -> None:
    assert odd.failures[HANGING].startswith("in base: failed: Failed: it took longer than 3 s until its next turn")


def test_a_benchmark_that_one_tree_lacks_is_reported(odd: Pair) -> None:
    """Base cannot import the code of the test."""
    assert odd.failures[NEW].startswith("in base: tests/performance/test_new.py can't be collected: ")
    assert "cannot import name 'new'" in odd.failures[NEW]


def test_output_of_a_worker_does_not_disturb(odd: Pair) -> None:
    """A worker prints megabytes of binary data on both streams."""
    assert odd.block_differences[PRINTING]
    assert PRINTING not in odd.failures


def test_a_worker_that_hangs_ends_the_comparison(trees: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped in a block. The comparison is invalid, and no process is left."""
    monkeypatch.setattr(worker_process, "ANSWER_LIMIT_S", 8.0)
    monkeypatch.setattr(worker_process, "END_LIMIT_S", 1.0)
    edit(trees.head, "def work():\n", 'def work():\n    os.write(2, b"last words")\n    os.kill(os.getpid(), 19)\n')
    with pytest.raises(CopyFailed, match="the worker of head failed: it did not answer within 8 s") as raised:
        comparison(trees, WORK)
    assert "last words" in str(raised.value)


def test_a_worker_that_dies_at_its_end_makes_the_comparison_invalid(trees: Sides) -> None:
    """It dies after its last benchmark."""
    edit(trees.head, "def before():\n    pass", "def before():\n    import atexit\n\n    atexit.register(os._exit, 7)")
    with pytest.raises(CopyFailed, match="the worker of head failed: it ended with exit code 7"):
        one_pair(trees, BEFORE)


def test_a_worker_may_take_as_long_to_start_as_its_settings_allow(
    trees: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prepare` and processes have limits of their own, longer than that for an answer, and for importing the tests.

    With no time for a single pair then, nothing is compared, and nothing is judged or profiled.
    """
    limits_s: list[float | None] = []
    receive = Line.receive

    def noted(line: Line, limit_s: float | None = None) -> Any:
        limits_s.append(limit_s)
        return receive(line, limit_s)

    monkeypatch.setattr(Line, "receive", noted)
    worker = "import time; print('ready', flush=True); time.sleep(60)"
    text = f'[processes.worker]\ncommand = ["python", "-c", "{worker}"]\nready_output = "ready"\nready_limit_s = 20\n'
    for side in (trees.base, trees.head):
        prepare = 'prepare = ["python", "-c", "open(\'prepared\', \'w\')"]\nprepare_limit_s = 30\n'
        (side.root / "tests/performance/settings.toml").write_text(f"{prepare}{SETTINGS}{text}")
    found = comparison(trees, WORK, limit_s=0.1)
    assert limits_s[:4] == [worker_process.ANSWER_LIMIT_S, 20 + 30] * 2
    assert limits_s.count(20 + 30) == 4  # the workers of the rehearsal, and of the pair that counts
    assert set(limits_s) == {worker_process.ANSWER_LIMIT_S, 20 + 30}
    assert all((side.root / "prepared").exists() for side in (trees.base, trees.head))
    assert not found.differences
    assert not found.judgements
    assert not found.functions


READING = """\
from plumbline.measuring.loop import Measure
from plumbline.services.services import Services


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
    """Trees in which a worker, `prepare` and a test read a file each, and in base another test reads one."""
    text = f'[processes.worker]\ncommand = ["python", "-c", "{WORKER}"]\nready_output = "ready"\n'
    for side in (trees.base, trees.head):
        settings = f'prepare = ["sh", "-c", "cd . && python -c \'import by_prepare\'"]\n{SETTINGS}{text}'
        (side.root / "tests/performance/settings.toml").write_text(settings)
        (side.root / "tests/performance/test_reading.py").write_text(READING)
        for name in ("by_worker.py", "by_prepare.py", "README.md"):
            (side.root / name).write_text("")
        (side.root / "lazy.py").write_text("def work():\n    pass\n")
    (trees.base.root / "lazy.py").write_text("from removed import work\n")
    (trees.base.root / "removed.py").write_text("def work():\n    pass\n")
    return trees


def test_prepare_runs_once_for_each_side_if_its_data_is_in_files(reading: Sides) -> None:
    """The application of one pair still uses them when the next pair starts."""
    for side in (reading.base, reading.head):
        (side.root / "by_prepare.py").write_text("open('data', 'a').write('.')\n")
    one_pair(reading, SERVED)
    assert [(side.root / "data").read_text() for side in (reading.base, reading.head)] == [".", "."]


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
        assert both.rehearsal.unaffected == {LAZY, SERVED} - affected


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
    """A changed comment affects no benchmark."""
    edit(trees.head, old, new)
    edit(trees.head, "def alike():", "def alike():\n    # nothing")
    with pair_runner(settings_of(trees), trees, plans_of(WORK, ASYNC, ALIKE, BEFORE), "ci") as both:
        assert both.rehearsal.unaffected == {WORK, ASYNC, ALIKE, BEFORE} - affected


def test_a_package_that_cannot_be_judged_is_named_for_the_benchmarks_that_run_it(reading: Sides) -> None:
    """A lock file concerns all benchmarks, and an unused package none."""
    for side in (reading.base, reading.head):
        (side.root / "lazy.py").write_text("import h11\n\n\ndef work():\n    h11.Data(b'')\n")
    unjudged = [UnjudgedPackage("h11", "not_pinned"), UnjudgedPackage("gone", "not_pinned")]
    sides = Sides(**{**vars(reading), "files": ["README.md"], "unjudged": unjudged})
    with pair_runner(settings_of(sides), sides, plans_of(LAZY, SERVED), "ci") as both:
        assert both.rehearsal.unjudged == {LAZY: ["h11"]}
        assert both.rehearsal.unaffected == {LAZY, SERVED}
    sides = Sides(**{**vars(sides), "unjudged": [UnjudgedPackage("uv.lock", "unknown_format")]})
    found = compare(settings_of(sides), sides, plans_of(LAZY, SERVED), limit_s=60)
    assert found.unjudged == {LAZY: ["uv.lock"], SERVED: ["uv.lock"]}
    assert found.unjudged_packages == sides.unjudged


def test_a_base_that_reads_a_changed_file_of_the_working_tree_makes_the_comparison_invalid(reading: Sides) -> None:
    """Otherwise both sides would read the same file."""
    reading.top.mkdir()
    data = reading.top / "data.txt"
    data.touch()
    for side in (reading.base, reading.head):
        (side.root / "lazy.py").write_text(f"def work():\n    open({str(data)!r}).close()\n")
        (side.root / "data.txt").touch()
    sides = Sides(**{**vars(reading), "files": ["README.md", "data.txt"]})
    with (
        pytest.raises(ComparisonInvalid, match=r"base reads data\.txt from the working tree instead of its own copy"),
        pair_runner(settings_of(sides), sides, plans_of(LAZY), "ci"),
    ):
        pass


def test_ignored_files_are_named_if_any_benchmark_reads_them(reading: Sides) -> None:
    """All benchmarks run in the rehearsal, even if all are affected."""
    for side in (reading.base, reading.head):
        (side.root / "lazy.py").write_text("def work():\n    open('prices.json').close()\n")
        (side.root / "prices.json").touch()
    extras = Extras(["prices.json", "unread.json"], [])
    sides = Sides(**{**vars(reading), "files": ["by_prepare.py"], "extras": extras})
    with pair_runner(settings_of(sides), sides, plans_of(LAZY), "ci") as both:
        assert both.rehearsal.brought_along == ["prices.json"]
        assert not both.rehearsal.unaffected


def test_if_no_benchmark_is_affected_there_is_no_pair(reading: Sides) -> None:
    """Neither controls nor a profiler run. Both sides use head's pytest configuration."""
    sides = Sides(**{**vars(reading), "files": ["README.md", "pyproject.toml"]})
    found = compare(settings_of(sides), sides, plans_of(LAZY, SERVED), limit_s=60)
    assert found.unaffected == {LAZY, SERVED}
    assert not found.differences


def test_a_benchmark_that_fails_in_the_rehearsal_is_compared_all_the_same(compiled: Sides, tmp_path: Path) -> None:
    """A benchmark that only base skips is reported although it is unaffected."""
    sides = copy_of(compiled, tmp_path)
    edit(sides.head, 'SIDE = "base"', 'SIDE = "head"')
    for side in (sides.base, sides.head):
        (side.root / "tests/performance/test_odd.py").write_text(ODD)
        (side.root / "README.md").touch()
    sides = Sides(**{**vars(sides), "files": ["README.md"]})
    with pair_runner(settings_of(sides), sides, plans_of(SKIPPED["base"], PLAIN), "ci") as both:
        assert both.rehearsal.unaffected == {PLAIN}


def test_a_benchmark_that_cannot_be_counted_is_reported(compiled: Sides, tmp_path: Path) -> None:
    """The others are counted."""
    sides = copy_of(compiled, tmp_path)
    edit(sides.head, 'SIDE = "base"', 'SIDE = "head"')
    for side in (sides.base, sides.head):
        (side.root / "tests/performance/test_odd.py").write_text(ODD)
    plans = plans_of(SKIPPED["head"], PLAIN)
    with pair_runner(settings_of(sides), sides, plans, "ci") as both:
        counted = both.count(plans)
    assert counted.failures == {SKIPPED["head"]: "in head: skipped: not today"}
    assert {*counted.counts} == {PLAIN}


def test_a_side_that_imports_from_elsewhere_makes_the_comparison_invalid(trees: Sides, tmp_path: Path) -> None:
    """Base lacks the module, and another folder of the import path has it."""
    shutil.move(trees.base.root / "tested_code.py", tmp_path / "tested_code.py")
    strange = Sides(**{**vars(trees), "import_from": [".", ".."]})
    with (
        pytest.raises(ComparisonInvalid, match="base imports from outside its own tree: tested_code"),
        pair_runner(settings_of(strange), strange, plans_of(WORK), "ci"),
    ):
        pass
