"""If a server dies or stays paused, the run is invalid: a failed test is not blamed on the change."""

from pathlib import Path

import pytest

from tests.support.fixtures import MakeServices
from tests.support.project import SETTINGS, Project
from tests.unit.services.test_embedded import server

EMBEDDED = SETTINGS.replace('backend = "off"', 'backend = "embedded"') + '\n[postgres]\nbackend = "off"\n'
SUITE = """\
import os
import socket
from urllib.parse import urlsplit

import psutil


def test_measured(redis_url, measure):
    for timer in measure():
        with timer:
            sum(range(1000))
"""
DIES = """

def test_dies(redis_url):
    server = psutil.Process(int(os.environ["SERVER"]))
    server.kill()
    server.wait()
    socket.create_connection(("127.0.0.1", urlsplit(redis_url).port))


def test_next():
    pass
"""
STAYS_PAUSED = """

def test_pauses(services):
    services.redis.pause()
"""


@pytest.fixture
def project(tmp_path: Path, cache_home: Path) -> Project:
    assert cache_home.is_dir()
    project = Project.create(tmp_path / "project", tmp_path)
    project.write("settings.toml", EMBEDDED)
    return project


def test_an_external_server_dies_during_a_run(project: Project, make_services: MakeServices) -> None:
    """The message names it, although a test has failed."""
    theirs = make_services(EMBEDDED)
    theirs.begin()
    theirs.wait_ready()
    redis = server(theirs.redis)
    project.write("test_suite.py", SUITE + DIES)

    done = project.own_python("-m", "plumbline", "ci", PERF_REDIS_URL=redis.address.url, SERVER=str(redis.pids()[0]))

    assert done.code == 3, done.output
    assert "redis is not ready: it no longer answers" in done.output
    assert f"127.0.0.1:{redis.address.port}" in done.output
    assert "PERF_REDIS_URL" in done.output
    assert project.results()["verdict"] == "invalid"


def test_a_server_stays_paused_after_the_last_test(project: Project) -> None:
    """All tests have passed, but it is unknown whether the timings are valid."""
    project.write("test_suite.py", SUITE + STAYS_PAUSED)

    done = project.own_python("-m", "plumbline", "ci")

    assert done.code == 3, done.output
    assert "stopped by a signal (paused)" in done.output
    assert "let each test resume what it has paused" in done.output
