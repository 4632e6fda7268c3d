"""A change that records its baseline anew, in a real repository: it is compared with its merge base all the same."""

from pathlib import Path

from tests.support.project import STEADY_SETTINGS, Done, Project

WORK, READ = "test_code.py::test_work", "test_code.py::test_read"
SETTINGS = STEADY_SETTINGS.replace('backend = "off"', 'backend = "embedded"\npostgres = { backend = "off" }')
CODE = """\
import itertools
import time

DURATION_S = 0.002
READS = itertools.cycle([1])


def work() -> None:
    time.sleep(DURATION_S)


def read(client) -> None:
    for _ in range(next(READS)):
        client.get("key")
"""
SUITE = """\
import redis
from code_under_test import read, work

from plumbline import Measure


def test_work(measure: Measure) -> None:
    for timer in measure():
        with timer:
            work()


def test_read(redis_url: str, measure: Measure) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for timer in measure():
            with timer:
                read(client)
"""


def run(project: Project, session: str, *arguments: str) -> Done:
    cache = {"XDG_CACHE_HOME": str(project.environments.parent / "cache"), "PERF_MACHINE": "today's"}
    return project.run(session, *arguments, **cache)


def record(project: Project) -> None:
    """Commit a baseline of the code."""
    done = run(project, "baseline")
    assert done.code == 0, done.output
    project.commit("Baseline")


def test_it_fails_until_it_is_accepted_with_a_reason(environments: Path, tmp_path: Path) -> None:
    """One benchmark is slower, and one sends more commands, whose number varies, than the merge base.

    Neither is worse than the new baseline. A baseline that is recorded once more in the same change keeps what the
    change has accepted.
    """
    project = Project.create(tmp_path / "project", environments)
    (project.suite / "test_suite.py").unlink()
    project.write("settings.toml", SETTINGS)
    project.write("test_code.py", SUITE)
    project.begin_repository(CODE)
    record(project)
    project.git("checkout", "--quiet", "-b", "change")
    (project.root / "code_under_test.py").write_text(CODE.replace("0.002", "0.008").replace("[1]", "[2, 3]"))
    record(project)

    done = run(project, "ci")

    assert done.code == 1, done.output
    assert project.verdicts() == {WORK: "regression", READ: "regression"}
    output = " ".join(done.output.split())
    assert "redis GET 1 → 2 to 3" in output
    for key in (WORK, READ):
        assert f'nox -s accept -- {key} --reason "TEXT"' in output

    assert run(project, "accept", WORK, READ, "--reason", "prices are checked now").code == 0
    record(project)
    assert (project.suite / "baselines" / "accepted.json").read_text().count("prices are checked now") == 2
