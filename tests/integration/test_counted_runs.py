"""The counts of whole runs against a baseline."""

import json

import pytest

from tests.support.project import STEADY_SETTINGS, Project

SETTINGS = STEADY_SETTINGS.replace('backend = "off"', 'backend = "embedded"') + '\n[postgres]\nbackend = "off"\n'
SUITE = '''\
"""One benchmark of Redis, whose code under test stands in another file."""

import redis

from code_under_test import store
from plumbline import Measure


def test_storing(redis_url: str, measure: Measure) -> None:
    """Store 50 values."""
    with redis.Redis.from_url(redis_url, client_name="perf") as client:
        for timer in measure(operations=50):
            with timer:
                store(client)


def test_asking(redis_url: str, measure: Measure) -> None:
    """PING."""
    with redis.Redis.from_url(redis_url, client_name="perf") as client:
        for timer in measure():
            with timer:
                client.ping()
'''

PIPELINED = """\
def store(client):
    with client.pipeline(transaction=False) as pipeline:
        for number in range(50):
            pipeline.set(f"key:{number}", "value")
        pipeline.execute()
"""
SINGLE = """\
def store(client):
    for number in range(50):
        client.set(f"key:{number}", "value")
"""


@pytest.fixture(autouse=True)
def suite(project: Project) -> None:
    project.write("settings.toml", SETTINGS)
    project.write("test_suite.py", SUITE)


def test_a_run_fails_for_its_counts_on_any_machine(project: Project) -> None:
    """A pipeline turned into single commands ends with exit code 1, although timings cannot be judged."""
    code = project.root / "code_under_test.py"
    code.write_text(PIPELINED, encoding="utf-8")
    recorded = project.run("baseline")
    assert recorded.code == 0, recorded.output
    code.write_text(SINGLE, encoding="utf-8")

    done = project.run("ci", PERF_MACHINE="elsewhere")

    assert done.code == 1, done.output
    assert project.verdicts() == {
        "test_suite.py::test_storing": "regression",
        "test_suite.py::test_asking": "inconclusive",
    }
    assert "REGRESSION: larger counts than before: " in done.output
    assert "redis messages 0.02 → 1, code_under_test.py:3 in store" in done.output
    code.write_text(PIPELINED, encoding="utf-8")
    again = project.run("ci", PERF_MACHINE="elsewhere")
    assert again.code == 0, again.output


def test_growth_without_a_difference_is_drift(project: Project) -> None:
    """Growth that the change has not caused is reported and does not fail the run: base and head are counted, too."""
    project.begin_repository(PIPELINED)
    recorded = project.run("baseline")
    assert recorded.code == 0, recorded.output
    path = project.baseline()
    data = json.loads(path.read_text())
    for entry in data["benchmarks"]:
        entry["counts"]["redis.messages"] /= 2
    path.write_text(json.dumps(data))
    project.commit("Baseline")

    done = project.run("ci")

    assert done.code == 0, done.output
    assert set(project.verdicts().values()) == {"drift"}
    assert "redis messages 0.01 → 0.02" in done.output
    assert "executes nothing that differs from" in done.output

    code = project.root / "code_under_test.py"
    code.write_text(PIPELINED.replace("value", "other"), encoding="utf-8")
    done = project.run("ci")
    assert done.code == 0, done.output
    assert set(project.verdicts().values()) == {"drift"}

    code.write_text(SINGLE, encoding="utf-8")
    done = project.run("ci")
    assert done.code == 1, done.output
    assert project.verdicts() == {"test_suite.py::test_storing": "regression", "test_suite.py::test_asking": "drift"}
    assert "redis messages 0.02 → 1" in done.output
