"""Paired comparisons and the gate with a service of [services]: a Redis that stands for any server."""

from pathlib import Path

import pytest

from tests.support.project import STEADY_SETTINGS, Done, Project
from tests.support.traces import skip_without_docker

QUEUE = """
[env]
QUEUE_PORT = "{queue.port}"
QUEUE_HOST = "{queue.host}"
QUEUE_NAME = "{queue.prefix}"

[services.queue]
image = "redis:8-alpine"
port = 6379
"""

CODE = """\
def publish(client):
    client.lpush("jobs", "1")
"""

SUITE = '''\
"""Benchmarks of a service, with data that the other side would trip over."""

import os

import redis
from code_under_test import publish

from plumbline import Measure


def test_publish(service_address, measure: Measure) -> None:
    """Hand over a job."""
    address = service_address("queue")
    assert (os.environ["QUEUE_HOST"], os.environ["QUEUE_PORT"]) == (address.host, str(address.port))
    with redis.Redis(address.host, address.port) as client:
        assert client.getset("side", os.environ["SIDE"]) in (None, os.environ["SIDE"].encode())
        for timer in measure():
            with timer:
                publish(client)


def test_nothing(measure: Measure) -> None:
    """Use no service."""
    for timer in measure():
        with timer:
            sum(range(1000))
'''

CONFTEST = """\
import os
from pathlib import Path

os.environ["SIDE"] = str(Path(__file__).parents[2])
"""
PUBLISH = "test_queue.py::test_publish"


@pytest.fixture(scope="module")
def committed(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository with code, and its benchmarks."""
    project = Project.create(tmp_path_factory.mktemp("stack") / "project", environments)
    (project.suite / "test_suite.py").unlink()
    project.write("settings.toml", STEADY_SETTINGS + QUEUE)
    project.write("conftest.py", CONFTEST)
    project.write("test_queue.py", SUITE)
    project.begin_repository(CODE)
    return project


@pytest.fixture
def project(committed: Project, tmp_path: Path) -> Project:
    """A copy of the project, to be changed."""
    return committed.copy(tmp_path / "project")


def plumbline(project: Project, *arguments: str, **environ: str) -> Done:
    return project.python("-m", "plumbline", *arguments, "--", "-k", "publish", **environ)


def test_a_message_more_to_a_service_fails(project: Project) -> None:
    """The count has the name of the service, in the baseline as in the results."""
    skip_without_docker()
    assert plumbline(project, "baseline").code == 0
    project.commit("Baseline")
    (project.root / "code_under_test.py").write_text(CODE + '    client.lpush("jobs", "2")\n')

    done = plumbline(project, "ci")

    assert done.code == 1, done.output
    assert "queue messages 1 → 2" in " ".join(done.output.split()), done.output
    (benchmark,) = project.results()["benchmarks"]
    assert benchmark["counts"]["queue.messages"] == 2
    assert project.results()["environment"]["services"] == {"queue": "docker"}


def test_each_side_has_a_service_of_its_own(project: Project) -> None:
    """Neither sees what the other has written."""
    skip_without_docker()
    (project.root / "code_under_test.py").write_text(CODE + "    client.ping()\n")

    done = plumbline(project, "compare", "HEAD", "--limit=20")

    assert "base and head share queue" not in " ".join(done.output.split())
    assert project.verdicts()[PUBLISH] in {"regression", "inconclusive"}, done.output
    assert "could not be compared" not in done.output


def test_a_service_that_both_sides_share_is_named(project: Project) -> None:
    """Unless a variable takes its prefix, base and head meet there, and the report says so."""
    skip_without_docker()
    settings = STEADY_SETTINGS + QUEUE.replace('QUEUE_NAME = "{queue.prefix}"\n', "") + "each_side = false\n"
    project.write("settings.toml", settings)
    (project.root / "code_under_test.py").write_text(CODE + "    client.ping()\n")

    done = plumbline(project, "compare", "HEAD", "--limit=5")

    output = " ".join(done.output.split())
    assert "base and head share queue, and no variable uses {queue.prefix}" in output
    assert "could not be compared with the base" in output, done.output


def test_without_docker_its_benchmarks_are_skipped(project: Project) -> None:
    """The others are measured. The reason names the variable for a service that already runs."""
    done = project.python("-m", "plumbline", "ci", DOCKER_HOST="unix:///nowhere/docker.sock")

    assert "test_nothing" in str(project.verdicts())
    assert "no Docker engine answers: start Docker, or set PERF_SERVICE_QUEUE" in " ".join(done.output.split())
    assert PUBLISH not in project.verdicts()
    missing = {test["key"]: test.get("service_missing", False) for test in project.results()["tests"]}
    assert missing == {PUBLISH: True, "test_queue.py::test_nothing": False}
