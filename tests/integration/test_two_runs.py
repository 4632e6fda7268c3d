"""Several runs at the same time on one machine."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.project import Done, Project, finish
from tests.support.traces import Traces, WithoutNox, settings, traces_of

SUITE = '''\
"""A suite that waits until so many runs are in their middle."""

import os
import time
from pathlib import Path

import asyncpg
import pytest
import redis


@pytest.mark.timeout(100)
async def test_together(redis_url, postgres_url, measure):
    marks = Path(os.environ["MARKS"])
    (marks / os.environ["PLUMBLINE_RUN"]).touch()
    while len(list(marks.iterdir())) < int(os.environ["RUNS"]):
        time.sleep(0.01)
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE ours AS SELECT 1 AS one")
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("ours", "1")
        for timer in measure():
            with timer:
                client.get("ours")
    await connection.close()
'''


@pytest.fixture
def traces(project: Project, cache_home: Path) -> Iterator[Traces]:
    """A project, to be copied for each run."""
    project.write("settings.toml", settings().replace("test_limit_s = 10", "test_limit_s = 60"))
    project.write("test_suite.py", SUITE)
    with traces_of(WithoutNox(project.root, project.environments), cache_home) as traces:
        yield traces


def run_together(traces: Traces, runs: int, **environ: str) -> list[Done]:
    """Run this many copies of the project at the same time."""
    first = traces.project
    for number in range(runs):
        copy = first.copy(first.root.with_name(f"copy-{number}"))
        traces.project = WithoutNox(copy.root, first.environments)
        traces.start(RUNS=str(runs), **environ)
    return [finish(run) for run in traces.started]


@contextlib.contextmanager
def on_two_cores() -> Iterator[set[int]]:
    """Restrict this test and its children to two cores."""
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("no pinning on this system")
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("there is one core only")
    two = set(sorted(allowed)[:2])
    os.sched_setaffinity(0, two)
    try:
        yield two
    finally:
        os.sched_setaffinity(0, allowed)


def cores(done: Done) -> set[int]:
    """Return the cores in the report of a run."""
    return {int(core) for core in re.findall(r"^(?:redis|postgres) .* on core (\d+) ", done.output, re.MULTILINE)}


def test_two_runs_use_a_core_each(traces: Traces) -> None:
    """Each run also has its own servers."""
    with on_two_cores() as two:
        runs = run_together(traces, 2)

    assert [run.code for run in runs] == [0, 0], "\n".join(run.output for run in runs)
    assert [len(cores(run)) for run in runs] == [1, 1]
    assert cores(runs[0]) | cores(runs[1]) == two
    traces.assert_gone()


def test_a_third_run_on_two_cores_is_not_pinned(traces: Traces) -> None:
    """The report says so."""
    with on_two_cores():
        runs = run_together(traces, 3)

    assert [run.code for run in runs] == [0, 0, 0], "\n".join(run.output for run in runs)
    free = [run for run in runs if "not pinned to one core: another run has locked core" in run.output]
    assert len(free) == 1
    assert cores(free[0]) == set()
    traces.assert_gone()


def test_two_first_runs(traces: Traces, tmp_path: Path) -> None:
    """Two runs that both find no cache folder create it together."""
    traces.records = tmp_path / "cache" / "plumbline" / "runs"
    runs = run_together(traces, 2, XDG_CACHE_HOME=str(tmp_path / "cache"))

    assert [run.code for run in runs] == [0, 0], "\n".join(run.output for run in runs)
    assert len(list((tmp_path / "cache" / "plumbline").glob("postgres/????????????????"))) == 1
    traces.assert_gone()
