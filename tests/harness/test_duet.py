"""Paired comparisons of small trees with real processes; the servers they use are in test_compare.py."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness.project import ROOT, SETTINGS
from tests.performance.harness import duet
from tests.performance.harness.arms import Arm, Arms
from tests.performance.harness.duet import both_arms, compare, shared_by_arms
from tests.performance.harness.pairs import Thresholds, TrialInvalid
from tests.performance.harness.settings import load_settings
from tests.performance.harness.trial import CLOSE_LOOKS, CONTROLS, FIRST_PAIRS, Pair, Trial, Wish

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


def trial(arms: Arms, *keys: str, budget_s: float = BUDGET_S) -> Trial:
    settings = load_settings(arms.head.root / "tests/performance/settings.toml", {})
    return compare(settings, arms, [Wish(key, 1e-4, LIMITS) for key in keys], budget_s=budget_s)


def one_pair(arms: Arms, *keys: str) -> Pair:
    settings = load_settings(arms.head.root / "tests/performance/settings.toml", {})
    wishes = [Wish(key, 1e-4, LIMITS) for key in keys]
    with both_arms(settings, arms, wishes, "ci") as both:
        return both.run_pair(wishes)


def test_what_is_slower_is_convicted_and_what_is_not_is_acquitted(trees: Arms) -> None:
    """Twice the work in head, in a sync and in a coroutine test whose own limit of 5 s moves with its waits."""
    edit(trees.head, "4_000", "8_000")
    found = trial(trees, WORK, ASYNC)
    assert {key: one.verdict for key, one in found.judgements.items()} == {WORK: "regression", ASYNC: "regression"}
    assert found.judgements[WORK].change == pytest.approx(1.0, abs=0.3)
    base_s, head_s = found.samples_s[WORK]
    assert len(base_s) == len(head_s) >= 40


def test_what_got_slower_is_told_of_what_is_convicted(trees: Arms) -> None:
    """A function that is new in head, with its place, and one that does more; of what is acquitted nothing."""
    edit(trees.head, "    sum(range(4_000))", "    sum(range(4_000))\n    check()")
    edit(trees.head, "def before", "def check():\n    return [number**2 for number in range(2_000)]\n\n\ndef before")
    found = trial(trees, WORK)
    assert found.judgements[WORK].verdict == "regression"
    named = {one.name: one for one in found.functions[WORK]}
    slower = named.get("check.<locals>.<listcomp>") or named["check"]  # Python 3.12 has comprehensions in line
    assert (slower.file, slower.base_calls, slower.head_calls) == ("code_under_test.py", 0.0, 1.0)
    assert slower.head_s > 0
    assert list(found.functions) == [WORK]


def test_where_nothing_is_convicted_nothing_is_profiled(trees: Arms) -> None:
    """Two trees that are alike."""
    found = trial(trees, WORK)
    assert found.judgements[WORK].verdict == "pass"
    assert found.functions == {}
    assert found.pairs in {FIRST_PAIRS, *(FIRST_PAIRS + look for look in CLOSE_LOOKS)}
    assert not found.failures


def test_alike_is_acquitted_at_the_first_look(trees: Arms) -> None:
    """Both trees are the same, and the controls read what they should."""
    found = trial(trees, WORK)
    assert found.judgements[WORK].verdict == "pass"
    assert {key: len(found.differences[key]) for key in CONTROLS} == dict.fromkeys(CONTROLS, found.pairs)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each pair of arms that was started, whether that was ahead of its turn."""
    found: list[bool] = []
    start = duet._Ground._start

    def recorded(*arguments: Any, **options: Any) -> Any:
        found.append(bool(options.get("cores")))
        return start(*arguments, **options)

    monkeypatch.setattr(duet._Ground, "_start", recorded)
    return found


