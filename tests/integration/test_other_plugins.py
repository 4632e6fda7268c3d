"""Tests of many kinds with marks and hooks of other plugins: an error affects only its own test."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.project import STEADY_SETTINGS, Done, Project

# Like pytest-rerunfailures.
CONFTEST = """\
from _pytest.runner import runtestprotocol


def pytest_runtest_protocol(item, nextitem):
    if "again" not in item.name:
        return None
    for tries_left in (1, 0):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        failed = any(report.failed for report in reports)
        for report in reports:
            if report.failed and tries_left:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if not failed:
            break
    return True
"""

SUITE = """\
import asyncio
import contextlib
import functools
import sys
import threading
import time
import unittest

import pytest

from plumbline import Measure

TRIES: list[str] = []


@pytest.fixture(scope="session")
async def shared() -> int:
    return 1


async def work(measure: Measure) -> None:
    async for timer in measure():
        with timer:
            await asyncio.sleep(0)


def work_without_loop(measure: Measure, *_: object) -> None:
    for timer in measure():
        with timer:
            sum(range(100))


@pytest.mark.anyio
async def test_with_anyio(shared: int, measure: Measure) -> None:
    await work(measure)


async def test_after_anyio(shared: int, measure: Measure) -> None:
    await work(measure)


@pytest.mark.timeout(0)
async def test_without_limit(measure: Measure) -> None:
    await work(measure)


@pytest.mark.timeout(func_only=True, method="thread", timeout=9)
async def test_limit_by_keyword(measure: Measure) -> None:
    await work(measure)


@pytest.mark.timeout("soon")
async def test_odd_limit(measure: Measure) -> None:
    await work(measure)


def test_tried_again(measure: Measure) -> None:
    TRIES.append("again")
    work_without_loop(measure)
    assert len(TRIES) > 1


def test_failing_again(measure: Measure) -> None:
    work_without_loop(measure)
    raise ValueError("each time")


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    \"\"\"As Freezegun does.\"\"\"
    for name in ("perf_counter", "monotonic", "time"):
        real = getattr(time, name)
        for module in [module for module in sys.modules.values() if vars(module).get(name) is real]:
            monkeypatch.setattr(module, name, lambda: 0.0)


def test_frozen(frozen: None, measure: Measure) -> None:
    work_without_loop(measure)
    assert measure.result.minimum_s > 0


test_partial = functools.partial(work_without_loop)
exec("def test_without_source(measure):\\n    work_without_loop(measure)")


@pytest.mark.parametrize("value", [{}, lambda: 1, [1]], ids=["a/b::c[d]", "new\\nline", "é"])
def test_ids(value: object, measure: Measure) -> None:
    work_without_loop(measure)


class TestOfUnittest(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def keep(self, measure: Measure) -> None:
        self.measure = measure

    def test_it(self) -> None:
        with self.subTest("before it is measured"):
            work_without_loop(self.measure)
        with self.subTest("after it"):
            self.assertTrue(self.measure.result)


@pytest.mark.xfail(strict=False, reason=404)
def test_expected_to_fail(measure: Measure) -> None:
    work_without_loop(measure)
    raise ValueError


async def test_leaving_a_job(measure: Measure) -> None:
    await work(measure)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.to_thread(threading.Event().wait), 0.01)


def test_odd_name(measure: Measure) -> None:
    for timer in measure(renamed_from=3):
        with timer:
            sum(range(100))
"""

SAVED = """\
from pathlib import Path

import pytest


@pytest.mark.parametrize("text", ["x = (", "", None, ""])
def test_saved(text, measure):
    for timer in measure():
        with timer:
            sum(range(100))
    if text is None:
        Path(__file__).unlink()
    else:
        Path(__file__).write_text(text)
"""
FAILED = {
    "test_suite.py::test_with_anyio[asyncio]": "remove its mark `anyio`",
    "test_suite.py::test_odd_limit": "the mark `timeout` takes seconds, not 'soon'",
    "test_suite.py::test_failing_again": "each time",
    "test_suite.py::test_odd_name": "it could not be recorded: ",
}


@pytest.fixture(scope="module")
def suite(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.create(tmp_path_factory.mktemp("plugins") / "project", environments)
    project.write("settings.toml", STEADY_SETTINGS)
    project.write("conftest.py", CONFTEST)
    project.write("test_suite.py", SUITE)
    project.write("test_saved.py", SAVED)
    return project


@pytest.fixture(scope="module")
def done(suite: Project) -> Done:
    # By module name, because the project disables anyio's plugin.
    return suite.run("ci", "-p", "anyio.pytest_plugin")


@pytest.fixture(scope="module")
def benchmarks(suite: Project, done: Done) -> dict[str, dict[str, Any]]:
    assert done.code == 1, done.output
    return {benchmark["key"]: benchmark for benchmark in suite.results()["benchmarks"]}


def test_only_invalid_tests_fail_with_a_message(suite: Project, done: Done) -> None:
    assert done.code == 1, done.output
    tests = suite.results()["tests"]
    failed = {test["key"]: test["message"] for test in tests if test["outcome"] == "failed"}
    assert failed.keys() == FAILED.keys()
    assert all(FAILED[key] in message for key, message in failed.items())


def test_all_others_are_measured(benchmarks: dict[str, dict[str, Any]]) -> None:
    names = {key.partition("::test_")[2] for key in benchmarks if "Unittest" not in key}
    assert names == {
        *("after_anyio", "without_limit", "limit_by_keyword", "tried_again", "frozen", "partial", "without_source"),
        "leaving_a_job",
        *(r"ids[a/b::c[d]]", r"ids[new\nline]", r"ids[\xe9]"),
        *("saved[x = (]", "saved[0]", "saved[None]", "saved[1]"),
    }
    assert "test_suite.py::TestOfUnittest::test_it" in benchmarks


def test_a_benchmark_that_passes_on_the_second_attempt_is_recorded_once_with_a_warning(
    benchmarks: dict[str, dict[str, Any]],
) -> None:
    assert "passed only on attempt 2" in benchmarks["test_suite.py::test_tried_again"]["warnings"]


def test_a_job_that_does_not_end_is_named_and_does_not_delay_the_run(suite: Project, done: Done) -> None:
    """Otherwise the run would last until `gate.time_limit_s`."""
    assert done.code == 1
    [note] = [note for note in suite.results()["notes"] if "still running" in note]
    assert note.startswith("the thread 'asyncio_0' was still running after the last test, and pytest ended without it:")
    assert "threading.py" in note


def test_a_file_that_is_saved_during_the_run_keeps_the_code_that_was_measured(
    benchmarks: dict[str, dict[str, Any]],
) -> None:
    saved = [one for key, one in benchmarks.items() if key.startswith("test_saved.py")]
    assert len({one["source_hash"] for one in saved}) == 1
    assert all(one["source"].endswith("write_text(text)\n") for one in saved)
