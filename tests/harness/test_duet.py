"""Paired comparisons of small trees with real processes; the servers they use are in test_compare.py."""

import contextlib
import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from tests.harness.project import ROOT, SETTINGS
from tests.performance.harness import duet
from tests.performance.harness.arms import Arm, Arms
from tests.performance.harness.duet import (
    CONTROLS,
    Pair,
    Trial,
    Wish,
    both_arms,
    compare,
    conduct,
    controls_off,
)
from tests.performance.harness.pairs import LOOKS, Thresholds, TrialInvalid
from tests.performance.harness.settings import load_settings

WORK, SKIPPED, ASYNC = "test_work.py::test_work", "test_work.py::test_sometimes", "test_work.py::test_async"
LIMITS = Thresholds(tolerance=0.1, minimum_effect=0.5, false_alarms=0.01, power=0.97)
"""What a busy machine can't turn into another verdict: what is slower here is slower by a factor of two."""
BUDGET_S = 120.0

SUITE = """\
import asyncio

import pytest
from code_under_test import before, work

from tests.performance.harness.measure import Measure


def test_work(measure: Measure) -> None:
    for timer in measure():
        with timer:
            work()


def test_sometimes(measure: Measure) -> None:
    before()
    for timer in measure():
        with timer:
            work()


async def test_async(measure: Measure) -> None:
    async with asyncio.timeout(5):
        async for timer in measure():
            with timer:
                work()
                await asyncio.sleep(0)
"""

CODE = """\
import os
import time

import pytest


def before():
    pass


def work():
    sum(range(4_000))
"""