@pytest.mark.skipif(sys.platform != "linux" or os.cpu_count() == 1, reason="on another core than the one measured on")
def test_the_next_pair_starts_while_one_is_measured(trees: Arms, starts: list[bool]) -> None:
    """For as many of its benchmarks as the next one has; one that has another is started anew, as is the first."""
    settings = load_settings(trees.head.root / "tests/performance/settings.toml", {})
    work, other = (Wish(key, 1e-4, LIMITS) for key in (WORK, ASYNC))
    with both_arms(settings, trees, [work, other], "ci") as both:
        found = [both.run_pair([work, other], [work, other]), both.run_pair([other], [other]), both.run_pair([work])]
    assert [set(pair.quads) - set(CONTROLS) for pair in found] == [{WORK, ASYNC}, {ASYNC}, {WORK}]
    rehearsed, first, ahead_of_second, ahead_of_third, third = starts
    assert [rehearsed, first, ahead_of_second, ahead_of_third, third] == [False, False, True, True, False]


def test_a_next_pair_that_does_not_come_is_ended(trees: Arms) -> None:
    """At the end; `nothing_left` looks."""
    settings = load_settings(trees.head.root / "tests/performance/settings.toml", {})
    wishes = [Wish(WORK, 1e-4, LIMITS)]
    with both_arms(settings, trees, wishes, "ci") as both:
        assert WORK in both.run_pair(wishes, wishes).quads


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="others may not go before the machine's rest")
@pytest.mark.skipif(os.cpu_count() == 1, reason="there is but one core")
def test_both_arms_go_before_other_processes_while_they_are_compared(trees: Arms) -> None:
    for arm in (trees.base, trees.head):
        edit(arm, "    pass", "    assert os.sched_getscheduler(0) == os.SCHED_RR")

    pair = one_pair(trees, SKIPPED)

    assert not pair.failures
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize("name", ["base", "head"])
def test_one_that_is_skipped_in_an_arm_is_skipped_in_both(trees: Arms, name: str) -> None:
    """It is told why, and the next benchmark is compared all the same."""
    edit(getattr(trees, name), "    pass", '    pytest.skip("not today")')
    found = one_pair(trees, SKIPPED, WORK)
    assert found.failures == {SKIPPED: f"in {name}: skipped: not today"}
    assert set(found.quads) == {*CONTROLS, WORK}


def test_one_that_fails_against_the_base_fails_nothing_else(trees: Arms) -> None:
    """It raises in the second block of base: reported, and the next benchmark is compared."""
    edit(trees.base, "def work():\n", "CALLS = []\n\n\ndef work():\n    CALLS.append(1)\n    assert len(CALLS) < 70\n")
    found = one_pair(trees, WORK)
    assert found.failures[WORK] == "in base: failed: assert 70 < 70"


def test_a_benchmark_that_is_in_one_tree_alone_is_told(trees: Arms) -> None:
    """Base can't import the code that its test wants: neither is compared, and nothing else fails."""
    edit(trees.base, "def before", "def not_yet")
    found = one_pair(trees, WORK)
    assert found.failures[WORK].startswith("in base: tests/performance/test_work.py can't be collected: ")
    assert "cannot import name 'before'" in found.failures[WORK]


@pytest.mark.parametrize(
    ("breakage", "told"),
    [
        ("os._exit(7)", "exit code 7"),
        ("os.kill(os.getpid(), 9)", "exit code -9"),
        ("time.sleep(60)", "has not answered for 8 s"),
        ("os.kill(os.getpid(), 19)", "has not answered for 8 s"),
    ],
    ids=["dies", "is killed", "hangs", "is stopped"],
)
def test_an_arm_that_dies_or_hangs_ends_the_trial(
    trees: Arms, monkeypatch: pytest.MonkeyPatch, breakage: str, told: str
) -> None:
    """The trial is invalid, says which arm and how, and shows its last output."""
    monkeypatch.setattr(duet, "ANSWER_LIMIT_S", 8.0)
    edit(trees.head, "    sum(", f'    os.write(2, b"last words")\n    {breakage}\n    sum(')
    with pytest.raises(TrialInvalid, match=told) as raised:
        trial(trees, WORK)
    assert "the arm head failed" in str(raised.value)
    assert "last words" in str(raised.value)


