"""Benchmarks without a coroutine: Django's test client, psycopg, and the synchronous client of redis-py."""

import textwrap
from typing import Any

import pytest

from tests.integration.test_other_servers import ENV, LIMITS
from tests.support.documented import DJANGO
from tests.support.project import SETTINGS, Project

APP = 'prepare = ["sh", "-c", "python manage.py migrate && python manage.py seed"]\n'
CONFTEST = """
    import pytest


    @pytest.fixture(scope="session")
    def client(services):
        import django
        from django.db import connections
        from django.test import Client

        django.setup()
        connections["default"].settings_dict["OPTIONS"]["application_name"] = "perf"
        yield Client(SERVER_NAME="127.0.0.1")
        connections.close_all()
"""
SUITE = """
    import psycopg
    import pytest
    import redis


    def test_view(client, measure):
        for timer in measure():
            with timer:
                response = client.get("/orders/")
            assert len(response.json()["orders"]) == 20


    def test_psycopg(postgres_url, measure):
        with psycopg.connect(postgres_url) as connection:
            for timer in measure():
                with timer:
                    rows = connection.execute("SELECT id FROM orders_order WHERE id < %s", (11,)).fetchall()
                assert len(rows) == 10


    def test_redis(redis_url, key_prefix, measure):
        with redis.Redis.from_url(redis_url) as connection:
            for timer in measure():
                with timer:
                    connection.incr(f"{key_prefix}visits")
"""
OF_PYTEST_DJANGO = """
    import pytest


    @pytest.fixture
    def django_user_model():
        return "my own"


    @pytest.mark.django_db
    def test_mark(client, measure):
        for timer in measure():
            with timer:
                client.get("/orders/")


    def test_fixture(db, measure):
        for timer in measure():
            with timer:
                pass


    def test_own_fixture(django_user_model):
        assert django_user_model == "my own"
"""


@pytest.fixture
def shop(project: Project) -> Project:
    """A Django application that no server serves, with benchmarks in plain functions."""
    for name, text in DJANGO.items():
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / name).write_text(textwrap.dedent(text))
    servers = SETTINGS.replace('"off"', '"embedded"', 1)
    project.write("settings.toml", APP + servers + LIMITS + ENV)
    project.write("conftest.py", textwrap.dedent(CONFTEST))
    project.write("test_suite.py", textwrap.dedent(SUITE))
    project.git("init", "--quiet", "--initial-branch=main")
    project.commit("Start")
    return project


def counted(benchmark: dict[str, Any], kind: str) -> dict[str, float]:
    return {name.removeprefix(kind): count for name, count in benchmark["counts"].items() if name.startswith(kind)}


def test_they_are_counted_and_compared(shop: Project) -> None:
    """Statements and commands are counted. An N+1 behind Django's test client is found in pairs, with its function."""
    path = shop.root / "orders" / "views.py"
    before = path.read_text()
    path.write_text(before.replace('.prefetch_related("items")', ""))

    done = shop.own_python("-m", "plumbline", "compare", "HEAD")

    assert done.code == 1, done.output
    found = {one["key"].partition("::")[2]: one for one in shop.results()["benchmarks"]}
    assert {key: one["verdict"] for key, one in found.items()} == {
        "test_view": "regression",
        "test_psycopg": "pass",
        "test_redis": "pass",
    }
    statements = counted(found["test_view"], "postgres.statement SELECT")
    assert sorted(statements.values()) == [1, 20]
    assert sorted(counted(found["test_psycopg"], "postgres.statement SELECT").values()) == [1]
    assert counted(found["test_redis"], "redis.command ") == {"INCRBY": 1}
    (change,) = [one for one in found["test_view"]["count_changes"] if one["new"] == 20 and one.get("gated")]
    (line,) = [number for number, text in enumerate(path.read_text().splitlines(), 1) if "order.items.all()" in text]
    assert change["sites"] == [{"file": "orders/views.py", "line": line, "function": "newest", "count": 20}]
    assert f": 0 → 20, orders/views.py:{line} in newest" in done.output
    assert ("newest", "orders/views.py") in {(one["name"], one["file"]) for one in found["test_view"]["functions"]}


def test_fixtures_of_pytest_django_are_refused(shop: Project) -> None:
    """The message says what to do instead, with or without that plugin. A fixture of one's own may have its name."""
    shop.write("test_suite.py", textwrap.dedent(OF_PYTEST_DJANGO))

    done = shop.own_python("-m", "plumbline", "ci")

    assert done.code == 3, done.output  # nothing was measured
    tests = {one["key"].partition("::")[2]: one for one in shop.results()["tests"]}
    assert {key: one["outcome"] for key, one in tests.items()} == {
        "test_mark": "failed",
        "test_fixture": "failed",
        "test_own_fixture": "passed",
    }
    assert tests["test_mark"]["message"].startswith("the mark `django_db` of pytest-django would make another")
    assert tests["test_fixture"]["message"].startswith("the fixture `db` of pytest-django would make another")