@pytest.fixture
def trees(tmp_path: Path) -> Arms:
    """Two trees that are alike, to be changed."""
    roots = {name: tmp_path / name for name in ("base", "head")}
    for root in roots.values():
        (root / "tests" / "performance").mkdir(parents=True)
        for name in ("conftest.py", "pyproject.toml", "tests/__init__.py", "tests/performance/__init__.py"):
            shutil.copy(ROOT / name, root / name)
        shutil.copytree(
            ROOT / "tests/performance/harness",
            root / "tests/performance/harness",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        (root / "tests/performance/settings.toml").write_text(SETTINGS)
        (root / "tests/performance/test_work.py").write_text(SUITE)
        (root / "code_under_test.py").write_text(CODE)
    base, head = (Arm(name, root, Path(sys.executable), root) for name, root in roots.items())
    return Arms(base, head, files=["code_under_test.py"], packages=[], modules=["code_under_test"], import_from=["."])


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """After each trial, however it ended, no process of either arm is there."""
    yield
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(tmp_path):
                left.append(process.cmdline())
    assert not left


def edit(arm: Arm, old: str, new: str) -> None:
    """Change the code under test of one arm."""
    path = arm.root / "code_under_test.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def trial(arms: Arms, *keys: str, every: int = 0, budget_s: float = BUDGET_S) -> Trial:
    settings = load_settings(arms.head.root / "tests/performance/settings.toml", {})
    wishes = [Wish(key, 1e-4, LIMITS) for key in keys]
    if not every:
        return compare(settings, arms, wishes, budget_s=budget_s)
    found = Trial()
    with both_arms(settings, arms, wishes, "ci") as run_pair:
        for _ in range(every):
            found.add(run_pair(wishes))
    return found


def test_what_is_slower_is_convicted_and_what_is_not_is_acquitted(trees: Arms) -> None:
    """Twice the work in head, in a sync and in a coroutine test whose own limit of 5 s moves with its waits."""
    edit(trees.head, "4_000", "8_000")
    found = trial(trees, WORK, ASYNC)
    assert {key: one.verdict for key, one in found.judgements.items()} == {WORK: "regression", ASYNC: "regression"}
    assert found.judgements[WORK].change == pytest.approx(1.0, abs=0.3)
    assert found.pairs in LOOKS
    assert not found.failures


def test_alike_is_acquitted_at_the_first_look(trees: Arms) -> None:
    """Both trees are the same, and the controls read what they should."""
    found = trial(trees, WORK)
    assert found.judgements[WORK].verdict == "pass"
    assert {key: len(values) for key, values in found.differences.items()} == dict.fromkeys(
        [*CONTROLS, WORK], found.pairs
    )


@pytest.mark.parametrize("name", ["base", "head"])
def test_one_that_is_skipped_in_an_arm_is_skipped_in_both(trees: Arms, name: str) -> None:
    """It is told why, and the next benchmark is compared all the same."""
    edit(getattr(trees, name), "    pass", '    pytest.skip("not today")')
    found = trial(trees, SKIPPED, WORK, every=1)
    assert found.failures == {SKIPPED: f"in {name}: skipped: not today"}
    assert len(found.differences[WORK]) == 1
    assert SKIPPED not in found.differences


def test_one_that_fails_against_the_base_fails_nothing_else(trees: Arms) -> None:
    """It raises in the second block of base: reported, and the next benchmark is compared."""
    edit(trees.base, "def work():\n", "CALLS = []\n\n\ndef work():\n    CALLS.append(1)\n    assert len(CALLS) < 70\n")
    found = trial(trees, WORK, every=1)
    assert "AssertionError" in found.failures[WORK]
    assert found.failures[WORK].startswith("in base: failed")


def test_a_benchmark_that_is_in_one_tree_alone_is_told(trees: Arms) -> None:
    """Base can't import the code that its test wants: neither is compared, and nothing else fails."""
    edit(trees.base, "def before", "def not_yet")
    found = trial(trees, WORK, every=1)
    assert found.failures[WORK].startswith("in base: tests/performance/test_work.py can't be collected: ")
    assert "cannot import name 'before'" in found.failures[WORK]


@pytest.mark.parametrize(
    ("breakage", "told"),
    [
        ("os._exit(7)", "exit code 7"),
        ("os.kill(os.getpid(), 9)", "exit code -9"),
        ("time.sleep(60)", "has not answered for 3 s"),
        ("os.kill(os.getpid(), 19)", "has not answered for 3 s"),
    ],
    ids=["dies", "is killed", "hangs", "is stopped"],
)
def test_an_arm_that_dies_or_hangs_ends_the_trial(
    trees: Arms, monkeypatch: pytest.MonkeyPatch, breakage: str, told: str
) -> None:
    """The trial is invalid, says which arm and how, and shows its last output."""
    monkeypatch.setattr(duet, "ANSWER_LIMIT_S", 3.0)
    edit(trees.head, "    sum(", f'    os.write(2, b"last words")\n    {breakage}\n    sum(')
    with pytest.raises(TrialInvalid, match=told) as raised:
        trial(trees, WORK)
    assert "the arm head failed" in str(raised.value)
    assert "last words" in str(raised.value)


def test_what_an_arm_prints_does_not_disturb(trees: Arms) -> None:
    """Megabytes of bytes that are no text, on both streams."""
    edit(
        trees.head,
        "    pass",
        "    os.write(1, bytes(range(256)) * 10_000)\n    os.write(2, b'{\"at\": 1}\\n' * 10_000)",
    )
    assert len(trial(trees, SKIPPED, every=1).differences[SKIPPED]) == 1


def test_an_arm_that_imports_from_elsewhere_is_invalid(trees: Arms, tmp_path: Path) -> None:
    """Its own tree lacks the module, and another folder of the path has it: what was measured would not be base."""
    shutil.move(trees.base.root / "code_under_test.py", tmp_path / "code_under_test.py")
    strange = Arms(**{**vars(trees), "import_from": [".", ".."]})
    with pytest.raises(TrialInvalid, match="imports from outside its own tree: code_under_test"):
        trial(strange, WORK)


def test_when_the_time_is_up_the_rest_is_inconclusive(trees: Arms) -> None:
    """No time for a single pair: nothing is compared, and nothing is judged."""
    found = trial(trees, WORK, budget_s=0.5)
    assert found.pairs == 0
    assert not found.judgements


def test_the_worst_are_tried_first_and_the_rest_where_there_is_time() -> None:
    """Four pairs of 2 s and 1.2 s fit into 15 s, those of a slow benchmark beside it do not, those of a fast one do."""
    wishes = [Wish("worst", 0.01, LIMITS), Wish("slow", 0.3, LIMITS), Wish("fast", 1e-4, LIMITS)]
    chosen = duet._affordable(wishes, Trial(), 15.0)
    assert [wish.key for wish in chosen] == ["worst", "fast"]
    assert duet._affordable(wishes, Trial(), 1.0) == []


def test_only_numbers_of_pairs_fixed_beforehand_are_looked_at() -> None:
    """20 % slower, beyond doubt after two pairs: convicted after the first look's number of them, and not before."""
    looked_at: list[int] = []

    def run_pair(chosen: Sequence[Wish]) -> Pair:
        looked_at.append(len(chosen))
        noise = 0.001 * (len(looked_at) % 2)
        return Pair({chosen[0].key: math.log(1.2) + noise})

    found = conduct([Wish(WORK, 1e-4, LIMITS)], run_pair, budget_s=1e3, clock=lambda: 0.0)
    assert found.judgements[WORK].verdict == "regression"
    assert found.pairs == LOOKS[0]


def test_when_the_time_is_up_what_there_is_is_looked_at() -> None:
    """Pairs take 2.35 s instead of the 2.1 s expected: in 9 s there are three, and those are judged."""
    elapsed_s = 0.0

    def run_pair(chosen: Sequence[Wish]) -> Pair:
        nonlocal elapsed_s
        elapsed_s += 2.35
        return Pair({chosen[0].key: math.log(1.3)})

    found = conduct([Wish(WORK, 1e-4, LIMITS)], run_pair, budget_s=9.0, clock=lambda: elapsed_s)
    assert found.judgements[WORK].pairs == 3


def controls(alike: Mapping[int, float], slowed: float = 0.1) -> dict[str, list[float]]:
    same, slow = CONTROLS
    return {same: list(alike.values()), slow: [math.log1p(slowed) + noise for noise in (-0.01, 0.0, 0.01, 0.0)]}


def test_controls_that_read_the_truth_are_well() -> None:
    """No difference, and 10 %, both give or take 1 %."""
    assert controls_off(controls({1: 0.01, 2: -0.01, 3: 0.0, 4: 0.0})) == ""


def test_controls_that_can_not_be_right_are_told() -> None:
    """5 % where there is no difference, and no slow-down where there is one of 10 %."""
    assert "test_alike reads +5" in controls_off(controls({1: 0.05, 2: 0.0501, 3: 0.0499, 4: 0.05}))
    assert "test_slowed reads" in controls_off(controls({1: 0.0, 2: 0.0}, slowed=-0.05))


def test_controls_with_one_pair_say_nothing() -> None:
    """One value has no interval."""
    same, _ = CONTROLS
    assert controls_off({same: [5.0]}) == ""