def test_an_arm_may_take_as_long_to_start_as_its_settings_allow(trees: Arms, monkeypatch: pytest.MonkeyPatch) -> None:
    """`prepare` and processes have limits of their own, longer than that for an answer."""
    monkeypatch.setattr(duet, "ANSWER_LIMIT_S", 0.01)
    worker = "import time; print('ready', flush=True); time.sleep(60)"
    text = f'[processes.worker]\ncommand = ["python", "-c", "{worker}"]\nready_output = "ready"\n'
    for arm in (trees.base, trees.head):
        prepare = 'prepare = ["python", "-c", "open(\'prepared\', \'w\')"]\n'
        (arm.root / "tests/performance/settings.toml").write_text(f"{prepare}{SETTINGS}{text}")
    settings = load_settings(trees.head.root / "tests/performance/settings.toml", {})
    with both_arms(settings, trees, [Wish(WORK, 1e-4, LIMITS)], "ci"):
        assert all((arm.root / "prepared").exists() for arm in (trees.base, trees.head))


@pytest.mark.parametrize(
    ("env", "environ", "told"),
    [
        ('URL = "{redis.url}"', {}, []),
        ('HOST = "{redis.host}"\nNUMBER = "{redis.database}"', {}, []),
        ('URL = "redis://{redis.host}/0"\nPREFIX = "{redis.prefix}"', {}, []),
        ('URL = "redis://{redis.host}/0"\nOTHER = "{redis.url}"', {}, ["URL names no {redis.database}"]),
        ('HOST = "{redis.host}"', {}, ["HOST names no {redis.database}"]),
        ('URL = "{redis.url}"', {"PERF_REDIS_URL": "redis://127.0.0.1"}, ["Redis is external"]),
    ],
)
def test_what_both_arms_share_is_told(tmp_path: Path, env: str, environ: dict[str, str], told: list[str]) -> None:
    """Unless the code under test says that it heeds the run's prefix, which is another one in each arm."""
    (tmp_path / "settings.toml").write_text(f'services = "embedded"\n[env]\n{env}\n')
    shared = shared_by_arms(load_settings(tmp_path / "settings.toml", environ))
    assert [text.startswith(begin) for text, begin in zip(shared, told, strict=True)] == [True] * len(told)


@pytest.mark.parametrize(
    ("breakage", "told"),
    [("os._exit, 7", "it ended with exit code 7"), ("os.kill, os.getpid(), 19", "it has not ended for 8 s")],
    ids=["dies", "hangs"],
)
def test_an_arm_that_does_not_come_to_its_end_is_invalid(
    trees: Arms, monkeypatch: pytest.MonkeyPatch, breakage: str, told: str
) -> None:
    """It has measured all, and is told to leave."""
    monkeypatch.setattr(duet, "LEAVE_LIMIT_S", 8.0)
    edit(trees.head, "    pass", f"    import atexit\n\n    atexit.register({breakage})")
    with pytest.raises(TrialInvalid, match=f"the arm head failed: {told}"):
        one_pair(trees, SKIPPED)


def test_a_hung_arm_keeps_the_run_no_longer_than_30_s() -> None:
    """It is waited for, asked to end and killed; so may be the other arm, which does not hang, but has to stop."""
    assert duet.ANSWER_LIMIT_S + 2 * duet.END_LIMIT_S <= 30
    assert duet.LEAVE_LIMIT_S <= duet.ANSWER_LIMIT_S


def test_what_an_arm_prints_does_not_disturb(trees: Arms) -> None:
    """Megabytes of bytes that are no text, on both streams."""
    edit(
        trees.head,
        "    pass",
        "    os.write(1, bytes(range(256)) * 10_000)\n    os.write(2, b'{\"at\": 1}\\n' * 10_000)",
    )
    assert one_pair(trees, SKIPPED).quads[SKIPPED]


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
